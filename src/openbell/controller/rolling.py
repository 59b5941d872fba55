"""Carries out a rolling restart as a run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from openbell.controller.abandoned import abandoned_document
from openbell.controller.arranging import arranged
from openbell.controller.conduct import Conductor
from openbell.controller.desk import ControlledDesk
from openbell.controller.journal import RunJournal
from openbell.controller.observing import Observer
from openbell.controller.pair import EnginePair
from openbell.controller.run_board import LiveRun
from openbell.domain.desk_state import DeskState, DeskTarget
from openbell.domain.service_state import ServiceState
from openbell.errors import (
    FailedError,
    NotRunningError,
    OpenbellError,
    RefusedError,
    UnverifiedError,
    UsageError,
)
from openbell.kill.course import refuse_under_way
from openbell.kill.pressed import pressed, refuse_pressed_since
from openbell.procedures.plans import plan_document
from openbell.procedures.ports import Effects, PlannedEffects
from openbell.procedures.rolling import PROCEDURE as DECLARED
from openbell.procedures.rolling import (
    Condition,
    HandedOver,
    LeftAlone,
    Member,
    Pair,
    Rolling,
    Times,
    Took,
    Way,
    plan_rolling,
    rolling_steps,
)
from openbell.procedures.step import Step, StepReport
from openbell.procedures.wording import count_of
from openbell.runtime import logs
from openbell.service.logging import get_logger
from openbell.state.halts import Halt
from openbell.state.runs import RunRecord, StepRecord

log = get_logger()

PROCEDURE = DECLARED.name
_START_S = 5.0
"""For a service without a readiness probe, beside its probes."""
_RUNS_LOOKED_AT = 50
_LINES_OF_LOG = 20
_WAYS = frozenset(Way)
_NOT_BEGUN_NS = 2**63
"""When a run that is only planned begins: after every start of a service."""


@dataclass(frozen=True)
class RollingWishes:
    services: tuple[str, ...] = ()
    hand_back: bool = False
    reason: str = ""


@dataclass(frozen=True)
class CutOff:
    """A rolling restart whose controller died."""

    number: int
    since_ns: int
    """Wall clock, when it was begun."""
    service: str
    """Whose turn it was; empty between two turns."""
    passed: frozenset[str]
    """Services whose turn was over, the desk trading with them: the next had begun its own."""
    trades: str
    """The engine that did when it was begun."""

    @classmethod
    def of(cls, record: RunRecord) -> CutOff:
        # By place and not by time: one that was gone on with before begins anew with its first turns.
        begun = sorted(record.steps, key=lambda step: (step.step, step.attempt))
        last = begun[-1] if begun else None
        return cls(
            number=record.run,
            since_ns=_ns(record.begun_at),
            service=_service(last) if last is not None and last.done_at is None else "",
            passed=frozenset(_service(each) for each in begun if last and each.step < last.step),
            trades=str(record.params.get("trades") or ""),
        )


@dataclass(frozen=True)
class _Stops:
    """What stood against trading when the run began: only what came since ends it."""

    latches: frozenset[str]
    halt: Halt | None

    @classmethod
    def of(cls, desk: ControlledDesk) -> _Stops:
        return cls(frozenset(latch.id for latch in desk.targets.latches.read()), desk.targets.halt)


class WatchedDesk:
    """`procedures.rolling.ports.Desk` over the controller's own view of it."""

    def __init__(self, desk: ControlledDesk, observer: Observer) -> None:
        self._desk = desk
        self._observer = observer
        self._before = _Stops.of(desk)

    async def condition(self) -> Condition:
        desk = self._desk
        meant = desk.targets.now is DeskTarget.TRADING and not desk.targets.latched
        seen = await self._observer.observe()
        if not meant or seen.left_out:
            return Condition(False, False, seen.why)
        if seen.engine_silent:
            return Condition(True, None, seen.engine_silent)
        if seen.state is not DeskState.TRADING:
            return Condition(True, False, seen.why or f"the desk is {seen.state}")
        if desk.roles.engine is not None:
            permit = desk.permits.view()
            # After a new controller the engine holds its permit of the old one until it asks again.
            if permit["scope"] != "trade":
                return Condition(True, False, f"no permit to trade: {permit['why_not']}")
        return Condition(True, True)

    def ended_by(self) -> str:
        desk = self._desk
        for latch in desk.targets.latches.read():
            if latch.id not in self._before.latches:
                return f"the kill switch was set by {latch.halt.who}: {latch.halt.reason}"
        halt = desk.targets.halt
        if halt is not None and halt != self._before.halt:
            return f"trading was halted by {halt.who}: {halt.reason}"
        return ""

    async def unwell(self, service: str) -> str:
        desk = self._desk
        view = await desk.supervisor.probe_now(service)
        if view.state is not ServiceState.READY:
            return view.reason or f"is {view.state}"
        return await self.unproven(service, view.port)

    async def unproven(self, service: str, port: int | None) -> str:
        health = self._desk.desk.file.services[service].health
        if health is None or port is None:
            return ""
        answer = await self._desk.client.get(
            service, health.path, timeout_s=health.timeout, port=port
        )
        # The probe has passed; a service that keeps the contract tells more than its status code.
        said = answer.get("status")
        if said not in ("degraded", "failing"):
            return ""
        return f"says that it is {said}" + _told(answer.get("checks"))

    async def held_back_s(self) -> float:
        desk = self._desk
        engines = [each for each in (desk.roles.engine, desk.roles.standby) if each is not None]
        answers = await asyncio.gather(*(desk.client.get(each, "/v1/state") for each in engines))
        rows = [row for answer in answers for row in answer.get("venues") or ()]
        ends = ("held_for_s", "doubt_ends_in_s")
        return max((float(row.get(key) or 0.0) for row in rows for key in ends), default=0.0)

    def log_size(self, service: str) -> int:
        return logs.size_of(self._desk.layout.service_log(service))

    def log_since(self, service: str, offset: int) -> tuple[str, ...]:
        return logs.tail(self._desk.layout.service_log(service), _LINES_OF_LOG, offset)


