"""A procedure as one desk wants it: the desk file's changes applied to its steps, and checked.

`arrange` is how every run gets its steps: those that are left out go, those whose time-out or
failure policy the desk sets are wrapped, and steps of the desk's own come where they belong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openbell.config.loader import load_desk
from openbell.config.models import DeskFile, LoadedDesk
from openbell.config.nearest import did_you_mean
from openbell.config.problems import Problem
from openbell.config.procedures import ExtraStep, ProcedureSettings, StepSettings
from openbell.procedures.declared import Procedure, Resumes, StepSpec
from openbell.procedures.registry import PROCEDURES
from openbell.procedures.step import OnFailure, Plan, Say, Step, Verification
from openbell.venues.making import setting_problems

UNSET = ProcedureSettings()
_UNSET_STEP = StepSettings()

MakeExtra = Callable[[ExtraStep], Step[Any, Any]]
"""Makes the step that carries out what a desk file declares."""


def load_checked(path: Path) -> LoadedDesk:
    """The desk with what other layers know of it checked as well: the names of its procedures'
    steps, the settings of its venues. Raises as `load_desk`."""
    return load_desk(path, procedure_problems, setting_problems)


def settings_of(procedure: Procedure, desk: DeskFile) -> ProcedureSettings:
    return desk.procedures.get(procedure.name, UNSET)


def resumes(procedure: Procedure, desk: DeskFile) -> Resumes:
    """How a run of it that was cut off is gone on with on this desk."""
    said = settings_of(procedure, desk).resumes
    return procedure.resumes if said is None else Resumes(said)


# --- checking --------------------------------------------------------------------------------------


def procedure_problems(desk: DeskFile) -> list[Problem]:
    """What `[procedures]` says that makes no sense: unknown names, steps that safety needs."""
    problems: list[Problem] = []
    for name, settings in desk.procedures.items():
        procedure = PROCEDURES.get(name)
        if procedure is None:
            hint = did_you_mean(name, PROCEDURES)
            problems.append(Problem(("procedures", name), f'there is no procedure "{name}"', hint))
            continue
        if procedure.composed_of:
            parts = " or ".join(f"[procedures.{each}]" for each in procedure.composed_of)
            told = f"{name} is made of {' and '.join(procedure.composed_of)}"
            problems.append(Problem(("procedures", name), told, f"write {parts}"))
            continue
        if settings.resumes == "by_itself" and not procedure.by_itself_from:
            told = f"{name} does not go on by itself: {procedure.not_by_itself}"
            problems.append(Problem(("procedures", name, "resumes"), told, "remove this line"))
        problems += _step_problems(procedure, settings, desk)
        problems += _extra_problems(procedure, settings, desk)
    return problems


def _step_problems(
    procedure: Procedure, settings: ProcedureSettings, desk: DeskFile
) -> Iterator[Problem]:
    names = procedure.step_names(desk.services)
    for name, step in settings.steps.items():
        key = ("procedures", procedure.name, "steps", name)
        if name not in names:
            yield Problem(key, f'{procedure.name} has no step "{name}"', did_you_mean(name, names))
            continue
        spec = procedure.spec_of(name)
        assert spec is not None, "its names are those of its steps"
        if not step.enabled and spec.needed_because:
            yield Problem(
                (*key, "enabled"),
                f"step {name} cannot be left out: {spec.needed_because}",
                "remove this line",
            )
        if step.timeout is not None and not spec.timeout_is_set:
            yield Problem(
                (*key, "timeout"),
                f"the time of {name} is not set here",
                f"it is made of {spec.timeout_note}",
            )
        if step.on_failure is not None and OnFailure(step.on_failure) not in spec.policies:
            yield Problem(
                (*key, "on_failure"),
                f"step {name} cannot be {step.on_failure}",
                f"write {' or '.join(spec.policies)}",
            )
        yield from _approval_problems((*key, "approvals"), step.approvals, desk)


def _extra_problems(
    procedure: Procedure, settings: ProcedureSettings, desk: DeskFile
) -> Iterator[Problem]:
    names = procedure.step_names(desk.services)
    seen: set[str] = set()
    for place, extra in enumerate(settings.extra):
        key = ("procedures", procedure.name, "extra", str(place))
        if procedure.spec_of(extra.name) is not None or extra.name in seen:
            yield Problem(
                (*key, "name"),
                f'{procedure.name} has a step "{extra.name}" already',
                "take another name",
            )
        seen.add(extra.name)
        for word, anchor in (("before", extra.before), ("after", extra.after)):
            if anchor is not None and anchor not in names:
                yield Problem(
                    (*key, word),
                    f'{procedure.name} has no step "{anchor}"',
                    did_you_mean(anchor, names),
                )
        yield from _approval_problems((*key, "approvals"), extra.approvals, desk)


def _approval_problems(
    key: tuple[str, ...], roles: Sequence[str], desk: DeskFile
) -> Iterator[Problem]:
    """Approvals that the people named can never give: one asks, and each approves once."""
    people = desk.approvals.people
    if not roles or not people:
        return
    for role in dict.fromkeys(roles):
        if not any(role in theirs for theirs in people.values()):
            yield Problem(key, f"nobody has the role {role}", "name somebody in [approvals] people")
            return
    if len(people) <= len(roles):
        yield Problem(
            key,
            f"{len(roles)} approvals take {len(roles) + 1} people: nobody approves their own run",
            "name more in [approvals] people",
        )


# --- arranging -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AdjustedStep:
    """A step with the time-out and the policy that the desk file sets. It is the same step."""

    step: Step[Any, Any]
    timeout_s: float
    on_failure: OnFailure
    approvals: tuple[str, ...] = ()
    """Roles of those who must approve before it begins."""

    @property
    def name(self) -> str:
        return self.step.name

    @property
    def title(self) -> str:
        return self.step.title

    async def observe(self) -> Any:
        return await self.step.observe()

    def plan(self, facts: Any) -> Plan[Any]:
        return self.step.plan(facts)

    async def act(self, plan: Plan[Any], say: Say) -> None:
        await self.step.act(plan, say)

    async def verify(self, say: Say) -> Verification:
        return await self.step.verify(say)


def approvals_of(step: Step[Any, Any]) -> tuple[str, ...]:
    """Roles of those who must approve before this step begins."""
    return step.approvals if isinstance(step, AdjustedStep) else ()


def inner_of(step: Step[Any, Any]) -> Step[Any, Any]:
    """The step itself, without what the desk file sets of it."""
    return step.step if isinstance(step, AdjustedStep) else step


def arrange(
    procedure: Procedure,
    desk: DeskFile,
    steps: Sequence[Step[Any, Any]],
    make_extra: MakeExtra,
) -> tuple[Step[Any, Any], ...]:
    """`steps`, in the procedure's order, as the desk file wants them. Pure but for `make_extra`."""
    settings = settings_of(procedure, desk)
    kept = [
        _adjusted(step, settings.steps.get(step.name, _UNSET_STEP))
        for step in steps
        if settings.steps.get(step.name, _UNSET_STEP).enabled
    ]
    arranged: list[Step[Any, Any]] = list(kept)
    after: dict[str, int] = {}
    for extra in settings.extra:
        made = make_extra(extra)
        wrapped = (
            AdjustedStep(made, made.timeout_s, made.on_failure, extra.approvals)
            if extra.approvals
            else made
        )
        place = _place(procedure, [each.name for each in arranged], extra, after)
        if place is not None:
            arranged.insert(place, wrapped)
    return tuple(arranged)


