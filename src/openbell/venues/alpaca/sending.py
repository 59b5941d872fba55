"""A new order in Alpaca's words. Pure.

Source: reference, "Create an Order"; "Placing Orders" (time in force, fractional orders).
"""

from __future__ import annotations

from openbell.domain.orders import NewOrder, OrdType, Purpose, TimeInForce
from openbell.venues.alpaca.wire import plain

_TIMES_IN_FORCE = {TimeInForce.GTC: "gtc", TimeInForce.IOC: "ioc", TimeInForce.FOK: "fok"}


def order_body(order: NewOrder, symbol: str) -> dict[str, str] | str:
    """What is sent, or what is wrong with the order."""
    if order.post_only:
        return "Alpaca has no post-only orders"
    if order.ord_type not in (OrdType.MARKET, OrdType.LIMIT):
        return f"the desk sends no {order.ord_type} orders"
    time_in_force = _time_in_force(order)
    if time_in_force is None:
        return f"a part of a share is taken in day orders only, not {order.time_in_force}"
    body = {
        "symbol": symbol,
        "qty": plain(order.order_qty),
        "side": order.side.value.lower(),
        "type": order.ord_type.value.lower(),
        "time_in_force": time_in_force,
        "client_order_id": order.cl_ord_id,
    }
    if order.purpose is Purpose.FLATTEN:
        # Alpaca infers from the position what an order would do, and refuses this one where that
        # is not to close.
        body["position_intent"] = f"{order.side.value.lower()}_to_close"
    if order.ord_type is OrdType.MARKET:
        return body if order.price is None else "a market order takes no price"
    if order.price is None:
        return "a limit order needs a price"
    return {**body, "limit_price": plain(order.price)}


def _time_in_force(order: NewOrder) -> str | None:
    """Alpaca's; None where there is none that fits.

    A market order is a day order: it is done at once or, with the market closed, at its opening.
    A part of a share is taken in day orders only ("fractional orders must be DAY orders"), so a
    limit order for one ends with the day.
    """
    is_part = bool(order.order_qty % 1)
    lasts = order.time_in_force is TimeInForce.GTC
    if lasts and (is_part or order.ord_type is OrdType.MARKET):
        return "day"
    return None if is_part else _TIMES_IN_FORCE[order.time_in_force]
