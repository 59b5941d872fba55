"""The last step of a rolling restart that is to end as it began: the same engine trades."""

from __future__ import annotations

from dataclasses import dataclass

from openbell.procedures.declared import StepSpec
from openbell.procedures.rolling.context import FailedTurn, Rolling
from openbell.procedures.rolling.gate import Gate, longest_s
from openbell.procedures.rolling.plan import Pair
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.procedures.wording import seconds_text


@dataclass(frozen=True)
class BackFacts:
    pair: Pair | None
    ended_by: str
    would_hand_over: bool
    """Of a plan: a turn before this step lets the other one trade."""


@dataclass(frozen=True)
class HandBackTo:
    engine: str

    def __str__(self) -> str:
        return f"hand trading back to {self.engine} once it can take over"


SPEC = StepSpec(
    name="hand_back",
    title="Hand trading back",
    does="Hands trading back to the engine that had it when the run was begun.",
    verified_by="That engine trades, and the desk as before.",
    timeout_s=0.0,
    timeout_note="the waits of `[rolling]`, and what a venue's limits hold back",
    on_failure=OnFailure.ABORT,
    policies=(OnFailure.ABORT,),
    needed_because="it is taken only where it is asked for",
    timeout_is_set=False,
    evidence="which engine trades",
    applies="`hand_back` is asked for",
)


class HandBack:
    """Step: `engine` trades, as it did when the run was begun."""

    name = SPEC.name
    on_failure = SPEC.on_failure

    def __init__(self, rolling: Rolling, engine: str) -> None:
        self._rolling = rolling
        self._engine = engine
        self.title = f"Hand trading back to {engine}"
        self.timeout_s = 2 * longest_s(rolling.times.trading_within) + 10.0

    async def observe(self) -> BackFacts:
        rolling = self._rolling
        turns = {turn.service for turn in rolling.plan.turns}
        if ended_by := rolling.desk.ended_by():
            rolling.ended = ended_by
        return BackFacts(rolling.pair.now(), ended_by, self._engine in turns)

    def plan(self, facts: BackFacts) -> Plan[HandBackTo]:
        if facts.ended_by:
            return Plan(reason=f"not handed back: {facts.ended_by}", skipped=True)
        trades = facts.pair is not None and facts.pair.primary == self._engine
        had_its_turn = self._engine in self._rolling.had_its_turn
        if trades and (had_its_turn or not facts.would_hand_over):
            return Plan(reason=f"{self._engine} trades")
        return Plan((HandBackTo(self._engine),))

    async def act(self, plan: Plan[HandBackTo], say: Say) -> None:
        gate = Gate(self._rolling)
        can = f"an {self._engine} that can take over"
        await gate.wait(can, self._rolling.pair.not_promotable, say)
        if self._rolling.desk.ended_by():
            return
        done = await self._rolling.pair.hand_over()
        say(f"{done.primary} took over: handed back in {seconds_text(done.seconds)}")
        await Gate(self._rolling).wait("a desk that trades as before", self._why_not_trading, say)

    async def _why_not_trading(self) -> str:
        condition = await self._rolling.desk.condition()
        return "" if condition.is_as_meant else condition.why or "it is not known"

    async def verify(self, say: Say) -> Verification:
        rolling = self._rolling
        rolling.ended = rolling.ended or rolling.desk.ended_by()
        pair, condition = rolling.pair.now(), await rolling.verified_condition()
        trades = None if pair is None else pair.primary
        evidence = {"engine": trades, "desk_trades": condition.trades}
        if trades != self._engine:
            why = f"{trades or 'nobody known'} trades, not {self._engine}"
            if rolling.ended:
                return Verification(Outcome.SKIPPED, f"{why}: {rolling.ended}", evidence)
            rolling.failed = FailedTurn(self._engine, f"not handed back: {why}")
            return Verification(Outcome.FAILED, rolling.failed.why, evidence)
        if not condition.is_as_meant and not rolling.ended:
            rolling.failed = FailedTurn(self._engine, f"handed back, but: {condition.why}")
            outcome = Outcome.UNKNOWN if condition.trades is None else Outcome.FAILED
            return Verification(outcome, rolling.failed.why, evidence)
        return Verification(Outcome.DONE, f"{self._engine} trades", evidence)
