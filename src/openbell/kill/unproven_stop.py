"""What emergency stops left unproven, and what came of going on with them: `state/emergency-went-on.json`.

A statement is what was so when it was made. What a guard proved later stands beside it, under the name and
the beginning of the course that it belongs to: a state that was put back counts courses from an earlier
number.

    newest statement of the whole desk, and each later one of a part ─▶ venue by venue, the latest that
    covers it ─▶ not verified, not proven since, all its latches there ─▶ a debt

Invariants
- Only for as long as all that the stop latched is latched: a person who releases one of them says that the
  desk may have orders again. Of a stop whose latches are not known nothing is owed.
- Never more than the stop was to withdraw at that venue: of symbols that it named only their orders.
- Only orders are withdrawn. Positions were to be closed at the price of that moment: that is pressed again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from openbell.config.layout import DeskLayout
from openbell.domain.scopes import parse_scopes
from openbell.kill.course import courses, statement_in, under_way
from openbell.kill.emergency_statement import EmergencyStatement
from openbell.kill.marker import read_marker
from openbell.kill.request import EmergencyRequest, visits_of
from openbell.kill.statement import VenueStatement
from openbell.kill.stop_seen import statement_since
from openbell.state.files import write_atomically
from openbell.state.latch import Latches

if TYPE_CHECKING:  # the desk's models take long to load, and `status` needs none
    from openbell.config.models import LoadedDesk

_CONTENT_MAX = 64 << 20
_KEPT = 32
"""Of so many stops what was found since is kept; of an older one it would be found once more."""


class WentOn(msgspec.Struct, frozen=True, kw_only=True):
    course: str
    """Of the stop that it goes on with."""
    began: str
    """When that stop began, as its statement has it."""
    venues: dict[str, VenueStatement] = {}
    """The last that was found, by venue."""
    tries: dict[str, int] = {}

    def with_venue(self, stated: VenueStatement) -> WentOn:
        name = stated.venue
        tries = {**self.tries, name: self.tries.get(name, 0) + 1}
        return msgspec.structs.replace(self, venues={**self.venues, name: stated}, tries=tries)

    def belongs_to(self, course: object, began: object) -> bool:
        return (self.course, self.began) == (course, began)

    def document(self) -> dict[str, Any]:
        """As `status` shows it."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told


@dataclass(frozen=True, slots=True)
class Debt:
    """Orders that one stop has not seen to be gone at one venue."""

    course: str
    began: str
    venue: str
    symbols: tuple[str | None, ...]
    """Each has its turn; None: all of the venue."""
    whole_desk: bool
    """That stop was to leave nothing alive which may send."""
    account_wide: bool
    """Others' orders were to go as well, on a person's word: that was for that once."""

    def covers(self, other: Debt) -> bool:
        """Whether what is said of this one is said of that one too."""
        return self.venue == other.venue and (
            None in self.symbols or set(other.symbols) <= set(self.symbols)
        )


def owed_of(
    newest_first: Iterable[EmergencyStatement],
    desk: LoadedDesk,
    latched: Collection[str],
    went_on: Sequence[WentOn],
) -> tuple[Debt, ...]:
    """Pure. `newest_first`: statements back to that of the newest stop of the whole desk. `latched`: ids of
    the latches that there are."""
    owed: list[Debt] = []
    later: list[Debt] = []
    for stated in newest_first:
        found = _debts(stated, desk)
        is_latched = bool(stated.latch.ids) and set(stated.latch.ids) <= set(latched)
        since: dict[str, VenueStatement] = {}
        for each in went_on:
            if each.belongs_to(stated.course, stated.began):
                since = each.venues
        for debt, said in found:
            open_still = since.get(debt.venue, said).result != "verified"
            if is_latched and open_still and not any(each.covers(debt) for each in later):
                owed.append(debt)
        later += [debt for debt, _ in found]
    return tuple(owed)


def _debts(stated: EmergencyStatement, desk: LoadedDesk) -> list[tuple[Debt, VenueStatement]]:
    """Each venue that it speaks of and desk.toml has, with what it says of it."""
    try:
        request = EmergencyRequest(scopes=parse_scopes(stated.scopes))
    except ValueError:  # a newer version's
        return []
    visits = visits_of(request, desk)
    return [
        (
            Debt(
                course=stated.course,
                began=stated.began,
                venue=each.venue,
                symbols=visits[each.venue],
                whole_desk=request.whole_desk,
                account_wide=stated.account_wide,
            ),
            each,
        )
        for each in stated.venues
        if stated.course and each.venue in visits
    ]


