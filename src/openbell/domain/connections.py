"""The desk's connections to its venues, as `openbell connections` shows them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec


class LinkState(StrEnum):
    CONNECTED = "connected"
    DOWN = "down"
    """It should be there and is not."""
    HELD_BACK = "held back"
    """It is there, and the desk sends no new orders over it, or fewer than it wants to."""
    CLOSED = "closed"
    """The service that would hold it does not run."""
    UNKNOWN = "unknown"
    """The service runs and does not say."""
    NONE = "none"
    """The desk has no service for it."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What one service said of its venues, by venue; `state` stands for those it did not name."""

    state: LinkState
    why: str = ""
    by_venue: Mapping[str, tuple[LinkState, str]] = {}

    def of(self, venue: str) -> tuple[LinkState, str]:
        return self.by_venue.get(venue, (self.state, self.why))


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    market_data: LinkState
    order_entry: LinkState
    order_events: LinkState
    why: str

    @property
    def is_sound(self) -> bool:
        """Nothing that should be connected is not; a closed desk's are closed."""
        states = (self.market_data, self.order_entry, self.order_events)
        return not {LinkState.DOWN, LinkState.HELD_BACK, LinkState.UNKNOWN} & set(states)


def connections(venues: Iterable[str], feeds: Said, orders: Said, events: Said) -> list[Connection]:
    rows = []
    for venue in venues:
        told = [said.of(venue) for said in (feeds, orders, events)]
        reasons = dict.fromkeys(why for _, why in told if why)
        rows.append(
            Connection(
                venue=venue,
                market_data=told[0][0],
                order_entry=told[1][0],
                order_events=told[2][0],
                why="; ".join(reasons),
            )
        )
    return rows


def feeds_said(rows: Iterable[Mapping[str, Any]]) -> Said:
    """From market-data's `GET /v1/feeds`: a venue is connected when the feed of every symbol is."""
    by_venue: dict[str, tuple[LinkState, str]] = {}
    for row in rows:
        if row.get("connected"):
            by_venue.setdefault(str(row["venue"]), (LinkState.CONNECTED, ""))
        else:
            by_venue[str(row["venue"])] = (LinkState.DOWN, str(row.get("why") or ""))
    return Said(state=LinkState.DOWN, why="market-data has no feed of it", by_venue=by_venue)


def engine_said(rows: Iterable[Mapping[str, Any]]) -> tuple[Said, Said]:
    """From the engine's `GET /v1/state`: order entry, and order events."""
    entry: dict[str, tuple[LinkState, str]] = {}
    events: dict[str, tuple[LinkState, str]] = {}
    for row in rows:
        name, why = str(row["name"]), str(row.get("why_not") or "")
        held_back = str(row.get("held_back") or "")
        if not row.get("connected"):
            entry[name] = (LinkState.DOWN, why)
        elif held_back or not row.get("reconciled", True):
            reasons = [reason for reason in (held_back, why) if reason]
            entry[name] = (LinkState.HELD_BACK, "; ".join(reasons))
        else:
            entry[name] = (LinkState.CONNECTED, "")
        silent = str(row.get("stream_why") or "") or why or "no order event stream"
        streaming = bool(row.get("streaming"))
        events[name] = (LinkState.CONNECTED, "") if streaming else (LinkState.DOWN, silent)
    strange = "the engine does not name it"
    return (
        Said(state=LinkState.DOWN, why=strange, by_venue=entry),
        Said(state=LinkState.DOWN, why=strange, by_venue=events),
    )
