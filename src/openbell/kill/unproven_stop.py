"""What an emergency stop left unproven, and what came of going on with it: `state/emergency-went-on.json`.

A statement is what was so when it was made. What a guard proved later stands beside it, under the name of the
course that it belongs to; a stop that came after has a course of its own, and owes what it says itself.

Invariants
- Only for as long as all that the stop latched is latched: a person who releases one of them says that the
  desk may have orders again. Of a stop whose latches are not known nothing is owed.
- Only orders are withdrawn. Positions were to be closed at the price of that moment: that is pressed again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from openbell.config.layout import DeskLayout
from openbell.domain.scopes import DESK, parse_scopes
from openbell.kill.course import last_statement, under_way
from openbell.kill.emergency_statement import EmergencyStatement
from openbell.kill.marker import read_marker
from openbell.kill.statement import VenueStatement
from openbell.kill.stop_seen import statement_since
from openbell.state.files import write_atomically
from openbell.state.latch import Latches

_CONTENT_MAX = 64 << 20


class WentOn(msgspec.Struct, frozen=True, kw_only=True):
    course: str
    """Of the stop that it goes on with."""
    venues: dict[str, VenueStatement] = {}
    """The last that was found, by venue."""
    tries: dict[str, int] = {}

    def with_venue(self, stated: VenueStatement) -> WentOn:
        name = stated.venue
        tries = {**self.tries, name: self.tries.get(name, 0) + 1}
        return msgspec.structs.replace(self, venues={**self.venues, name: stated}, tries=tries)

    def document(self) -> dict[str, Any]:
        """As `status` shows it."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told


@dataclass(frozen=True, slots=True)
class Owed:
    course: str
    venues: tuple[str, ...]
    """Whose orders were not seen to be gone."""
    account_wide: bool
    symbols: tuple[str, ...] = ()
    """Empty: all of each venue."""


def owed_of(
    stated: EmergencyStatement, latched: frozenset[str], went_on: WentOn | None
) -> Owed | None:
    """Pure. `latched`: ids of the latches that there are."""
    if not stated.course or not stated.latch.ids or not set(stated.latch.ids) <= latched:
        return None
    since = {} if went_on is None or went_on.course != stated.course else went_on.venues
    scopes = parse_scopes(stated.scopes)
    symbols = tuple(scope.name for scope in scopes if str(scope).startswith("symbol:"))
    whole = DESK in scopes or any(str(scope).startswith("venue:") for scope in scopes)
    venues = tuple(
        each.venue for each in stated.venues if since.get(each.venue, each).result != "verified"
    )
    if not venues:
        return None
    return Owed(stated.course, venues, stated.account_wide, () if whole else symbols)


class Debts:
    """What is owed by what lies on the disk, for whoever looks again and again: the course of a large stop is
    read once, and not while nothing was added to any."""

    def __init__(self, layout: DeskLayout) -> None:
        self._layout = layout
        self._seen: object = None
        self._stated: EmergencyStatement | None = None

    def owed(self) -> Owed | None:
        """None while somebody carries out a stop, and for what cannot be read. Blocks as long as the disk."""
        if under_way(self._layout):
            return None
        seen = _sizes(self._layout.emergency)
        if seen != self._seen:
            self._seen, self._stated = seen, _last(self._layout)
        if self._stated is None:
            return None
        latched = frozenset(latch.id for latch in Latches(self._layout).read(opened=False))
        return owed_of(self._stated, latched, read_went_on(self._layout))


def _last(layout: DeskLayout) -> EmergencyStatement | None:
    found = last_statement(layout)
    try:
        return None if found is None else EmergencyStatement.from_wire(found)
    except ValueError:
        return None


def _sizes(folder: Path) -> tuple[tuple[str, int], ...]:
    """Of the courses, which only grow."""
    try:
        with os.scandir(folder) as entries:
            return tuple(sorted((each.name, each.stat().st_size) for each in entries))
    except OSError:
        return ()


def read_went_on(layout: DeskLayout) -> WentOn | None:
    """Never raises."""
    try:
        with layout.emergency_went_on.open("rb") as file:
            return msgspec.json.decode(file.read(_CONTENT_MAX), type=WentOn)
    except (OSError, msgspec.MsgspecError):
        return None


def note_went_on(layout: DeskLayout, course: str, stated: VenueStatement) -> None:
    """Raises StorageError."""
    before = read_went_on(layout)
    if before is None or before.course != course:
        before = WentOn(course=course)
    write_atomically(
        layout.emergency_went_on, msgspec.json.encode(before.with_venue(stated)) + b"\n"
    )


def emergency_document(layout: DeskLayout) -> dict[str, Any] | None:
    """As `status` shows it: `{"at", "reason", "actor", "pid", "under_way", "statement", "went_on"}`; None
    where no stop of the whole desk was begun since the desk was opened. `went_on`: what a guard found since
    of what the statement leaves open; None: nothing."""
    marker = read_marker(layout)
    if marker is None:
        return None
    # Asked first: one that ends in between is told as under way, and not as one without an end.
    going_on = under_way(layout)
    stated = statement_since(layout, marker)
    found = read_went_on(layout)
    belongs = found is not None and stated is not None and found.course == stated.get("course")
    return {
        **marker,
        "under_way": going_on,
        "statement": stated,
        "went_on": found.document() if found is not None and belongs else None,
    }
