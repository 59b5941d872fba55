"""The life of an order: a table of moves, and the fold of its events.

Invariant, after every event of every order:

    order_qty == cum_qty + leaves_qty + canceled_qty

It holds by construction: `cum_qty` is counted from fills alone, and the status alone decides
whether the rest still may trade (leaves) or never will (cancelled).

What arrives late, twice or out of order is the rule at a venue, not the exception:

- A repeated `exec_id` is not counted again.
- A fill is counted whenever it comes: before the acceptance, while in doubt, after a cancel.
- A fill that proves a rejection wrong reopens the order as UNKNOWN: it did arrive, and what is left
  of it may still rest at the venue. So does an acceptance after a rejection.
- CANCELED, EXPIRED and FILLED are not reopened. A late acceptance is taken for what it is: late. An
  order that truly rests at the venue although ours is final is found by `reconcile`, which does not
  believe messages but asks.
- In doubt stays in doubt until the venue has been asked: a fill proves that the order arrived, not
  what has become of the rest.
- An inferred fill is counted until the real ones come, which replace it, oldest inference first.

Events that cannot be (an overfill, a life that does not begin with its intent) raise
`ImpossibleEventError` and change nothing: apply an event before it is committed to a journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import assert_never

import msgspec

from openbell.domain.orders import (
    CancelIntended,
    CancelRejected,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderInDoubt,
    OrderIntended,
    OrderRejected,
    OrdStatus,
)
from openbell.errors import OpenbellError


class ImpossibleEventError(OpenbellError):
    """An event that contradicts the order: a defect, ours or the venue's. Stop and look."""

    code = "impossible_event"


class OrderMove(StrEnum):
    """What an event means to an order in its present state."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    REJECTED_AFTER_ACCEPTED = "rejected after accepted"
    """The venue had accepted or filled it before, so one of the two answers is wrong."""
    IN_DOUBT = "in doubt"
    FILLED_IN_PART = "filled in part"
    FILLED_WHOLLY = "filled wholly"
    """Nothing is left of the ordered quantity."""
    CANCEL_INTENDED = "cancel intended"
    CANCEL_REJECTED = "cancel rejected"
    CANCELED = "canceled"
    EXPIRED = "expired"


_S, _M = OrdStatus, OrderMove

MOVES: Mapping[OrdStatus, Mapping[OrderMove, OrdStatus]] = {
    _S.PENDING_NEW: {
        _M.ACCEPTED: _S.NEW,
        _M.REJECTED: _S.REJECTED,
        _M.REJECTED_AFTER_ACCEPTED: _S.UNKNOWN,
        _M.IN_DOUBT: _S.UNKNOWN,
        _M.FILLED_IN_PART: _S.PARTIALLY_FILLED,
        _M.FILLED_WHOLLY: _S.FILLED,
        _M.CANCEL_INTENDED: _S.PENDING_CANCEL,
        _M.CANCEL_REJECTED: _S.UNKNOWN,
        _M.CANCELED: _S.CANCELED,
        _M.EXPIRED: _S.EXPIRED,
    },
    _S.NEW: {
        _M.ACCEPTED: _S.NEW,
        _M.REJECTED: _S.UNKNOWN,
        _M.REJECTED_AFTER_ACCEPTED: _S.UNKNOWN,
        _M.IN_DOUBT: _S.UNKNOWN,
        _M.FILLED_IN_PART: _S.PARTIALLY_FILLED,
        _M.FILLED_WHOLLY: _S.FILLED,
        _M.CANCEL_INTENDED: _S.PENDING_CANCEL,
        _M.CANCEL_REJECTED: _S.UNKNOWN,
        _M.CANCELED: _S.CANCELED,
        _M.EXPIRED: _S.EXPIRED,
    },
    _S.PARTIALLY_FILLED: {
        _M.ACCEPTED: _S.PARTIALLY_FILLED,
        _M.REJECTED: _S.UNKNOWN,
        _M.REJECTED_AFTER_ACCEPTED: _S.UNKNOWN,
        _M.IN_DOUBT: _S.UNKNOWN,
        _M.FILLED_IN_PART: _S.PARTIALLY_FILLED,
        _M.FILLED_WHOLLY: _S.FILLED,
        _M.CANCEL_INTENDED: _S.PENDING_CANCEL,
        _M.CANCEL_REJECTED: _S.UNKNOWN,
        _M.CANCELED: _S.CANCELED,
        _M.EXPIRED: _S.EXPIRED,
    },
    _S.PENDING_CANCEL: {
        _M.ACCEPTED: _S.PENDING_CANCEL,
        _M.REJECTED: _S.REJECTED,
        _M.REJECTED_AFTER_ACCEPTED: _S.UNKNOWN,
        _M.IN_DOUBT: _S.UNKNOWN,
        _M.FILLED_IN_PART: _S.PENDING_CANCEL,
        _M.FILLED_WHOLLY: _S.FILLED,
        _M.CANCEL_INTENDED: _S.PENDING_CANCEL,
        # "Too late" and "no such order" may both mean that it is gone; only asking tells.
        _M.CANCEL_REJECTED: _S.UNKNOWN,
        _M.CANCELED: _S.CANCELED,
        _M.EXPIRED: _S.EXPIRED,
    },
    _S.UNKNOWN: {
        _M.ACCEPTED: _S.NEW,
        _M.REJECTED: _S.REJECTED,
        # Asked, and the venue holds it no more: what was filled counts, the rest is gone.
        _M.REJECTED_AFTER_ACCEPTED: _S.CANCELED,
        _M.IN_DOUBT: _S.UNKNOWN,
        _M.FILLED_IN_PART: _S.UNKNOWN,
        _M.FILLED_WHOLLY: _S.FILLED,
        _M.CANCEL_INTENDED: _S.UNKNOWN,
        _M.CANCEL_REJECTED: _S.UNKNOWN,
        _M.CANCELED: _S.CANCELED,
        _M.EXPIRED: _S.EXPIRED,
    },
    _S.FILLED: dict.fromkeys(OrderMove, _S.FILLED),
    _S.CANCELED: dict.fromkeys(OrderMove, _S.CANCELED) | {_M.FILLED_WHOLLY: _S.FILLED},
    _S.EXPIRED: dict.fromkeys(OrderMove, _S.EXPIRED) | {_M.FILLED_WHOLLY: _S.FILLED},
    _S.REJECTED: dict.fromkeys(OrderMove, _S.REJECTED)
    | {
        _M.ACCEPTED: _S.UNKNOWN,
        _M.FILLED_IN_PART: _S.UNKNOWN,
        _M.FILLED_WHOLLY: _S.FILLED,
    },
}
"""The status after each move. Where the table says NEW and something is filled already, the order
is PARTIALLY_FILLED."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a fill event changes: `qty` more at `px`, in exchange for the `replaced` inferences."""

    qty: Decimal
    px: Decimal
    replaced: tuple[tuple[Decimal, Decimal], ...] = ()
    """Pairs of quantity and price that were counted before and no longer are."""
    remaining: tuple[tuple[Decimal, Decimal], ...] = ()
    """Inferences that still stand."""


