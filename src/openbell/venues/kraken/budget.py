"""Keeping inside Kraken's two counters, so that cancels always find room.

- The *call counter* of the key: queries stop at 80 % of it. Mass cancel and dead-man's switch count
  there too, and are sent in any case. Adding and cancelling orders does not count.
- The *trading counter* of each pair: strategies' orders stop at 80 % of it; those that close a
  position do not. A cancel costs up to 8 while the order is young, so the rest of the counter is
  theirs. A single one is held back where the counter is full, for Kraken would refuse it; a batch
  is not, for Kraken carries it out.

The venue does not tell the counters in its answers, so they are kept here as its documentation
describes them, and put to their maximum where it says that one was exceeded. Others who use the
account or the key are seen only then.

Source: docs.kraken.com, "Spot REST Rate Limits" and "Spot Trading Limits".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from openbell.domain.orders import ClOrdID
from openbell.venues.pacing import QUERY_SHARE
from openbell.venues.settings import KRAKEN_NUMBERS

LOCKOUT_S = 120.0
"""`EGeneral:Temporary lockout` follows many refused keys and ends after "typically a few minutes"
(docs.kraken.com, "Error messages"); each further request prolongs it."""
_CANCEL_COSTS = ((5.0, 8.0), (10.0, 6.0), (15.0, 5.0), (45.0, 4.0), (90.0, 2.0), (300.0, 1.0))
"""`(age in s below which, cost)`."""
_ORDERS_KEPT = 10_000


@dataclass(frozen=True)
class Tier:
    """What Kraken grants an account. The first two are of the call counter, the others of each
    pair's trading counter."""

    call_limit: float
    call_decay: float
    """Per second."""
    order_limit: float
    order_decay: float


TIERS = {
    "starter": Tier(15, 0.33, 60, 1),
    "intermediate": Tier(20, 0.5, 125, 2.34),
    "pro": Tier(20, 1, 180, 3.75),
}


def tier_of(options: Mapping[str, str]) -> Tier:
    """From desk.toml: `tier`, and numbers of one's own where Kraken granted others. What they may be
    is checked before (`venues.settings`)."""
    tier = TIERS[options.get("tier", "intermediate")]
    numbers = {each: float(options.get(each, getattr(tier, each))) for each in KRAKEN_NUMBERS}
    return Tier(**numbers)


@dataclass
class Counter:
    """Grows with what is done and falls by itself."""

    limit: float
    decay_per_s: float
    _value: float = 0.0
    _at_s: float = 0.0

    def value(self, now_s: float) -> float:
        self._value = max(0.0, self._value - (now_s - self._at_s) * self.decay_per_s)
        self._at_s = now_s
        return self._value

    def add(self, cost: float, now_s: float) -> None:
        self._value = self.value(now_s) + cost

    def exceeded(self, now_s: float) -> None:
        """The venue says so, whatever was counted here."""
        self._value = max(self.value(now_s), self.limit)

    def wait_s(self, cost: float, share: float, now_s: float) -> float:
        """Seconds until so much fits into this share of the limit; 0: now."""
        over = self.value(now_s) + cost - max(share * self.limit, cost)
        return max(0.0, over / self.decay_per_s)


class Budget:
    """Times are of one monotonic clock, in seconds."""

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._calls = Counter(tier.call_limit, tier.call_decay)
        self._pairs: dict[str, Counter] = {}
        self._sent: OrderedDict[ClOrdID, float] = OrderedDict()
        self._shut_until_s = 0.0

    @property
    def calls_per_minute(self) -> float:
        return self._tier.call_decay * 60

    # Calls.

    def query_wait_s(self, cost: float, now_s: float) -> float:
        return max(self.shut_s(now_s), self._calls.wait_s(cost, QUERY_SHARE, now_s))

    def called(self, cost: float, now_s: float) -> None:
        self._calls.add(cost, now_s)

    def calls_exceeded(self, now_s: float) -> float:
        """Seconds until a query may be sent again."""
        self._calls.exceeded(now_s)
        return self.query_wait_s(1, now_s)

    def locked_out(self, now_s: float) -> float:
        """Nothing at all is sent from here on; for how many seconds."""
        self._shut_until_s = now_s + LOCKOUT_S
        return LOCKOUT_S

    def shut_s(self, now_s: float) -> float:
        return max(0.0, self._shut_until_s - now_s)

    # Orders.

    def order_wait_s(self, symbol: str, now_s: float, *, closing: bool = False) -> float:
        """`closing`: it only makes a position smaller."""
        share = 1.0 if closing else QUERY_SHARE
        return max(self.shut_s(now_s), self._pair(symbol).wait_s(1, share, now_s))

    def cancel_wait_s(self, symbol: str, now_s: float) -> float:
        """Of a single cancel, which is refused only where the counter is full already."""
        return max(self.shut_s(now_s), self._pair(symbol).wait_s(0, 1.0, now_s))

    def order_sent(self, symbol: str, cl_ord_id: ClOrdID, now_s: float) -> None:
        self._pair(symbol).add(1, now_s)
        self._sent[cl_ord_id] = now_s
        if len(self._sent) > _ORDERS_KEPT:
            self._sent.popitem(last=False)

    def cancel_sent(self, symbol: str, cl_ord_id: ClOrdID, now_s: float) -> None:
        """One that this process did not send is taken for old."""
        sent_s = self._sent.get(cl_ord_id)
        if sent_s is not None:
            self._pair(symbol).add(_cancel_cost(now_s - sent_s), now_s)

    def orders_exceeded(self, symbol: str, now_s: float) -> float:
        """Seconds until an order in this symbol may be sent again."""
        self._pair(symbol).exceeded(now_s)
        return self.order_wait_s(symbol, now_s)

    def _pair(self, symbol: str) -> Counter:
        counter = self._pairs.get(symbol)
        if counter is None:
            counter = Counter(self._tier.order_limit, self._tier.order_decay)
            self._pairs[symbol] = counter
        return counter


def _cancel_cost(age_s: float) -> float:
    return next((cost for below_s, cost in _CANCEL_COSTS if age_s < below_s), 0.0)
