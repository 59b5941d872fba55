"""A procedure as data: what it is called, its steps in order, and what each of them is.

Each step's module declares its step (`SPEC`) beside the class that carries it out, and each
procedure's module lists them (`PROCEDURE`). From these come the runbooks, `openbell procedure`, the
names that a desk file may use, and the check whether a run that was cut off still has the steps
it was begun with. A procedure's `version` goes up whenever what its steps do, or their order, changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from openbell.procedures.step import OnFailure

if TYPE_CHECKING:
    from openbell.config.models import DeskFile

EVERY_POLICY = tuple(OnFailure)


class Resumes(StrEnum):
    """How a run that was cut off is gone on with."""

    BY_COMMAND = "by_command"
    """A person says so."""
    BY_ITSELF = "by_itself"
    """The controller that the guard starts in place of one that was killed goes on with it."""


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """What is said of a step before there is a desk to carry it out on."""

    name: str
    """As journals, events and desk.toml have it. `restart_*`: one step for each service."""
    title: str
    does: str
    """What is done, in a sentence."""
    verified_by: str
    """What is asked again afterwards, and of whom."""
    timeout_s: float
    """Of observe, plan and act together. 0: it depends on the desk; `timeout_note` says on what."""
    timeout_note: str = ""
    timeout_of: Callable[[DeskFile], float] | None = None
    """Where one other setting of a desk file says it."""
    on_failure: OnFailure
    policies: tuple[OnFailure, ...] = EVERY_POLICY
    """What a desk file may set `on_failure` to."""
    needed_because: str = ""
    """Why safety needs it; empty: a desk file may leave it out."""
    timeout_is_set: bool = True
    """False: a desk file sets its time elsewhere, as `timeout_note` says."""
    progress: str = ""
    """What is counted towards which target."""
    evidence: str = ""
    """What it leaves in the record."""
    applies: str = ""
    """Where it is a step at all; empty: always."""

    @property
    def optional(self) -> bool:
        return not self.needed_because

    @property
    def is_family(self) -> bool:
        """It stands for several steps, one for each service."""
        return "*" in self.name

    def matches(self, step: str) -> bool:
        return fnmatchcase(step, self.name)

    def timeout_text(self) -> str:
        from openbell.config.unit_texts import format_duration

        told = format_duration(self.timeout_s) if self.timeout_s else ""
        return "; ".join(filter(None, (told, self.timeout_note)))


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What may be asked of a run, as `openbell procedure run NAME --set name=value` and the API
    take it."""

    name: str
    kind: str
    """`yes or no`, `text`, `seconds`, `names`, or the values there are, as `a|b|c`."""
    help: str


@dataclass(frozen=True, kw_only=True)
class Procedure:
    name: str
    title: str
    version: int
    purpose: str
    """When it is used and what it leads to, in a sentence or two."""
    command: str
    """The command that runs it, for people."""
    steps: tuple[StepSpec, ...]
    """In the order in which they are taken."""
    resumed_by: str
    """What goes on with a run that was cut off."""
    not_by_itself: str
    """Why a run that was cut off waits for a person's word, where it does: it acts on the desk, and what
    cut it off may speak against it."""
    by_itself_from: str = ""
    """The step that must have begun for the run to go on by itself; empty: it never does."""
    by_itself_because: str = ""
    """Why from that step on nobody is to be waited for."""
    parameters: tuple[Parameter, ...] = ()
    composed_of: tuple[str, ...] = ()
    """Procedures of which this is a run each, one after the other; a desk file says under their names
    what it wants otherwise. Empty: it is a run of its own."""
    aliases: tuple[str, ...] = ()
    """Other words people use for it; only for suggestions."""
    notes: tuple[str, ...] = field(default=())

    @property
    def resumes(self) -> Resumes:
        """Where a desk file says nothing else."""
        return Resumes.BY_ITSELF if self.by_itself_from else Resumes.BY_COMMAND

    def spec_of(self, step: str) -> StepSpec | None:
        """Of a step by its own name: `restart_web` is of the family `restart_*`."""
        return next((each for each in self.steps if each.matches(step)), None)

    def step_names(self, services: Mapping[str, object] | None = None) -> tuple[str, ...]:
        """Names a desk file may use; families with the services filled in."""
        names: list[str] = []
        for each in self.steps:
            if each.is_family:
                names += [each.name.replace("*", service) for service in services or ()]
            else:
                names.append(each.name)
        return tuple(names)


def what_changed(then: tuple[int, Sequence[str]], now: tuple[int, Sequence[str]]) -> str:
    """What is different between the version and step names with which a run was begun and those of
    today; empty where nothing is. A run of before there were versions (0) tells nothing."""
    (version_then, steps_then), (version_now, steps_now) = then, now
    if not version_then:
        return ""
    told = []
    if version_then != version_now:
        told.append(f"version {version_then} then, {version_now} now")
    if gone := [name for name in steps_then if name not in steps_now]:
        told.append(f"steps that are gone: {', '.join(gone)}")
    if new := [name for name in steps_now if name not in steps_then]:
        told.append(f"steps that are new: {', '.join(new)}")
    kept_then = [name for name in steps_then if name in steps_now]
    kept_now = [name for name in steps_now if name in steps_then]
    if kept_then != kept_now:
        told.append("its steps come in another order")
    return "; ".join(told)
