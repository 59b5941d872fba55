"""Keeping inside TradeLocker's budgets: one for each route, told by `/trade/config`.

A query waits for its turn. An order does not wait: where its route has no room it is not sent. So
queries cannot use up what orders need. Cancels are not held back by any of these: the reference
names no budget for them. Others who use the login count too, the desk's own processes among them,
and are seen only by a 429. That one shuts its own route, and all of them where it names a time:
then it came from what stands before TradeLocker and counts every request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from openbell.venues.pacing import Pacing
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

    def free_s(self, now_s: float) -> float:
        """When one more may be sent."""
        full = len(self._turns_s) == self._turns_s.maxlen
        return max(now_s, self._turns_s[0] + self._interval_s) if full else now_s

    def take(self, at_s: float) -> None:
        self._turns_s.append(at_s)


class Routes:
    """Times are of one monotonic clock, in seconds."""

    def __init__(self, limits: Iterable[RateLimit] = ()) -> None:
        self._budgets = {
            each.rate_limit_type: _Budget(int(each.limit), each.interval_s)
            for each in limits
            if each.limit >= 1 and each.interval_s > 0
        }
        self._shut_until_s: dict[str, float] = {}

    def wait_s(self, route: str, now_s: float) -> float:
        """Until one more may be sent; 0: now."""
        budget = self._budgets.get(route)
        free_s = now_s if budget is None else budget.free_s(now_s)
        return max(free_s, self._shut_until_s.get(route, 0.0)) - now_s

    def take(self, route: str, now_s: float) -> float:
        """Takes the next turn; the seconds until then."""
        wait_s = self.wait_s(route, now_s)
        budget = self._budgets.get(route)
        if budget is not None:
            budget.take(now_s + wait_s)
        return wait_s

    def refused(self, route: str, wait_s: float, now_s: float) -> None:
        """By a 429: somebody else used it up."""
        self._shut_until_s[route] = now_s + wait_s

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


class SharedPacing(Pacing):
    """What holds for all routes at once."""

    __slots__ = ()

    def refused(self, status: int, headers: Mapping[str, str], now_s: float) -> float:
        """Seconds to wait; all are shut only where the venue names the time."""
        return super().refused(status, headers, now_s) if "Retry-After" in headers else THROTTLED_S
