"""What the exchange knows, in the shapes of Kraken's REST API. Amounts are text, times are seconds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal

import msgspec

from openbell.domain.orders import OrdStatus, OrdType, Side
from openbell_sim.account import ZERO
from openbell_sim.exchange import Exchange
from openbell_sim.faces.kraken import ids
from openbell_sim.faces.kraken.pairs import Pair
from openbell_sim.faces.kraken.words import TYPE_NAMES, client_id, note_of
from openbell_sim.ledger import Order, OwnFill

Json = dict[str, object]

_STATUS = {
    OrdStatus.NEW: "open",
    OrdStatus.PARTIALLY_FILLED: "open",
    OrdStatus.FILLED: "closed",
    # Kraken calls expired what had a time of expiry; what its engine ends is cancelled.
    OrdStatus.CANCELED: "canceled",
    OrdStatus.EXPIRED: "canceled",
}
_REASONS = {
    "": "User requested",
    "dead_man": "Cancel all orders after timeout",
    "time_in_force": "IOC order unmatched",
    "no_liquidity": "Insufficient liquidity",
    "self_trade_prevention": "Self trade prevention",
}
NO_POSITION = "TKH2SE-M7IF5-CFI7LT"
"""Stands where a margin position would."""


def fixed(amount: Decimal, decimals: int) -> str:
    """Cut, with so many decimals."""
    return format(amount.quantize(_step(decimals), ROUND_DOWN), "f")


@functools.cache
def _step(decimals: int) -> Decimal:
    return Decimal(1).scaleb(-decimals)


def number(amount: Decimal, decimals: int) -> msgspec.Raw:
    """A JSON number with so many decimals, trailing zeros included: Kraken's checksums need them."""
    return msgspec.Raw(fixed(amount, decimals).encode())


def seconds(at_ns: int) -> msgspec.Raw:
    """A Unix timestamp as a JSON number, in microseconds."""
    return msgspec.Raw(f"{at_ns // 10**9}.{at_ns // 1000 % 10**6:06}".encode())


def rfc3339(at_ns: int) -> str:
    moment = datetime.fromtimestamp(at_ns // 10**9, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ns // 1000 % 10**6:06}Z"


def to_the_second(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%SZ}"


def fee_in_quote(fill: OwnFill, pair: Pair) -> Decimal:
    """REST states every fee in the quote currency."""
    if fill.fee_currency == pair.base.altname:
        return fill.fee * fill.price
    return fill.fee


def reason(order: Order) -> str | None:
    if order.status in (OrdStatus.CANCELED, OrdStatus.EXPIRED):
        return _REASONS.get(order.reason, order.reason)
    return None


def type_name(order: Order) -> str:
    return TYPE_NAMES[order.ord_type]


def description(order: Order, pair: Pair) -> str:
    """`buy 0.10000000 XBTUSD @ limit 40000.0`: clients read it."""
    qty = order.order_qty if order.quote_qty is None else order.quote_qty
    return describe(
        pair, order.side, order.ord_type, qty, price=order.price, stop_price=order.stop_price
    )


def describe(
    pair: Pair,
    side: Side,
    ord_type: OrdType,
    qty: Decimal,
    *,
    price: Decimal | None,
    stop_price: Decimal | None,
) -> str:
    head = f"{side.value.lower()} {fixed(qty, pair.lot_decimals)} {pair.altname} @"
    limit = "" if price is None else fixed(price, pair.price_decimals)
    stop = "" if stop_price is None else fixed(stop_price, pair.price_decimals)
    match ord_type:
        case OrdType.MARKET:
            return f"{head} market"
        case OrdType.LIMIT:
            return f"{head} limit {limit}"
        case OrdType.STOP:
            return f"{head} stop loss {stop}"
        case OrdType.STOP_LIMIT:
            return f"{head} stop loss {stop} -> limit {limit}"


def order(
    exchange: Exchange, found: Order, pair: Pair, fills: Sequence[OwnFill] | None = None
) -> Json:
    """`fills`: their identifiers are told too."""
    note = note_of(found)
    own = exchange.ledger.fills_of(found.order_id)
    average = found.cum_quote / found.cum_qty if found.cum_qty else ZERO
    triggered = found.ord_type in (OrdType.STOP, OrdType.STOP_LIMIT)
    first, second = (found.stop_price, found.price) if triggered else (found.price, None)
    decimals = pair.price_decimals
    body: Json = {
        "refid": None,
        "userref": note.userref,
        "cl_ord_id": client_id(found),
        "status": _STATUS[found.status],
        "opentm": seconds(found.accepted_ns),
        "starttm": 0,
        "expiretm": 0,
        "descr": {
            "pair": pair.altname,
            "type": found.side.value.lower(),
            "ordertype": type_name(found),
            "price": fixed(first, decimals) if first is not None else "0",
            "price2": fixed(second, decimals) if second is not None else "0",
            "leverage": "none",
            "order": description(found, pair),
            "close": "",
        },
        "vol": fixed(found.order_qty, pair.lot_decimals),
        "vol_exec": fixed(found.cum_qty, pair.lot_decimals),
        "cost": fixed(found.cum_quote, 5),
        "fee": fixed(sum((fee_in_quote(fill, pair) for fill in own), ZERO), 5),
        "price": fixed(average, max(5, decimals)),
        "stopprice": fixed(found.stop_price or ZERO, 5),
        "limitprice": fixed(ZERO, 5),
        "misc": "stopped" if found.triggered else "",
        "oflags": note.oflags,
    }
    if triggered:
        body["trigger"] = "last"
    if found.status.is_final:
        body["closetm"] = seconds(found.updated_ns)
        body["reason"] = reason(found)
    if fills is not None:
        body["trades"] = [trade_id(fill) for fill in fills]
    return body


def trade_id(fill: OwnFill) -> str:
    return ids.trade_txid(fill.symbol, fill.exec_id, fill.order_id)


def own_trade(fill: OwnFill, pair: Pair, ord_type: OrdType) -> Json:
    return {
        "ordertxid": ids.order_txid(fill.order_id),
        "postxid": NO_POSITION,
        "pair": pair.id,
        "time": seconds(fill.at_ns),
        "type": fill.side.value.lower(),
        "ordertype": TYPE_NAMES[ord_type],
        "price": fixed(fill.price, max(5, pair.price_decimals)),
        "cost": fixed(fill.quote_qty, 10),
        "fee": fixed(fee_in_quote(fill, pair), 10),
        "vol": fixed(fill.qty, pair.lot_decimals),
        "margin": "0.00000",
        "leverage": "0",
        "misc": "",
        "trade_id": fill.exec_id,
        "maker": fill.is_maker,
    }
