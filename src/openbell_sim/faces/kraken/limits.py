"""Kraken's two kinds of counters, which fall by a fixed rate.

The call counter is per key. Source: docs.kraken.com, "Spot REST Rate Limits": most private calls
count 1, ledgers and trade history 2, adding and cancelling orders nothing.

The trading counter is per account and pair, whatever way an order came. Source: docs.kraken.com,
"Spot Trading Limits": adding costs 1; cancelling costs the more the younger the order is; a batch
of cancels is carried out even where it exceeds the limit.

The numbers are those of the Intermediate tier.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

CALLS_MAX, CALLS_DECAY_PER_S = 20.0, 0.5
TRADING_MAX, TRADING_DECAY_PER_S = 125.0, 2.34
OPEN_ORDERS_MAX = 80
"""Per pair."""

_CANCEL = ((5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1))
_AMEND = ((5, 3), (10, 2), (15, 1))
_EDIT = ((5, 6), (10, 5), (15, 4), (45, 2), (90, 1))
"""`(age in s below which, count)`, first match; older orders count nothing."""


@dataclass
class Counter:
    value: float = 0.0
    at_s: float = 0.0

    def now(self, now_s: float, decay_per_s: float) -> float:
        self.value = max(0.0, self.value - max(0.0, now_s - self.at_s) * decay_per_s)
        self.at_s = now_s
        return self.value


class Limits:
    """`scale` multiplies maxima and decay; 0: no limits. Times are seconds of any one clock."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._calls: defaultdict[str, Counter] = defaultdict(Counter)
        self._trading: defaultdict[tuple[str, str], Counter] = defaultdict(Counter)

    @property
    def trading_max(self) -> float:
        return TRADING_MAX * self._scale

    def call(self, key: str, cost: int, now_s: float) -> bool:
        """Counts a call; False: over the limit. Refused calls count on, up to one and a half
        times the limit, so who does not stop waits longer."""
        if not self._scale or not cost:
            return True
        counter, most = self._calls[key], CALLS_MAX * self._scale
        counter.now(now_s, CALLS_DECAY_PER_S * self._scale)
        counter.value = min(counter.value + cost, 1.5 * most)
        return counter.value <= most

    def add(self, account: str, symbol: str, now_s: float, cost: float = 1) -> bool:
        """Counts a new order, or a batch of them; False: over the limit."""
        counter = self._counter(account, symbol, now_s)
        counter.value += cost
        return not self._scale or counter.value <= self.trading_max

    def change(self, account: str, symbol: str, now_s: float, *, fixed: int, decaying: int) -> bool:
        """Counts a cancel, an amend or an edit where the counter stood below the limit."""
        counter = self._counter(account, symbol, now_s)
        if self._scale and counter.value + fixed > self.trading_max:
            counter.value += fixed
            return False
        counter.value += fixed + decaying
        return True

    def force(self, account: str, symbol: str, now_s: float, cost: float) -> None:
        """Counts what is carried out in any case."""
        self._counter(account, symbol, now_s).value += cost

    def _counter(self, account: str, symbol: str, now_s: float) -> Counter:
        counter = self._trading[account, symbol]
        counter.now(now_s, TRADING_DECAY_PER_S * (self._scale or 1))
        return counter


def cancel_cost(age_s: float) -> int:
    return _by_age(_CANCEL, age_s)


def amend_cost(age_s: float) -> int:
    return _by_age(_AMEND, age_s)


def edit_cost(age_s: float) -> int:
    return _by_age(_EDIT, age_s)


def _by_age(table: tuple[tuple[int, int], ...], age_s: float) -> int:
    return next((cost for below_s, cost in table if age_s < below_s), 0)
