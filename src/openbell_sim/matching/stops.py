"""Stop orders of one symbol that wait for the last price to reach them.

A buy waits above the market, a sale below it. Prices are whole ticks.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from openbell.domain.orders import Side

_Key = tuple[int, int]
"""`(price times sign, order id)`, so that those reached first come first."""


class StopBook:
    def __init__(self) -> None:
        self._waiting: dict[Side, list[_Key]] = {Side.BUY: [], Side.SELL: []}
        self._highest: int | None = None
        self._lowest: int | None = None

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._waiting.values())

    def add(self, side: Side, price: int, order_id: int) -> None:
        insort(self._waiting[side], (price * side.sign, order_id))

    def remove(self, side: Side, price: int, order_id: int) -> None:
        keys = self._waiting[side]
        del keys[bisect_left(keys, (price * side.sign, order_id))]

    def saw(self, price: int) -> None:
        """A trade was printed at this price."""
        if self._highest is None or price > self._highest:
            self._highest = price
        if self._lowest is None or price < self._lowest:
            self._lowest = price

    def take_reached(self) -> list[int]:
        """Takes out the orders that the prints since the last call have reached; their ids."""
        if self._highest is None or self._lowest is None:
            return []
        reached: list[int] = []
        for side, price in ((Side.BUY, self._highest), (Side.SELL, self._lowest)):
            keys = self._waiting[side]
            count = bisect_left(keys, (price * side.sign + 1, 0))
            reached += [order_id for _, order_id in keys[:count]]
            del keys[:count]
        self._highest = self._lowest = None
        return reached
