"""One side of an order book: price levels, each a queue in time order.

A level's queue mixes two kinds of entries. *Own* entries are orders of accounts of the simulated
venue. *Crowd* entries are anonymous quantity that a market source declares; neighbouring crowd
entries are merged, so that a level without own orders holds one entry however long it lives.

Prices are whole ticks, quantities whole lots.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator

from openbell.domain.orders import Side

CROWD = 0
"""The order id of crowd entries; orders count from 1."""


class Entry:
    """A place in a level's queue. `qty` is what is left of it, in lots."""

    __slots__ = ("account", "order_id", "qty")

    def __init__(self, order_id: int, account: str, qty: int) -> None:
        self.order_id = order_id
        self.account = account
        self.qty = qty

    @property
    def is_crowd(self) -> bool:
        return self.order_id == CROWD

    def __repr__(self) -> str:
        return f"Entry({self.order_id}, {self.account!r}, {self.qty})"


class Level:
    """The queue at one price. `total` and `crowd` are sums over it."""

    __slots__ = ("crowd", "queue", "total")

    def __init__(self) -> None:
        self.queue: deque[Entry] = deque()
        self.total = 0
        self.crowd = 0

    @property
    def has_own(self) -> bool:
        return self.total > self.crowd

    def append(self, entry: Entry) -> None:
        self.queue.append(entry)
        self.total += entry.qty

    def grow_crowd(self, qty: int) -> None:
        """Adds crowd quantity at the back of the queue."""
        if self.queue and self.queue[-1].is_crowd:
            self.queue[-1].qty += qty
        else:
            self.queue.append(Entry(CROWD, "", qty))
        self.total += qty
        self.crowd += qty

    def shrink_crowd(self, qty: int) -> None:
        """Takes crowd quantity from the back of the queue forwards.

        From the back, because a cancel somewhere in the crowd must not improve the place of an
        order that waits: the simulated venue rather fills too late than too early.
        """
        self.total -= qty
        self.crowd -= qty
        kept: list[Entry] = []
        while qty:
            entry = self.queue.pop()
            if not entry.is_crowd:
                kept.append(entry)
            elif entry.qty > qty:
                entry.qty -= qty
                qty = 0
                kept.append(entry)
            else:
                qty -= entry.qty
        self.queue.extend(reversed(kept))
        self._merge_back()

    def _merge_back(self) -> None:
        """Own orders between two crowd entries may have gone; joins entries that now touch."""
        if self.total == self.crowd and len(self.queue) > 1:
            self.queue.clear()
            self.queue.append(Entry(CROWD, "", self.crowd))

    def take(self, entry: Entry, qty: int) -> None:
        """Takes from the entry at the front of the queue; drops it when nothing is left of it."""
        entry.qty -= qty
        self.total -= qty
        if entry.is_crowd:
            self.crowd -= qty
        if not entry.qty:
            self.queue.popleft()

    def remove(self, order_id: int) -> int:
        """Removes an own entry wherever it waits; the lots that were left of it, 0 if absent."""
        for index, entry in enumerate(self.queue):
            if entry.order_id == order_id:
                del self.queue[index]
                self.total -= entry.qty
                self._merge_back()
                return entry.qty
        return 0

    def resize(self, order_id: int, qty: int) -> bool:
        """Changes an own entry to fewer lots in its place; whether it is there."""
        for entry in self.queue:
            if entry.order_id == order_id:
                self.total -= entry.qty - qty
                entry.qty = qty
                return True
        return False


class BookSide:
    """Levels of one side with their prices in priority order."""

    __slots__ = ("_keys", "_sign", "changed", "declared", "levels", "side")

    def __init__(self, side: Side) -> None:
        self.side = side
        self._sign = side.sign
        self._keys: list[int] = []
        # Prices times sign, ascending: the best price is the last one, where a list is cheap.
        self.levels: dict[int, Level] = {}
        self.declared: dict[int, int] = {}
        """What the market source last said of each price: see `Book.set_crowd`."""
        self.changed: set[int] = set()
        """Prices whose total changed since someone last emptied the set."""

    @property
    def best(self) -> int | None:
        return self._keys[-1] * self._sign if self._keys else None

    def prices(self) -> Iterator[int]:
        """From the best outwards. The side must not change meanwhile."""
        sign = self._sign
        return (key * sign for key in reversed(self._keys))

    def prices_through(self, limit: int | None) -> list[int]:
        """Prices from the best outwards as far as `limit` reaches (None: all of them)."""
        start = 0 if limit is None else bisect_left(self._keys, limit * self._sign)
        sign = self._sign
        return [key * sign for key in reversed(self._keys[start:])]

    def reaches(self, price: int, limit: int | None) -> bool:
        """Whether a counterparty with `limit` may trade at this side's `price`."""
        return limit is None or price * self._sign >= limit * self._sign

    def level(self, price: int) -> Level:
        """The level at a price, made if there is none."""
        level = self.levels.get(price)
        if level is None:
            level = self.levels[price] = Level()
            insort(self._keys, price * self._sign)
        return level

    def settle(self, price: int) -> None:
        """To be called after every change of a level: notes it and drops an empty level."""
        self.changed.add(price)
        level = self.levels.get(price)
        if level is not None and not level.total:
            del self.levels[price]
            del self._keys[bisect_left(self._keys, price * self._sign)]

    def total(self, price: int) -> int:
        level = self.levels.get(price)
        return level.total if level is not None else 0

    def top(self, count: int) -> list[tuple[int, int]]:
        """`[(price, total), ...]` of the best levels."""
        sign = self._sign
        return [
            (key * sign, self.levels[key * sign].total) for key in self._keys[: -count - 1 : -1]
        ]
