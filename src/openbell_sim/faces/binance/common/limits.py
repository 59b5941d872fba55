"""How much each caller used of what Binance allows, and the bans of those who go on.

Source: "LIMITS" (github.com/binance/binance-spot-api-docs, rest-api.md) and "General Info" of the
USD-M futures API: weight is counted per address in fixed minutes and told in headers; orders are
counted per account; more of either is 429, for weight with Retry-After; whoever fails to back off
is banned, 418, from 2 minutes to 3 days, longer for repeat offenders. How many requests after a 429
bring the ban, and by how much it grows, Binance does not say: `PATIENCE` and doubling are ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openbell_sim.counting import FixedWindow, scaled
from openbell_sim.faces.binance.common import errors
from openbell_sim.faces.port import FaceOptions

MINUTE_S = 60
PATIENCE = 10
"""Requests past the limit, after which an address is banned."""
FIRST_BAN_S = 120
LONGEST_BAN_S = 3 * 86400

_LETTERS = {"SECOND": "S", "MINUTE": "M", "DAY": "D"}
_SECONDS = {"SECOND": 1, "MINUTE": 60, "DAY": 86400}


@dataclass(frozen=True)
class OrderLimit:
    """So many orders of one account per `number` intervals."""

    interval: str
    """SECOND, MINUTE or DAY."""
    number: int
    most: int

    @property
    def width_s(self) -> int:
        return self.number * _SECONDS[self.interval]

    @property
    def letters(self) -> str:
        """`10S`, as in the header's name."""
        return f"{self.number}{_LETTERS[self.interval]}"


@dataclass
class _Offender:
    past_limit: int = 0
    minute: int = -1
    bans: int = 0
    banned_until_s: float = 0.0


@dataclass
class Limits:
    """`scale` multiplies every limit; 0: nothing is refused, and what was used is told still."""

    weight_per_minute: int
    orders: Sequence[OrderLimit]
    scale: float = 1.0
    _minute: FixedWindow = field(default_factory=lambda: FixedWindow(MINUTE_S))
    _offenders: defaultdict[str, _Offender] = field(default_factory=lambda: defaultdict(_Offender))

    def __post_init__(self) -> None:
        self._order_windows = [FixedWindow(limit.width_s) for limit in self.orders]
        if self.scale:
            self.weight_per_minute = scaled(self.weight_per_minute, self.scale)
            self.orders = [
                OrderLimit(limit.interval, limit.number, scaled(limit.most, self.scale))
                for limit in self.orders
            ]

    @classmethod
    def of(cls, options: FaceOptions, weight: int, orders: Sequence[OrderLimit]) -> Limits:
        """A venue's limits as whoever starts it wants them."""
        limits = cls(weight, orders, options.limit_scale)
        if options.weight_limit is not None:
            limits.weight_per_minute = options.weight_limit
        return limits

    def use(self, address: str, weight: int, now_s: float) -> dict[str, str]:
        """Counts a request; the headers that tell so. Raises BinanceError, 429 or 418."""
        offender = self._offenders[address]
        if now_s < offender.banned_until_s:
            raise _banned(offender, now_s)
        used = self._minute.add(address, weight, now_s)
        headers = {"X-MBX-USED-WEIGHT": str(used), "X-MBX-USED-WEIGHT-1M": str(used)}
        if not self.scale or used <= self.weight_per_minute:
            return headers
        minute = int(now_s // MINUTE_S)
        if offender.minute != minute:
            offender.minute, offender.past_limit = minute, 0
        offender.past_limit += 1
        if offender.past_limit > PATIENCE:
            ban_s = min(LONGEST_BAN_S, FIRST_BAN_S * 2**offender.bans)
            offender.bans += 1
            offender.banned_until_s = now_s + ban_s
            raise _banned(offender, now_s)
        error = errors.too_much_weight(self.weight_per_minute, self._minute.ends_s(now_s) - now_s)
        error.headers |= headers
        raise error

    def count_orders(self, account: str, number: int, now_s: float) -> dict[str, str]:
        """Counts new orders; the headers that tell so. Raises BinanceError, 429."""
        headers = {}
        for limit, window in zip(self.orders, self._order_windows, strict=True):
            count = window.add(account, number, now_s)
            headers[f"X-MBX-ORDER-COUNT-{limit.letters}"] = str(count)
            if self.scale and count > limit.most:
                raise errors.too_many_orders(limit.most, f"{limit.number} {limit.interval}")
        return headers

    def rate_limits(self) -> list[Mapping[str, object]]:
        """As exchangeInfo tells them."""
        return [
            {
                "rateLimitType": "REQUEST_WEIGHT",
                "interval": "MINUTE",
                "intervalNum": 1,
                "limit": self.weight_per_minute,
            },
            *self.order_limits(),
        ]

    def order_limits(self) -> list[Mapping[str, object]]:
        return [
            {
                "rateLimitType": "ORDERS",
                "interval": limit.interval,
                "intervalNum": limit.number,
                "limit": limit.most,
            }
            for limit in self.orders
        ]


def _banned(offender: _Offender, now_s: float) -> errors.BinanceError:
    until_s = offender.banned_until_s
    return errors.banned(int(until_s * 1000), until_s - now_s)
