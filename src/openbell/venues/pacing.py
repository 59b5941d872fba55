"""Keeping inside a venue's request budget, so that the desk is never locked out of its orders.

Two rules, both from Binance's limits (429 means stop, and going on leads to 418, a ban of two
minutes to three days):

- After 429 or 418 nothing at all is sent before the time the venue named. A cancel sent during a
  ban does not cancel; it lengthens the ban.
- Queries stop at 80 % of the budget. The rest is kept for submits and, above all, cancels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

QUERY_SHARE = 0.8
"""Ours: a fifth of the budget is kept for what has to be cancelled."""

DEFAULT_WAIT_S = {429: 60.0, 418: 120.0}
"""Binance's: one budget window, and the shortest ban."""


@dataclass(slots=True)
class Pacing:
    """Counts are per address, so what the venue says includes every other process of the desk.

    `now_s` is a monotonic clock everywhere.
    """

    budget: int | None = None
    """Request weight per minute; None while unknown."""
    default_wait_s: Mapping[int, float] = field(default_factory=lambda: DEFAULT_WAIT_S)
    """By HTTP status, where the answer names no time."""
    _shut_until_s: float = 0.0
    _queries_shut_until_s: float = 0.0

    def refused(self, status: int, headers: Mapping[str, str], now_s: float) -> float:
        """Notes a 429 or 418; returns the seconds to wait."""
        wait_s = _seconds(headers.get("Retry-After"), self.default_wait_s.get(status, 60.0))
        self._shut_until_s = max(self._shut_until_s, now_s + wait_s)
        return wait_s

    def used(self, weight: int, window_ends_in_s: float, now_s: float) -> None:
        """Notes how much of the budget the venue says is spent in the current window."""
        if self.budget is not None and weight >= self.budget * QUERY_SHARE:
            self._queries_shut_until_s = now_s + window_ends_in_s

    def wait_s(self, now_s: float, *, query: bool) -> float:
        """Seconds until such a request may be sent; 0 means now."""
        until_s = self._shut_until_s
        if query:
            until_s = max(until_s, self._queries_shut_until_s)
        return max(0.0, until_s - now_s)


def _seconds(text: str | None, default: float) -> float:
    try:
        seconds = float(text) if text is not None else default
    except ValueError:
        return default
    return seconds if 0 <= seconds < 7 * 86400 else default
