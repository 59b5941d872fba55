"""Closing, step 3, where `[closing.reduce_limits]` says so: limits of positions are made smaller, stage
by stage, while strategies still run and may wind down by themselves.

A stage is the whole state it leads to: so many percent less than what people and desk.toml allow. So a
closing that was killed in the middle of one finds out from the file of limits and from its own table
which stages are through, and goes on with the next. Nothing is sold here: what would make a position
larger than the stage allows is refused by the engine, and the steps after this one close what is left.

The limits stay reduced after the closing, whatever came of it. The next opening takes them back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from openbell.config.models import Risk
from openbell.domain.risk_limits import plain, reduced, tightened, values
from openbell.errors import StorageError
from openbell.procedures.closing.context import Closing
from openbell.procedures.declared import StepSpec
from openbell.procedures.limits_applied import GateWord, ask_gates, doubts
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.procedures.wording import count_of
from openbell.service.logging import get_logger
from openbell.state.files import write_atomically
from openbell.state.risk_limits import Changes, LimitsChange, change_limits, read_changes

log = get_logger()

_LOOK_S = 0.25
"""Between two looks at whether positions are within a stage."""
_ASK_S = 2.0

Limits = Mapping[str, str]
"""By name, as people read them."""


class StageRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage came to, as of its end. None: not known."""

    stage: int
    percent: str
    at: str
    limits: Limits
    confirmed: bool
    """Every gate that runs has said that it applies them."""
    within: bool | None
    """All positions were within them."""
    realized_pnl: str | None
    unrealized_pnl: str | None
    currency: str = ""
    why_unknown: str = ""


@dataclass(frozen=True)
class ReduceFacts:
    before: Limits
    """In force without this closing."""
    stages: tuple[Limits, ...]
    """What each stage, in turn, leads to."""
    percents: tuple[str, ...]
    own: Limits | None
    """What this closing has made of them so far."""
    noted: tuple[int, ...]
    """Stages of which the table has a row."""
    problem: str
    """Why it is not known what is in force."""
    engine_up: bool


@dataclass(frozen=True)
class ReduceTo:
    stage: int
    of: int
    percent: str
    limits: Limits
    before: Limits

    def __str__(self) -> str:
        told = ", ".join(
            f"{name} {self.before.get(name, 'none')} -> {value}"
            for name, value in self.limits.items()
        )
        return f"stage {self.stage} of {self.of}, {self.percent} % less: {told}"


def stages_of(risk: Risk, by: Decimal, stages: int) -> tuple[dict[str, Decimal], ...]:
    """What each of equal stages leads to; `by` is the share of the last one."""
    return tuple(reduced(risk, by * 100 * each / stages) for each in range(1, stages + 1))


def plan_reduction(facts: ReduceFacts) -> Plan[ReduceTo]:
    if facts.problem:
        return Plan(reason=f"no position grows: it is not known what is in force: {facts.problem}")
    if not any(facts.stages):
        return Plan(reason="no limit of positions is set that could be reduced", skipped=True)
    if not facts.engine_up:
        return Plan(reason="no engine runs: there is nothing to wind down", skipped=True)
    reached = 0 if facts.own is None else _reached(facts.stages, facts.own)
    count = len(facts.stages)
    actions = tuple(
        ReduceTo(number, count, facts.percents[number - 1], limits, facts.before)
        for number, limits in enumerate(facts.stages, start=1)
        if number > reached or (number == reached and number not in facts.noted)
    )
    return Plan(actions, "" if actions else f"reduced by {facts.percents[-1]} % already")


def _reached(stages: Sequence[Limits], own: Limits) -> int:
    """The last stage that is in force; 0: none is."""
    for number in range(len(stages), 0, -1):
        limits = stages[number - 1]
        if all(name in own and Decimal(own[name]) <= Decimal(v) for name, v in limits.items()):
            return number
    return 0