def is_open(order: Order) -> bool:
    """Whether what is left of it could still trade: anything but a final status."""
    return not order.status.is_final


def count(order: Order, event: OrderFilled) -> Counted | None:
    """How an execution counts, or None if it was counted before. Raises ImpossibleEventError for a
    quantity that is not positive, or more than was ordered."""
    if event.exec_id in order.exec_ids:
        return None
    if event.inferred and event.cum_qty is not None:
        qty = event.cum_qty - order.cum_qty
        if event.cum_qty.is_finite() and qty <= 0:
            return None
    else:
        qty = event.last_qty
    for number, name in ((qty, "quantity"), (event.last_px, "price")):
        if not number.is_finite() or number <= 0:
            raise ImpossibleEventError(
                f"execution {event.exec_id} of {order.cl_ord_id} has {name} {number}"
            )
    replaced, remaining = ((), order.inferred) if event.inferred else _take(order.inferred, qty)
    cum_qty = order.cum_qty + qty - _quantity(replaced)
    if cum_qty > order.new.order_qty:
        raise ImpossibleEventError(
            f"execution {event.exec_id} would fill {cum_qty} of {order.cl_ord_id},"
            f" which ordered {order.new.order_qty}"
        )
    return Counted(qty, event.last_px, replaced, remaining)


