"""One turn of a rolling restart: a service gets its new code, and proves itself before the next.

A turn is done when the service is ready, stays so for a while, is as well as it was before, and the
desk trades as before. Each is waited for within a stated time; the first that fails ends the run.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

from openbell.domain.service_state import UP, ServiceState
from openbell.errors import FailedError, OpenbellError
from openbell.procedures.declared import StepSpec
from openbell.procedures.rolling.context import FailedTurn, Restarted, Rolling, Took
from openbell.procedures.rolling.gate import LOOK_EVERY_S, Gate, longest_s
from openbell.procedures.rolling.plan import Turn, Way
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.procedures.wording import seconds_text
from openbell.runtime.spec import ServiceView

_GATES = {Way.IN_PLACE: 1, Way.SURGE: 2, Way.STANDBY: 1, Way.HAND_OVER: 2}
"""How many gates a turn passes: a replacement proves itself before it takes over
and afterwards; a hand-over needs a promotable standby before and after."""


class _EndedError(OpenbellError):
    """The run was ended before anything of this turn took effect."""


@dataclass(frozen=True)
class TurnFacts:
    view: ServiceView
    ended_by: str
    had_its_turn: bool
    """Started since the run began."""
    unwell: str


@dataclass(frozen=True)
class Restart:
    """The whole of one turn's action, as a line of a plan."""

    text: str

    def __str__(self) -> str:
        return self.text


SPEC = StepSpec(
    name="restart_*",
    title="Restart a service, and see it well",
    does="Gives one service its new code, in the way that pauses least: by its replacement, by a "
    "hand-over to the standby, or in place, tried beside the old one first.",
    verified_by="The service is ready, stays well for `watch_for` and as well as before, and the desk "
    "trades as before.",
    timeout_s=0.0,
    timeout_note="the service's stop and readiness time-outs, and the waits of `[rolling]`",
    on_failure=OnFailure.ABORT,
    policies=(OnFailure.ABORT,),
    needed_because="name the services that are to be restarted instead",
    timeout_is_set=False,
    evidence="process before and after, for how long what stood still",
    applies="one for each service of the run, what others depend on first",
)


