"""Alpaca's request budget: 200 a minute of an account, told in every answer.

After 429 it names the end of the minute (`X-RateLimit-Reset`, seconds since 1970) and no
`Retry-After`. How long that is from now is taken from the same answer's `Date`, so that no clock of
ours comes into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from openbell.venues.pacing import Pacing

REQUESTS_PER_MINUTE = 200
"""Support page "Usage limit of API calls"; other limits are sold, and told in the answers."""
_MINUTE_S = 60.0


class AlpacaPacing(Pacing):
    __slots__ = ()

    def refused(self, status: int, headers: Mapping[str, str], now_s: float) -> float:
        left_s = _left_s(headers)
        if left_s is not None and "Retry-After" not in headers:
            headers = {"Retry-After": str(left_s)}
        return super().refused(status, headers, now_s)

    def note(self, headers: Mapping[str, str], now_s: float) -> None:
        """Sees every answer."""
        limit, remaining = (
            _whole(headers.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining")
        )
        if limit and remaining is not None:
            self.budget = limit
            left_s = _left_s(headers)
            self.used(limit - remaining, _MINUTE_S if left_s is None else left_s, now_s)


def _left_s(headers: Mapping[str, str]) -> float | None:
    """Until the budget is full again: a second at least, a minute at most."""
    reset = _whole(headers.get("X-RateLimit-Reset"))
    try:
        told = parsedate_to_datetime(headers["Date"])
    except (KeyError, ValueError):
        return None
    return None if reset is None else min(_MINUTE_S, max(1.0, reset - told.timestamp()))


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
