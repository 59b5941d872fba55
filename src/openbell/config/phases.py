"""Phases of a start-up: which of a desk's services are brought up, shown and verified together.

infrastructure  stores, brokers, simulated venues: what the others need
core            limits and breakers, the engine and its standby, market data
services        strategies, agents, everything else
console         what people look at: consoles, gateways

A service that names its phase is started when everything of the phases before it is ready. One that
names none has one by its part in the desk, for the telling alone: it is started as soon as what it
depends on is ready, so that a desk opens as fast as its longest chain of dependencies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from graphlib import TopologicalSorter
from typing import get_args

from openbell.config.duties import LOOKERS
from openbell.config.problems import Problem
from openbell.config.services import Phase, Service

PHASES: tuple[Phase, ...] = get_args(Phase)

_OF_ROLE: Mapping[str, Phase] = {
    "venue": "infrastructure",
    "risk": "core",
    "engine": "core",
    "standby": "core",
    "market-data": "core",
}


def phases_of(services: Mapping[str, Service]) -> dict[str, Phase]:
    """Each service's phase, never before that of anything it depends on. `services` name only each
    other in `depends_on`, and not in a circle."""
    rank = {name: PHASES.index(phase) for name, phase in _wanted(services).items()}
    for name in _in_order(services):
        if services[name].phase is None:
            needed = (rank[each] for each in services[name].depends_on)
            rank[name] = max((rank[name], *needed))
    return {name: PHASES[each] for name, each in rank.items()}


def can_send(service: Service, phase: Phase) -> bool:
    """Whether it has something to send an order with. It has not by its role; or where it is
    infrastructure, a store say, and is given neither an account nor a secret."""
    given_nothing = not service.venues and not service.secrets
    return service.role not in LOOKERS and not (
        service.role == "other" and phase == "infrastructure" and given_nothing
    )


def senders(services: Mapping[str, Service]) -> frozenset[str]:
    """Those that can send an order, by `can_send`."""
    phases = phases_of(services)
    return frozenset(name for name, each in services.items() if can_send(each, phases[name]))


def is_quiet(
    services: Mapping[str, Service], running: Collection[str], marked: Collection[str]
) -> bool:
    """Nothing that can send an order runs, whoever started it. `running`: the services that do; `marked`: by
    their service, living processes that carry the desk's mark. What carries it and is no service of the
    desk is taken for something that can."""
    able = senders(services)
    return able.isdisjoint(running) and not any(
        name in able or name not in services for name in marked
    )


def waits_for(services: Mapping[str, Service]) -> dict[str, tuple[str, ...]]:
    """By service: what must be ready before it is started. What it depends on; of one that names its
    phase, everything of the phases before as well. Goes never round in a circle, as phases follow
    dependencies."""
    rank = {name: PHASES.index(phase) for name, phase in phases_of(services).items()}
    return {
        name: service.depends_on
        if service.phase is None
        else tuple(
            dict.fromkeys(
                (*service.depends_on, *(each for each in services if rank[each] < rank[name]))
            )
        )
        for name, service in services.items()
    }


def phase_problems(services: Mapping[str, Service]) -> Iterator[Problem]:
    """Services that would have to start before what they depend on."""
    phases = phases_of(services)
    for name, service in services.items():
        if service.phase is None:
            continue
        for needed in service.depends_on:
            if PHASES.index(phases[needed]) > PHASES.index(service.phase):
                yield Problem(
                    ("services", name, "phase"),
                    f"{name} is of the phase {service.phase} and depends on {needed}, which is of "
                    f"the later phase {phases[needed]}",
                    f'write phase = "{phases[needed]}", or give {needed} an earlier one',
                )


def _wanted(services: Mapping[str, Service]) -> dict[str, Phase]:
    """As each says, or by its role; what something of the core or the infrastructure needs is
    infrastructure itself."""
    said = {name: each.phase or _OF_ROLE.get(each.role) for name, each in services.items()}
    early = [name for name, phase in said.items() if phase in ("infrastructure", "core")]
    needed = _reach(early, services)
    return {
        name: phase or ("infrastructure" if name in needed else "services")
        for name, phase in said.items()
    }


def _reach(names: Iterable[str], services: Mapping[str, Service]) -> set[str]:
    """All that they depend on, directly or not."""
    found: set[str] = set()
    waiting = [needed for name in names for needed in services[name].depends_on]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += services[each].depends_on
    return found


def _in_order(services: Mapping[str, Service]) -> Iterator[str]:
    """Each after what it depends on."""
    graph = {name: service.depends_on for name, service in services.items()}
    return iter(tuple(TopologicalSorter(graph).static_order()))
