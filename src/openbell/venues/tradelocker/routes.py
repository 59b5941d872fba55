"""Keeping inside TradeLocker's budgets: one for each route, told by `/trade/config`.

A query waits for its turn. An order does not wait: where its route has no room it is not sent. So
queries cannot use up what orders need. Cancels are never held back: the reference names no budget
for them. Others who use the login count too, and are seen only by a 429.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from openbell.venues.port import QueryCosts
from openbell.venues.tradelocker.wire import RateLimit

ORDERS, HISTORY, STATE = "GET_ORDERS", "GET_ORDERS_HISTORY", "GET_ACCOUNTS_STATE"
POSITIONS, EXECUTIONS, PLACE = "GET_POSITIONS", "GET_EXECUTIONS", "PLACE_ORDER"
QUOTES, INSTRUMENTS, DETAILS = "QUOTES", "GET_INSTRUMENTS", "GET_INSTRUMENT_DETAILS"

MARGIN_S = 0.05
"""Ours, added to every interval: a request arrives later than it is sent, and not always equally."""
THROTTLED_S = 1.0
"""After a 429 that names no time: most budgets are those of one second."""
_UNSTATED = 1.0
"""Requests a second, of a route that the venue states no budget of, or has not stated it yet."""


class _Budget:
    def __init__(self, count: int, interval_s: float) -> None:
        self.per_minute = 60 * count / interval_s
        self._interval_s = interval_s + MARGIN_S
        self._turns_s: deque[float] = deque(maxlen=count)

    def wait_s(self, now_s: float) -> float:
        if len(self._turns_s) < (self._turns_s.maxlen or 0):
            return 0.0
        return max(0.0, self._turns_s[0] + self._interval_s - now_s)

    def take(self, now_s: float) -> float:
        wait_s = self.wait_s(now_s)
        self._turns_s.append(now_s + wait_s)
        return wait_s


class Routes:
    """Times are of one monotonic clock, in seconds."""

    def __init__(self, limits: Iterable[RateLimit] = ()) -> None:
        self._budgets = {
            each.rate_limit_type: _Budget(int(each.limit), each.interval_s)
            for each in limits
            if each.limit >= 1 and each.interval_s > 0
        }

    def wait_s(self, route: str, now_s: float) -> float:
        """Until one more may be sent; 0: now."""
        budget = self._budgets.get(route)
        return 0.0 if budget is None else budget.wait_s(now_s)

    def take(self, route: str, now_s: float) -> float:
        """Takes the next turn; the seconds until then."""
        budget = self._budgets.get(route)
        return 0.0 if budget is None else budget.take(now_s)

    @property
    def costs(self) -> QueryCosts:
        """Each question takes from its own budgets; told is the scarcest of them."""
        return QueryCosts(
            open_orders=self._share(ORDERS, STATE),
            positions=self._share(POSITIONS, STATE),
            fills=self._share(EXECUTIONS),
            order=self._share(ORDERS, STATE, HISTORY),
        )

    def _share(self, *routes: str) -> float:
        budgets = (self._budgets.get(route) for route in routes)
        return max(1 / (60 * _UNSTATED if each is None else each.per_minute) for each in budgets)
