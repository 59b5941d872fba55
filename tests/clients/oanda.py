"""oandapyV20 and v20, unmodified: only their hosts are changed. Run in the vendors' environment.

    python oanda.py TALE < {"url": ..., "token": ...}

Prints what TALE saw, as one JSON document.
"""

import json
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import oandapyV20
import v20
from oandapyV20.endpoints import accounts, instruments, orders, positions, pricing, trades
from oandapyV20.endpoints import transactions as transactions_
from oandapyV20.exceptions import StreamTerminated, V20Error

WITHIN_S = 60.0
LIMIT = {"type": "LIMIT", "instrument": "EUR_USD", "units": "100", "price": "1.05000"}
MARKET = {"type": "MARKET", "instrument": "EUR_USD", "units": "1000"}


# The usual client.


class Usual:
    """oandapyV20."""

    def __init__(self, url: str, token: str) -> None:
        oandapyV20.oandapyV20.TRADING_ENVIRONMENTS["sim"] = {"api": url, "stream": url}
        self.api = oandapyV20.API(access_token=token, environment="sim")
        self.account = self.ask(accounts.AccountList())["accounts"][0]["id"]

    def ask(self, request: Any) -> Any:
        return self.api.request(request)

    def order(self, **spec: Any) -> Any:
        return self.ask(orders.OrderCreate(self.account, data={"order": spec}))


def usual_account(given: dict[str, str]) -> dict[str, Any]:
    client = Usual(**given)
    account = client.account
    summary = client.ask(accounts.AccountSummary(account))["account"]
    details = client.ask(accounts.AccountDetails(account))["account"]
    listed = client.ask(
        accounts.AccountInstruments(account, params={"instruments": "EUR_USD,USD_JPY"})
    )["instruments"]
    changes = client.ask(accounts.AccountChanges(account, params={"sinceTransactionID": 1}))
    return {
        "currency": summary["currency"],
        "same": all(details[name] == summary[name] for name in ("id", "balance", "marginUsed")),
        "instruments": [[i["name"], i["displayPrecision"], i["pipLocation"]] for i in listed],
        "changes": changes["changes"]["transactions"][0]["type"],
    }


def usual_orders(given: dict[str, str]) -> dict[str, Any]:
    client = Usual(**given)
    account = client.account
    made = client.order(**LIMIT, clientExtensions={"id": "usual"})
    number = made["orderCreateTransaction"]["id"]
    pending = client.ask(orders.OrdersPending(account))["orders"]
    listed = client.ask(orders.OrderList(account))["orders"]
    details = client.ask(orders.OrderDetails(account, orderID="@usual"))["order"]
    replaced = client.ask(
        orders.OrderReplace(account, orderID=number, data={"order": {**LIMIT, "units": "200"}})
    )
    new = replaced["orderCreateTransaction"]["id"]
    cancelled = client.ask(orders.OrderCancel(account, orderID=new))["orderCancelTransaction"]
    errors = []
    for request in (
        orders.OrderCancel(account, orderID=new),
        orders.OrderDetails(account, orderID="999999"),
        orders.OrderCreate(account, data={"order": {**LIMIT, "price": "1.050001"}}),
    ):
        try:
            client.ask(request)
        except V20Error as error:
            errors.append([error.code, json.loads(error.msg).get("errorCode")])
    return {
        "listed": [number in [o["id"] for o in each] for each in (pending, listed)],
        "details": [details["id"] == number, details["state"], details["price"]],
        "replaces": replaced["orderCreateTransaction"]["replacesOrderID"] == number,
        "cancelled": [cancelled["orderID"] == new, cancelled["reason"]],
        "errors": errors,
    }


def usual_trades(given: dict[str, str]) -> dict[str, Any]:
    client = Usual(**given)
    account = client.account
    filled = client.order(
        **{**MARKET, "instrument": "GBP_USD"},
        takeProfitOnFill={"price": "1.5"},
        stopLossOnFill={"price": "1.0"},
    )["orderFillTransaction"]
    trade = filled["tradeOpened"]["tradeID"]
    details = client.ask(trades.TradeDetails(account, tradeID=trade))["trade"]
    changed = client.ask(
        trades.TradeCRCDO(account, tradeID=trade, data={"stopLoss": {"price": "1.01"}})
    )
    part = client.ask(trades.TradeClose(account, tradeID=trade, data={"units": "400"}))
    listed = client.ask(trades.TradesList(account, params={"instrument": "GBP_USD"}))["trades"]
    held = client.ask(positions.PositionDetails(account, instrument="GBP_USD"))["position"]
    closed = client.ask(
        positions.PositionClose(account, instrument="GBP_USD", data={"longUnits": "ALL"})
    )
    after = client.ask(positions.OpenPositions(account))["positions"]
    every = client.ask(positions.PositionList(account))["positions"]
    pending = client.ask(orders.OrdersPending(account))["orders"]
    return {
        "filled": [filled["units"], filled["reason"], details["currentUnits"], details["state"]],
        "stop": [
            changed["stopLossOrderCancelTransaction"]["reason"],
            changed["stopLossOrderTransaction"]["price"],
        ],
        "reduced": part["orderFillTransaction"]["tradeReduced"]["units"],
        "left": [[each["currentUnits"] for each in listed], held["long"]["units"]],
        "closed": closed["longOrderFillTransaction"]["reason"],
        "after": ["GBP_USD" in [each["instrument"] for each in some] for some in (after, every)],
        "hanging": [each["type"] for each in pending if each.get("tradeID") == trade],
    }