def _ns(at: datetime) -> int:
    return int(at.timestamp() * 1e9)


def _service(step: StepRecord) -> str:
    return step.name.removeprefix("restart_")


def _told(checks: object) -> str:
    """`: feeds: no quote yet`; empty where the service names no check."""
    if not isinstance(checks, Mapping):
        return ""
    told = [
        f"{name}: {each.get('detail') or each.get('status')}"
        for name, each in checks.items()
        if isinstance(each, Mapping) and each.get("status") != "ok"
    ]
    return f": {'; '.join(told)}" if told else ""


class RollingPair:
    """`procedures.rolling.ports.EnginePair` over the controller's engine pair."""

    def __init__(self, desk: ControlledDesk, engines: EnginePair) -> None:
        self._desk = desk
        self._engines = engines

    def now(self) -> Pair | None:
        engine, standby = self._desk.roles.engine, self._engines.standby
        if engine is None or standby is None:
            return None
        # One that failed is a standby all the same: its turn comes first, and mends it or ends here.
        runs = self._desk.states.get(standby) is not ServiceState.STOPPED
        return Pair(engine, standby) if runs else None

    async def not_promotable(self) -> str:
        return await self._engines.not_promotable()

    async def hand_over(self) -> HandedOver:
        return await self._engines.hand_over(actor="a rolling restart")


