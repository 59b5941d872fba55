"""Closing, step 7: services stop, whatever depends on another before it.

In between, when nothing that could send an order is left and before a simulated venue goes, the
venues are asked once more, past everything of ours: that word is the closing statement's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from openbell.domain.graph import stop_order
from openbell.domain.service_state import ServiceState
from openbell.procedures.closing.context import Closing
from openbell.procedures.ports import Facts, facts_of
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.runtime.spec import StopResult

GATES = ("cancel_orders", "flatten", "wait_for_orders")
"""Steps that must be settled before the services go: afterwards nobody is left to finish them."""


@dataclass(frozen=True)
class StopWave:
    """These at the same time: nothing in it depends on another of it."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"stop {', '.join(self.names)}"


@dataclass(frozen=True)
class AskVenues:
    def __str__(self) -> str:
        return "ask the venues, past everything of ours, what remains"


Action = StopWave | AskVenues


@dataclass(frozen=True)
class StopFacts:
    services: Facts
    depends_on: Mapping[str, tuple[str, ...]]
    venue_services: frozenset[str]
    outcomes: Mapping[str, Outcome]
    force: bool


def plan_stop(facts: StopFacts) -> Plan[Action]:
    """Waves in reverse order of dependency, simulated venues in waves of their own at the end."""
    open_points = [
        f"{name} is {facts.outcomes[name]}"
        for name in GATES
        if facts.outcomes.get(name) in (Outcome.FAILED, Outcome.UNKNOWN)
    ]
    if open_points and not facts.force:
        return Plan(
            reason=f"services stay up, because {', '.join(open_points)}; `--force` stops them",
            skipped=True,
        )
    waves = [
        tuple(name for name in wave if facts.services.state(name) is not ServiceState.STOPPED)
        for wave in stop_order(facts.depends_on)
    ]
    others = [tuple(n for n in wave if n not in facts.venue_services) for wave in waves]
    venues = [tuple(n for n in wave if n in facts.venue_services) for wave in waves]
    actions: list[Action] = [StopWave(wave) for wave in others if wave]
    actions.append(AskVenues())
    actions += [StopWave(wave) for wave in venues if wave]
    return Plan(tuple(actions))


@dataclass
class StopServices:
    closing: Closing
    name: str = "stop_services"
    title: str = "Stop services in reverse order"
    on_failure: OnFailure = OnFailure.FORCE
    results: dict[str, StopResult] = field(default_factory=dict)
    stays_up: str = ""

    @property
    def timeout_s(self) -> float:
        """Every ladder to its end, and the question to the venues."""
        stops = self.closing.desk.file.services.values()
        return sum(service.stop.timeout for service in stops) + 60.0

    async def observe(self) -> StopFacts:
        services = self.closing.desk.file.services
        return StopFacts(
            services=facts_of(self.closing.services),
            depends_on={name: service.depends_on for name, service in services.items()},
            venue_services=frozenset(self.closing.voices.roles.venues),
            outcomes=dict(self.closing.outcomes),
            force=self.closing.wishes.force,
        )

    def plan(self, facts: StopFacts) -> Plan[Action]:
        return plan_stop(facts)

    async def act(self, plan: Plan[Action], say: Say) -> None:
        total = sum(len(action.names) for action in plan.actions if isinstance(action, StopWave))
        for action in plan.actions:
            match action:
                case StopWave(names):
                    await asyncio.gather(*(self._stop(name, total, say) for name in names))
                case AskVenues():
                    await self._ask_venues(say)
                    if self.stays_up:
                        return

    async def _stop(self, name: str, total: int, say: Say) -> None:
        result = await self.closing.services.stop(name, reason="closing the desk")
        self.results[name] = result
        how = "stopped" if result.stopped else f"left pids {result.survivors}"
        say(f"{name} {how}", total - len(self.results), 0)

    async def _ask_venues(self, say: Say) -> None:
        """An order that was on its way when it was last looked is withdrawn here."""
        closing = self.closing
        if not closing.desk.file.venues:
            return
        say("asking the venues what remains")
        picture = await closing.sight.past_the_engine()
        if picture.orders and closing.wishes.orders == "cancel":
            say("withdrawing orders that remained", len(picture.orders), 0)
            picture = await closing.sight.cancel_past_the_engine()
        closing.final = picture
        say(f"venues: {picture.describe()}")
        if not picture.known and not closing.wishes.force and closing.voices.roles.venues:
            # A simulated venue that goes takes the truth with it.
            self.stays_up = f"not known what remains: {'; '.join(picture.unknown)}"

    async def verify(self, say: Say) -> Verification:
        facts = facts_of(self.closing.services)
        up = [name for name in facts.views if facts.state(name).is_running]
        evidence: dict[str, object] = {
            "services": {
                name: {
                    "stopped": result.stopped,
                    "seconds": round(result.seconds, 3),
                    "exit_status": result.exit_status,
                    "rungs": [f"{rung.action}: {rung.outcome}" for rung in result.rungs],
                }
                for name, result in self.results.items()
            }
        }
        if self.stays_up:
            found = Verification(
                Outcome.UNKNOWN, f"{', '.join(up)} stay up: {self.stays_up}", evidence
            )
        elif up:
            found = Verification(Outcome.FAILED, f"still running: {', '.join(up)}", evidence)
        else:
            killed = [
                name
                for name, result in self.results.items()
                if any("KILL" in rung.action for rung in result.rungs)
            ]
            note = f"; killed: {', '.join(killed)}" if killed else ""
            found = Verification(
                Outcome.DONE, f"{len(facts.views)} services are stopped{note}", evidence
            )
        return found
