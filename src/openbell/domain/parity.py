"""Whether a standby could do exactly what the engine does: the same code, configuration, limits,
venue access and books. Where it could not, it is not promoted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LAG_MAX = 1_000
"""Entries of the journal that a standby may be behind. Ours: it folds so many in milliseconds when it
is promoted; one that is further behind does not follow."""


@dataclass(frozen=True, kw_only=True)
class ParityFacts:
    """What one of the two says of itself."""

    version: str
    code: str
    """Hash of the package's files as they were when it started."""
    configuration: str
    """Hash of the desk file it runs by."""
    limits: str
    """Hash of the limits it applies."""
    venues: Mapping[str, VenueAccess] = field(default_factory=dict)
    last_seq: int = 0
    """The newest entry of the journal in its books."""
    problem: str = ""
    """Why its books do not follow the journal."""


@dataclass(frozen=True, kw_only=True)
class VenueAccess:
    access: str
    """Hash of the credentials and the account."""
    connected: bool
    why_not: str = ""


def differences(engine: ParityFacts, standby: ParityFacts) -> tuple[str, ...]:
    """What keeps the standby from replacing the engine, for people; empty: nothing."""
    return (*unlike(engine, standby), *unready(engine, standby))


def unlike(engine: ParityFacts, standby: ParityFacts) -> tuple[str, ...]:
    """In what it is another engine: what only a restart or another desk file mends."""
    found = []
    if standby.version != engine.version:
        found.append(f"it runs version {standby.version}, the engine {engine.version}")
    elif standby.code != engine.code:
        found.append("it runs other code")
    if standby.limits != engine.limits:
        found.append("it applies other limits")
    elif standby.configuration != engine.configuration:
        found.append("it runs by another desk.toml")
    for name in sorted({*engine.venues, *standby.venues}):
        here, there = standby.venues.get(name), engine.venues.get(name)
        if here is None or there is None:
            found.append(f"only one of the two trades at {name}")
        elif here.access != there.access:
            found.append(f"it has other credentials for {name}")
    return tuple(found)


def unready(engine: ParityFacts, standby: ParityFacts) -> tuple[str, ...]:
    """What it lacks at this moment."""
    found = []
    if standby.problem:
        found.append(f"its books do not follow the journal: {standby.problem}")
    elif engine.last_seq - standby.last_seq > LAG_MAX:
        found.append(f"its books are {engine.last_seq - standby.last_seq} journal entries behind")
    for name, here in sorted(standby.venues.items()):
        there = engine.venues.get(name)
        # A venue that is down for both is no reason: the engine cannot trade there either.
        if not here.connected and (there is None or there.connected):
            found.append(f"it has no connection to {name}: {here.why_not}".rstrip(": "))
    return tuple(found)
