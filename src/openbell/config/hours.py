"""When a market is open, as desk.toml says it: `mon-fri 14:30-21:00`, in UTC or on a calendar's clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = "|".join(_DAYS)
_SHAPE = re.compile(rf"({_DAY})(?:-({_DAY}))? (\d\d):(\d\d)-(\d\d):(\d\d)")
_WEEK_MIN = 7 * 24 * 60


@dataclass(frozen=True, slots=True)
class OpenHours:
    days: tuple[int, ...]
    """Monday is 0; those on which it opens."""
    opens_min: int
    """Minutes after midnight."""
    lasts_min: int

    @classmethod
    def parse(cls, text: str, clock: str = "in UTC") -> OpenHours:
        """Raises ValueError, which says by which `clock` hours are written. An end that is not later
        than the start is on the next day."""
        found = _SHAPE.fullmatch(text)
        if found is None:
            raise ValueError(
                f'"{text}": write open hours {clock}, for example "mon-fri 14:30-21:00"'
            )
        first, last = _DAYS.index(found[1]), _DAYS.index(found[2] or found[1])
        hours = [int(each) for each in found.groups()[2:]]
        if hours[0] > 23 or hours[2] > 24 or max(hours[1], hours[3]) > 59:
            raise ValueError(f'"{text}" names no time of a day')
        opens, closes = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
        days = tuple((first + step) % 7 for step in range((last - first) % 7 + 1))
        return cls(days, opens, closes - opens if closes > opens else closes - opens + 24 * 60)

    def holds(self, wall_ns: int) -> bool:
        return self.open_for_min(datetime.fromtimestamp(wall_ns / 1e9, UTC)) is not None

    def open_for_min(self, at: datetime) -> int | None:
        """Minutes since it opened, on the clock of `at`; None where it is not open."""
        minute = (at.weekday() * 24 + at.hour) * 60 + at.minute
        for day in self.days:
            since = (minute - (day * 24 * 60 + self.opens_min)) % _WEEK_MIN
            if since < self.lasts_min:
                return since
        return None
