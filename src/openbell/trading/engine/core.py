"""What a venue's word means for an order: facts in, events out. No clock, no I/O.

Rules
- Fills are counted by their ids, and only when the venue lists them. Where its executed quantity
  says more than its listed fills do, `CatchUp.missing` tells, and the caller asks for them; what
  even asking does not show is inferred, and replaced when the real fill comes.
- An order ends in the books only after its fills are in: an end without them would lose a position.
- One that has ended is not called working meanwhile: whoever sees that would cancel it, in vain.
- Older word does not undo newer: an answer that was asked for before the order last changed proves
  nothing against it.
- Absence is no word at all. See `absence_proves`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from openbell.domain import order_book
from openbell.domain.orders import (
    ClOrdID,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderInDoubt,
    OrderRejected,
    OrdStatus,
)
from openbell.domain.reconcile import FillFacts
from openbell.venues.port import (
    Accepted,
    Rejected,
    SubmitOutcome,
    Unknown,
    VenueFill,
    VenueOrder,
)

NOT_FOUND_AT_LEAST = 3
"""Ours: one empty answer may be a venue's hiccup (hidden once, eventually consistent reads)."""

_S = OrdStatus
_ARRIVED = frozenset({_S.NEW, _S.PARTIALLY_FILLED, _S.FILLED, _S.CANCELED, _S.EXPIRED})


@dataclass(frozen=True)
class CatchUp:
    """How the books get from their order to the venue's."""

    events: tuple[OrderEvent, ...] = ()
    missing: Decimal = Decimal(0)
    """Executed according to the venue, but in no fill we know. Its end is held back while so."""


def of_submit(cl_ord_id: ClOrdID, outcome: SubmitOutcome, *, now_ns: int) -> OrderEvent:
    """The event of a send's outcome."""
    match outcome:
        case Accepted():
            return OrderAccepted(
                cl_ord_id=cl_ord_id, at_ns=now_ns, venue_order_id=outcome.venue_order_id
            )
        case Rejected():
            return OrderRejected(
                cl_ord_id=cl_ord_id, at_ns=now_ns, code=outcome.code, text=outcome.text
            )
        case Unknown():
            return OrderInDoubt(cl_ord_id=cl_ord_id, at_ns=now_ns, why=outcome.why)


def of_fill(
    cl_ord_id: ClOrdID, fill: VenueFill | FillFacts, *, now_ns: int, fee_in_kind: bool = True
) -> OrderFilled:
    """`fee_in_kind`: the venue settles in kind, see `OrderFilled`."""
    return OrderFilled(
        cl_ord_id=cl_ord_id,
        at_ns=now_ns,
        exec_id=fill.exec_id,
        last_qty=fill.last_qty,
        last_px=fill.last_px,
        fee=fill.fee,
        fee_currency=fill.fee_currency,
        fee_in_kind=fee_in_kind,
        is_maker=fill.is_maker,
        venue_time_ns=fill.venue_time_ns,
    )


def catch_up(
    order: Order,
    seen: VenueOrder,
    fills: Iterable[VenueFill] = (),
    *,
    now_ns: int,
    fee_in_kind: bool = True,
) -> CatchUp:
    """The events that the venue's order and its listed fills add to ours.

    `fills` may hold others' and old ones. Nothing where the venue's word is older than what is
    known already, so asking again changes nothing.
    """
    events: list[OrderEvent] = []
    now = order

    def add(event: OrderEvent) -> None:
        nonlocal now
        after = order_book.apply(now, event)
        if after is not now:
            events.append(event)
            now = after

    stale = seen.cum_qty < order.cum_qty - order.inferred_qty
    news = [
        of_fill(order.cl_ord_id, fill, now_ns=now_ns, fee_in_kind=fee_in_kind)
        for fill in fills
        if _belongs(fill, order, seen) and fill.exec_id not in order.exec_ids
    ]
    ended = seen.status.is_final and not order.status.is_final
    if ended and seen.cum_qty > order.cum_qty + sum((each.last_qty for each in news), Decimal(0)):
        for event in news:
            add(event)
        return CatchUp(tuple(events), seen.cum_qty - now.cum_qty)
    if not stale and _lacks_acceptance(order, seen):
        add(_acceptance(order, seen, now_ns))
    for event in news:
        add(event)
    missing = seen.cum_qty - now.cum_qty
    if missing > 0:
        return CatchUp(tuple(events), missing)
    if not stale and not now.status.is_final:
        end = _end(order.cl_ord_id, seen, now_ns)
        if end is not None:
            add(end)
    return CatchUp(tuple(events))


def infer(order: Order, seen: VenueOrder, price: Decimal, *, now_ns: int) -> tuple[OrderEvent, ...]:
    """The fill that must have been, for the executed quantity that no listed fill explains; after
    the acceptance, where the books have none."""
    accepted = (_acceptance(order, seen, now_ns),) if _lacks_acceptance(order, seen) else ()
    filled = OrderFilled(
        cl_ord_id=order.cl_ord_id,
        at_ns=now_ns,
        exec_id=f"inferred:{order.cl_ord_id}:{seen.cum_qty.normalize():f}",
        last_qty=seen.cum_qty - order.cum_qty,
        last_px=price,
        inferred=True,
        cum_qty=seen.cum_qty,
    )
    return (*accepted, filled)


@dataclass(frozen=True)
class NotFound:
    """How often, and over how long, a venue said that it knows no order of this id."""

    times: int = 0
    settled: bool = False
    """The last asking began later than anything sent could still have arrived."""


def absence_proves(not_found: NotFound) -> bool:
    """Whether an order that got no answer can be taken to have never arrived.

    A venue whose requests end by themselves (Binance `recvWindow`, Kraken `deadline`) refuses one that
    is older, so an order that is not there after that, the longest latency seen included, will never
    be. Of any other it is a bound that we believe, `LANDS_WITHIN_S`: see `SendClock`. Several askings,
    because one answer may be wrong.
    """
    return not_found.times >= NOT_FOUND_AT_LEAST and not_found.settled


def _acceptance(order: Order, seen: VenueOrder, now_ns: int) -> OrderAccepted:
    return OrderAccepted(
        cl_ord_id=order.cl_ord_id, at_ns=now_ns, venue_order_id=seen.venue_order_id
    )


def _lacks_acceptance(order: Order, seen: VenueOrder) -> bool:
    if seen.status not in _ARRIVED:
        return False
    if order.status is _S.UNKNOWN and seen.status.is_final:
        return not order.venue_order_id
    if order.status in (_S.UNKNOWN, _S.PENDING_NEW, _S.REJECTED):
        return True
    return order.status is _S.PENDING_CANCEL and not order.venue_order_id


def _belongs(fill: VenueFill, order: Order, seen: VenueOrder) -> bool:
    if fill.symbol != order.new.symbol:
        return False
    if fill.cl_ord_id:
        return fill.cl_ord_id == order.cl_ord_id
    return fill.venue_order_id == seen.venue_order_id


def _end(cl_ord_id: ClOrdID, seen: VenueOrder, now_ns: int) -> OrderEvent | None:
    match seen.status:
        case _S.CANCELED:
            return OrderCanceled(cl_ord_id=cl_ord_id, at_ns=now_ns, reason="canceled at the venue")
        case _S.EXPIRED:
            return OrderExpired(cl_ord_id=cl_ord_id, at_ns=now_ns, reason="expired at the venue")
        case _S.REJECTED:
            return OrderRejected(
                cl_ord_id=cl_ord_id, at_ns=now_ns, code="rejected", text="by the venue"
            )
        case _:
            return None
