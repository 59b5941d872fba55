"""Calls that only ask: accounts, orders, trades, positions, transactions."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from openbell_sim.faces.oanda import errors, render
from openbell_sim.faces.oanda.accounts import Call
from openbell_sim.faces.oanda.book import (
    ZERO,
    Book,
    Json,
    OandaOrder,
    Trade,
    Transaction,
    user_id,
)
from openbell_sim.faces.oanda.errors import OandaError
from openbell_sim.faces.oanda.markets import HOME, KNOWN, money
from openbell_sim.faces.oanda.times import read_time
from openbell_sim.listing import shown

_COUNT_DEFAULT, _COUNT_MAX = 50, 500
"""Of orders and trades in one answer ("Order Endpoints", "Trade Endpoints")."""
_PAGE_DEFAULT, _PAGE_MAX = 100, 1000
"""Of transactions in one answer ("Transaction Endpoints")."""
_ORDER_FILTER = "ORDER"
"""Of a filter of transactions: everything that concerns orders."""

# Accounts


def accounts(call: Call) -> Json:
    return {"accounts": [{"id": call.book.id, "tags": []}]}


def account(call: Call) -> Json:
    book = call.book
    return call.answer(
        account={
            **_state(call),
            "orders": [_order(call, item) for item in shown(call.pending)],
            "trades": [_trade(call, item) for item in shown(list(book.all_open_trades()))],
            "positions": [_position(call, symbol) for symbol in shown(sorted(book.positions))],
        }
    )


def summary(call: Call) -> Json:
    return call.answer(account=_state(call))


def _state(call: Call) -> Json:
    """What an account's summary says. There are no margin calls here, so what OANDA computes for
    them is told of the plain figures."""
    book, exchange = call.book, call.exchange
    margin = exchange.margin(call.account, HOME)
    value = sum(
        (
            item.value(abs(position.quantity), mark)
            for symbol, position in exchange.positions(call.account)
            for item, mark in ((exchange.instruments[symbol], exchange.markets[symbol].mark()),)
            if mark is not None
        ),
        ZERO,
    )
    share = margin.used / margin.equity if margin.equity > 0 else ZERO
    return {
        "id": book.id,
        "alias": call.account,
        "currency": HOME,
        "createdByUserID": user_id(call.account),
        "createdTime": call.times.write(book.created_ns),
        "hedgingEnabled": False,
        "guaranteedStopLossOrderMode": "DISABLED",
        "balance": money(margin.balance),
        "pl": money(book.realized_total),
        "resettablePL": money(book.realized_total),
        "financing": money(ZERO),
        "commission": money(book.commission),
        "dividendAdjustment": money(ZERO),
        "guaranteedExecutionFees": money(ZERO),
        "marginRate": str(max(item.margin_rate or ZERO for item in KNOWN.values())),
        "openTradeCount": sum(1 for _ in book.all_open_trades()),
        "openPositionCount": len(exchange.positions(call.account)),
        "pendingOrderCount": len(call.pending),
        "unrealizedPL": money(margin.unrealized),
        "NAV": money(margin.equity),
        "marginUsed": money(margin.used),
        "marginAvailable": money(max(ZERO, margin.available)),
        "positionValue": money(value),
        "withdrawalLimit": money(max(ZERO, min(margin.balance, margin.available))),
        "marginCloseoutUnrealizedPL": money(margin.unrealized),
        "marginCloseoutNAV": money(margin.equity),
        "marginCloseoutMarginUsed": money(margin.used),
        "marginCloseoutPercent": f"{share / 2:.5f}",
        "marginCloseoutPositionValue": money(value),
        "marginCallMarginUsed": money(margin.used),
        "marginCallPercent": f"{share:.5f}",
        "lastTransactionID": str(book.last_id),
    }


def instruments(call: Call) -> Json:
    wanted = [name for name in call.query.get("instruments", "").split(",") if name]
    items = [call.instrument(name) for name in wanted] or call.exchange.instruments.values()
    return call.answer(instruments=[render.instrument(item) for item in items])


def changes(call: Call) -> Json:
    """What happened since a transaction, and the state that prices make."""
    book = call.book
    since = _number(call, "sinceTransactionID")
    if since > book.last_id:
        raise errors.invalid("sinceTransactionID")
    new = book.transactions[since:]
    created = [book.orders[item.id] for item in new if item.id in book.orders]
    ended = {
        kind: [book.orders[int(str(item.body["orderID"]))] for item in new if item.kind == kind]
        for kind in ("ORDER_FILL", "ORDER_CANCEL")
    }
    trades = {name: _trades_named(book, new, name) for name in ("tradesClosed", "tradeReduced")}
    touched = {str(item.body["instrument"]) for item in new if item.kind == "ORDER_FILL"}
    state = _state(call)
    return call.answer(
        changes={
            "ordersCreated": [_order(call, item) for item in created],
            "ordersCancelled": [_order(call, item) for item in ended["ORDER_CANCEL"]],
            "ordersFilled": [_order(call, item) for item in ended["ORDER_FILL"]],
            "ordersTriggered": [],
            "tradesOpened": [_trade(call, book.trades[t.id]) for t in new if t.id in book.trades],
            "tradesReduced": [_trade(call, item) for item in trades["tradeReduced"]],
            "tradesClosed": [_trade(call, item) for item in trades["tradesClosed"]],
            "positions": [_position(call, symbol) for symbol in sorted(touched)],
            "transactions": call.written(new),
        },
        state={
            **{k: v for k, v in state.items() if k.startswith("margin") and k != "marginRate"},
            **{k: state[k] for k in ("NAV", "unrealizedPL", "positionValue", "withdrawalLimit")},
            "orders": [],
            "trades": [
                {"id": str(item.id), "unrealizedPL": money(call.accounts.profit_of(item))}
                for item in book.all_open_trades()
            ],
            "positions": [],
        },
    )


def _trades_named(book: Book, new: Sequence[Transaction], name: str) -> list[Trade]:
    found: dict[int, Trade] = {}
    for item in new:
        parts = item.body.get(name) or []
        for part in parts if isinstance(parts, list) else [parts]:
            assert isinstance(part, dict)
            number = int(part["tradeID"])
            found[number] = book.trades[number]
    return list(found.values())


# Orders


def _order(call: Call, item: OandaOrder) -> Json:
    return render.order(item, call.exchange.instruments[item.symbol], call.times)


def orders(call: Call) -> Json:
    """The newest ones, newest first."""
    state = call.query.get("state", "PENDING")
    if state not in ("PENDING", "FILLED", "TRIGGERED", "CANCELLED", "ALL"):
        raise errors.invalid("state")
    ids = {int(n) for n in call.query.get("ids", "").split(",") if n.isdecimal()}
    symbol = call.query.get("instrument")
    below = _number(call, "beforeID", call.book.last_id + 1)
    pool = call.pending if state == "PENDING" else list(call.book.orders.values())
    found = [
        item
        for item in reversed(pool)
        if (state in ("ALL", item.state.value))
        and (not ids or item.id in ids)
        and symbol in (None, item.symbol)
        and item.id < below
    ]
    listed = shown(found[: _count(call, _COUNT_DEFAULT, _COUNT_MAX)])
    return call.answer(orders=[_order(call, item) for item in listed])


def pending_orders(call: Call) -> Json:
    listed = shown(call.pending[::-1])
    return call.answer(orders=[_order(call, item) for item in listed])


def order(call: Call) -> Json:
    found = call.find_order(call.parts["order"])
    if found is None:
        raise errors.no_such("order")
    return call.answer(order=_order(call, found))


# Trades and positions


def _trade(call: Call, item: Trade) -> Json:
    instrument = call.exchange.instruments[item.symbol]
    return render.trade(item, instrument, call.accounts.profit_of, call.times)


def trades(call: Call) -> Json:
    state = call.query.get("state", "OPEN")
    if state not in ("OPEN", "CLOSED", "CLOSE_WHEN_TRADEABLE", "ALL"):
        raise errors.invalid("state")
    ids = {int(n) for n in call.query.get("ids", "").split(",") if n.isdecimal()}
    symbol = call.query.get("instrument")
    below = _number(call, "beforeID", call.book.last_id + 1)
    found = [
        item
        for item in reversed(list(call.book.trades.values()))
        if (state == "ALL" or item.is_open is (state == "OPEN"))
        and (not ids or item.id in ids)
        and symbol in (None, item.symbol)
        and item.id < below
    ]
    listed = shown(found[: _count(call, _COUNT_DEFAULT, _COUNT_MAX)])
    return call.answer(trades=[_trade(call, item) for item in listed])


def open_trades(call: Call) -> Json:
    newest_first = sorted(call.book.all_open_trades(), key=lambda item: -item.id)
    return call.answer(trades=[_trade(call, item) for item in shown(newest_first)])


def trade(call: Call) -> Json:
    found = call.book.find_trade(call.parts["trade"])
    if found is None:
        raise errors.no_such("trade")
    return call.answer(trade=_trade(call, found))


def _position(call: Call, symbol: str) -> Json:
    item = call.exchange.instruments[symbol]
    return render.position(call.book, item, call.accounts.profit_of)


def positions(call: Call) -> Json:
    """Every instrument in which there ever was one."""
    listed = shown(sorted(call.book.positions))
    return call.answer(positions=[_position(call, symbol) for symbol in listed])


def open_positions(call: Call) -> Json:
    held = [symbol for symbol, item in sorted(call.book.positions.items()) if item.quantity]
    return call.answer(positions=[_position(call, symbol) for symbol in shown(held)])


def position(call: Call) -> Json:
    item = call.instrument(call.parts["instrument"])
    if item.symbol not in call.book.positions:
        raise errors.no_such("position")
    return call.answer(position=_position(call, item.symbol))


# Transactions


def transactions(call: Call) -> Json:
    """Not the transactions themselves: links to pages of them."""
    book, times = call.book, call.times
    begin = _time(call, "from", book.created_ns)
    end = _time(call, "to", call.exchange.now_ns())
    size = _count(call, _PAGE_DEFAULT, _PAGE_MAX, "pageSize")
    kinds = _kinds(call)
    found = [t for t in book.transactions if begin <= t.at_ns <= end and _fits(t, kinds)]
    link = f"{call.base_url}/v3/accounts/{book.id}/transactions/idrange?"
    pages = [
        link + urlencode({"from": page[0].id, "to": page[-1].id} | _type_of(call))
        for page in (found[start : start + size] for start in range(0, len(found), size))
    ]
    return call.answer(
        **{"from": times.write(begin), "to": times.write(end)},
        pageSize=size,
        count=len(found),
        pages=pages,
        **({"type": kinds} if kinds else {}),
    )


def transaction(call: Call) -> Json:
    number = call.parts["transaction"]
    items = call.book.transactions
    if not number.isdecimal() or not 0 < int(number) <= len(items):
        raise errors.no_such("transaction")
    return call.answer(transaction=call.written([items[int(number) - 1]])[0])


def transactions_between(call: Call) -> Json:
    first, last = _number(call, "from"), _number(call, "to")
    if not 0 < first <= last or first > call.book.last_id:
        raise OandaError(416, "The requested range is not satisfiable")
    return _listed_transactions(call, call.book.transactions[first - 1 : last])


def transactions_since(call: Call) -> Json:
    since = _number(call, "id")
    if since > call.book.last_id:
        raise OandaError(416, "The requested range is not satisfiable")
    return _listed_transactions(call, call.book.transactions[since:])


def _listed_transactions(call: Call, items: list[Transaction]) -> Json:
    kinds = _kinds(call)
    listed = shown([item for item in items[:_PAGE_MAX] if _fits(item, kinds)])
    return call.answer(transactions=call.written(list(listed)))


def _kinds(call: Call) -> list[str]:
    return [kind for kind in call.query.get("type", "").split(",") if kind]


def _type_of(call: Call) -> dict[str, str]:
    return {"type": call.query["type"]} if call.query.get("type") else {}


def _fits(item: Transaction, kinds: list[str]) -> bool:
    if not kinds or item.kind in kinds:
        return True
    return _ORDER_FILTER in kinds and "_ORDER" in f"_{item.kind}"


# Parameters


def _number(call: Call, name: str, default: int | None = None) -> int:
    text = call.query.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        raise errors.invalid(name)
    return int(text)


def _count(call: Call, default: int, most: int, name: str = "count") -> int:
    count = _number(call, name, default)
    if not 0 < count <= most:
        raise errors.invalid(name)
    return count


def _time(call: Call, name: str, default: int) -> int:
    text = call.query.get(name)
    if text is None:
        return default
    try:
        return read_time(text)
    except ValueError:
        raise errors.invalid(name) from None
