"""What calls about orders share: finding one, listing them, keeping what could not be read."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from openbell_sim.checks import OrderRequest
from openbell_sim.events import Refuse
from openbell_sim.faces.binance.common.errors import BinanceError
from openbell_sim.faces.binance.common.operation import Call
from openbell_sim.ledger import Order
from openbell_sim.refusals import Reason

T = TypeVar("T")


def new_client_id() -> str:
    """22 characters, as Binance makes them for those who send none."""
    return secrets.token_hex(11)


def recorded(
    call: Call, read: Callable[[Call], OrderRequest], client_id_name: str = "newClientOrderId"
) -> OrderRequest:
    """The order that `read` finds in a call. What cannot be read as one reached the venue all the
    same: it is recorded. Raises BinanceError."""
    try:
        return read(call)
    except BinanceError as error:
        refuse(call, error, Reason.MALFORMED, client_id_name)
        raise


def refuse(
    call: Call, error: BinanceError, reason: Reason, client_id_name: str = "newClientOrderId"
) -> None:
    """Puts on record an order that the exchange never saw."""
    get = call.parameters.values.get
    call.exchange.refuse(
        Refuse(
            order_id=0,
            account=call.account,
            cl_ord_id=get(client_id_name) or "",
            symbol=get("symbol") or "",
            side=get("side") or "",
            ord_type=get("type") or "",
            order_qty=get("quantity") or get("quoteOrderQty") or "",
            price=get("price") or "",
            received_ns=call.received_ns,
            reason=reason.value,
            text=f"{error.code} {error.msg}",
            at_ns=call.exchange.now_ns(),
        )
    )


def find_order(
    call: Call,
    symbol: str,
    missing: BinanceError,
    *,
    order_id_name: str = "orderId",
    client_id_name: str = "origClientOrderId",
) -> Order:
    """By id or client id; where both are given, both must fit. Raises `missing`."""
    order_id = call.parameters.integer_or_none(order_id_name)
    cl_ord_id = call.parameters.text_or_none(client_id_name)
    ledger = call.exchange.ledger
    if order_id is None and cl_ord_id is None:
        raise BinanceError(
            -1102,
            f"Param '{client_id_name}' or '{order_id_name}' must be sent, "
            "but both were empty/null!",
        )
    if order_id is not None:
        order = ledger.orders.get(order_id)
    else:
        order = ledger.by_cl_ord_id(call.account, symbol, cl_ord_id or "")
    fits = (
        order is not None
        and order.account == call.account
        and order.symbol == symbol
        and cl_ord_id in (None, order.cl_ord_id)
    )
    if order is None or not fits:
        raise missing
    return order


def open_orders(call: Call, symbol: str | None) -> list[Order]:
    orders = call.exchange.ledger.open.get(call.account, {}).values()
    return [order for order in orders if symbol in (None, order.symbol)]


def all_orders(call: Call, symbol: str) -> Iterable[Order]:
    """Accepted ones of the account, the oldest first, within the times that the call names."""
    return (
        order
        for order in call.exchange.ledger.orders.values()
        if order.account == call.account
        and order.symbol == symbol
        and within(call, order.accepted_ns)
    )


def within(call: Call, at_ns: int) -> bool:
    """Whether a time lies between `startTime` and `endTime` of the call, as far as it has them."""
    start = call.parameters.integer_or_none("startTime")
    end = call.parameters.integer_or_none("endTime")
    at_ms = at_ns // 1_000_000
    return (start is None or at_ms >= start) and (end is None or at_ms <= end)


def page(call: Call, items: Sequence[T], from_the_start: bool) -> Sequence[T]:
    """Binance gives the oldest ones when asked from an id or a time on, else the newest."""
    limit = call.parameters.limit(500, 1000)
    if from_the_start or call.parameters.has("startTime"):
        return items[:limit]
    return items[-limit:]
