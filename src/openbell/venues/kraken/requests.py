"""A new order in the words of Kraken's AddOrder. Pure.

Source: https://docs.kraken.com, "Add Order".
"""

from __future__ import annotations

from datetime import UTC, datetime

from openbell.domain.orders import NewOrder, OrdType, TimeInForce
from openbell.venues.kraken import wire
from openbell.venues.kraken.ids import to_kraken

DEADLINE_MIN_S, DEADLINE_MAX_S = 3.0, 59.0
"""Kraken says 2 to 60 s from now; the second less on each side is for the whole seconds in which it
tells its time."""


def order_params(order: NewOrder, deadline: str) -> dict[str, str | int] | str:
    """The parameters of a new order, or what is wrong with it."""
    cl_ord_id = to_kraken(order.cl_ord_id)
    if cl_ord_id is None:
        return "Kraken takes no such client order id"
    flags = ["post"] if order.post_only else []
    params: dict[str, str | int] = {
        "pair": wire.altname(order.symbol),
        "type": order.side.value.lower(),
        "ordertype": order.ord_type.value.lower(),
        "volume": wire.plain(order.order_qty),
        "cl_ord_id": cl_ord_id,
        # Fees in the quote currency, so that what is bought is what is held.
        "oflags": ",".join([*flags, "fciq"]),
        "deadline": deadline,
    }
    if order.ord_type is OrdType.MARKET:
        if order.price is not None or order.post_only:
            return "a market order takes neither a price nor post-only"
        return params
    if order.ord_type is not OrdType.LIMIT:
        return f"{order.ord_type} is not sent"
    if order.price is None:
        return "a limit order needs a price"
    if order.time_in_force is TimeInForce.FOK:
        return "Kraken has no fill-or-kill"
    if order.post_only and order.time_in_force is not TimeInForce.GTC:
        return f"post-only and {order.time_in_force} exclude each other"
    return {
        **params,
        "price": wire.plain(order.price),
        "timeinforce": order.time_in_force.value,
    }


def deadline(venue_ms: int, timeout_s: float) -> str:
    """No later than our own time-out, as far as Kraken allows: a request that is still on its way
    when we have given it up is refused, so what asking finds afterwards stays true."""
    ahead_s = min(max(timeout_s, DEADLINE_MIN_S), DEADLINE_MAX_S)
    moment = datetime.fromtimestamp((venue_ms + int(ahead_s * 1000)) / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
