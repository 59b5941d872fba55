"""Positions as TradeLocker has them: one for every order that opened something.

The exchange nets an account's fills in a symbol, and closes what was opened first, first. So an
account here never has a long and a short position of one symbol at once, as those of TradeLocker
that hedge have; and an order against a position closes it, where there it would open a second one.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import msgspec

from openbell_sim.exchange import Exchange
from openbell_sim.ledger import Order, OwnFill
from openbell_sim.positions import OpenLot

ZERO = Decimal(0)
_POSITION_IDS = 10**15
"""Added to the id of the order that opened a position: an id of its own, as at TradeLocker."""


class Bracket(StrEnum):
    STOP_LOSS = "sl"
    TAKE_PROFIT = "tp"


class Note(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What TradeLocker knows of an order and the exchange does not: kept as the order's note."""

    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    """Prices that the position is to have which the order opens."""
    position_id: int = 0
    """Of the position that it protects or closes."""
    bracket: Bracket | None = None
    """How it protects it."""

    def text(self) -> str:
        return _encoder.encode(self).decode() if self != Note() else ""


_encoder = msgspec.json.Encoder(decimal_format="string")
_decoder = msgspec.json.Decoder(Note)


def note_of(order: Order) -> Note:
    """An order that a person gave at the venue has none."""
    return _decoder.decode(order.note) if order.note else Note()


@dataclass(frozen=True)
class Held:
    """An open position."""

    id: int
    symbol: str
    lots: tuple[OpenLot, ...]
    """Oldest first."""
    strategy: str
    """`strategyId` of the order that opened it."""

    @property
    def quantity(self) -> Decimal:
        """In the base currency; negative: short."""
        return sum((lot.quantity for lot in self.lots), ZERO)

    @property
    def avg_price(self) -> Decimal:
        return sum((lot.quantity * lot.price for lot in self.lots), ZERO) / self.quantity


class Book:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._read = 0
        self._opened_by: dict[tuple[str, str, int], int] = {}
        """Order id by account, symbol and exec id."""

    def positions(self, account: str) -> list[Held]:
        """Oldest first, symbol by symbol."""
        held: list[Held] = []
        for symbol, position in self._exchange.positions(account):
            lots: dict[int, list[OpenLot]] = {}
            for lot in position.lots:
                lots.setdefault(lot.order_id, []).append(lot)
            for order_id, parts in lots.items():
                strategy = self._exchange.ledger.orders[order_id].cl_ord_id
                held.append(Held(position_id(order_id), symbol, tuple(parts), strategy))
        return held

    def position(self, account: str, number: int) -> Held | None:
        return next((held for held in self.positions(account) if held.id == number), None)

    def hanging(self, account: str) -> dict[tuple[int, Bracket], Order]:
        """Open orders that protect a position, by its id and how."""
        found: dict[tuple[int, Bracket], Order] = {}
        for order in self._exchange.ledger.open.get(account, {}).values():
            note = note_of(order)
            if note.bracket is not None:
                found[note.position_id, note.bracket] = order
        return found

    def position_of_order(self, order: Order) -> int | None:
        """The position that it opened, closed, or protects; None where there is none yet."""
        if number := note_of(order).position_id:
            return number
        fills = self._exchange.ledger.fills_of(order.order_id)
        return self.position_of_fill(fills[-1]) if fills else None

    def position_of_fill(self, fill: OwnFill) -> int:
        """The one it opened or enlarged; one that it only closed a part of else."""
        closed = sum((abs(part.quantity) for part in fill.closed), ZERO)
        if closed < fill.qty:
            return position_id(fill.order_id)
        self._catch_up()
        return position_id(self._opened_by[fill.account, fill.symbol, fill.closed[0].exec_id])

    def _catch_up(self) -> None:
        fills = self._exchange.ledger.fills
        for fill in fills[self._read :]:
            self._opened_by[fill.account, fill.symbol, fill.exec_id] = fill.order_id
        self._read = len(fills)


def position_id(order_id: int) -> int:
    return _POSITION_IDS + order_id
