"""That a desk asks for more orders than it may send: told at once, and then now and again with a count.

The desk's peak is what it says itself, `[risk] max_orders_per_second`. What is asked for beyond it is
refused by name and never sent; a person should know, for something asks that was not expected to.
"""

from __future__ import annotations

TELL_EVERY_S = 10.0
"""Ours: often enough to see it go on, seldom enough for a log to be read."""


class Overload:
    """Counts intents that were refused for the rate. Pure: times come in."""

    def __init__(self) -> None:
        self._since_told = 0
        self._told_at_s: float | None = None

    def refused(self, now_s: float) -> int:
        """How many were refused since it was told last, where it is to be told now; else 0."""
        self._since_told += 1
        if self._told_at_s is not None and now_s - self._told_at_s < TELL_EVERY_S:
            return 0
        count, self._since_told, self._told_at_s = self._since_told, 0, now_s
        return count
