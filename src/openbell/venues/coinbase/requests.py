"""What is sent to change something, and how its answer is read. Pure.

Source: "Create Order" and "Cancel Orders" of the API reference.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from openbell.domain.orders import NewOrder, OrdType, TimeInForce
from openbell.venues.coinbase import wire
from openbell.venues.port import Accepted, CancelOutcome, Rejected, Unknown


def new_order(order: NewOrder) -> dict[str, object] | str:
    """The body of a submit, or what is wrong with the order."""
    configuration = _configuration(order)
    if isinstance(configuration, str):
        return configuration
    return {
        "client_order_id": order.cl_ord_id,
        "product_id": wire.product_id(order.symbol),
        "side": order.side.value,
        "order_configuration": configuration,
    }


def _configuration(order: NewOrder) -> dict[str, object] | str:
    size = wire.plain(order.order_qty)
    if order.ord_type is OrdType.MARKET:
        if order.price is not None or order.post_only:
            return "a market order takes neither a price nor post-only"
        return {"market_market_ioc": {"base_size": size}}
    if order.ord_type is not OrdType.LIMIT:
        return f"{order.ord_type} orders are not sent"
    if order.price is None:
        return "a limit order needs a price"
    limit: dict[str, object] = {"base_size": size, "limit_price": wire.plain(order.price)}
    match order.time_in_force:
        case TimeInForce.GTC:
            return {"limit_limit_gtc": {**limit, "post_only": order.post_only}}
        case _ if order.post_only:
            return f"post-only and {order.time_in_force} exclude each other"
        case TimeInForce.IOC:
            return {"sor_limit_ioc": limit}
        case TimeInForce.FOK:
            return {"limit_limit_fok": limit}


def placed(order: NewOrder) -> Callable[[bytes], str]:
    """Reads the answer to a submit. An order of another ClOrdID is no answer to this one."""

    def read(body: bytes) -> str:
        answer = msgspec.json.decode(body, type=wire.Placed).success_response
        if answer.client_order_id not in ("", order.cl_ord_id) or not answer.order_id:
            raise ValueError("an answer about another order")
        return answer.order_id

    return read


def cancelled(venue_order_id: str, result: wire.CancelResult | None) -> CancelOutcome:
    if result is None:
        return Unknown(why="the answer does not tell of this order")
    if result.success:
        return Accepted(venue_order_id=venue_order_id)
    if result.failure_reason in ("", "UNKNOWN_CANCEL_FAILURE_REASON"):
        return Unknown(why="not cancelled, for no reason given")
    return Rejected(code=result.failure_reason, text=f"not cancelled: {result.failure_reason}")
