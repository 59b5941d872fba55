"""New orders in OANDA's words. Pure.

Source: "Order Definitions": MarketOrderRequest, LimitOrderRequest.
"""

from __future__ import annotations

from openbell.domain.orders import NewOrder, OrdType, Purpose, TimeInForce
from openbell.venues.oanda import wire


def order_facts(order: NewOrder) -> dict[str, object] | str:
    """A new order in OANDA's words, or what is wrong with it."""
    if order.post_only:
        return "OANDA has no post-only orders"
    facts: dict[str, object] = {
        "instrument": wire.instrument_of(order.symbol),
        "units": wire.plain(order.order_qty * order.side.sign),
        # Said always: without it a hedging account would open a second position.
        "positionFill": "REDUCE_ONLY" if order.purpose is Purpose.FLATTEN else "REDUCE_FIRST",
        "clientExtensions": {"id": order.cl_ord_id},
    }
    in_force = order.time_in_force
    if order.ord_type is OrdType.MARKET:
        if order.price is not None:
            return "a market order takes no price"
        # One that may rest is not offered: what cannot be filled at once is cancelled.
        at_once = TimeInForce.FOK if in_force is TimeInForce.FOK else TimeInForce.IOC
        return {**facts, "type": "MARKET", "timeInForce": at_once.value}
    if order.ord_type is not OrdType.LIMIT:
        return f"{order.ord_type} orders are not sent"
    if order.price is None:
        return "a limit order needs a price"
    price = wire.plain(order.price)
    if in_force is TimeInForce.GTC:
        return {**facts, "type": "LIMIT", "timeInForce": "GTC", "price": price}
    # OANDA documents IOC and FOK for market orders, which take a worst price.
    return {**facts, "type": "MARKET", "timeInForce": in_force.value, "priceBound": price}
