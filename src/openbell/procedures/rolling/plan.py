"""Who is restarted by a rolling restart, in which order, and how. Pure: facts in, turns out.

Whatever a service depends on is restarted before it, so each comes up against the new code of what
it needs. Of an engine pair the standby goes first: the new code is proven where nothing is sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from openbell.domain.graph import start_order
from openbell.domain.service_state import UP, ServiceState


class Way(StrEnum):
    """How one service gets its new code."""

    IN_PLACE = "in_place"
    """Stopped, then started: it is away in between."""
    SURGE = "surge"
    """Its replacement is started and proven before it leaves."""
    STANDBY = "standby"
    """In place, where it sends nothing; then it must be promotable."""
    HAND_OVER = "hand_over"
    """The standby takes the trading over, then this one is restarted and stands by."""


@dataclass(frozen=True)
class Member:
    """A service as the planner sees it."""

    name: str
    role: str
    critical: bool
    surge: bool
    depends_on: tuple[str, ...]
    state: ServiceState


@dataclass(frozen=True)
class Pair:
    """The two that can be the engine, as they are at this moment."""

    primary: str
    standby: str


@dataclass(frozen=True)
class Turn:
    """One service's part in a rolling restart."""

    service: str
    way: Way
    pauses: str
    """What stands still meanwhile, in a sentence."""


@dataclass(frozen=True)
class LeftAlone:
    service: str
    why: str


@dataclass(frozen=True)
class RollingPlan:
    turns: tuple[Turn, ...]
    left_alone: tuple[LeftAlone, ...]


def plan_rolling(
    members: Mapping[str, Member],
    named: Collection[str],
    pair: Pair | None,
    cut_off: Collection[str] = (),
) -> RollingPlan:
    """`named`: restarted whatever their role; without any, all but simulated venues. `cut_off`: an
    earlier run may have stopped these and not started them again."""
    turns: list[Turn] = []
    left: list[LeftAlone] = []
    chosen = set(named) or {name for name, each in members.items() if each.role != "venue"}
    if pair is not None and pair.primary in chosen:
        chosen.add(pair.standby)
    deps = {name: member.depends_on for name, member in members.items()}
    order = [name for wave in start_order(deps) for name in wave]
    if pair is not None:  # directly before the one it stands by for
        order.remove(pair.standby)
        order.insert(order.index(pair.primary), pair.standby)
    for name in order:
        member = members[name]
        if name not in chosen:
            left.append(LeftAlone(name, _why_not_chosen(member, named)))
        elif member.state is ServiceState.STOPPED and name not in cut_off:
            left.append(LeftAlone(name, "it does not run"))
        else:
            way = _way(member, pair)
            turns.append(Turn(name, way, pauses(member, way)))
    return RollingPlan(tuple(turns), tuple(left))


def _why_not_chosen(member: Member, named: Collection[str]) -> str:
    return "not named" if named else f"a simulated {member.role} is restarted only when named"


def _way(member: Member, pair: Pair | None) -> Way:
    if pair is not None and member.name == pair.standby:
        return Way.STANDBY
    if pair is not None and member.name == pair.primary:
        return Way.HAND_OVER
    # Of a service that does not run there is nothing that could go on meanwhile.
    if member.surge and member.state in UP:
        return Way.SURGE
    return Way.IN_PLACE


_PAUSES = {
    "engine": "orders: nothing is sent or cancelled meanwhile, what rests stays at the venue",
    "strategies": "strategies: no new intents meanwhile, their orders rest at the venue",
    "market-data": "quotes: strategies see none, and orders that need a fresh one are refused",
    "risk": "risk figures: the engine opens no position until it hears them again",
    "venue": "the simulated venue: every order and quote of the desk",
}


def pauses(member: Member, way: Way) -> str:
    """What a restart of this service lets stand still."""
    if way is Way.SURGE:
        return "nothing: the old one goes on until its replacement is ready"
    if way is Way.STANDBY:
        return "nothing: it stands by; until it is promotable again the engine has no standby"
    if way is Way.HAND_OVER:
        return "orders for the moment of the hand-over; then the old one restarts without work"
    told = _PAUSES.get(member.role, f"{member.name} alone")
    if member.critical and member.role != "engine":
        told += "; it is critical, so the engine gets no permit until it is ready again"
    return told
