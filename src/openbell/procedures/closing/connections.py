"""What is connected to each venue when the services are stopped, and how it was left.

A service's connections end with its process, so a process that is seen to be gone is a connection
that is closed. Which services connect to a venue, the desk file says (`venues`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from openbell.config.models import DeskFile
from openbell.procedures.closing.picture import Picture, Row
from openbell.procedures.ports import Facts
from openbell.procedures.wording import count_of

ORDER_ENTRY = frozenset({"engine", "standby"})
"""Roles whose connections to a venue carry orders."""


def links_after(
    desk: DeskFile, facts: Facts, may_rest: Callable[[Row], bool], said: Picture | None
) -> tuple[Mapping[str, object], ...]:
    """As `links`, and with `left`: what of the desk's orders rests there, as the venues `said`, and
    whether that was meant."""
    return tuple(
        {**row, "left": _left(str(row["venue"]), may_rest, said)} for row in links(desk, facts)
    )


def links(desk: DeskFile, facts: Facts) -> tuple[Mapping[str, object], ...]:
    """`[{"venue", "market_data", "order_entry", "other"}]`: each `CLOSED`, `OPEN: who`, or empty where
    no service of the desk has such a connection."""
    rows: list[Mapping[str, object]] = []
    for venue in desk.venues:
        connected = [name for name, each in desk.services.items() if venue in each.venues]
        by_kind: dict[str, list[str]] = {"market_data": [], "order_entry": [], "other": []}
        for name in connected:
            role = desk.services[name].role
            kind = "other"
            if role == "market-data":
                kind = "market_data"
            elif role in ORDER_ENTRY:
                kind = "order_entry"
            by_kind[kind].append(name)
        told = {kind: _told(names, facts) for kind, names in by_kind.items()}
        rows.append({"venue": venue, **told})
    return tuple(rows)


def links_now(
    desk: DeskFile, facts: Facts, before: Iterable[Mapping[str, object]]
) -> tuple[Mapping[str, object], ...]:
    """As `links`, with whatever else was told of each venue before."""
    told = {row["venue"]: row for row in before}
    return tuple({**told.get(row["venue"], {}), **row} for row in links(desk, facts))


def _left(venue: str, may_rest: Callable[[Row], bool], said: Picture | None) -> str:
    """That there is none is an answer only where every venue said so."""
    resting = [] if said is None else [row for row in said.orders if row.get("venue") == venue]
    if not resting:
        every = said is not None and (said.known or said.all_orders)
        return "no order of ours" if every else "not known"
    kept = sum(map(may_rest, resting))
    told = [f"{count_of(kept, 'order')} kept"] if kept else []
    if missed := len(resting) - kept:
        told.append(f"{count_of(missed, 'order')} NOT CANCELLED")
    return ", ".join(told)


def _told(names: Iterable[str], facts: Facts) -> str:
    names = tuple(names)
    up = [name for name in names if facts.state(name).is_running]
    if up:
        return f"OPEN: {', '.join(up)}"
    return "CLOSED" if names else ""
