"""Positions of margined instruments: netted, made of lots that are closed first in, first out.

Pure: a position is the fold of its fills.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import msgspec

from openbell_sim.account import ZERO
from openbell_sim.instruments import Instrument


class OpenLot(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a fill that opened or enlarged a position. Venues with tickets or trades
    show each one."""

    exec_id: int
    """Of the fill; unique per symbol. It stays when a part of the lot is closed."""
    order_id: int
    quantity: Decimal
    """In the base currency; negative: short."""
    price: Decimal
    at_ns: int


class ClosedLot(msgspec.Struct, frozen=True, kw_only=True):
    """What a fill closed of one lot."""

    exec_id: int
    quantity: Decimal
    """Closed by this fill; signed as the lot was."""
    left: Decimal
    """Of the lot; signed."""
    price: Decimal
    """At which it was opened."""
    realized: Decimal
    """Profit in the settlement currency, fees not counted."""


class Position(msgspec.Struct, kw_only=True):
    """Of one account in one symbol. The quantity is always the sum of the lots."""

    quantity: Decimal = ZERO
    """In the base currency; negative: short."""
    cost: Decimal = ZERO
    """Sum of quantity times price over the lots, in the quote currency; signed as `quantity`."""
    realized: Decimal = ZERO
    """Profit of all that was ever closed, in the settlement currency, fees not counted."""
    opened_ns: int = 0
    """When it last became something other than flat."""
    open_lots: deque[OpenLot] = msgspec.field(default_factory=deque)

    @property
    def avg_price(self) -> Decimal:
        """Of the open lots; 0 when flat."""
        return self.cost / self.quantity if self.quantity else ZERO

    @property
    def lots(self) -> tuple[OpenLot, ...]:
        """Oldest first."""
        return tuple(self.open_lots)

    def lot(self, exec_id: int) -> OpenLot | None:
        return next((lot for lot in self.open_lots if lot.exec_id == exec_id), None)

    def closable(self, sign: int) -> Decimal:
        """How much an order of this sign (+1 buys) can close; 0: it would only open."""
        return max(ZERO, -sign * self.quantity)

    def unrealized(self, instrument: Instrument, mark: Decimal) -> Decimal:
        """Profit if all were closed at `mark`, in the settlement currency."""
        return instrument.settled(self.quantity * mark - self.cost, mark)

    def fill(
        self, instrument: Instrument, opened: OpenLot, closes: int | None = None
    ) -> tuple[ClosedLot, ...]:
        """Takes a fill, given as the lot that it would open; tells what it closed instead.

        `closes`: the lot that is closed first, before the oldest ones."""
        closed: list[ClosedLot] = []
        left = opened.quantity
        while left and self.open_lots and (self.quantity > 0) != (left > 0):
            lot = self._next_to_close(closes)
            quantity = lot.quantity if abs(lot.quantity) <= abs(left) else -left
            part = self._close(instrument, lot, quantity, opened.price)
            closed.append(part)
            left += quantity
        if left:
            if not self.open_lots:
                self.opened_ns = opened.at_ns
            self.open_lots.append(msgspec.structs.replace(opened, quantity=left))
            self.quantity += left
            self.cost += left * opened.price
        return tuple(closed)

    def _next_to_close(self, closes: int | None) -> OpenLot:
        named = self.lot(closes) if closes is not None else None
        return named if named is not None else self.open_lots[0]

    def _close(
        self, instrument: Instrument, lot: OpenLot, quantity: Decimal, price: Decimal
    ) -> ClosedLot:
        index = self.open_lots.index(lot)
        remains = lot.quantity - quantity
        if remains:
            self.open_lots[index] = msgspec.structs.replace(lot, quantity=remains)
        else:
            del self.open_lots[index]
        self.quantity -= quantity
        self.cost -= quantity * lot.price
        realized = instrument.settled(quantity * (price - lot.price), price)
        self.realized += realized
        return ClosedLot(
            exec_id=lot.exec_id,
            quantity=quantity,
            left=remains,
            price=lot.price,
            realized=realized,
        )
