"""When a closing that is announced for later begins."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")

AHEAD_MAX = timedelta(days=7)
"""Later than that nobody remembers what was announced."""


def moment_of(text: str, now: datetime) -> datetime:
    """The moment that `text` means, in UTC. Raises ValueError.

    `15:45` or `15:45:30` is the next such time on the clock of `now`, which is aware and in the
    desk's time zone; a date and time of ISO 8601 is that moment, on the same clock where it names
    no zone.
    """
    clock = _CLOCK.fullmatch(text.strip())
    if clock is not None:
        hour, minute, second = (int(part or 0) for part in clock.groups())
        at = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
        if at.astimezone(UTC) <= now.astimezone(UTC):
            # The same clock of the next day, also where that day has 23 or 25 hours.
            at = (at.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=now.tzinfo)
        return at.astimezone(UTC)
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f'"{text}" is no time; write 15:45, or 2026-01-31T15:45') from None
    moment = (at if at.tzinfo is not None else at.replace(tzinfo=now.tzinfo)).astimezone(UTC)
    if moment <= now.astimezone(UTC):
        raise ValueError(f"{text} is over")
    if moment - now.astimezone(UTC) > AHEAD_MAX:
        raise ValueError(f"{text} is more than {AHEAD_MAX.days} days ahead")
    return moment
