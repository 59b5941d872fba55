"""What each strategy holds, flattens by the desk included.

The books count a fill for the strategy that ordered it. A flatten is ordered by the desk itself:
without more, the strategies would go on believing in positions that are gone, and trade against
them. So a fill of the desk's own order is dealt out to the strategies that hold what it closes, in
order of their names; what no strategy holds stays with the desk. Strategies may hold against each
other (one is long what another is short): once the desk has flattened an instrument to zero, what
they still hold is crossed between them at the price of that fill, so that all are flat.

What was traded at the venue by others and adopted (`domain.external`) is dealt out in the same way:
a strategy must not sell what a person has sold already. What it adds to no strategy's position
stays with `EXTERNAL`. The books, whose P&L it is, keep all of it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal

from openbell.domain import order_book, positions
from openbell.domain.external import EXTERNAL, Change
from openbell.domain.market import base_quote
from openbell.domain.orders import Order, OrderFilled, Side
from openbell.domain.positions import Instrument, Position

DESK = ""
"""The name under which the desk's own orders are booked."""

FEE_STEP = Decimal("1e-12")
"""Below every venue's own step of a fee (a satoshi is 1e-8, a gwei 1e-9)."""


class StrategyLedger:
    """Fold of all fills and adoptions. The sum over strategies, desk and others is the books'
    position, always."""

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
            self._add(new.strategy, instrument, _share(before, event, counted.qty))
            return
        # A real fill in place of an inferred one was dealt out already; only what is more counts.
        replaced = sum((quantity for quantity, _ in counted.replaced), Decimal(0))
        change = _share(before, event, counted.qty)
        if replaced:
            # Its fee was not known then; it is the desk's.
            all_of_it = replaced == counted.qty
            fee = change.fee if all_of_it else _portion(change.fee, replaced, counted.qty)
            self._add(DESK, instrument, replace(change, qty=Decimal(0), fee=fee))
            change = replace(change, qty=counted.qty - replaced, fee=change.fee - fee)
        self._deal(DESK, instrument, change)

    def apply_external(self, instrument: Instrument, changes: Iterable[Change]) -> None:
        """Count what `Books.gives_way` told of an event, after the event itself."""
        for change in changes:
            if change.undo:
                change = Change(change.side.opposite, change.qty, change.px)
            self._deal(EXTERNAL, instrument, change)

    def position(self, strategy: str, instrument: Instrument) -> Position:
        venue, symbol = instrument
        return self._held.get((strategy, instrument)) or Position(venue=venue, symbol=symbol)

    @property
    def held(self) -> Mapping[tuple[str, Instrument], Position]:
        return self._held

    def _deal(self, owner: str, instrument: Instrument, change: Change) -> None:
        """To the strategies that hold what it closes; what none holds stays with `owner`."""
        left, fee_left = change.qty, change.fee
        for (strategy, held_in), position in sorted(self._held.items(), key=lambda item: item[0]):
            closes = -change.side.sign * position.quantity
            if strategy in (DESK, EXTERNAL) or held_in != instrument or closes <= 0 or left <= 0:
                continue
            share = min(closes, left)
            # The last one bears what rounding left of the fee: a fee in kind is part of the position.
            fee = fee_left if share == left else _portion(change.fee, share, change.qty)
            self._add(strategy, instrument, replace(change, qty=share, fee=fee))
            left, fee_left = left - share, fee_left - fee
        if left > 0:
            self._add(owner, instrument, replace(change, qty=left, fee=fee_left))
        self._cross(instrument, change.px)

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

    def _add(self, strategy: str, instrument: Instrument, change: Change) -> None:
        self._held[strategy, instrument] = change.to(self.position(strategy, instrument))

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


def _share(order: Order, event: OrderFilled, quantity: Decimal) -> Change:
    """So much of an execution as counts, with all of its fee, as the books have it."""
    return Change(
        order.new.side, quantity, event.last_px, event.fee, event.fee_currency, event.fee_in_kind
    )


def _portion(fee: Decimal, quantity: Decimal, of: Decimal) -> Decimal:
    """The fee of so much of a quantity. A third is rounded, so that sums of parts stay exact."""
    exact = fee * quantity / of
    rounded = exact.quantize(FEE_STEP, ROUND_HALF_EVEN)
    return exact if exact == rounded else rounded