class RestartService:
    """Step: one service runs its new code, and the desk is as it was."""

    on_failure = SPEC.on_failure

    def __init__(self, rolling: Rolling, turn: Turn) -> None:
        self._rolling = rolling
        self._turn = turn
        self.name = SPEC.name.replace("*", turn.service)
        self.title = f"{_VERBS[turn.way]} {turn.service}"
        gates_s = longest_s(rolling.times.trading_within) * _GATES[turn.way]
        waits = rolling.times.watch_for + gates_s
        self.timeout_s = rolling.timeouts_s[turn.service] + waits + 10.0
        self._before: TurnFacts | None = None
        self._done: Restarted | None = None
        self._was_ended = False

    async def observe(self) -> TurnFacts:
        rolling = self._rolling
        view = rolling.services.view(self._turn.service)
        up = view.state in UP
        self._before = TurnFacts(
            view=view,
            ended_by=rolling.desk.ended_by(),
            had_its_turn=up
            and not view.drifted
            and view.started_ns is not None
            and view.started_ns >= rolling.since_ns,
            unwell=await rolling.desk.unwell(self._turn.service) if up else "does not run",
        )
        if self._before.ended_by:
            rolling.ended = self._before.ended_by
        return self._before

    def plan(self, facts: TurnFacts) -> Plan[Restart]:
        if facts.ended_by:
            return Plan(reason=f"left alone: {facts.ended_by}", skipped=True)
        if facts.had_its_turn:
            return Plan(reason="was restarted since this run began")
        return Plan(tuple(map(Restart, self._lines())))

    def _lines(self) -> list[str]:
        turn, times = self._turn, self._rolling.times
        last = self._rolling.last.get(turn.service)
        took = f"last time {last}" if last else "not measured yet"
        lines = []
        trial = self._rolling.services.trial_of(turn.service)
        if trial and turn.way in (Way.STANDBY, Way.IN_PLACE):
            lines.append(f"try its new code beside it first: {' '.join(trial)}")
        lines.append(f"{_ACTS[turn.way].format(turn.service)} (pauses {turn.pauses}; {took})")
        lines.append(
            f"go on when it stayed well for {seconds_text(times.watch_for)} and the desk is as "
            f"before, within {seconds_text(times.trading_within)}; else stop here"
        )
        return lines

    async def act(self, plan: Plan[Restart], say: Say) -> None:
        log_size = self._rolling.desk.log_size(self._turn.service)
        try:
            self._done = await self._carry_out(say)
        except _EndedError:
            self._was_ended = True
        except OpenbellError as error:
            service = self._turn.service
            told = error.facts.get("log_tail")
            tail = told if isinstance(told, tuple) and told else None
            self._rolling.failed = FailedTurn(
                service,
                error.message,
                tail or self._rolling.desk.log_since(service, log_size),
            )
            raise

    async def _carry_out(self, say: Say) -> Restarted:
        assert self._before is not None
        left = time.monotonic()
        match self._turn.way:
            case Way.HAND_OVER:
                took = await self._hand_over(say)
            case Way.SURGE:
                took = await self._replace(say)
            case Way.STANDBY | Way.IN_PLACE:
                await self._try_out(say)
                left = time.monotonic()
                took = Took(self._turn.way, await self._stop_and_start(say))
        gate = Gate(self._rolling)
        await gate.wait("well again", self._why_not_well, say)
        if took.way in (Way.STANDBY, Way.HAND_OVER):
            await gate.wait("a standby that could take over", self._not_promotable, say)
        meant = await self._await_trading(gate, say)
        if meant and took.way is Way.IN_PLACE:
            took = replace(took, trading_after_s=time.monotonic() - left)
        await self._watch(say)
        view = self._rolling.services.view(self._turn.service)
        return Restarted(self._turn.service, self._before.view.pid, view.pid, took)

    # ------------------------------------------------------------------ the ways

    async def _try_out(self, say: Say) -> None:
        """What is refused here is never started: the service goes on as it is."""
        services, name = self._rolling.services, self._turn.service
        if not services.trial_of(name):
            return
        say("trying the new code beside the old one")
        tried = await services.trial(name)
        if tried.refused:
            raise FailedError(
                f"{name}: a trial of its new code failed and the old one goes on: {tried.refused}",
                log_tail=tried.log_tail,
            )
        if self._rolling.desk.ended_by():
            raise _EndedError(self._rolling.desk.ended_by())
        say(f"tried in {seconds_text(tried.seconds)}, stopping the old one")

    async def _stop_and_start(self, say: Say) -> float:
        """How long it was away. Begun, it is carried through: a stop without its start would
        leave the desk worse off than whatever ends the run."""
        left = time.monotonic()
        services, name = self._rolling.services, self._turn.service
        stopped = await services.stop(name, reason="rolling restart")
        if not stopped.stopped:
            raise FailedError(f"{name} did not stop: pids {list(stopped.survivors)} are left")
        say(f"stopped in {seconds_text(stopped.seconds)}, starting")
        started = await services.start(name)
        if not started.ready:
            raise FailedError(f"{name}: {started.reason}", log_tail=started.log_tail)
        say(f"ready in {seconds_text(started.seconds)}")
        return time.monotonic() - left

    async def _replace(self, say: Say) -> Took:
        """Until its replacement takes over the old one is not touched."""
        desk, name = self._rolling.desk, self._turn.service

        async def proven(port: int | None) -> str:
            say("the replacement is ready, and has to be as well as the old one")
            if self._before is None or not self._before.unwell:
                gate = Gate(self._rolling)
                await gate.wait("as well as the old one", lambda: desk.unproven(name, port), say)
            return desk.ended_by()

        done = await self._rolling.services.replace(name, proven)
        if not done.replaced and desk.ended_by():
            raise _EndedError(done.reason)
        if not done.replaced:
            raise FailedError(
                f"{name}: its replacement failed and the old one goes on: {done.reason}",
                log_tail=done.log_tail,
            )
        if done.reason:
            raise FailedError(f"{name}: {done.reason}")
        say(
            f"pid {done.pid} took over, ready in {seconds_text(done.ready_s)}; the old one ended in "
            f"{seconds_text(done.left_s)}"
        )
        return Took(Way.SURGE, 0.0)

    async def _hand_over(self, say: Say) -> Took:
        took = None
        pair = self._rolling.pair.now()
        if pair is not None and pair.primary == self._turn.service:
            gate = Gate(self._rolling)
            await gate.wait("a standby that can take over", self._not_promotable, say)
            done = await self._rolling.pair.hand_over()
            say(f"{done.primary} trades: handed over in {seconds_text(done.seconds)}")
            took = Took(Way.HAND_OVER, done.seconds)
        away_s = await self._stop_and_start(say)
        return took or Took(Way.STANDBY, away_s)

    # ------------------------------------------------------------------ the gates

    async def _why_not_well(self) -> str:
        view = self._rolling.services.view(self._turn.service)
        if view.state is not ServiceState.READY:
            return f"is {view.state}" + (f": {view.reason}" if view.reason else "")
        assert self._before is not None
        if self._before.unwell:
            return ""  # it was not well before either; that it is ready is all that can be asked
        return await self._rolling.desk.unwell(self._turn.service)

    async def _not_promotable(self) -> str:
        return await self._rolling.pair.not_promotable()

    async def _await_trading(self, gate: Gate, say: Say) -> bool:
        """Whether the desk is meant to trade; it then does."""

        async def why_not() -> str:
            condition = await self._rolling.desk.condition()
            return "" if condition.is_as_meant else condition.why or "it is not known"

        await gate.wait("a desk that trades as before", why_not, say)
        return (await self._rolling.desk.condition()).meant_to_trade

    async def _watch(self, say: Say) -> None:
        """A service that ends or fails its probe within this time has failed, though it was ready."""
        services, name = self._rolling.services, self._turn.service
        pid = services.view(name).pid
        say(f"watched for {seconds_text(self._rolling.times.watch_for)}")
        until = time.monotonic() + self._rolling.times.watch_for
        while (left := until - time.monotonic()) > 0:
            view = services.view(name)
            if view.pid != pid or view.state is not ServiceState.READY:
                raise FailedError(
                    f"{name} did not stay up: {view.reason or f'is {view.state}'}",
                )
            if self._rolling.desk.ended_by():
                return
            await asyncio.sleep(min(LOOK_EVERY_S, left))

    # ------------------------------------------------------------------ the verdict

    async def verify(self, say: Say) -> Verification:
        rolling, name = self._rolling, self._turn.service
        rolling.ended = rolling.ended or rolling.desk.ended_by()
        view = await rolling.services.probe_now(name)
        condition = await rolling.verified_condition()
        desk = _desk_text(condition.meant_to_trade, condition.trades, condition.why)
        evidence: dict[str, object] = {"service": name, "desk": desk}
        if self._done is not None:
            evidence |= self._done.as_dict()
        if self._was_ended:
            return Verification(Outcome.SKIPPED, f"left alone: {rolling.ended}; {desk}", evidence)
        had_its_turn = self._before is not None and self._before.had_its_turn
        if rolling.failed is None and self._done is None and not had_its_turn:
            rolling.failed = FailedTurn(name, "its turn did not come to an end")
        if rolling.failed is not None:
            return Verification(Outcome.FAILED, f"{rolling.failed.why}; {desk}", evidence)
        if view.state is not ServiceState.READY and not (self._before and self._before.unwell):
            why = f"is {view.state}: {view.reason}"
            rolling.failed = FailedTurn(name, why)
            return Verification(Outcome.FAILED, f"{name} {why}; {desk}", evidence)
        if self._done is not None:
            rolling.restarted.append(self._done)
        else:
            rolling.earlier.append(name)
        if rolling.ended:
            return Verification(Outcome.DONE, f"restarted; ended here: {rolling.ended}", evidence)
        passed = self._done is None and name in rolling.passed
        if not condition.is_as_meant and not passed:
            outcome = Outcome.UNKNOWN if condition.trades is None else Outcome.FAILED
            rolling.failed = FailedTurn(name, f"it is ready, but {desk}")
            return Verification(outcome, rolling.failed.why, evidence)
        took = f", {self._done.took}" if self._done else ""
        return Verification(Outcome.DONE, f"pid {view.pid} is ready{took}; {desk}", evidence)


def _desk_text(meant: bool, trades: bool | None, why: str) -> str:
    if trades is None:
        return f"whether the desk trades is not known: {why}"
    if trades:
        return "the desk trades"
    return f"the desk does not trade: {why}" if meant else "the desk is not meant to trade"


_VERBS = {
    Way.IN_PLACE: "Restart in place:",
    Way.SURGE: "Replace:",
    Way.STANDBY: "Restart the standby:",
    Way.HAND_OVER: "Hand trading over and restart:",
}
_ACTS = {
    Way.IN_PLACE: "stop {} and start it again",
    Way.SURGE: "start a second {}, and stop the first when the second is ready",
    Way.STANDBY: "stop {} and start it again",
    Way.HAND_OVER: "let the standby take over from {}, then stop it and start it again",
}
