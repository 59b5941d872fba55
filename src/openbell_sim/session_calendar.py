"""A venue's trading hours: weekly windows in its own time zone, and days without any.

    timezone = "America/New_York"
    holidays = [2026-12-25]
    [[windows]]
    days = ["mon", "tue", "wed", "thu", "fri"]
    start = 09:30:00
    end = 16:00:00

In JSON, dates and times are text: `"2026-12-25"`, `"09:30:00"`.

Pure data: whoever runs the venue asks it for the state and when to ask again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from openbell_sim.sessions import MarketState

Span = tuple[int, int, MarketState]
"""`(start_ns, end_ns, state)`"""

_DAY = dt.timedelta(days=1)
_SECOND_NS = 1_000_000_000


class Weekday(StrEnum):
    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


_WEEK = tuple(Weekday)


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Begins on each of the days; an end that is not later than the start is on the next day, so
    17:00 to 17:00 lasts a whole day."""

    days: tuple[Weekday, ...]
    start: dt.time
    end: dt.time
    state: MarketState = MarketState.OPEN


class SessionCalendar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    timezone: str = "UTC"
    """An IANA name: the windows move with its daylight saving time."""
    windows: tuple[Window, ...] = ()
    """Where two overlap, the first counts."""
    holidays: tuple[dt.date, ...] = ()
    """No window begins on these days."""
    otherwise: MarketState = MarketState.CLOSED

    def __post_init__(self) -> None:
        if not self.windows and self.holidays:
            raise ValueError("holidays without windows mean nothing")
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"there is no time zone {self.timezone}") from None

    def state_at(self, now_ns: int) -> MarketState:
        today = self._local_day(now_ns)
        return self._state(self._spans(today - _DAY, days=2), now_ns)

    def next_change_ns(self, now_ns: int) -> int | None:
        """When the state changes; None: never."""
        state = self.state_at(now_ns)
        # A week without a change has no change, unless holidays keep windows away.
        days = 9 + len(self.holidays) * 7
        spans = self._spans(self._local_day(now_ns) - _DAY, days)
        edges = {edge for start_ns, end_ns, _ in spans for edge in (start_ns, end_ns)}
        for edge_ns in sorted(edges):
            if edge_ns > now_ns and self.state_at(edge_ns) is not state:
                return edge_ns
        return None

    def next_open_ns(self, now_ns: int) -> int | None:
        """When it opens after now; where it is open, after its next close. None: never."""
        at_ns = self.next_change_ns(now_ns)
        while at_ns is not None and self.state_at(at_ns) is not MarketState.OPEN:
            at_ns = self.next_change_ns(at_ns)
        return at_ns

    def next_close_ns(self, now_ns: int) -> int | None:
        """When it is open no longer; where it is not open, after its next opening. None: never."""
        if self.state_at(now_ns) is MarketState.OPEN:
            return self.next_change_ns(now_ns)
        opens_ns = self.next_open_ns(now_ns)
        return None if opens_ns is None else self.next_change_ns(opens_ns)

    def open_hours_ns(self, day: dt.date, zone: ZoneInfo) -> tuple[int, int] | None:
        """From its first opening to its last close within a day of that zone; None: it is not open
        on it at all."""
        begins_ns, ends_ns = (
            _ns(dt.datetime.combine(day + n * _DAY, dt.time(), zone)) for n in range(2)
        )
        # One day of this calendar before, for windows that go on over midnight, and what of others
        # a day of another zone may touch.
        spans = list(self._spans(self._local_day(begins_ns) - _DAY, days=4))
        within = (edge for span in spans for edge in span[:2] if begins_ns < edge < ends_ns)
        edges = sorted({begins_ns, ends_ns, *within})
        opened = [
            (edge, after)
            for edge, after in pairwise(edges)
            if self._state(spans, edge) is MarketState.OPEN
        ]
        return (opened[0][0], opened[-1][1]) if opened else None

    def _state(self, spans: Iterable[Span], now_ns: int) -> MarketState:
        for start_ns, end_ns, state in spans:
            if start_ns <= now_ns < end_ns:
                return state
        return self.otherwise

    def _local_day(self, now_ns: int) -> dt.date:
        return dt.datetime.fromtimestamp(now_ns // _SECOND_NS, ZoneInfo(self.timezone)).date()

    def _spans(self, first: dt.date, days: int) -> Iterator[Span]:
        """Of the windows that begin on these days."""
        zone = ZoneInfo(self.timezone)
        for window in self.windows:
            for number in range(days):
                day = first + number * _DAY
                if day in self.holidays or _WEEK[day.weekday()] not in window.days:
                    continue
                last = day if window.end > window.start else day + _DAY
                yield (
                    _ns(dt.datetime.combine(day, window.start, zone)),
                    _ns(dt.datetime.combine(last, window.end, zone)),
                    window.state,
                )


def _ns(moment: dt.datetime) -> int:
    return int(moment.timestamp()) * _SECOND_NS
