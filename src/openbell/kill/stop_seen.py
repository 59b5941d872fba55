"""An emergency stop as others see it: what became of the one that holds the desk, and each course as it
begins and ends.

    state/emergency.json  ─▶ which stop holds the desk
    state/emergency/NNN   ─▶ its end, or that it has none

What always holds: a stop is told by what its own course says, and by no other's. Courses are never
removed: that of a stop of last week, or of one venue, says nothing of the one that died today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from openbell.config.layout import DeskLayout
from openbell.domain.scopes import DESK
from openbell.kill.course import (
    begun_in,
    courses,
    has_carrier,
    is_over,
    left_in,
    statement_in,
    under_way,
)
from openbell.kill.emergency_statement import EmergencyStatement
from openbell.kill.marker import read_marker

LOST_S = 10.0
"""A carrier that lives, and so long has had no turn and no end, is told of as one without an end: the
stop failed inside a process that goes on. Should the end come after all, it is told then."""


def statement_since(layout: DeskLayout, marker: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of the newest stop of the whole desk, where it ended after the marker was made. None: that stop
    has no end, or has begun no course; whatever an earlier one proved was so before it."""
    name, stated = _newest(layout)
    return stated if stated is not None and _ended_since(name, stated, marker) else None


def has_stopped(layout: DeskLayout, venue: str) -> bool:
    """Whether an emergency stop of the whole desk verified zero at this venue, nobody opened the desk
    since, and nobody pressed after it."""
    marker = read_marker(layout)
    if marker is None:
        return False
    name, stated = _newest(layout)
    if stated is None or name != courses(layout.emergency)[-1]:
        return False
    if not _ended_since(name, stated, marker):
        return False
    try:
        stop = EmergencyStatement.from_wire(stated)
    except ValueError:
        return False
    return any(each.venue == venue and each.result == "verified" for each in stop.venues)


def _newest(layout: DeskLayout) -> tuple[str, dict[str, Any] | None]:
    """Course and statement of the newest stop of the whole desk. One that does not say what it was to
    stop counts as such: nothing is known of it."""
    folder = layout.emergency
    for name in reversed(courses(folder)):
        stated = statement_in(folder, name)
        request = begun_in(folder, name).get("request")
        scopes = (stated or {}).get("scopes") or (
            request.get("scopes") if isinstance(request, dict) else None
        )
        if not scopes or str(DESK) in scopes:
            return name, stated
    return "", None


def _ended_since(name: str, stated: Mapping[str, Any], marker: Mapping[str, Any]) -> bool:
    """By the courses that there were as the marker was made: a clock may have been set back since. Of a
    marker that does not say, by the wall clock; what cannot be told is not so."""
    if isinstance(after := marker.get("after"), int):
        return int(name) > after
    try:
        ended = datetime.fromisoformat(str(stated.get("began"))) + timedelta(
            seconds=float(stated.get("took_s") or 0.0)
        )
        return ended >= datetime.fromisoformat(str(marker.get("at")))
    except (ValueError, TypeError, OverflowError):
        return False


@dataclass(frozen=True)
class CourseNews:
    """What is new of one course."""

    name: str
    ended: bool
    begun: Mapping[str, Any]
    """As it was begun; empty where it does not say."""
    statement: Mapping[str, Any] | None = None
    """Of one that ended; None: it has no end, and its carrier is gone, or has left it."""
    left: str = ""
    """Why its carrier, which may live on, left it."""


@dataclass
class _Open:
    begun: Mapping[str, Any] = field(default_factory=dict)
    told_begun: bool = False
    told_lost: bool = False
    idle_since_s: float | None = None
    """Since when nobody has the turn, by the looks at it."""


class CourseWatch:
    """Every course from now on: one word as it begins, one as it ends, whoever carries it out and
    whatever it stops. Reads files: for a thread, should the disk hang."""

    def __init__(self, layout: DeskLayout) -> None:
        """What is over is not told, but for the last of a desk that is held: whoever watched before
        may not have seen its end."""
        self._layout = layout
        folder = layout.emergency
        there = courses(folder)
        over = {name for name in there if self._is_over(name)}
        if over and read_marker(layout) is not None:
            over.discard(there[-1])
        self._over = over
        self._open: dict[str, _Open] = {}

    def _is_over(self, name: str) -> bool:
        folder = self._layout.emergency
        if is_over(folder, name):
            return True
        begun = begun_in(folder, name)
        return not has_carrier(begun) if begun else not under_way(self._layout)

    def look(self, now_s: float) -> list[CourseNews]:
        """What is new since the last look; `now_s` is any clock that only goes on."""
        news: list[CourseNews] = []
        for name in courses(self._layout.emergency):
            if name not in self._over:
                news += self._look_at(name, self._open.setdefault(name, _Open()), now_s)
        return news

    def _look_at(self, name: str, seen: _Open, now_s: float) -> list[CourseNews]:
        folder = self._layout.emergency
        seen.begun = seen.begun or begun_in(folder, name)
        # Before the end is looked for: whoever is gone by now has written all that it ever will.
        gone = bool(seen.begun) and not has_carrier(seen.begun)
        lost = self._is_lost(seen, now_s)
        statement = statement_in(folder, name)
        left = "" if statement is not None else left_in(folder, name)
        news = []
        if not seen.told_begun and (seen.begun or statement is not None or lost):
            seen.told_begun = True
            news.append(CourseNews(name, ended=False, begun=seen.begun))
        if statement is not None or gone or left:
            self._over.add(name)
            del self._open[name]
            if statement is not None or not seen.told_lost:
                news.append(
                    CourseNews(name, ended=True, begun=seen.begun, statement=statement, left=left)
                )
        elif lost and not seen.told_lost:
            seen.told_lost = True
            news.append(CourseNews(name, ended=True, begun=seen.begun))
        return news

    def _is_lost(self, seen: _Open, now_s: float) -> bool:
        if under_way(self._layout):
            seen.idle_since_s = None
            return False
        if seen.idle_since_s is None:
            seen.idle_since_s = now_s
        return now_s - seen.idle_since_s > LOST_S
