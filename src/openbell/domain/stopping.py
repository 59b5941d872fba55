"""The order in which a desk that is being closed stops its services.

By what they are to trading first: whatever makes orders before whatever carries them, whatever
carries them before whatever watches over them. So a strategy is gone before the engine it would ask,
and the one who looks on is the last to go.
"""

from __future__ import annotations

from collections.abc import Mapping

from openbell.domain.graph import Deps, stop_order, with_dependents

_RANKS: Mapping[str, int] = {
    "strategies": 0,
    "engine": 1,
    "standby": 1,  # with its engine: a standby that is left behind would take over
    "risk": 2,
    "order-management": 3,
    "market-data": 4,
    "agent": 5,
    "other": 5,
    "monitoring": 6,
    "venue": 7,  # simulated: it outlives everyone who asks it
}


def stop_waves(depends_on: Deps, roles: Mapping[str, str]) -> list[list[str]]:
    """Waves: each holds, by name, what may stop at once when all waves before it are gone.

    Among services of one part the graph decides: whatever depends on another goes first. So it does
    for a service of the role `other`, say a bus or a store, which outlives everything that depends
    on it. Raises ValueError for a cycle.
    """
    ranks = {name: _rank(name, depends_on, roles) for name in depends_on}
    waves = stop_order(depends_on)
    return [
        chosen
        for rank in sorted(set(ranks.values()))
        for wave in waves
        if (chosen := [name for name in wave if ranks[name] == rank])
    ]


def _rank(name: str, depends_on: Deps, roles: Mapping[str, str]) -> int:
    own = _RANKS[roles[name]]
    if roles[name] != "other":
        return own
    return max(_RANKS[roles[each]] for each in with_dependents(depends_on, [name]))
