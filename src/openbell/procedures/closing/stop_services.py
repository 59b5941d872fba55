"""Closing, step 9: services stop, whatever depends on another before it.

Simulated venues stay: when nothing that could send an order is left, the venues are asked once more,
past everything of ours. That word is the closing statement's, and it is in the run's journal before
a simulated venue, the only one who knows, is stopped (`stop_venues`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from openbell.domain.graph import stop_order
from openbell.domain.service_state import ServiceState
from openbell.procedures.closing.connections import links_after
from openbell.procedures.closing.context import Closing
from openbell.procedures.declared import StepSpec
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


def waves_to_stop(
    facts: Facts, depends_on: Mapping[str, tuple[str, ...]], chosen: Collection[str]
) -> list[StopWave]:
    """Those of `chosen` that are not stopped, dependents before what they depend on."""
    waves = [
        tuple(
            name
            for name in wave
            if name in chosen and facts.state(name) is not ServiceState.STOPPED
        )
        for wave in stop_order(depends_on)
    ]
    return [StopWave(wave) for wave in waves if wave]


def plan_stop(facts: StopFacts) -> Plan[Action]:
    """Everything but simulated venues, then the question to the venues."""
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
    others = facts.depends_on.keys() - facts.venue_services
    return Plan((*waves_to_stop(facts.services, facts.depends_on, others), AskVenues()))


SPEC = StepSpec(
    name="stop_services",
    title="Stop services in reverse order",
    does="Stops every service but simulated venues, dependents before what they depend on; then asks "
    "the venues, past everything of ours, what remains. Does nothing where orders or positions are "
    "not settled, unless the closing is forced.",
    verified_by="The process groups are seen to be empty, and every venue has said what remains.",
    timeout_s=0.0,
    timeout_note="the stop time-outs of all services together, and one minute",
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
        stops = self.closing.desk.file.services.values()
        return sum(service.stop.timeout for service in stops) + 60.0

    async def observe(self) -> StopFacts:
        return StopFacts(
            services=facts_of(self.closing.services),
            depends_on=self.closing.depends_on,
            venue_services=frozenset(self.closing.voices.roles.venues),
            outcomes=dict(self.closing.outcomes),
            force=self.closing.wishes.force,
        )

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
        if not closing.has_venues:
            return
        say("asking the venues what remains")
        picture = closing.restored() or await closing.sight.past_the_engine()
        if left := closing.must_go(picture):
            # All of them where passive ones were to stay: past the engine there is no telling them
            # from one that was on its way, and an order that is missed rests with nobody to watch it.
            say("withdrawing orders that remained", len(left), 0)
            picture = await closing.sight.cancel_past_the_engine()
        closing.final = picture
        say(f"venues: {picture.describe()}")

    async def verify(self, say: Say) -> Verification:
        closing = self.closing
        facts = facts_of(closing.services)
        up = [
            name
            for name in facts.views
            if facts.state(name).is_running and name not in closing.voices.roles.venues
        ]
        closing.connections = links_after(closing.desk.file, facts, closing.may_rest, closing.final)
        evidence: dict[str, object] = {
            "services": stop_evidence(self.results),
            "connections": list(closing.connections),
        }
        if closing.final is not None:
            evidence["venues"] = msgspec.to_builtins(closing.final)
        if up:
            return Verification(Outcome.FAILED, f"still running: {', '.join(up)}", evidence)
        if closing.has_venues and (closing.final is None or not closing.final.known):
            unknown = closing.final.unknown if closing.final is not None else ("not asked",)
            return Verification(
                Outcome.UNKNOWN,
                f"stopped, but what remains is not known: {'; '.join(unknown)}",
                evidence,
            )
        return Verification(Outcome.DONE, f"stopped{killed_note(self.results)}", evidence)


async def stop_wave(closing: Closing, names: Sequence[str], say: Say) -> dict[str, StopResult]:
    """Stops these at the same time. Of those that stop, the run's `service` events tell."""
    results = await asyncio.gather(
        *(closing.services.stop(name, reason="closing the desk") for name in names)
    )
    for result in results:
        if not result.stopped:
            say(f"{result.service} left pids {list(result.survivors)}")
    return {result.service: result for result in results}


def stop_evidence(results: Mapping[str, StopResult]) -> dict[str, object]:
    """Every rung of every ladder."""
    return {
        name: {
            "stopped": result.stopped,
            "seconds": round(result.seconds, 3),
            "exit_status": result.exit_status,
            "rungs": [f"{rung.action}: {rung.outcome}" for rung in result.rungs],
        }
        for name, result in results.items()
    }


def killed_note(results: Mapping[str, StopResult]) -> str:
    killed = [
        name
        for name, result in results.items()
        if any("KILL" in rung.action for rung in result.rungs)
    ]
    return f"; killed: {', '.join(killed)}" if killed else ""
