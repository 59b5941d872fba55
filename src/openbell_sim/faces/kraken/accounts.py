"""Calls of an account over REST."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from openbell_sim.account import ZERO
from openbell_sim.faces.kraken import ids, orders, render, words
from openbell_sim.faces.kraken.errors import UNKNOWN_PAIR, KrakenError, invalid
from openbell_sim.faces.kraken.orders import Call
from openbell_sim.faces.kraken.pairs import Asset, Pair
from openbell_sim.faces.kraken.render import Json, fixed
from openbell_sim.ledger import Order, OwnFill
from openbell_sim.listing import shown

T = TypeVar("T")
PAGE = 50
QUERY_MAX = 50
TOKEN_LIFE_S = 900


@dataclass(frozen=True)
class Token:
    """Opens private streams; to be used within a quarter of an hour."""

    key: str
    account: str
    made_ns: int


class Tokens:
    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}

    def make(self, call: Call) -> Json:
        token = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        now_ns = call.exchange.now_ns()
        self._tokens[token] = Token(call.credentials.key, call.account, now_ns)
        return {"token": token, "expires": TOKEN_LIFE_S}

    def find(self, token: str) -> Token | None:
        return self._tokens.get(token)


# Money.


def balance(call: Call) -> Json:
    holder = call.exchange.ledger.account(call.account)
    return {
        asset.id: fixed(entry.total, asset.decimals)
        for name, entry in sorted(holder.balances.items())
        for asset in (Asset(name),)
    }


def balance_ex(call: Call) -> Json:
    holder = call.exchange.ledger.account(call.account)
    return {
        asset.id: {
            "balance": fixed(entry.total, asset.decimals),
            "hold_trade": fixed(entry.locked, asset.decimals),
        }
        for name, entry in sorted(holder.balances.items())
        for asset in (Asset(name),)
    }


def trade_balance(call: Call) -> Json:
    """Everything in US dollars, as far as a pair tells a price."""
    total = ZERO
    for name, entry in call.exchange.ledger.account(call.account).balances.items():
        market = call.exchange.markets.get(f"{name}USD")
        price = Decimal(1) if name == "USD" else market.mark() if market is not None else None
        total += entry.total * (price or ZERO)
    worth = fixed(total, 4)
    none = fixed(ZERO, 4)
    return {
        "eb": worth,
        "tb": worth,
        "m": none,
        "n": none,
        "c": none,
        "v": none,
        "e": worth,
        "mf": worth,
    }


def trade_volume(call: Call) -> Json:
    fees = call.exchange.fees
    traded = sum(
        (fill.quote_qty for fill in call.exchange.ledger.fills if fill.account == call.account),
        ZERO,
    )
    wanted = [_pair(call, name) for name in call.parameters.texts("pair")]

    def schedule(rate: Decimal) -> Json:
        percent = fixed(rate * 100, 4)
        return {
            pair.id: {
                "fee": percent,
                "minfee": percent,
                "maxfee": percent,
                "nextfee": None,
                "nextvolume": None,
                "tiervolume": fixed(ZERO, 4),
            }
            for pair in wanted
        }

    body: Json = {"currency": "ZUSD", "volume": fixed(traded, 4)}
    if wanted:
        body |= {"fees": schedule(fees.taker), "fees_maker": schedule(fees.maker)}
    return body


def api_key_info(call: Call, last_nonce: int) -> Json:
    may_trade = ["modify-trades"] if call.credentials.may_trade else []
    return {
        "apiKeyName": call.account,
        "apiKey": call.credentials.key,
        "nonce": str(last_nonce),
        "nonceWindow": 0,
        "permissions": [
            "query-funds",
            "query-open-trades",
            "query-closed-trades",
            *may_trade,
            "close-trades",
            "create-ws-token",
        ],
        "iban": f"SIM {call.account.upper()}",
        "validUntil": "0",
        "queryFrom": "0",
        "queryTo": "0",
        "createdTime": "0",
        "modifiedTime": "0",
        "ipAllowlist": [],
        "lastUsed": None,
    }


# Orders.


def _new_order(call: Call) -> words.NewOrder:
    try:
        return words.from_rest(
            call.parameters,
            call.desk.pairs,
            call.account,
            call.received_ns,
            call.exchange.now_ns(),
        )
    except KrakenError as error:
        orders.record_unreadable(call, call.parameters, error)


def _describe(new: words.NewOrder) -> Json:
    request = new.request
    text = render.describe(
        new.pair,
        request.side,
        request.ord_type,
        request.qty or request.quote_qty or ZERO,
        price=request.price,
        stop_price=request.stop_price,
    )
    return {"order": text}


def add_order(call: Call) -> Json:
    if call.parameters.flag("validate"):
        new = words.from_rest(
            call.parameters,
            call.desk.pairs,
            call.account,
            call.received_ns,
            call.exchange.now_ns(),
        )
        orders.validate(call, new)
        return {"descr": _describe(new)}
    new = _new_order(call)
    placed = orders.place(call, new)
    return {"descr": _describe(new), "txid": [ids.order_txid(placed.order_id)]}


def add_order_batch(call: Call) -> Json:
    p = call.parameters
    each = [inner.with_values({"pair": p.text("pair")}) for inner in p.inners("orders")]
    read = [
        words.from_rest(
            one, call.desk.pairs, call.account, call.received_ns, call.exchange.now_ns()
        )
        for one in each
    ]
    if p.flag("validate"):
        for new in read:
            orders.validate(call, new)
        return {"orders": [{"descr": _describe(new)} for new in read]}
    results: list[Json] = []
    for new, result in zip(read, orders.place_batch(call, read), strict=True):
        if isinstance(result, KrakenError):
            results.append({"error": result.message})
        else:
            results.append({"txid": ids.order_txid(result.order_id), "descr": _describe(new)})
    return {"orders": results}


def amend_order(call: Call) -> Json:
    _, amend_id = orders.amend(call, "txid")
    return {"amend_id": amend_id}


def edit_order(call: Call) -> Json:
    edited = orders.edit(call, "txid", "volume", "price")
    new, old = edited.order, edited.replaced
    note = words.note_of(new)
    return {
        "status": "ok",
        "txid": ids.order_txid(new.order_id),
        "originaltxid": ids.order_txid(old.order_id),
        "volume": fixed(new.order_qty, edited.pair.lot_decimals),
        "price": fixed(new.price or ZERO, edited.pair.price_decimals),
        "orders_cancelled": 1,
        "olduserref": note.userref,
        "newuserref": note.userref,
        "descr": {"order": render.description(new, edited.pair)},
    }


def cancel_order(call: Call) -> Json:
    p = call.parameters
    if p.has("cl_ord_id"):
        found = [orders.by_client_id(call, p.text("cl_ord_id"))]
    else:
        found = orders.named(call, p.text("txid"))
    return {"count": orders.cancel(call, found)}


def cancel_order_batch(call: Call) -> Json:
    p = call.parameters
    return {"count": orders.cancel_batch(call, p.texts("orders"), p.texts("cl_ord_ids"))}


def cancel_all(call: Call) -> Json:
    return {"count": orders.cancel_all(call)}


def cancel_all_after(call: Call) -> Json:
    timeout_s = call.parameters.integer("timeout")
    if not 0 <= timeout_s <= orders.DEAD_MAN_MAX_S:
        raise invalid("timeout")
    expires_ns = call.exchange.arm_dead_man(call.account, None, timeout_s)
    return {
        "currentTime": render.to_the_second(call.exchange.now_ns()),
        "triggerTime": render.to_the_second(expires_ns) if timeout_s else "0",
    }


def open_orders(call: Call) -> Json:
    ledger = call.exchange.ledger
    found = [order for order in ledger.open.get(call.account, {}).values() if _wanted(call, order)]
    return {"open": _orders(call, shown(found))}


def closed_orders(call: Call) -> Json:
    """The newest first."""
    p = call.parameters
    start, end, which = p.seconds("start"), p.seconds("end"), p.text_or_none("closetime") or "both"
    if which not in ("open", "close", "both"):
        raise invalid("closetime")

    def within(order: Order) -> bool:
        times = {"open": [order.accepted_ns], "close": [order.updated_ns]}.get(
            which, [order.accepted_ns, order.updated_ns]
        )
        return any(_within(at_ns, start, end) for at_ns in times)

    found = [
        order
        for order in call.exchange.ledger.orders.values()
        if order.account == call.account
        and not order.is_open
        and _wanted(call, order)
        and within(order)
    ]
    found.sort(key=lambda order: order.updated_ns, reverse=True)
    body: Json = {"closed": _orders(call, shown(_page(call, found)))}
    if not p.flag("without_count"):
        body["count"] = len(found)
    return body


def query_orders(call: Call) -> Json:
    """Those that there are; Kraken names no missing one."""
    found = [order for order in _by_txids(call) if _wanted(call, order)]
    return _orders(call, shown(found))


def _by_txids(call: Call) -> list[Order]:
    names = call.parameters.texts("txid")
    if not 0 < len(names) <= QUERY_MAX:
        raise invalid()
    ledger = call.exchange.ledger
    numbers = [ids.order_id_of(name) for name in names]
    if None in numbers:
        raise KrakenError("EOrder:Invalid order")
    found = [ledger.orders.get(number) for number in numbers if number is not None]
    return [order for order in found if order is not None and order.account == call.account]


def _wanted(call: Call, order: Order) -> bool:
    p = call.parameters
    if p.has("cl_ord_id") and words.client_id(order) != p.text("cl_ord_id"):
        return False
    return not p.has("userref") or words.note_of(order).userref == p.integer("userref")


def _orders(call: Call, found: Sequence[Order]) -> Json:
    exchange, with_trades = call.exchange, call.parameters.flag("trades")
    return {
        ids.order_txid(order.order_id): render.order(
            exchange,
            order,
            call.desk.pairs.by_symbol[order.symbol],
            exchange.ledger.fills_of(order.order_id) if with_trades else None,
        )
        for order in found
    }


# Executions.


def trades_history(call: Call) -> Json:
    """The newest first."""
    p = call.parameters
    start, end = p.seconds("start"), p.seconds("end")
    found = [
        fill
        for fill in reversed(call.exchange.ledger.fills)
        if fill.account == call.account and _within(fill.at_ns, start, end)
    ]
    return {"trades": _trades(call, shown(_page(call, found))), "count": len(found)}


def query_trades(call: Call) -> Json:
    names = set(call.parameters.texts("txid"))
    if not 0 < len(names) <= QUERY_MAX:
        raise invalid()
    found = [
        fill
        for fill in call.exchange.ledger.fills
        if fill.account == call.account and render.trade_id(fill) in names
    ]
    return _trades(call, shown(found))


def _trades(call: Call, found: Sequence[OwnFill]) -> Json:
    ledger = call.exchange.ledger
    return {
        render.trade_id(fill): render.own_trade(
            fill, call.desk.pairs.by_symbol[fill.symbol], ledger.orders[fill.order_id].ord_type
        )
        for fill in found
    }


def _page(call: Call, found: Sequence[T]) -> Sequence[T]:
    offset = call.parameters.integer("ofs", 0)
    if offset < 0:
        raise invalid("ofs")
    return found[offset : offset + PAGE]


def _within(at_ns: int, start: Decimal | None, end: Decimal | None) -> bool:
    """Kraken's start is exclusive, its end inclusive; times count as they are told."""
    at_s = Decimal(at_ns // 1000) / 10**6
    return (start is None or at_s > start) and (end is None or at_s <= end)


def open_positions(call: Call) -> Json:
    """Margin positions; there are none."""
    return {}


def _pair(call: Call, name: str) -> Pair:
    pair = call.desk.pairs.find(name)
    if pair is None:
        raise KrakenError(UNKNOWN_PAIR)
    return pair


PRIVATE: dict[str, Callable[[Call], Json]] = {
    "Balance": balance,
    "BalanceEx": balance_ex,
    "TradeBalance": trade_balance,
    "TradeVolume": trade_volume,
    "OpenOrders": open_orders,
    "ClosedOrders": closed_orders,
    "QueryOrders": query_orders,
    "TradesHistory": trades_history,
    "QueryTrades": query_trades,
    "OpenPositions": open_positions,
    "AddOrder": add_order,
    "AddOrderBatch": add_order_batch,
    "AmendOrder": amend_order,
    "EditOrder": edit_order,
    "CancelOrder": cancel_order,
    "CancelOrderBatch": cancel_order_batch,
    "CancelAll": cancel_all,
    "CancelAllOrdersAfter": cancel_all_after,
}