def usual_transactions(given: dict[str, str]) -> dict[str, Any]:
    client = Usual(**given)
    account = client.account
    client.order(**MARKET)
    index = client.ask(transactions_.TransactionList(account, params={"pageSize": 2}))
    last = int(index["lastTransactionID"])
    ranged = client.ask(transactions_.TransactionIDRange(account, params={"from": 1, "to": last}))[
        "transactions"
    ]
    since = client.ask(transactions_.TransactionsSinceID(account, params={"id": last - 1}))
    one = client.ask(transactions_.TransactionDetails(account, transactionID=str(last)))
    return {
        "pages": len(index["pages"]) == -(-last // 2) and index["count"] == last,
        "ids": [int(each["id"]) for each in ranged] == list(range(1, last + 1)),
        "last": since["transactions"] == [one["transaction"]] == [ranged[-1]],
    }


def usual_prices(given: dict[str, str]) -> dict[str, Any]:
    client = Usual(**given)
    account = client.account
    names = {"instruments": "EUR_USD,USD_JPY"}
    prices = client.ask(pricing.PricingInfo(account, params=names))["prices"]
    candles = client.ask(
        instruments.InstrumentsCandles("EUR_USD", params={"granularity": "M1", "count": 5})
    )
    request = pricing.PricingStream(account, params=names)
    heard: dict[str, set[str]] = {}
    try:
        for line in client.ask(request):
            heard.setdefault(line["type"], set()).add(line.get("instrument", ""))
            if len(heard) == 2 and len(heard["PRICE"]) == 2:
                request.terminate("enough")
    except StreamTerminated as error:
        ended = str(error)
    return {
        "prices": [[p["instrument"], p["tradeable"]] for p in prices],
        "candles": candles["instrument"],
        "heard": sorted(heard["PRICE"]),
        "ended": ended,
    }


def usual_stream(given: dict[str, str]) -> dict[str, Any]:
    client = Usual(**given)
    request = transactions_.TransactionsStream(client.account)
    heard = []
    try:
        for line in client.ask(request):
            if line["type"] == "HEARTBEAT":
                if not heard:
                    threading.Thread(target=lambda: Usual(**given).order(**MARKET)).start()
                continue
            heard.append(line["type"])
            if line["type"] == "ORDER_FILL":
                request.terminate("filled")
    except StreamTerminated:
        pass
    return {"heard": heard}


# The official client.


class Official:
    """v20."""

    def __init__(self, url: str, token: str) -> None:
        at = urlsplit(url)
        self.context = v20.Context(
            at.hostname, port=at.port, ssl=False, token=token, poll_timeout=10
        )
        [first, *_] = self.context.account.list().get("accounts", 200)
        self.account = first.id


def official_account(given: dict[str, str]) -> dict[str, Any]:
    client = Official(**given)
    context, account = client.context, client.account
    summary = context.account.summary(account).get("account", 200)
    details = context.account.get(account).get("account", 200)
    listed = context.account.instruments(account, instruments="EUR_USD").get("instruments", 200)
    return {
        "currency": [summary.currency, details.currency],
        "balance": summary.balance > 0 and summary.balance == details.balance,
        "instrument": [listed[0].name, listed[0].displayPrecision, listed[0].marginRate],
    }


def official_orders(given: dict[str, str]) -> dict[str, Any]:
    client = Official(**given)
    context, account = client.context, client.account
    extensions = v20.transaction.ClientExtensions(id="official", tag="t", comment="c")
    made = context.order.limit(
        account, instrument="EUR_USD", units=100, price=1.05, clientExtensions=extensions
    )
    created = made.get("orderCreateTransaction", 201)
    pending = context.order.list_pending(account).get("orders", 200)
    listed = context.order.list(account).get("orders", 200)
    found = context.order.get(account, "@official").get("order", 200)
    moved = context.order.limit_replace(
        account, created.id, instrument="EUR_USD", units=100, price=1.04
    )
    new = moved.get("orderCreateTransaction", 201)
    cancelled = context.order.cancel(account, new.id).get("orderCancelTransaction", 200)
    again = context.order.cancel(account, new.id)
    rejected = context.order.limit(account, instrument="EUR_USD", units=100, price=1.0400001)
    stop = context.order.stop(account, instrument="EUR_USD", units=100, price=1.9)
    touched = context.order.market_if_touched(account, instrument="EUR_USD", units=100, price=1.0)
    kinds = [each.type for each in context.order.list_pending(account).get("orders", 200)]
    for response in (stop, touched):
        number = response.get("orderCreateTransaction", 201).id
        context.order.cancel(account, number).get("orderCancelTransaction", 200)
    return {
        "listed": [created.id in [o.id for o in each] for each in (pending, listed)],
        "found": [found.type, found.state, found.price, found.clientExtensions.tag],
        "moved": [new.price, new.replacesOrderID == created.id],
        "cancelled": cancelled.reason,
        "again": [again.status, again.get("errorCode")],
        "rejected": [rejected.status, rejected.get("orderRejectTransaction").rejectReason],
        "kinds": kinds,
    }


def official_trades(given: dict[str, str]) -> dict[str, Any]:
    client = Official(**given)
    context, account = client.context, client.account
    made = context.order.market(account, instrument="USD_JPY", units=-500, timeInForce="IOC")
    filled = made.get("orderFillTransaction", 201)
    trade = filled.tradeOpened.tradeID
    details = context.trade.get(account, trade).get("trade", 200)
    part = context.trade.close(account, trade, units="200")
    held = context.position.get(account, "USD_JPY").get("position", 200)
    closed = context.position.close(account, "USD_JPY", shortUnits="ALL", longUnits="NONE")
    after = [
        "USD_JPY" in [each.instrument for each in some]
        for some in (
            context.position.list_open(account).get("positions", 200),
            context.trade.list_open(account).get("trades", 200),
        )
    ]
    dead = context.order.market(
        account, instrument="USD_JPY", units=1, priceBound=1, timeInForce="FOK"
    )
    return {
        "filled": [filled.units, details.currentUnits],
        "part": part.get("orderFillTransaction", 200).tradeReduced.units,
        "held": held.short.units,
        "closed": closed.get("shortOrderFillTransaction", 200).reason,
        "after": after,
        "dead": dead.get("orderCancelTransaction", 201).reason,
    }


def official_transactions(given: dict[str, str]) -> dict[str, Any]:
    client = Official(**given)
    context, account = client.context, client.account
    index = context.transaction.list(account, pageSize=1000)
    last = int(index.get("lastTransactionID", 200))
    ranged = context.transaction.range(account, fromID=1, toID=last).get("transactions", 200)
    since = context.transaction.since(account, id=last - 1).get("transactions", 200)
    one = context.transaction.get(account, last).get("transaction", 200)
    return {
        "ids": [int(each.id) for each in ranged] == list(range(1, last + 1)),
        "kinds": [each.type for each in ranged[:2]],
        "last": [int(since[0].id) == last, int(one.id) == last],
    }


def official_streams(given: dict[str, str]) -> dict[str, Any]:
    client = Official(**given)
    context, account = client.context, client.account
    [price] = context.pricing.get(account, instruments="EUR_USD").get("prices", 200)
    heard = {}
    for kind, part in context.pricing.stream(account, instruments="EUR_USD").parts():
        heard[kind] = getattr(part, "instrument", "") or part.type
        if len(heard) == 2:
            break
    kinds = []
    for kind, part in context.transaction.stream(account).parts():
        if kind == "transaction.TransactionHeartbeat":
            if not kinds:
                threading.Thread(target=lambda: _buy(Official(**given))).start()
            continue
        kinds.append(part.type)
        if part.type == "ORDER_FILL":
            break
    return {
        "price": price.asks[0].price > price.bids[0].price > 0,
        "heard": heard,
        "kinds": kinds,
        "unix": _unix(client),
    }


def _buy(client: Official) -> None:
    client.context.order.market(client.account, instrument="EUR_USD", units=100, timeInForce="IOC")


def _unix(client: Official) -> bool:
    """Times as seconds, where they are asked for so."""
    client.context.set_datetime_format_unix()
    summary = client.context.account.summary(client.account).get("account", 200)
    return abs(float(summary.createdTime) - time.time()) < 3600


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](json.load(sys.stdin))))
