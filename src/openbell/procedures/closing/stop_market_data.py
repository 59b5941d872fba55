"""Closing, step 9: market data stops, and the strategies that follow it before it.

They were told to make no order at the beginning; gone first, none of them sees its data break off.
A service's connections end with its process. The engine stays for the next step, which asks it once
more for what rests at the venues.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from openbell.domain.graph import with_dependents
from openbell.procedures.closing.connections import links
from openbell.procedures.closing.context import Closing
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

SPEC = StepSpec(
    name="stop_market_data",
    title="Stop market data",
    does="Stops the services of the role market-data, and before them the strategies that follow them. "
    "Does nothing where orders or positions are not settled, unless the closing is forced, and where "
    "orders are to rest at a desk with the rule stale_market_data: there it is stopped after risk.",
    verified_by="The process groups are seen to be empty.",
    timeout_s=0.0,
    timeout_note="the stop time-outs of these services together, and ten seconds",
    on_failure=OnFailure.FORCE,
    needed_because="a closed desk runs nothing",
    evidence="every rung of every service's ladder, by venue what is still connected",
)


def market_data_of(facts: StopFacts) -> frozenset[str]:
    """The feeds, and the strategies that depend on them: what this step stops."""
    if facts.feeds_stay:
        return frozenset()
    feeds = [name for name, role in facts.roles.items() if role == "market-data"]
    following = {
        name
        for name in with_dependents(facts.depends_on, feeds)
        if facts.roles.get(name) == "strategies"
    }
    return frozenset(feeds) | following


def plan_stop_market_data(facts: StopFacts) -> Plan[StopWave]:
    if why := why_they_stay(facts):
        return Plan(reason=why, skipped=True)
    if "market-data" not in facts.roles.values():
        return Plan(reason="no service of the desk has the role market-data", skipped=True)
    if facts.feeds_stay:
        return Plan(
            reason="market data is stopped with the rest, after risk: while orders are to rest, the rule "
            "stale_market_data would take its silence for a fault",
            skipped=True,
        )
    waves = waves_to_stop(facts, market_data_of(facts))
    return Plan(tuple(waves), "" if waves else "stopped already")


@dataclass
class StopMarketData:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    on_failure: OnFailure = SPEC.on_failure
    results: dict[str, StopResult] = field(default_factory=dict)

    @property
    def timeout_s(self) -> float:
        return stop_budget_s(self.closing, market_data_of(stop_facts(self.closing))) + 10.0

    async def observe(self) -> StopFacts:
        return stop_facts(self.closing)

    def plan(self, facts: StopFacts) -> Plan[StopWave]:
        return plan_stop_market_data(facts)

    async def act(self, plan: Plan[StopWave], say: Say) -> None:
        for wave in plan.actions:
            self.results |= await stop_wave(self.closing, wave.names, say)

    async def verify(self, say: Say) -> Verification:
        closing = self.closing
        closing.connections = links(closing.desk.file, facts_of(closing.services))
        evidence: dict[str, object] = {
            "services": stop_evidence(self.results),
            "connections": list(closing.connections),
        }
        if up := still_running(closing, market_data_of(stop_facts(closing))):
            return Verification(Outcome.FAILED, f"still running: {', '.join(up)}", evidence)
        return Verification(Outcome.DONE, f"stopped{killed_note(self.results)}", evidence)
