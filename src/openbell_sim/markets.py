"""One traded symbol: its book, its stops, its tape, and whether it is open."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from openbell_sim.instruments import Instrument
from openbell_sim.matching.book import Book, Match, Taker
from openbell_sim.matching.side import Entry
from openbell_sim.matching.stops import StopBook
from openbell_sim.orders import Order
from openbell_sim.sessions import Backlog, MarketState
from openbell_sim.tape import Tape


@dataclass(kw_only=True)
class Market:
    """One symbol."""

    instrument: Instrument
    book: Book
    stops: StopBook = field(default_factory=StopBook)
    next_trade_id: int
    tape: Tape = field(default_factory=Tape)
    state: MarketState = MarketState.OPEN
    backlog: Backlog = field(default_factory=Backlog)

    def mark(self) -> Decimal | None:
        """The last price, before the first trade the middle of the book; None: nobody knows."""
        if self.tape.last is not None:
            return self.tape.last.price
        bid, ask = self.book.bids.best, self.book.asks.best
        if bid is None or ask is None:
            return None
        return self.instrument.tick * (bid + ask) / 2

    def taker(self, order: Order, qty: Decimal) -> Taker:
        """A quantity of an order, as it would match."""
        instrument = self.instrument
        return Taker(
            side=order.side,
            limit=None if order.price is None else instrument.ticks(order.price),
            qty=instrument.lots(qty),
            account=order.account,
            prevention=order.prevention,
        )

    # Where an order waits

    def rest(self, order: Order) -> None:
        """Puts an order into the book, or among the stops."""
        instrument = self.instrument
        if order.waits:
            self.stops.add(order.side, self._ticks(order.stop_price), order.order_id)
        else:
            entry = Entry(order.order_id, order.account, instrument.lots(order.leaves_qty))
            self.book.rest(order.side, self._ticks(order.price), entry)

    def withdraw(self, order: Order) -> None:
        if order.waits:
            self.stops.remove(order.side, self._ticks(order.stop_price), order.order_id)
        else:
            self.book.remove(order.side, self._ticks(order.price), order.order_id)

    def shrink(self, order: Order, lots: int) -> None:
        """To fewer lots, in its place."""
        if not order.waits:
            self.book.resize(order.side, self._ticks(order.price), order.order_id, lots)

    def take(self, order: Order, part: float) -> Match:
        """Takes a part of a resting order out of the book, at least one lot."""
        leaves = self.instrument.lots(order.leaves_qty)
        lots = max(1, int(leaves * part))
        if lots < leaves:
            self.shrink(order, leaves - lots)
        else:
            self.withdraw(order)
        entry = Entry(order.order_id, order.account, leaves - lots)
        return Match(self._ticks(order.price), lots, entry)

    def _ticks(self, price: Decimal | None) -> int:
        assert price is not None
        return self.instrument.ticks(price)

    def level(self, level: tuple[Decimal, Decimal]) -> tuple[int, int]:
        """A price and quantity of a source, in ticks and lots; what is off the grid is cut."""
        price, qty = level
        return int(price / self.instrument.tick), int(qty / self.instrument.lot)