def judge_reduction(
    facts: ReduceFacts, now: Limits, words: Sequence[GateWord], rows: Sequence[StageRow]
) -> Verification:
    """`now`: what is in force, by the file."""
    evidence: dict[str, object] = {
        "limits": [
            {"limit": name, "before": facts.before.get(name), "after": now.get(name)}
            for name in sorted({*facts.before, *now})
        ],
        "stages": [msgspec.to_builtins(row) for row in rows],
        "gates": [
            {"service": each.service, "role": each.role, "said": each.said, "why": each.why}
            for each in words
        ],
    }
    if facts.problem:
        why = f"it is not known which limits are in force: {facts.problem}"
        return Verification(Outcome.UNKNOWN, why, evidence)
    last = facts.stages[-1]
    if facts.own is None or _reached([last], facts.own) == 0:
        return Verification(Outcome.FAILED, "the limits were not reduced", evidence)
    differ = [each for each in words if each.said == "differs"]
    if differ:
        return Verification(Outcome.FAILED, doubts(differ), evidence)
    if unsure := doubts(words):
        return Verification(Outcome.UNKNOWN, unsure, evidence)
    told = f"{count_of(len(last), 'limit')} reduced by {facts.percents[-1]} %"
    over = rows[-1].within if rows else None
    wound = {True: "all positions within", False: "positions over them", None: "use not known"}[
        over
    ]
    gates = ", ".join(str(each) for each in words)
    return Verification(Outcome.DONE, f"{told}, {wound}; {gates or 'no gate runs'}", evidence)


SPEC = StepSpec(
    name="reduce_limits",
    title="Reduce limits of positions",
    does="Makes every limit of positions smaller by a percentage, in stages: each lasts until all "
    "positions are within it, at most as long as the desk file says. Strategies still run and wind "
    "down; what would make a position larger than that is refused. The next opening takes it back.",
    verified_by="The engine, its standby and risk-management are asked which limits they apply.",
    timeout_s=0.0,
    timeout_note="the stages of `[closing.reduce_limits]` and 30 s",
    timeout_is_set=False,
    on_failure=OnFailure.WARN,
    progress="stages, towards their number",
    evidence="each limit before and after, and for each stage the realized and the unrealized P&L, "
    "also as a file",
    applies="`[closing.reduce_limits]` is in the desk file",
)


