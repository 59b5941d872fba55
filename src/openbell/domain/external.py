"""What was traded at a venue by nobody of this desk, and adopted into its books by a person.

A `PositionAdopted` says: as of this moment of the venue's clock the account holds `venue_qty` of
this instrument. The executions that the venue told explain the change as far as they go; the rest,
of unknown origin, is booked at one price. Both belong to `EXTERNAL`, to no strategy.

Some of the rest may have been the desk's own: an execution that the venue told of only later. So
the adoption stays behind as a `Baseline`: a real fill that comes late and was executed before
`as_of_ns` is in `venue_qty` already. It is booked where it belongs, and the external position gives
way by as much: it counts once, whether its inference, the adoption or itself came first.

    external == venue_qty - what is known of the desk's own executions up to as_of_ns - what was there

Invariant, over any order of arrival: the position is `venue_qty` plus the effect of the desk's own
executions after `as_of_ns`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from openbell.domain import positions
from openbell.domain.cash import CashBooked
from openbell.domain.market import base_quote
from openbell.domain.order_book import Counted, ImpossibleEventError
from openbell.domain.orders import ClOrdID, Order, OrderEvent, OrderFilled, Side
from openbell.domain.positions import Instrument, Position

EXTERNAL = "external"
"""Under this name, which no strategy may have, external trades are booked."""

ZERO = Decimal(0)


class AdoptedTrade(msgspec.Struct, frozen=True, kw_only=True):
    """An execution of an order that is not the desk's, as the venue lists it."""

    exec_id: str
    venue_order_id: str
    side: Side
    qty: Decimal
    px: Decimal
    fee: Decimal = ZERO
    fee_currency: str = ""
    venue_time_ns: int = 0


class PositionAdopted(msgspec.Struct, frozen=True, kw_only=True, tag="adopted"):
    """A person booked the venue's truth of one instrument."""

    at_ns: int
    """When (our clock)."""
    venue: str
    symbol: str
    books_qty: Decimal
    """What the books held before."""
    venue_qty: Decimal
    """What they hold after it: the venue's word."""
    as_of_ns: int
    """The venue's clock when it was so."""
    trades: tuple[AdoptedTrade, ...] = ()
    """Executions that the venue told, oldest first."""
    rest: Decimal = ZERO
    """Signed: what no execution explains."""
    rest_px: Decimal = ZERO
    """At which price that is booked."""
    fee_in_kind: bool = True
    """As in `OrderFilled`."""
    by: str = ""
    """Who asked for it."""
    approved_by: str = ""
    """The second person; empty where none was needed."""
    reason: str = ""
    request: str = ""
    """Id of the request that was approved."""

    @property
    def instrument(self) -> Instrument:
        return self.venue, self.symbol


OfVenue = PositionAdopted | CashBooked
"""What the books take from a venue, and not from an order of the desk."""