class RollingRestarts:
    """Rolling restarts of one desk."""

    def __init__(
        self,
        desk: ControlledDesk,
        runs: Conductor,
        observer: Observer,
        engines: EnginePair,
    ) -> None:
        self._desk = desk
        self._runs = runs
        self._observer = observer
        self._pair = RollingPair(desk, engines)

    async def begin(self, wishes: RollingWishes, actor: str) -> dict[str, object]:
        """Begins a rolling restart, or goes on with one that was cut off. Raises UsageError,
        ConflictError, RefusedError, NotRunningError, ConfigError, StorageError."""
        desk = self._desk
        desk.require_known(list(wishes.services))
        before = pressed(desk.layout)
        await desk.board.reserve(PROCEDURE, actor)
        try:
            desk.refuse_locked("nothing is restarted")
            refuse_under_way(desk.layout)
            await desk.reload_desk_file()
            desk.require_known(list(wishes.services))
            interrupted = await self._cut_off(wishes)
            watched = WatchedDesk(desk, self._observer)
            await self._refuse_unfit(watched, going_on=interrupted is not None)
            parameters: dict[str, object] = {
                "services": list(wishes.services),
                "hand_back": wishes.hand_back,
            }
            await desk.auditor.record(
                actor,
                "desk.rolling_restart",
                desk.desk.file.desk.name,
                **parameters,
                reason=wishes.reason,
            )
            record, changed, given_up = None, "", None
            if interrupted is not None:
                number = interrupted.number
                rolling = await self._rolling(wishes, watched, interrupted)
                names = [step.name for step in self._steps(rolling, wishes)]
                record, changed = await self._runs.go_on(DECLARED, actor, names, parameters)
            else:
                rolling = await self._rolling(wishes, watched)
                names = [step.name for step in self._steps(rolling, wishes)]
                given_up = await self._runs.abandon_interrupted(
                    "a rolling restart was begun instead"
                )
                begun = {**parameters, "trades": desk.roles.engine or ""}
                number = await self._runs.begin(DECLARED, actor, wishes.reason, begun, names)
                rolling.since_ns = await self._begun_ns(number)
            # Nothing is awaited from here to its admission.
            await self._runs.last_look(
                DECLARED, number, lambda: refuse_pressed_since(desk.layout, before)
            )
        except BaseException:
            desk.board.release()
            raise
        run = self._runs.admit(
            PROCEDURE, number, actor, parameters,
            reason=wishes.reason, begun_by="" if record is None else record.who,
        )  # fmt: skip
        if record is not None:
            self._runs.tell_resumed(run, record, changed)
        self._runs.tell_abandoned(run, given_up)
        self._runs.carry_out(run, self._carry_out(run, number, rolling, wishes))
        return {
            "run": run.id, "resumed": interrupted is not None, "changed": changed,
            **abandoned_document(given_up),
        }  # fmt: skip

    async def plan(self, wishes: RollingWishes) -> dict[str, object]:
        """What `begin` would do now; of one that was cut off what is left of it. Raises UsageError,
        RefusedError, NotRunningError, StorageError."""
        desk = self._desk
        desk.require_known(list(wishes.services))
        desk.refuse_locked("nothing would be restarted")
        refuse_under_way(desk.layout)
        watched = WatchedDesk(desk, self._observer)
        interrupted = await self._cut_off(wishes)
        await self._refuse_unfit(watched, going_on=interrupted is not None)
        effects: Effects | None = None
        if interrupted is not None:
            effects = PlannedEffects(RunJournal(desk.database, interrupted.number))
        rolling = await self._rolling(wishes, watched, interrupted)
        document = await plan_document(PROCEDURE, self._steps(rolling, wishes, effects=effects))
        return {**document, "left_alone": _left_alone(rolling)}

    # ------------------------------------------------------------------

    def _steps(
        self,
        rolling: Rolling,
        wishes: RollingWishes,
        run: str = "",
        effects: Effects | None = None,
    ) -> tuple[Step[Any, Any], ...]:
        return arranged(
            self._desk, DECLARED, rolling_steps(rolling),
            run=run, reason=wishes.reason, effects=effects,
        )  # fmt: skip

    async def _refuse_unfit(self, watched: WatchedDesk, *, going_on: bool) -> None:
        """Raises where the desk is closed, or does not do what it is meant to: then no gate could
        tell what a restart did to it. One that was cut off may have caused that itself."""
        desk = self._desk
        if desk.targets.asked is DeskTarget.OFFLINE:
            raise NotRunningError("the desk is closed", hint="open it with `openbell up`")
        if desk.targets.asked is DeskTarget.CLOSING:
            raise RefusedError(
                "the desk is being closed",
                hint="`openbell down` goes on with it, `openbell up` opens",
            )
        condition = await watched.condition()
        if not going_on and not condition.is_as_meant:
            raise RefusedError(
                f"the desk does not trade as it is meant to: {condition.why}",
                hint="mend that first; `openbell restart SERVICE` restarts single services",
            )

    async def _cut_off(self, wishes: RollingWishes) -> CutOff | None:
        """The run that was cut off, if the same is asked for."""
        interrupted = self._desk.interrupted
        if interrupted is None or interrupted.procedure != PROCEDURE:
            return None
        record = await self._desk.database.get(interrupted.number)
        same = record.params.get("services") == list(wishes.services)
        if not same or record.params.get("hand_back") != wishes.hand_back:
            return None
        return CutOff.of(record)

    async def _begun_ns(self, number: int) -> int:
        return _ns((await self._desk.database.get(number)).begun_at)

    async def _rolling(
        self,
        wishes: RollingWishes,
        watched: WatchedDesk,
        cut_off: CutOff | None = None,
    ) -> Rolling:
        desk = self._desk
        trades = (desk.roles.engine or "") if cut_off is None else cut_off.trades
        declared = desk.desk.file.services
        if wishes.hand_back and self._pair.now() is None:
            raise UsageError(
                "no engine has a standby here: there is nothing to hand back",
                hint="leave --hand-back out",
            )
        members = {
            name: Member(
                name=name,
                role=each.role,
                critical=desk.is_critical(name),
                surge=each.surge,
                depends_on=each.depends_on,
                state=desk.states.get(name, ServiceState.STOPPED),
            )
            for name, each in declared.items()
        }
        down = {cut_off.service} - {""} if cut_off is not None else set()
        plan = plan_rolling(members, wishes.services, self._pair.now(), down)
        settings = desk.desk.file.rolling
        return Rolling(
            plan=plan,
            services=desk.supervisor,
            desk=watched,
            pair=self._pair,
            since_ns=_NOT_BEGUN_NS if cut_off is None else cut_off.since_ns,
            passed=frozenset() if cut_off is None else cut_off.passed,
            times=Times(settings.watch_for, settings.trading_within),
            timeouts_s={
                name: each.stop.timeout
                + each.trial.timeout
                + (ready.timeout if (ready := each.readiness()) is not None else 0.0)
                + _START_S
                for name, each in declared.items()
            },
            hand_back_to=trades if wishes.hand_back else "",
            last=await self._last_times(),
        )

    async def _last_times(self) -> dict[str, Took]:
        """How long each service's last turn took, from the records of earlier runs."""
        try:
            records = await self._desk.database.newest_of(PROCEDURE, _RUNS_LOOKED_AT)
        except OpenbellError as error:
            log.warning("earlier rolling restarts are not known", why=error.message)
            return {}
        found: dict[str, Took] = {}
        for record in records:
            for step in record.steps:
                service, way = step.facts.get("service"), step.facts.get("way")
                paused = step.facts.get("paused_s")
                if (
                    isinstance(service, str)
                    and isinstance(paused, int | float)
                    and str(way) in _WAYS
                ):
                    after = step.facts.get("trading_after_s")
                    found.setdefault(service, Took(Way(str(way)), float(paused), after))
        return found

    async def _carry_out(
        self, run: LiveRun, number: int, rolling: Rolling, wishes: RollingWishes
    ) -> None:
        desk = self._desk
        journal = RunJournal(desk.database, number)
        runner = self._runs.runner(run, DECLARED, journal)
        steps = self._steps(rolling, wishes, run.id, journal)
        reports = await runner.run(steps)
        if runner.ended_by:
            rolling.ended = rolling.ended or runner.ended_by
        elif runner.stopped_at is not None and rolling.failed is None:
            # A step of the desk's own, or one that was not approved.
            stopped = runner.stopped_at
            rolling.ended = rolling.ended or f"{stopped.name}: {stopped.detail}"
        ending = await self._ending(rolling, reports)
        ended = "cancelled" if runner.ended_by else "failed"
        await self._runs.conclude(run, journal, "done" if ending.error is None else ended)
        desk.auditor.note(
            "desk.rolled" if ending.error is None else "desk.roll_stopped",
            run.id,
            outcome=ending.outcome,
            message=ending.message,
        )
        self._runs.finish(run, ending.outcome, ending.message, ending.result, ending.error)

    async def _ending(self, rolling: Rolling, reports: tuple[StepReport, ...]) -> _Ending:
        condition = await rolling.verified_condition()
        seen = await self._observer.observe()
        result: dict[str, Any] = {
            "restarted": [each.as_dict() for each in rolling.restarted],
            "restarted_earlier": rolling.earlier,
            "failed": None if rolling.failed is None else rolling.failed.as_dict(),
            "ended_by": rolling.ended,
            "left_alone": _left_alone(rolling),
            "desk": {
                "state": str(seen.state),
                "why": seen.why,
                "meant_to_trade": condition.meant_to_trade,
                "trades": condition.trades,
            },
            "steps": [report.as_dict() for report in reports],
        }
        told = [each.service for each in rolling.restarted]
        done = f"{count_of(len(told), 'service')} restarted: {', '.join(told)}" if told else ""
        left = [each.service for each in _not_reached(rolling)]
        rest = f"left alone: {', '.join(left)}" if left else ""
        trading = (
            "the desk trades"
            if condition.trades and condition.meant_to_trade
            else f"the desk is {seen.state}" + (f": {seen.why}" if seen.why else "")
        )
        if rolling.failed is not None:
            why = rolling.failed.why
            what = f"stopped at {rolling.failed.service}: {why}"
            message = "; ".join(filter(None, (what, done, rest, trading)))
            hint = f"mend {rolling.failed.service}, then run it again; its log: `openbell logs`"
            if condition.is_as_meant:
                error: OpenbellError = FailedError(message, hint=hint)
                return _Ending("failed", message, result, error)
            error = UnverifiedError(message, hint=f"the desk is not as it was; {hint}")
            return _Ending("not_trading", message, result, error)
        if rolling.ended:
            message = "; ".join(filter(None, (f"ended: {rolling.ended}", done, rest)))
            return _Ending("ended", message, result, FailedError(message))
        if not rolling.plan.turns:
            return _Ending("nothing_to_do", "no service of those asked for runs", result, None)
        if rolling.earlier:
            earlier = f"{', '.join(rolling.earlier)} before the run was cut off"
            done = "; ".join(filter(None, (done, earlier)))
        return _Ending("restarted", f"{done}; {trading}", result, None)


@dataclass(frozen=True)
class _Ending:
    outcome: str
    message: str
    result: dict[str, Any]
    error: OpenbellError | None


def _not_reached(rolling: Rolling) -> list[LeftAlone]:
    """Services that the plan named and whose turn did not come."""
    why = rolling.ended or (f"{rolling.failed.service} failed" if rolling.failed else "")
    return [
        LeftAlone(turn.service, f"not reached: {why}")
        for turn in rolling.plan.turns
        if why and turn.service not in rolling.had_its_turn
    ]


def _left_alone(rolling: Rolling) -> list[dict[str, str]]:
    return [
        {"service": each.service, "why": each.why}
        for each in (*_not_reached(rolling), *rolling.plan.left_alone)
    ]