class Debts:
    """What is owed by what lies on the disk, for whoever looks again and again: the course of a large stop is
    read once, and not while nothing was added to it."""

    def __init__(self, layout: DeskLayout, desk: LoadedDesk) -> None:
        self._layout = layout
        self._desk = desk
        self._read: dict[str, tuple[int, EmergencyStatement | None]] = {}
        """By course: its size then, and what it ended with."""

    def owed(self) -> tuple[Debt, ...]:
        """Nothing while somebody carries out a stop, and for what cannot be read. A disk may hang it."""
        if under_way(self._layout):
            return ()
        stated = self._back_to_the_whole_desk()
        if not stated:
            return ()
        latched = {latch.id for latch in Latches(self._layout).read(opened=False)}
        return owed_of(stated, self._desk, latched, read_went_on(self._layout))

    def _back_to_the_whole_desk(self) -> list[EmergencyStatement]:
        """Newest first. A stop without an end says nothing, and one that asked no venue replaces none."""
        sizes = _sizes(self._layout)
        self._read = {name: read for name, read in self._read.items() if name in sizes}
        found: list[EmergencyStatement] = []
        for name in reversed(courses(self._layout.emergency)):
            size = sizes.get(name, -1)
            read = self._read.get(name)
            if read is None or read[0] != size:
                read = self._read[name] = (size, _stated(self._layout, name))
            if (stated := read[1]) is None:
                continue
            found.append(stated)
            if "desk" in stated.scopes and stated.venues:
                break
        return found


def _stated(layout: DeskLayout, name: str) -> EmergencyStatement | None:
    found = statement_in(layout.emergency, name)
    try:
        return None if found is None else EmergencyStatement.from_wire(found)
    except ValueError:
        return None


def _sizes(layout: DeskLayout) -> dict[str, int]:
    """Of the courses, by name; they only grow."""
    try:
        with os.scandir(layout.emergency) as entries:
            return {each.name.partition(".")[0]: each.stat().st_size for each in entries}
    except OSError:
        return {}


def read_went_on(layout: DeskLayout) -> tuple[WentOn, ...]:
    """Oldest first. Never raises."""
    try:
        with layout.emergency_went_on.open("rb") as file:
            return msgspec.json.decode(file.read(_CONTENT_MAX), type=tuple[WentOn, ...])
    except (OSError, msgspec.MsgspecError):
        return ()


def note_went_on(layout: DeskLayout, debt: Debt, stated: VenueStatement) -> None:
    """Raises StorageError."""
    mine = WentOn(course=debt.course, began=debt.began)
    others: list[WentOn] = []
    for each in read_went_on(layout):
        if each.belongs_to(debt.course, debt.began):
            mine = each
        else:
            others.append(each)
    kept = [*others, mine.with_venue(stated)][-_KEPT:]
    write_atomically(layout.emergency_went_on, msgspec.json.encode(kept) + b"\n")


@dataclass(frozen=True, slots=True)
class LeftOpen:
    """What one stop has left at one venue, as it was found last."""

    course: str
    venue: str
    result: str
    """`residual` or `unknown`."""
    why: str


def left_open(layout: DeskLayout, desk: LoadedDesk) -> tuple[LeftOpen, ...]:
    """What stops have left and nobody has seen to be gone, also once their marker was taken away because the
    desk was opened: until a venue's answer proves it, or a person releases a latch of that stop. Without a
    latch nothing is read."""
    if not Latches(layout).read(opened=False):
        return ()
    went_on = read_went_on(layout)
    found: list[LeftOpen] = []
    for debt in Debts(layout, desk).owed():
        stated = _stated(layout, debt.course)
        said = {} if stated is None else {each.venue: each for each in stated.venues}
        for each in went_on:
            if each.belongs_to(debt.course, debt.began):
                said = {**said, **each.venues}
        last = said.get(debt.venue)
        result, why = ("unknown", "") if last is None else (last.result, last.why)
        found.append(LeftOpen(debt.course, debt.venue, result, why))
    return tuple(found)


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
    found = [
        each
        for each in read_went_on(layout)
        if stated is not None and each.belongs_to(stated.get("course"), stated.get("began"))
    ]
    return {
        **marker,
        "under_way": going_on,
        "statement": stated,
        "went_on": found[-1].document() if found else None,
    }