JournalEvent = OrderEvent | OfVenue
"""What the journal holds."""


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What the last adoption of an instrument leaves behind, for fills that come late."""

    venue: str
    symbol: str
    as_of_ns: int
    px: Decimal
    """At which the external position gives way."""
    rest: Decimal = ZERO
    """Signed: what is still of unknown origin."""
    inferred: dict[ClOrdID, Decimal] = {}
    """By order: quantity that was known by inference alone, and still is."""
    exec_ids: tuple[str, ...] = ()
    """Executions that were adopted."""

    @property
    def instrument(self) -> Instrument:
        return self.venue, self.symbol

    def covers(self, exec_id: str, venue_time_ns: int) -> bool:
        """Whether an execution of others is in the books already."""
        return exec_id in self.exec_ids or 0 < venue_time_ns <= self.as_of_ns


@dataclass(frozen=True, slots=True)
class Change:
    """What an external position is changed by; `undo` where it takes back what was booked before."""

    side: Side
    qty: Decimal
    px: Decimal
    fee: Decimal = ZERO
    fee_currency: str = ""
    fee_in_kind: bool = True
    undo: bool = False

    @property
    def signed(self) -> Decimal:
        """Without its fee."""
        return self.side.sign * self.qty * (-1 if self.undo else 1)

    def to(self, position: Position) -> Position:
        base, quote = base_quote(position.symbol)
        if self.undo:
            return positions.revert_fill(
                position, side=self.side, quantity=self.qty, price=self.px, base=base, quote=quote
            )
        return positions.apply_fill(
            position,
            side=self.side,
            quantity=self.qty,
            price=self.px,
            fee=self.fee,
            fee_currency=self.fee_currency,
            fee_in_kind=self.fee_in_kind,
            base=base,
            quote=quote,
        )


def effect(
    side: Side, qty: Decimal, fee: Decimal, fee_currency: str, *, base: str, fee_in_kind: bool
) -> Decimal:
    """By how much an execution changes what is held: less the fee that is taken out of it."""
    return side.sign * qty - (fee if fee_in_kind and fee_currency == base else ZERO)


def check(event: PositionAdopted) -> None:
    """Raises ImpossibleEventError for an adoption that does not add up, and ValueError for a symbol
    that is none."""
    base, _ = base_quote(event.symbol)
    for trade in event.trades:
        if not (_is_positive(trade.qty) and _is_positive(trade.px) and trade.fee.is_finite()):
            raise ImpossibleEventError(f"an adopted execution {trade.exec_id} is none")
    if not event.rest.is_finite() or (event.rest and not _is_positive(event.rest_px)):
        raise ImpossibleEventError(f"{event.rest} of {event.symbol} adopted at {event.rest_px}")
    told = (
        effect(t.side, t.qty, t.fee, t.fee_currency, base=base, fee_in_kind=event.fee_in_kind)
        for t in event.trades
    )
    if event.books_qty + sum(told, event.rest) != event.venue_qty:
        raise ImpossibleEventError(
            f"adopting {event.symbol} does not lead from {event.books_qty} to {event.venue_qty}"
        )


def changes_of(event: PositionAdopted) -> Iterator[Change]:
    """What an adoption books, in order."""
    for trade in event.trades:
        yield Change(
            trade.side, trade.qty, trade.px, trade.fee, trade.fee_currency, event.fee_in_kind
        )
    if event.rest:
        yield Change(_side(event.rest), abs(event.rest), event.rest_px)


def baseline_of(
    event: PositionAdopted, earlier: Baseline | None, orders: Iterable[Order]
) -> Baseline:
    """What an adoption leaves behind. `orders`: all that are known."""
    price = event.rest_px or (event.trades[-1].px if event.trades else ZERO)
    if not price and earlier is not None:
        price = earlier.px
    return Baseline(
        venue=event.venue,
        symbol=event.symbol,
        as_of_ns=event.as_of_ns,
        px=price,
        rest=event.rest + (earlier.rest if earlier is not None else ZERO),
        inferred={
            order.cl_ord_id: order.inferred_qty
            for order in orders
            if order.inferred_qty and (order.new.venue, order.new.symbol) == event.instrument
        },
        exec_ids=tuple(trade.exec_id for trade in event.trades),
    )


def give_way(
    baseline: Baseline, order: Order, event: OrderFilled, counted: Counted
) -> tuple[Baseline, tuple[Change, ...]]:
    """What an own execution changes in the external position; `order` is its order without it.

    What it tells of the time before the baseline (itself, if it was executed then, less the
    inferences of that time which it replaces) is in the adopted position already.
    """
    sign = order.new.side.sign
    told = ZERO
    if not event.inferred and 0 < event.venue_time_ns <= baseline.as_of_ns:
        told = effect(
            order.new.side,
            counted.qty,
            event.fee,
            event.fee_currency,
            base=base_quote(order.new.symbol)[0],
            fee_in_kind=event.fee_in_kind,
        )
    replaced = sum((qty for qty, _ in counted.replaced), ZERO)
    outstanding = baseline.inferred.get(order.cl_ord_id, ZERO)
    gone = min(replaced, outstanding)  # the oldest are replaced first, and these are the oldest
    change = sign * gone - told
    if not change and not gone:
        return baseline, ()
    inferred = {**baseline.inferred, order.cl_ord_id: outstanding - gone}
    after = msgspec.structs.replace(
        baseline,
        rest=baseline.rest + change,
        inferred={key: qty for key, qty in inferred.items() if qty},
    )
    return after, tuple(_changes(baseline.rest, change, baseline.px))


def _changes(rest: Decimal, change: Decimal, price: Decimal) -> Iterator[Change]:
    """`change` as what is taken back of the rest, and what is more than that."""
    undone = min(abs(change), abs(rest)) if change * rest < 0 else ZERO
    if undone:
        yield Change(_side(rest), undone, price, undo=True)
    if abs(change) > undone:
        yield Change(_side(change), abs(change) - undone, price)


def external_position(
    held: Mapping[tuple[str, Instrument], Position], instrument: Instrument
) -> Position:
    venue, symbol = instrument
    return held.get((EXTERNAL, instrument)) or Position(venue=venue, symbol=symbol)


def _side(signed: Decimal) -> Side:
    return Side.BUY if signed > 0 else Side.SELL


def _is_positive(number: Decimal) -> bool:
    return number.is_finite() and number > 0