@dataclass
class ReduceLimitsStep:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = field(init=False)
    on_failure: OnFailure = SPEC.on_failure

    def __post_init__(self) -> None:
        self.timeout_s = self._settings.stages * self._settings.every + 30.0
        self._rows: list[StageRow] = []
        self._read = False

    @property
    def _settings(self) -> Any:
        settings = self.closing.desk.file.closing.reduce_limits
        assert settings is not None, "the step is taken only where the desk file says so"
        return settings

    @property
    def _table(self) -> Path:
        return self.closing.layout.statements / f"{self.closing.run}-limits.json"

    async def observe(self) -> ReduceFacts:
        engine_up = await self.closing.sight.engine_is_up(patience_s=0)
        if not self._read:
            self._rows = await asyncio.to_thread(self._read_rows)
            self._read = True
        return self._facts(await self._changes(), engine_up)

    def plan(self, facts: ReduceFacts) -> Plan[ReduceTo]:
        return plan_reduction(facts)

    async def act(self, plan: Plan[ReduceTo], say: Say) -> None:
        """Raises StorageError where a stage cannot be written: the limits are then as they were."""
        for action in plan.actions:
            wanted = {name: Decimal(value) for name, value in action.limits.items()}
            changes = await asyncio.to_thread(self._write, wanted)
            words = await self._ask(changes)
            say(str(action), action.stage, action.of)
            await self.closing.record_act(
                "limits.tightened",
                {"run": self.closing.run, "stage": action.stage, "is": dict(action.limits)},
            )
            within = await self._until_within(wanted)
            confirmed = not doubts(words)
            row = await self._row(action, within, confirmed=confirmed)
            self._rows = [each for each in self._rows if each.stage != action.stage] + [row]
            await asyncio.to_thread(self._keep_rows)

    async def verify(self, say: Say) -> Verification:
        changes = await self._changes()
        facts = self._facts(changes, engine_up=True)
        now = _plain(values(tightened(self.closing.desk.file.risk, *changes.limits)))
        found = judge_reduction(facts, now, await self._ask(changes), self._rows)
        files = (str(self._table),) if self._table.exists() else ()
        return Verification(found.outcome, found.detail, found.evidence, files)

    # --- inside ------------------------------------------------------------------------------

    def _facts(self, changes: Changes, engine_up: bool) -> ReduceFacts:
        risk, settings = self.closing.desk.file.risk, self._settings
        # Of earlier closings nothing: half of what their halves left would be less than was meant.
        allowed = tightened(risk, *(each.limits for each in changes.changes if not each.run))
        others = (each.limits for each in changes.changes if each.run != self.closing.run)
        own = changes.of(self.closing.run)
        count = settings.stages
        return ReduceFacts(
            before=_plain(values(tightened(risk, *others))),
            stages=tuple(_plain(each) for each in stages_of(allowed, settings.by, count)),
            percents=tuple(
                plain(round(settings.by * 100 * each / count, 2)) for each in range(1, count + 1)
            ),
            own=None if own is None else _plain(own.limits),
            noted=tuple(row.stage for row in self._rows),
            problem=changes.problem,
            engine_up=engine_up,
        )

    async def _changes(self) -> Changes:
        return await asyncio.to_thread(read_changes, self.closing.layout.risk_limits)

    def _write(self, wanted: Mapping[str, Decimal]) -> Changes:
        closing = self.closing

        def changed(now: Changes) -> tuple[LimitsChange, ...]:
            own = now.of(closing.run)
            limits = dict(wanted)
            for name, value in ({} if own is None else own.limits).items():
                limits[name] = min(value, limits.get(name, value))
            if own is not None and own.limits == limits:
                return now.changes
            mine = LimitsChange(
                limits=limits,
                reason=closing.wishes.reason or "closing",
                who=closing.actor,
                at=datetime.now(UTC),
                run=closing.run,
            )
            return (*(each for each in now.changes if each.run != closing.run), mine)

        return change_limits(closing.layout.risk_limits, changed)

    async def _ask(self, changes: Changes) -> tuple[GateWord, ...]:
        closing = self.closing
        return await ask_gates(closing.voices, closing.services, closing.desk.file, changes)

    async def _until_within(self, wanted: Mapping[str, Decimal]) -> bool | None:
        """Returns once all positions are within these limits, or the stage's time is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.every
        while True:
            within = await self._is_within(wanted)
            if within is True or loop.time() >= until:
                return within
            await asyncio.sleep(_LOOK_S)

    async def _is_within(self, wanted: Mapping[str, Decimal]) -> bool | None:
        """By what risk-management says is used, not by its word on breaches, which may be of the
        moment before."""
        voices = self.closing.voices
        answer = await voices.ask(voices.roles.risk, "/v1/risk", timeout_s=_ASK_S)
        rows = answer.get("utilisation")
        if not answer.known or answer.get("known") is not True or not isinstance(rows, list):
            return None
        known = True
        for row in rows:
            name = str(row["limit"])
            most = wanted.get(name, wanted.get(name.partition(":")[0]))
            if most is None:
                continue
            if row.get("used") is None:
                known = False
            elif Decimal(str(row["used"])) > most:
                return False
        return True if known else None

    async def _row(self, action: ReduceTo, within: bool | None, *, confirmed: bool) -> StageRow:
        answer = await self.closing.voices.ask_engine("/v1/state", timeout_s=_ASK_S)
        pnl = answer.get("pnl") or {}
        unpriced = pnl.get("unpriced") or ()
        known = bool(pnl) and not unpriced
        why = f"no price: {', '.join(map(str, unpriced))}" if unpriced else answer.why
        return StageRow(
            stage=action.stage,
            percent=action.percent,
            at=datetime.now(UTC).isoformat(),
            limits=action.limits,
            confirmed=confirmed,
            within=within,
            realized_pnl=str(pnl["realized"]) if pnl.get("realized") is not None else None,
            unrealized_pnl=str(pnl["unrealized"])
            if known and pnl.get("unrealized") is not None
            else None,
            currency=str(pnl.get("currency") or ""),
            why_unknown="" if known else why or "the engine does not say",
        )

    def _read_rows(self) -> list[StageRow]:
        """Of an attempt that was cut off. A table that cannot be read is made anew."""
        try:
            return msgspec.json.decode(self._table.read_bytes(), type=list[StageRow])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            log.error("the table of limits cannot be read", why=str(error))
            return []

    def _keep_rows(self) -> None:
        """A full disk keeps no desk open: the record of the run has the table as well."""
        try:
            self._table.parent.mkdir(mode=0o700, exist_ok=True)
            write_atomically(
                self._table,
                msgspec.json.format(msgspec.json.encode(sorted(self._rows, key=_stage))) + b"\n",
            )
        except (StorageError, OSError) as error:
            log.error("the table of limits is not kept as a file", why=str(error))


def _stage(row: StageRow) -> int:
    return row.stage


def _plain(limits: Mapping[str, Decimal]) -> dict[str, str]:
    return {name: plain(value) for name, value in limits.items()}