def _adjusted(step: Step[Any, Any], wanted: StepSettings) -> Step[Any, Any]:
    if wanted.timeout is None and wanted.on_failure is None and not wanted.approvals:
        return step
    return AdjustedStep(
        step,
        step.timeout_s if wanted.timeout is None else wanted.timeout,
        step.on_failure if wanted.on_failure is None else OnFailure(wanted.on_failure),
        wanted.approvals,
    )


def _place(
    procedure: Procedure, names: Sequence[str], extra: ExtraStep, after: dict[str, int]
) -> int | None:
    """Where in `names` it belongs. Its anchor may be missing from this run: then where that would
    be, except for one service's step of many, without which it has nothing to come before or after."""
    anchor = extra.before or extra.after
    assert anchor is not None, "a desk file gives one of the two"
    if anchor in names:
        if extra.before:
            return names.index(anchor)
        # After those that stand there already, so that several keep the order of the file.
        after[anchor] = after.get(anchor, 0) + 1
        return names.index(anchor) + after[anchor]
    spec = procedure.spec_of(anchor)
    if spec is None or spec.is_family:
        return None
    later = procedure.steps[procedure.steps.index(spec) + 1 :]
    return next(
        (index for index, name in enumerate(names) if any(each.matches(name) for each in later)),
        len(names),
    )


def declared_steps(
    procedure: Procedure, desk: DeskFile | None
) -> list[tuple[StepSpec, StepSettings, ExtraStep | None]]:
    """Every step in order, the desk's own included and the ones it leaves out too, for `show`. Of one
    that is made of others: their steps that it takes."""
    if procedure.composed_of:
        own = {spec.name for spec in procedure.steps}
        return [
            row
            for part in procedure.composed_of
            for row in declared_steps(PROCEDURES[part], desk)
            if row[0].name in own or row[2] is not None
        ]
    settings = UNSET if desk is None else settings_of(procedure, desk)
    rows: list[tuple[StepSpec, StepSettings, ExtraStep | None]] = [
        (spec, settings.steps.get(spec.name, _UNSET_STEP), None) for spec in procedure.steps
    ]
    after: dict[str, int] = {}
    for extra in settings.extra:
        names = [each.name for each, _, _ in rows]
        family = procedure.spec_of(extra.before or extra.after or "")
        anchored = extra
        if family is not None and family.is_family:
            swap = {"before" if extra.before else "after": family.name}
            anchored = extra.model_copy(update=swap)
        place = _place(procedure, names, anchored, after)
        rows.insert(
            len(rows) if place is None else place, (spec_of_extra(extra), _UNSET_STEP, extra)
        )
    return rows


def spec_of_extra(extra: ExtraStep) -> StepSpec:
    """A desk's own step, declared as the others are."""
    return StepSpec(
        name=extra.name,
        title=extra.title or extra.name,
        does=f"Runs `{' '.join(extra.command)}`, unless it is verified to be so already.",
        verified_by=f"`{' '.join(extra.verify)}` ends with exit status 0.",
        timeout_s=extra.timeout,
        on_failure=OnFailure(extra.on_failure),
        evidence="exit statuses, the last lines of what was printed",
    )
