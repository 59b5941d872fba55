"""Keeping inside a venue's request budget, so that the desk is never locked out of its orders.

Three rules, all from Binance's limits (429 means stop, and going on leads to 418, a ban of two
minutes to three days):

- After 429 or 418 nothing at all is sent before the time the venue named. A cancel sent during a
  ban does not cancel; it lengthens the ban.
- Queries stop at 80 % of the budget. The rest is kept for submits and, above all, cancels.
- What the venue last counted and what is under way since never exceed the budget: of fifty cancels
  that leave at once, all those past it would be refused, and so many refusals are a ban.
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
    under_way: int = 0
    """Requests that were sent and not answered; each is taken to weigh 1."""
    _shut_until_s: float = 0.0
    _queries_shut_until_s: float = 0.0
    _counted: int = 0
    """Of the budget, by the venue's last word, until `_window_ends_s`."""
    _window_ends_s: float = 0.0

    def refused(self, status: int, headers: Mapping[str, str], now_s: float) -> float:
        """Notes a 429 or 418; returns the seconds to wait."""
        wait_s = _seconds(headers.get("Retry-After"), self.default_wait_s.get(status, 60.0))
        self._shut_until_s = max(self._shut_until_s, now_s + wait_s)
        return wait_s

    def used(self, weight: int, window_ends_in_s: float, now_s: float) -> None:
        """Notes how much of the budget the venue says is spent in the current window."""
        if self.budget is None:
            return
        if weight >= self.budget * QUERY_SHARE:
            self._queries_shut_until_s = now_s + window_ends_in_s
        # Answers overtake each other: the highest count of a window is the latest.
        self._counted = max(weight, self._counted) if now_s < self._window_ends_s else weight
        self._window_ends_s = now_s + window_ends_in_s

    def wait_s(self, now_s: float, *, query: bool) -> float:
        """Seconds until such a request may be sent; 0 means now."""
        until_s = self._shut_until_s
        if self.budget is not None and self._counted + self.under_way >= self.budget:
            until_s = max(until_s, self._window_ends_s)
        if query:
            until_s = max(until_s, self._queries_shut_until_s)
        return max(0.0, until_s - now_s)


def _seconds(text: str | None, default: float) -> float:
    try:
        seconds = float(text) if text is not None else default
    except ValueError:
        return default
    return seconds if 0 <= seconds < 7 * 86400 else default
