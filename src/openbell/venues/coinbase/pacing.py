"""Keeping inside Coinbase's budget, which is counted by the second."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from openbell.venues.coinbase.wire import REQUESTS_PER_S
from openbell.venues.pacing import QUERY_SHARE, Pacing

REFUSED_WAIT_S = 1.0
"""After a 429 that names no time: the budget is that of one second."""
_SECOND_S = 1.0


class CoinbasePacing(Pacing):
    """Queries take their turns, at most 80 % of the budget; what changes something does not wait,
    but is counted."""

    def __init__(self) -> None:
        super().__init__()
        self._turns_s: deque[float] = deque(maxlen=int(REQUESTS_PER_S * QUERY_SHARE))
        """When the last requests were sent, or are to be."""

    def turn_s(self, now_s: float) -> float:
        """Takes the next turn of a query; the seconds until then, 0 for now."""
        full = len(self._turns_s) == self._turns_s.maxlen
        at_s = max(now_s, self._turns_s[0] + _SECOND_S) if full else now_s
        self._turns_s.append(at_s)
        return at_s - now_s

    def took_turn(self, now_s: float) -> None:
        """Counts a request that did not wait."""
        self._turns_s.append(max(now_s, self._turns_s[-1] if self._turns_s else now_s))

    def refused(self, status: int, headers: Mapping[str, str], now_s: float) -> float:
        named = headers if "Retry-After" in headers else {"Retry-After": str(REFUSED_WAIT_S)}
        return super().refused(status, named, now_s)
