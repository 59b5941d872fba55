"""What each strategy holds, flattens by the desk included.

The books count a fill for the strategy that ordered it. A flatten is ordered by the desk itself:
without more, the strategies would go on believing in positions that are gone, and trade against
them. So a fill of the desk's own order is dealt out to the strategies that hold what it closes, in
order of their names; what no strategy holds stays with the desk. Strategies may hold against each
other (one is long what another is short): once the desk has flattened an instrument to zero, what
they still hold is crossed between them at the price of that fill, so that all are flat.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from openbell.domain import order_book, positions
from openbell.domain.market import base_quote
from openbell.domain.orders import Order, OrderFilled, Side
from openbell.domain.positions import Instrument, Position

DESK = ""
"""The name under which the desk's own orders are booked."""


class StrategyLedger:
    """Fold of all fills. The sum over strategies and desk is the books' position, always."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, Instrument], Position] = {}

    def apply(self, before: Order, event: OrderFilled) -> None:
        """Count an execution; `before` is its order without it."""
        counted = order_book.count(before, event)
        if counted is None:
            return
        new = before.new
        instrument = (new.venue, new.symbol)
        if new.strategy != DESK:
            for quantity, price in counted.replaced:
                self._revert(new.strategy, instrument, before, quantity, price)
            self._add(new.strategy, instrument, before, event, counted.qty)
            return
        # A real fill in place of an inferred one was dealt out already; only what is more counts.
        more = counted.qty - sum((quantity for quantity, _ in counted.replaced), Decimal(0))
        for strategy, share in self._shares(instrument, new.side.sign, more):
            self._add(strategy, instrument, before, event, share)
        self._cross(instrument, event.last_px)

    def position(self, strategy: str, instrument: Instrument) -> Position:
        venue, symbol = instrument
        return self._held.get((strategy, instrument)) or Position(venue=venue, symbol=symbol)

    @property
    def held(self) -> Mapping[tuple[str, Instrument], Position]:
        return self._held

    def _shares(
        self, instrument: Instrument, sign: int, quantity: Decimal
    ) -> list[tuple[str, Decimal]]:
        shares: list[tuple[str, Decimal]] = []
        for (strategy, held_in), position in sorted(self._held.items(), key=lambda item: item[0]):
            closes = -sign * position.quantity
            if strategy != DESK and held_in == instrument and closes > 0 and quantity > 0:
                share = min(closes, quantity)
                shares.append((strategy, share))
                quantity -= share
        return [*shares, (DESK, quantity)] if quantity > 0 else shares

    def _cross(self, instrument: Instrument, price: Decimal) -> None:
        """Where the instrument is flat as a whole, make it so for each strategy."""
        holders = [key for key in self._held if key[1] == instrument]
        if sum((self._held[key].quantity for key in holders), Decimal(0)) != 0:
            return
        base, quote = base_quote(instrument[1])
        for key in holders:
            held = self._held[key]
            if held.quantity != 0:
                self._held[key] = positions.apply_fill(
                    held,
                    side=Side.SELL if held.quantity > 0 else Side.BUY,
                    quantity=abs(held.quantity),
                    price=price,
                    base=base,
                    quote=quote,
                )

    def _add(
        self,
        strategy: str,
        instrument: Instrument,
        order: Order,
        event: OrderFilled,
        quantity: Decimal,
    ) -> None:
        base, quote = base_quote(instrument[1])
        self._held[strategy, instrument] = positions.apply_fill(
            self.position(strategy, instrument),
            side=order.new.side,
            quantity=quantity,
            price=event.last_px,
            fee=event.fee * quantity / event.last_qty if event.last_qty else event.fee,
            fee_currency=event.fee_currency,
            fee_in_kind=event.fee_in_kind,
            base=base,
            quote=quote,
        )

    def _revert(
        self, strategy: str, instrument: Instrument, order: Order, quantity: Decimal, price: Decimal
    ) -> None:
        base, quote = base_quote(instrument[1])
        self._held[strategy, instrument] = positions.revert_fill(
            self.position(strategy, instrument),
            side=order.new.side,
            quantity=quantity,
            price=price,
            base=base,
            quote=quote,
        )
