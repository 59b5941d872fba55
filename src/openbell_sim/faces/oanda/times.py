"""OANDA's two ways to write a time, chosen by each request's Accept-Datetime-Format."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

SECOND_NS = 1_000_000_000
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")
_UNIX = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?")
_NEW_YORK = ZoneInfo("America/New_York")
_DAY_ENDS_HOUR = 17
"""A trading day ends at 17:00 in New York: "GFD", order definitions."""


class TimeFormat(StrEnum):
    RFC3339 = "RFC3339"
    UNIX = "UNIX"

    def write(self, at_ns: int) -> str:
        """`2016-10-24T21:48:18.593753865Z` or `1477345698.593753865`."""
        seconds, rest = divmod(at_ns, SECOND_NS)
        if self is TimeFormat.UNIX:
            return f"{seconds}.{rest:09d}"
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def read_time(text: str) -> int:
    """Nanoseconds since the epoch, of either format. Raises ValueError."""
    if found := _UNIX.fullmatch(text):
        return int(found[1]) * SECOND_NS + _fraction(found[2])
    if found := _RFC3339.fullmatch(text):
        zone = "+00:00" if found[3] in "Zz" else found[3]
        whole = datetime.fromisoformat(found[1].upper() + zone)
        return int(whole.timestamp()) * SECOND_NS + _fraction(found[2])
    raise ValueError(f"{text!r} is not a time")


def _fraction(digits: str | None) -> int:
    return int((digits or "").ljust(9, "0"))


def end_of_trading_day(at_ns: int) -> int:
    now = datetime.fromtimestamp(at_ns // SECOND_NS, _NEW_YORK)
    end = now.replace(hour=_DAY_ENDS_HOUR, minute=0, second=0, microsecond=0)
    if end <= now:
        end += timedelta(days=1)
    return int(end.timestamp()) * SECOND_NS
