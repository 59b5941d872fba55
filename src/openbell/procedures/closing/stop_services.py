"""Closing, step 11: everything else stops: strategies, engine, risk, order management, market data,
agents and others, and last whoever looks on. Of those that have one part, whatever depends on
another goes first.

Simulated venues stay: when nothing that could send an order is left, the venues are asked once more,
past everything of ours. That word is the closing statement's, and it is on the disk before a simulated
venue, the only one who knows, is stopped (`stop_venues`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from openbell.procedures.closing.connections import links_after
from openbell.procedures.closing.context import Closing
from openbell.procedures.closing.disconnect import connected_of
from openbell.procedures.closing.stop_market_data import market_data_of
from openbell.procedures.closing.stopping import (
    StopFacts,
    StopWave,
    killed_note,
    still_running,
    stop_budget_s,
    stop_evidence,
    stop_facts,
    stop_wave,
    waves_to_stop,
    why_they_stay,
)
from openbell.procedures.declared import StepSpec
from openbell.procedures.ports import facts_of
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.runtime.spec import StopResult


@dataclass(frozen=True)
class AskVenues:
    def __str__(self) -> str:
        return "ask the venues, past everything of ours, what remains"


Action = StopWave | AskVenues

QUESTIONS_S = 90.0
LAST_WORD_S = 65.0
"""Of `QUESTIONS_S` a cancel may still need twenty seconds. A venue that does not answer is given
its own time-out and no more. One that wants fewer requests is waited for: Kraken's call counter,
which all of the desk's processes fill where they share a key, may stand at half as much again as
its limit, and then takes forty seconds to fall below what the questions need."""


def plan_stop(facts: StopFacts) -> Plan[Action]:
    """Everything but simulated venues, then the question to the venues."""
    if why := why_they_stay(facts):
        return Plan(reason=why, skipped=True)
    others = facts.depends_on.keys() - facts.venue_services
    return Plan((*waves_to_stop(facts, others), AskVenues()))


SPEC = StepSpec(
    name="stop_services",
    title="Stop services in order",
    does="Stops every service that is left but simulated venues, in the order strategies, engine, risk, "
    "order management, market data, agents and others, monitoring, each asked, and killed where its "
    "time is up; then asks the venues, past everything of ours, what remains. Does nothing where "
    "orders or positions are not settled, unless the closing is forced.",
    verified_by="The process groups are seen to be empty, and every venue has said what remains.",
    timeout_s=0.0,
    timeout_note="the stop time-outs of all services together, and a minute and a half",
    on_failure=OnFailure.FORCE,
    needed_because="a closed desk runs nothing",
    evidence="every rung of every service's ladder, by venue what is still connected and what "
    "of our orders rests, the venues' last word",
)


@dataclass
class StopServices:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    on_failure: OnFailure = SPEC.on_failure
    results: dict[str, StopResult] = field(default_factory=dict)

    @property
    def timeout_s(self) -> float:
        """Every ladder to its end, and the question to the venues."""
        return stop_budget_s(self.closing, self.closing.desk.file.services.keys()) + QUESTIONS_S

    async def observe(self) -> StopFacts:
        closing = self.closing
        before = market_data_of(stop_facts(closing)) | connected_of(closing)
        return stop_facts(closing, before)

    def plan(self, facts: StopFacts) -> Plan[Action]:
        return plan_stop(facts)

    async def act(self, plan: Plan[Action], say: Say) -> None:
        guard = self.closing.guard
        if guard is not None and self.closing.wishes.orders == "cancel":
            # The engine's silence is about to be meant: the timers are kept up without it.
            await guard.hold()
        for action in plan.actions:
            match action:
                case StopWave(names):
                    self.results |= await stop_wave(self.closing, names, say)
                case AskVenues():
                    await self._ask_venues(say)

    async def _ask_venues(self, say: Say) -> None:
        """An order that was on its way when it was last looked is withdrawn here."""
        closing = self.closing
        if not closing.asks_venues:
            return
        say("asking the venues what remains")
        # One that still holds stays: a venue that is down would be asked in vain for another.
        held = (await closing.last_word.kept()).picture is not None
        anchor = None if held else await closing.last_word.begin()
        picture = await closing.sight.past_the_engine(LAST_WORD_S)
        if left := closing.must_go(picture):
            # All of them where passive ones were to stay: past the engine there is no telling them
            # from one that was on its way, and an order that is missed rests with nobody to watch it.
            say("withdrawing orders that remained", len(left), 0)
            picture = await closing.sight.cancel_past_the_engine()
        await closing.last_word.keep(anchor, picture)
        closing.final = picture
        say(f"venues: {picture.describe()}")

    async def verify(self, say: Say) -> Verification:
        closing = self.closing
        facts = facts_of(closing.services)
        up = still_running(closing, facts.views.keys() - set(closing.voices.roles.venues))
        closing.connections = links_after(closing.desk.file, facts, closing.may_rest, closing.final)
        evidence: dict[str, object] = {
            "services": stop_evidence(self.results),
            "connections": list(closing.connections),
        }
        if closing.final is not None:
            evidence["venues"] = msgspec.to_builtins(closing.final)
        if up:
            return Verification(Outcome.FAILED, f"still running: {', '.join(up)}", evidence)
        if closing.asks_venues and (closing.final is None or not closing.final.known):
            unknown = closing.final.unknown if closing.final is not None else ("not asked",)
            return Verification(
                Outcome.UNKNOWN,
                f"stopped, but what remains is not known: {'; '.join(unknown)}",
                evidence,
            )
        return Verification(Outcome.DONE, f"stopped{killed_note(self.results)}", evidence)
