"""The executions channel of WebSocket v2, decoded and put into our words. Pure.

Source: https://docs.kraken.com, "Spot WebSocket v2: executions".
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from openbell.domain.orders import OrdStatus
from openbell.venues.finite import Finite
from openbell.venues.kraken.ids import from_kraken
from openbell.venues.kraken.wire import (
    BuyOrSell,
    SymbolOf,
    moment_ns,
    ord_type_of,
    side_of,
    unified,
)
from openbell.venues.port import OrderReport, VenueFill, VenueOrder


class Fee(Finite, frozen=True):
    asset: str
    qty: Decimal


class Triggers(Finite, frozen=True):
    price: Decimal | None = None
    actual_price: Decimal | None = None


class Execution(Finite, frozen=True):
    """What is in it differs by `exec_type`: what ends an order names neither symbol nor quantity."""

    order_id: str
    exec_type: str
    order_status: str
    timestamp: str
    cl_ord_id: str | None = None
    symbol: str | None = None
    side: BuyOrSell | None = None
    order_type: str | None = None
    order_qty: Decimal | None = None
    limit_price: Decimal | None = None
    triggers: Triggers | None = None
    cum_qty: Decimal | None = None
    exec_id: str | None = None
    last_qty: Decimal | None = None
    last_price: Decimal | None = None
    liquidity_ind: str = "t"
    fees: tuple[Fee, ...] = ()


_EXECUTION_STATUS = {
    "pending_new": OrdStatus.PENDING_NEW,
    "new": OrdStatus.NEW,
    "partially_filled": OrdStatus.PARTIALLY_FILLED,
    "filled": OrdStatus.FILLED,
    "canceled": OrdStatus.CANCELED,
    "expired": OrdStatus.EXPIRED,
}


def order_in(execution: Execution, before: VenueOrder | None, symbol_of: SymbolOf) -> VenueOrder:
    """The order as it is after an event, from what was known before. Raises KeyError for a symbol
    that is not known, ValueError where too little is known of the order."""
    at_ns = moment_ns(execution.timestamp)
    status = _EXECUTION_STATUS.get(execution.order_status, OrdStatus.UNKNOWN)
    if before is None:
        symbol, side, kind, qty = (
            execution.symbol,
            execution.side,
            execution.order_type,
            execution.order_qty,
        )
        if symbol is None or side is None or kind is None or qty is None:
            raise ValueError(f"{execution.exec_type} of an order that was not told before")
        before = VenueOrder(
            venue_order_id=execution.order_id,
            cl_ord_id=from_kraken(execution.cl_ord_id),
            symbol=symbol_of(symbol),
            side=side_of(side),
            ord_type=ord_type_of(kind),
            status=status,
            order_qty=qty,
            cum_qty=Decimal(0),
            price=execution.limit_price,
            created_ns=at_ns,
            updated_ns=at_ns,
        )
    told = execution.triggers
    stop_px = None if told is None else told.actual_price or told.price
    return msgspec.structs.replace(
        before,
        status=status,
        order_qty=_first(execution.order_qty, before.order_qty),
        cum_qty=_first(execution.cum_qty, before.cum_qty),
        price=execution.limit_price if execution.limit_price is not None else before.price,
        stop_px=stop_px if stop_px is not None else before.stop_px,
        updated_ns=at_ns,
    )


def _first(told: Decimal | None, before: Decimal) -> Decimal:
    return before if told is None else told


def report_of(execution: Execution, order: VenueOrder) -> OrderReport:
    """Raises ValueError for an execution that lacks what every one has."""
    if execution.exec_type != "trade":
        return OrderReport(order=order)
    if execution.exec_id is None or execution.last_qty is None or execution.last_price is None:
        raise ValueError("a trade without its identifier, quantity or price")
    # Should there ever be several fees, one fill has room for one; they are of one currency.
    fee = execution.fees[0] if execution.fees else None
    fill = VenueFill(
        exec_id=execution.exec_id,
        venue_order_id=order.venue_order_id,
        cl_ord_id=order.cl_ord_id,
        symbol=order.symbol,
        side=order.side,
        last_qty=execution.last_qty,
        last_px=execution.last_price,
        fee=fee.qty if fee is not None else Decimal(0),
        fee_currency=unified(fee.asset) if fee is not None else "",
        is_maker=execution.liquidity_ind == "m",
        venue_time_ns=order.updated_ns,
    )
    return OrderReport(order=order, fill=fill)
