"""What the steps of a closing that stop services share: whether they may, in which order, and what
came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from openbell.domain.service_state import ServiceState
from openbell.domain.stopping import stop_waves
from openbell.procedures.closing.context import Closing
from openbell.procedures.ports import Facts, facts_of
from openbell.procedures.step import Outcome, Say
from openbell.runtime.spec import StopResult

GATES = ("cancel_orders", "flatten", "wait_for_orders")
"""Steps that must be settled before the services go, unless somebody insists: afterwards nobody is
left to finish them."""
LATER = {"cancel_orders": "wait_for_orders"}
"""The step that asks the same once more, later: who insists there knows what the earlier one found."""


@dataclass(frozen=True)
class StopWave:
    """These at the same time: nothing in it depends on another of it."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"stop {', '.join(self.names)}"


@dataclass(frozen=True)
class StopFacts:
    services: Facts
    depends_on: Mapping[str, tuple[str, ...]]
    roles: Mapping[str, str]
    outcomes: Mapping[str, Outcome]
    force: bool
    insisted: frozenset[str] = frozenset()
    """Steps after which the desk file (`force`) or a person said that the closing goes on all the same."""
    foreseen: frozenset[str] = frozenset()
    """Of a plan: services that the steps before will have stopped."""
    feeds_stay: bool = False
    """Market data goes with the rest, after whoever watches over it: while orders are to rest, the
    rule `stale_market_data` would take its silence for a fault and set the kill switch."""

    @property
    def venue_services(self) -> frozenset[str]:
        """Simulated venues: they outlive everyone who asks them."""
        return frozenset(name for name, role in self.roles.items() if role == "venue")


def stop_facts(closing: Closing, before: Collection[str] = ()) -> StopFacts:
    """`before`: what the steps before this one stop."""
    return StopFacts(
        services=facts_of(closing.services),
        depends_on=closing.depends_on,
        roles={name: each.role for name, each in closing.desk.file.services.items()},
        outcomes=dict(closing.outcomes),
        force=closing.wishes.force,
        insisted=closing.insisted,
        foreseen=frozenset(before) if closing.is_foreseen else frozenset(),
        feeds_stay=closing.wishes.orders != "cancel"
        and closing.desk.file.kill_switch.rules.stale_market_data is not None,
    )


def why_they_stay(facts: StopFacts) -> str:
    """Why no service may be stopped; empty where they may."""
    open_points = [
        f"{name} is {facts.outcomes[name]}"
        for name in GATES
        if facts.outcomes.get(name) in (Outcome.FAILED, Outcome.UNKNOWN)
        and not {name, LATER.get(name)} & facts.insisted
    ]
    if not open_points or facts.force:
        return ""
    return f"services stay up, because {', '.join(open_points)}; `--force` stops them"


def waves_to_stop(facts: StopFacts, chosen: Collection[str]) -> list[StopWave]:
    """Those of `chosen` that are not stopped, in the order in which a desk stops."""
    waves = [
        tuple(
            name
            for name in wave
            if name in chosen
            and name not in facts.foreseen
            and facts.services.state(name) is not ServiceState.STOPPED
        )
        for wave in stop_waves(facts.depends_on, facts.roles)
    ]
    return [StopWave(wave) for wave in waves if wave]


def still_running(closing: Closing, names: Iterable[str]) -> list[str]:
    facts = facts_of(closing.services)
    return sorted(name for name in names if facts.state(name).is_running)


def stop_budget_s(closing: Closing, names: Collection[str]) -> float:
    """Every ladder of these to its end, one after the other."""
    services = closing.desk.file.services
    return sum(service.stop.timeout for name, service in services.items() if name in names)


async def stop_wave(closing: Closing, names: Sequence[str], say: Say) -> dict[str, StopResult]:
    """Stops these at the same time. Of those that stop, the run's `service` events tell."""
    for name in names:
        closing.last_word.stops(name)
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
