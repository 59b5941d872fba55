"""Closing, step 4: no new order is made. The engine's leave to trade is taken back at once."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from openbell.config.unit_texts import format_duration
from openbell.domain.limits import CLOCK_STEP_S
from openbell.procedures.closing.context import Closing
from openbell.procedures.declared import StepSpec
from openbell.procedures.desk_voices import EngineSays, StrategySays
from openbell.procedures.ports import facts_of
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.procedures.wording import count_of

QUIET_STATES = frozenset({"HALTED", "FAILED", "DISABLED", "STOPPED"})
"""States in which a strategy makes no order and does not begin to by itself."""
IN_FLIGHT_S, LOOK_EVERY_S = 5.0, 0.2
"""The engine has waited five seconds for them as well, before it said that it is halted."""
CANCELS = "DISABLED"
"""A strategy that is quiet and may still cancel: a closing may want to keep its orders."""


@dataclass(frozen=True)
class HaltFacts:
    engine_up: bool
    engine: EngineSays | None
    engine_why: str
    host_up: bool
    strategies: tuple[StrategySays, ...] | None
    strategies_why: str
    now_ns: int = 0
    """By the wall clock, when they were asked."""

    def age_s(self, strategy: StrategySays) -> float | None:
        """Of its last signal; None where there is none, or none is known: one from the future is of
        before the clock was set back, and has no age."""
        at = strategy.last_signal_ns
        if at is None or at > self.now_ns + CLOCK_STEP_S * 1e9:
            return None
        return round(max(0, self.now_ns - at) / 1e9, 3)

    def last_signal(self, strategy: StrategySays) -> str:
        """`5.0s ago`, `never` or `unknown`."""
        age_s = self.age_s(strategy)
        if age_s is not None:
            return f"{format_duration(age_s)} ago"
        told = strategy.tells_signals and strategy.last_signal_ns is None
        return "never" if told else "unknown"


@dataclass(frozen=True)
class HaltRunning:
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"halt strategies {', '.join(self.names) or '(all)'}"


@dataclass(frozen=True)
class DropTradePermit:
    """Halt and resume: the engine gives its permit up at once, and is given only `reduce` next."""

    def __str__(self) -> str:
        return "take the engine's permit to trade; leave it the permit to reduce positions"


Action = HaltRunning | DropTradePermit


def plan_halt(facts: HaltFacts) -> Plan[Action]:
    """Permit first: with it gone nothing is sent, however long the strategies take to hear."""
    actions: list[Action] = []
    if facts.engine_up and (facts.engine is None or facts.engine.scope == "trade"):
        actions.append(DropTradePermit())
    running = tuple(
        each.name
        for each in facts.strategies or ()
        if each.state not in QUIET_STATES or each.state == CANCELS
    )
    if running or (facts.host_up and facts.strategies is None):
        actions.append(HaltRunning(running))
    if not actions:
        if not facts.engine_up:
            return Plan(reason="no strategy runs, nor does an engine")
        return Plan(
            reason="no strategy runs, and the engine holds no permit to trade; "
            "it is given one to reduce positions and no other"
        )
    return Plan(tuple(actions))


def judge_halt(facts: HaltFacts) -> Verification:
    unknown = []
    if facts.engine_up and facts.engine is None:
        unknown.append(f"engine: {facts.engine_why}")
    if facts.host_up and facts.strategies is None:
        unknown.append(f"strategies: {facts.strategies_why}")
    in_flight = 0 if facts.engine is None else facts.engine.in_flight
    if in_flight:
        sent = count_of(in_flight, "order")
        unknown.append(f"{sent} sent before the halt and without an answer: may land yet")
    trading = facts.engine is not None and facts.engine.scope == "trade"
    running = [each.name for each in facts.strategies or () if each.state not in QUIET_STATES]
    evidence: dict[str, object] = {
        "strategies": {each.name: each.state for each in facts.strategies or ()},
        "last_signals": [
            {
                "strategy": each.name,
                "state": each.state,
                "last_signal": facts.last_signal(each),
                "age_s": facts.age_s(each),
            }
            for each in facts.strategies or ()
        ],
        "permit_scope": None if facts.engine is None else facts.engine.scope,
        "in_flight": None if facts.engine is None else in_flight,
    }
    if trading or running:
        still = [*(["the engine still holds a permit to trade"] if trading else []), *running]
        return Verification(Outcome.FAILED, f"not halted: {', '.join(still)}", evidence)
    if unknown:
        return Verification(Outcome.UNKNOWN, "; ".join(unknown), evidence)
    halted = count_of(len(facts.strategies or ()), "strategy", "strategies")
    signals = ", ".join(f"{each.name} {facts.last_signal(each)}" for each in facts.strategies or ())
    told = f"{halted} halted, no permit to trade"
    return Verification(
        Outcome.DONE, f"{told}; last signals: {signals}" if signals else told, evidence
    )


SPEC = StepSpec(
    name="halt_strategies",
    title="Halt strategies",
    does="Takes the engine's permit to trade back, leaving it the permit to reduce, "
    "and halts every strategy.",
    verified_by="The engine is asked for its permit and the strategies for their states: "
    "no permit to trade, none running, no order without an answer.",
    timeout_s=15.0,
    on_failure=OnFailure.WARN,
    needed_because="whatever is cancelled afterwards would be ordered anew",
    evidence="each strategy's state and the age of its last signal, the permit's scope",
)


@dataclass
class HaltStrategies:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure
    """Cancelling goes on: the permit is refused by the controller, whoever did not answer here."""

    async def observe(self) -> HaltFacts:
        voices = self.closing.voices
        facts = facts_of(self.closing.services)
        engine_up = await self.closing.sight.engine_is_up(patience_s=0)
        host_up = facts.is_up(voices.roles.strategies)
        engine, engine_why = await voices.engine() if engine_up else (None, "")
        strategies, strategies_why = await voices.strategies() if host_up else ((), "")
        return HaltFacts(
            engine_up,
            engine,
            engine_why,
            host_up,
            strategies,
            strategies_why,
            self.closing.now_ns(),
        )

    def plan(self, facts: HaltFacts) -> Plan[Action]:
        return plan_halt(facts)

    async def act(self, plan: Plan[Action], say: Say) -> None:
        voices = self.closing.voices
        reason = self.closing.wishes.reason or "closing"
        for action in plan.actions:
            match action:
                case DropTradePermit():
                    answer = await voices.tell_engine("/v1/halt", {"reason": reason})
                    if answer.known:
                        await voices.tell_engine("/v1/resume")
                case HaltRunning():
                    await voices.tell_strategies("/v1/strategies/halt", {"reason": reason})
            say(str(action))

    async def verify(self, say: Say) -> Verification:
        """An order that was on its way has its answer, or is in doubt and asked for, after its venue's
        time-out: that is waited for, as far as this step's time allows."""
        facts = await self.observe()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IN_FLIGHT_S):
                while facts.engine is not None and facts.engine.in_flight:
                    await asyncio.sleep(LOOK_EVERY_S)
                    facts = await self.observe()
        return judge_halt(facts)
