"""How often each route may be asked: what `/trade/config` tells is what is enforced.

TradeLocker documents the form (at most `limit` requests in `intervalNum` SECONDS or MINUTES, by
route) and not the numbers, which differ by server and by developer key. Here they are 2 a second,
the example of its "Rate limits", and 1 a second for orders' and bars' history. It names no route for
cancels and closes; they are counted with the modifications here.
"""

from __future__ import annotations

from openbell_sim.counting import SlidingSecond, scaled

NO_LIMIT = 1_000_000

_PER_SECOND = {
    "GET_ACCOUNTS": 2,
    "GET_EXECUTIONS": 2,
    "GET_INSTRUMENTS": 2,
    "GET_ORDERS": 2,
    "GET_ORDERS_HISTORY": 1,
    "GET_POSITIONS": 2,
    "GET_ACCOUNTS_STATE": 2,
    "GET_INSTRUMENT_DETAILS": 2,
    "GET_TRADE_SESSIONS": 2,
    "GET_SESSION_STATUSES": 2,
    "PLACE_ORDER": 2,
    "MODIFY_ORDER": 2,
    "MODIFY_POSITION": 2,
    "DAILY_BAR": 2,
    "QUOTES": 2,
    "DEPTH": 2,
    "TRADES": 2,
    "QUOTES_HISTORY": 1,
}
"""`RouteNamesType` of the official client."""


class Limits:
    def __init__(self, scale: float) -> None:
        """`scale` multiplies every number; 0: no limits."""
        self._seconds = {
            route: SlidingSecond(scaled(number, scale)) for route, number in _PER_SECOND.items()
        }

    def take(self, who: str, route: str, now_s: float) -> bool:
        """Whether `who` may ask this route once more; what is refused does not count."""
        second = self._seconds.get(route)
        return second is None or second.take(who, now_s)

    def told(self) -> list[dict[str, object]]:
        return [
            {
                "rateLimitType": route,
                "measure": "SECONDS",
                "intervalNum": 1,
                "limit": second.most or NO_LIMIT,
            }
            for route, second in self._seconds.items()
        ]