def apply(order: Order | None, event: OrderEvent) -> Order:
    """The order after an event; `order` is None before its first, which must be its intent.
    Returns the same object where nothing changes. Raises ImpossibleEventError."""
    if order is None:
        return _begin(event)
    if event.cl_ord_id != order.cl_ord_id:
        raise ImpossibleEventError(f"an event of {event.cl_ord_id} was given to {order.cl_ord_id}")
    match event:
        case OrderIntended():
            if event.order != order.new:
                raise ImpossibleEventError(f"{order.cl_ord_id} was intended twice, differently")
            return order
        case OrderFilled():
            return _fill(order, event)
        case OrderAccepted():
            venue_order_id = event.venue_order_id or order.venue_order_id
            if order.status is OrdStatus.UNKNOWN:
                # The venue holds it as working: a cancel sent before has not done its work, and
                # may be sent again.
                order = _with(order, cancel_requested=False)
            return _move(order, _M.ACCEPTED, event.at_ns, venue_order_id=venue_order_id)
        case OrderRejected():
            accepted = bool(order.venue_order_id) or order.cum_qty > 0
            move = _M.REJECTED_AFTER_ACCEPTED if accepted else _M.REJECTED
            return _move(order, move, event.at_ns, text=_text(event.code, event.text))
        case OrderInDoubt():
            return _move(order, _M.IN_DOUBT, event.at_ns, text=event.why)
        case CancelIntended():
            return _move(
                order, _M.CANCEL_INTENDED, event.at_ns, cancel_requested=True, text=event.reason
            )
        case CancelRejected():
            return _move(
                order,
                _M.CANCEL_REJECTED,
                event.at_ns,
                cancel_requested=False,
                text=_text(event.code, event.text),
            )
        case OrderCanceled():
            return _move(order, _M.CANCELED, event.at_ns, text=event.reason)
        case OrderExpired():
            return _move(order, _M.EXPIRED, event.at_ns, text=event.reason)
        case _:
            assert_never(event)


def _begin(event: OrderEvent) -> Order:
    if not isinstance(event, OrderIntended):
        raise ImpossibleEventError(
            f"the life of {event.cl_ord_id} begins with {type(event).__name__}, not with its intent"
        )
    new = event.order
    if new.cl_ord_id != event.cl_ord_id:
        raise ImpossibleEventError(f"the intent of {event.cl_ord_id} holds {new.cl_ord_id}")
    if not new.order_qty.is_finite() or new.order_qty <= 0:
        raise ImpossibleEventError(f"{new.cl_ord_id} orders {new.order_qty}")
    return Order(
        new=new,
        status=OrdStatus.PENDING_NEW,
        created_ns=event.at_ns,
        updated_ns=event.at_ns,
        leaves_qty=new.order_qty,
    )


def _fill(order: Order, event: OrderFilled) -> Order:
    counted = count(order, event)
    if counted is None:
        return order
    cum_qty = order.cum_qty + counted.qty - _quantity(counted.replaced)
    notional = order.notional + counted.qty * counted.px - _notional(counted.replaced)
    inferred = counted.remaining
    if event.inferred:
        inferred = (*inferred, (counted.qty, counted.px))
    order = _with(
        order,
        cum_qty=cum_qty,
        notional=notional,
        exec_ids=(*order.exec_ids, event.exec_id),
        inferred=inferred,
        inferred_qty=_quantity(inferred),
    )
    wholly = cum_qty == order.new.order_qty
    return _move(order, _M.FILLED_WHOLLY if wholly else _M.FILLED_IN_PART, event.at_ns, counts=True)


def _move(
    order: Order, move: OrderMove, at_ns: int, *, counts: bool = False, **changes: object
) -> Order:
    """The order after a move. `changes` are dropped where the move is one a final order ignores."""
    status = MOVES[order.status][move]
    if status.is_final and status is order.status and not counts:
        return order
    if status is OrdStatus.NEW and order.cum_qty > 0:
        status = OrdStatus.PARTIALLY_FILLED
    rest = order.new.order_qty - order.cum_qty
    return _with(
        order,
        status=status,
        leaves_qty=Decimal(0) if status.is_final else rest,
        canceled_qty=rest if status.is_final else Decimal(0),
        updated_ns=max(order.updated_ns, at_ns),
        **changes,
    )


def _with(order: Order, **changes: object) -> Order:
    return msgspec.structs.replace(order, **changes)


def _take(
    inferred: tuple[tuple[Decimal, Decimal], ...], qty: Decimal
) -> tuple[tuple[tuple[Decimal, Decimal], ...], tuple[tuple[Decimal, Decimal], ...]]:
    """Splits inferences, oldest first, into up to `qty` of them and the rest."""
    taken: list[tuple[Decimal, Decimal]] = []
    rest: list[tuple[Decimal, Decimal]] = []
    for known, px in inferred:
        part = min(known, qty)
        qty -= part
        if part:
            taken.append((part, px))
        if part < known:
            rest.append((known - part, px))
    return tuple(taken), tuple(rest)


def _quantity(pairs: tuple[tuple[Decimal, Decimal], ...]) -> Decimal:
    return sum((qty for qty, _ in pairs), Decimal(0))


def _notional(pairs: tuple[tuple[Decimal, Decimal], ...]) -> Decimal:
    return sum((qty * px for qty, px in pairs), Decimal(0))


def _text(code: str, text: str) -> str:
    return f"{code}: {text}" if text else code
