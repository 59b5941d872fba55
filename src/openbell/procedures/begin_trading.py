"""The last step of an opening: the engine reconciles, gets its permit, the strategies run.

Nothing here grants anything: the permit is the controller's decision at the engine's own asking.
This step takes back halts of an earlier closing, waits, and says what the desk waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from openbell.domain.desk_state import DeskTarget
from openbell.procedures.declared import StepSpec
from openbell.procedures.desk_voices import DeskVoices, EngineSays, StrategySays
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification

POLL_S = 0.05
VENUE_PATIENCE_S = 5.0
"""How long an unreachable venue is waited for before the opening ends with saying so. The engine
goes on trying by itself, and the desk trades as soon as the venue is there."""
REFUSED_PATIENCE_S = 1.0
"""The same where every venue that is missing has refused the credentials: the engine has asked again
by then, and no waiting makes a wrong key a right one."""


@dataclass
class VenuePatience:
    """With unreachable venues, over all steps of one opening: they are waited for once."""

    since_s: float | None = None

    def is_over(self, missing: bool, now_s: float, *, refused: bool = False) -> bool:
        """`missing`: the engine waits for a venue at this moment, on the loop's clock; `refused`: for
        none but such as have refused the credentials."""
        if not missing:
            self.since_s = None
            return False
        self.since_s = now_s if self.since_s is None else self.since_s
        return now_s - self.since_s > (REFUSED_PATIENCE_S if refused else VENUE_PATIENCE_S)


RELEASE = "`openbell kill-switch deactivate` releases it"


class Opened(StrEnum):
    TRADING = "trading"
    SAFE = "safe"
    HALTED = "halted"
    HELD = "held"
    """In safe mode, because a look before trading found something that nobody else waits for."""
    WAITING = "waiting"


@dataclass(frozen=True)
class TradingFacts:
    target: DeskTarget
    latched: bool
    engine: EngineSays | None
    engine_why: str
    strategies: tuple[StrategySays, ...] | None
    strategies_why: str
    has_engine: bool
    blocked: str = ""
    """Why it is no use to wait: the engine is not up, a critical service is not ready."""
    latch_note: str = ""
    """What is latched, by whom and why; set too where only parts of the desk are."""
    held: str = ""
    """Why a desk that was asked to trade is not let; empty where nothing was found against it."""


@dataclass(frozen=True)
class Verdict:
    """`waiting_for` is set with WAITING only."""

    opened: Opened
    waiting_for: str = ""
    note: str = ""


def judge(facts: TradingFacts) -> Verdict:
    """What the desk is, from what is observed."""
    if facts.latched:
        note = facts.latch_note or "the kill switch is latched"
        return Verdict(Opened.SAFE, note=f"{note}; {RELEASE}")
    if facts.target is DeskTarget.HALTED:
        return Verdict(Opened.HALTED, note="a halt from before stands; `openbell resume` ends it")
    if facts.held:
        return Verdict(Opened.HELD, note=facts.held)
    if facts.target is DeskTarget.SAFE:
        return Verdict(Opened.SAFE)
    if facts.blocked:
        return Verdict(Opened.WAITING, facts.blocked)
    if not facts.has_engine:
        return _trading(facts, "the desk has no engine: nothing is sent by itself")
    if facts.engine is None:
        return Verdict(Opened.WAITING, f"engine: {facts.engine_why}")
    if not facts.engine.trading:
        if facts.engine.phase == "waiting_for_venue":
            venues = ", ".join(facts.engine.unconnected) or "unknown"
            refused = ": credentials refused" if facts.engine.refused else ""
            return Verdict(Opened.WAITING, f"venue {venues}{refused}")
        return Verdict(Opened.WAITING, facts.engine.why_not or f"engine is {facts.engine.phase}")
    if facts.strategies is None:
        return Verdict(Opened.WAITING, f"strategies: {facts.strategies_why}")
    waiting = [each for each in facts.strategies if each.state in ("WAITING", "HALTED")]
    if waiting:
        told = ", ".join(f"{each.name} ({each.why or each.state.lower()})" for each in waiting)
        return Verdict(Opened.WAITING, f"strategies: {told}")
    return _trading(facts, "; ".join(_standing(facts.strategies)))


def _standing(strategies: Sequence[StrategySays]) -> Iterator[str]:
    """Those that nobody waits for: a person has to mend or to enable them."""
    for state in ("FAILED", "DISABLED"):
        if names := [each.name for each in strategies if each.state == state]:
            yield f"{state.lower()} strategies: {', '.join(names)}"


def _trading(facts: TradingFacts, note: str) -> Verdict:
    """With what is latched: parts of a desk that trades may be."""
    return Verdict(Opened.TRADING, note="; ".join(filter(None, (note, facts.latch_note))))


@dataclass(frozen=True)
class ResumeEngine:
    def __str__(self) -> str:
        return "let the engine ask for a permit"


@dataclass(frozen=True)
class ResumeStrategies:
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"resume strategies {', '.join(self.names)}"


@dataclass(frozen=True)
class AwaitTrading:
    def __str__(self) -> str:
        return "wait until books are reconciled, the permit is granted and strategies run"


Action = ResumeEngine | ResumeStrategies | AwaitTrading


def title_of(target: DeskTarget, latched: bool) -> str:
    """What the step is about in a desk that is asked to be this."""
    if latched:
        return "Stay safe: the kill switch is latched"
    match target:
        case DeskTarget.SAFE:
            return "Stay in safe mode: nothing trades by itself"
        case DeskTarget.HALTED:
            return "Leave the halt in place"
        case _:
            return "Reconcile, get the permit, run the strategies"


def without_engine(engine: str, wanted: Collection[str]) -> str:
    """Why trading cannot begin where only these services are asked for."""
    return f"only {', '.join(wanted)} {'is' if len(wanted) == 1 else 'are'} asked for, not {engine}"


def plan_trading(facts: TradingFacts) -> Plan[Action]:
    verdict = judge(facts)
    if verdict.opened is not Opened.WAITING:
        return Plan(reason=verdict.note or f"the desk is {verdict.opened}")
    if facts.blocked:
        return Plan(reason=facts.blocked, skipped=True)
    actions: list[Action] = []
    if facts.engine is None or not facts.engine.trading:
        actions.append(ResumeEngine())
    halted = tuple(each.name for each in facts.strategies or () if each.state == "HALTED")
    if halted:
        actions.append(ResumeStrategies(halted))
    return Plan((*actions, AwaitTrading()))


SPEC = StepSpec(
    name="begin_trading",
    title="Begin trading, or be what was asked for",
    does="Lets the engine and the strategies trade, where the desk is meant to; waits for what the "
    "engine still lacks.",
    verified_by="The engine is asked whether it trades: trading, safe, halted, or what it waits for.",
    timeout_s=30.0,
    on_failure=OnFailure.WARN,
    needed_because="without it nobody has seen whether the desk trades",
    evidence="what is waited for",
)


@dataclass
class BeginTrading:
    """Step: the desk trades, or is what it was asked to be, or says what it waits for."""

    voices: DeskVoices
    target: Callable[[], DeskTarget]
    latched: Callable[[], bool]
    blocked: Callable[[], str]
    """Why trading cannot begin whatever is waited for; empty where it may."""
    latch_note: Callable[[], str] = lambda: ""
    """What is latched, in a sentence."""
    held: Callable[[], str] = lambda: ""
    """Why it is not let trade; empty where it is."""
    timeout_s: float = SPEC.timeout_s
    name: str = SPEC.name
    on_failure: OnFailure = SPEC.on_failure
    verdict: Verdict = Verdict(Opened.WAITING, "nothing was observed yet")
    patience: VenuePatience = field(default_factory=VenuePatience)

    @property
    def title(self) -> str:
        return title_of(self.target(), self.latched())

    async def observe(self) -> TradingFacts:
        has_engine = self.voices.roles.engine is not None
        target, latched, blocked = self.target(), self.latched(), self.blocked()
        engine: EngineSays | None = None
        strategies: tuple[StrategySays, ...] | None = None
        engine_why = strategies_why = ""
        if has_engine and target is DeskTarget.TRADING and not latched and not blocked:
            (engine, engine_why), (strategies, strategies_why) = await asyncio.gather(
                self.voices.engine(), self.voices.strategies()
            )
        return TradingFacts(
            target, latched, engine, engine_why, strategies, strategies_why, has_engine, blocked,
            self.latch_note(), self.held(),
        )  # fmt: skip

    def plan(self, facts: TradingFacts) -> Plan[Action]:
        return plan_trading(facts)

    async def act(self, plan: Plan[Action], say: Say) -> None:
        for action in plan.actions:
            match action:
                case ResumeEngine():
                    await self.voices.tell_engine("/v1/resume")
                case ResumeStrategies(names):
                    await self.voices.tell_strategies(
                        "/v1/strategies/resume", {"names": names, "reason": "opening"}
                    )
                case AwaitTrading():
                    await self._await(say)

    async def _await(self, say: Say) -> None:
        loop = asyncio.get_running_loop()
        told = ""
        while True:
            facts = await self.observe()
            verdict = judge(facts)
            if verdict.opened is not Opened.WAITING:
                return
            if verdict.waiting_for != told:
                told = verdict.waiting_for
                say(f"waiting: {told}")
            halted = tuple(each.name for each in facts.strategies or () if each.state == "HALTED")
            if halted and facts.engine is not None and facts.engine.trading:
                await self.voices.tell_strategies(
                    "/v1/strategies/resume", {"names": halted, "reason": "opening"}
                )
            missing = facts.engine is not None and facts.engine.phase == "waiting_for_venue"
            refused = facts.engine is not None and facts.engine.refused
            if self.patience.is_over(missing, loop.time(), refused=refused):
                return
            await asyncio.sleep(POLL_S)

    async def verify(self, say: Say) -> Verification:
        self.verdict = verdict = judge(await self.observe())
        if verdict.opened is Opened.WAITING:
            return Verification(
                Outcome.FAILED,
                f"everything is up, but the desk does not trade: waiting for {verdict.waiting_for}",
                {"waiting_for": verdict.waiting_for},
            )
        if verdict.opened is Opened.HELD:
            return Verification(
                Outcome.FAILED,
                f"everything is up, and the desk is held in safe mode: {verdict.note}",
                {"held": verdict.note},
            )
        note = f": {verdict.note}" if verdict.note else ""
        return Verification(Outcome.DONE, f"the desk is {verdict.opened}{note}")
