"""Requests per second, as Coinbase counts them: 30 of each user on private endpoints, 10 of each
address on public ones (Advanced Trade, "REST API Rate Limits", as that page stood until 2025; the
newer one names no number)."""

from __future__ import annotations

from collections import defaultdict
from math import inf

PRIVATE_PER_S = 30
PUBLIC_PER_S = 10


class PerSecond:
    """Counts in whole seconds; each begins at zero."""

    def __init__(self, scale: float) -> None:
        """`scale` multiplies both limits; 0: none."""
        self._private = PRIVATE_PER_S * scale or inf
        self._public = PUBLIC_PER_S * scale or inf
        self._second = -1
        self._used: defaultdict[str, int] = defaultdict(int)

    def allows(self, who: str, now_s: float, *, private: bool) -> bool:
        """Counts one request of `who`."""
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._used.clear()
        self._used[who] += 1
        return self._used[who] <= (self._private if private else self._public)
