"""What is asked and changes nothing: each function is one GET of `/trade`, and gives its `d`."""

from __future__ import annotations

from openbell_sim.faces.tradelocker import columns, errors, render
from openbell_sim.faces.tradelocker.call import ACC_NUM, Call, account_id
from openbell_sim.faces.tradelocker.markets import HOME, INFO_ROUTE, TRADE_ROUTE, listing
from openbell_sim.faces.tradelocker.render import Json
from openbell_sim.ledger import Order
from openbell_sim.listing import shown
from openbell_sim.tape import DAY_NS, MINUTE_NS, Bar

_DEPTH = 10
"""Price levels of each side."""
_MINUTES = {
    "1m": 1, "5m": 5, "15m": 15, "30m": 30, "1H": 60, "4H": 240, "1D": 1440, "1W": 7 * 1440,
    "1M": 30 * 1440,
}  # fmt: skip
NO_DATA = "no_data"


def config(call: Call) -> Json:
    return columns.config(call.limits.told())


def accounts(call: Call) -> list[Json]:
    return [
        {
            "id": account_id(call.account),
            "name": f"SIM#{call.account}",
            "type": "demo",
            "currency": HOME,
            "status": "ACTIVE",
            "accNum": ACC_NUM,
            "tradingRules": {
                "supportBrackets": True,
                "supportPartialClosePosition": True,
                "supportTrailingStop": False,
            },
            "riskRules": {"maxOrderCount": call.exchange.max_open_orders},
        }
    ]


def instruments(call: Call) -> Json:
    items = call.exchange.instruments.values()
    return {"instruments": [render.instrument(item) for item in items]}


def instrument(call: Call) -> Json:
    item = call.instrument(call.number("instrument", of=call.parts))
    if call.number("routeId") not in (INFO_ROUTE, TRADE_ROUTE):
        raise errors.malformed("routeId is no route of this instrument")
    return render.instrument_details(item, call.exchange.session(item.symbol))


def session(call: Call) -> Json:
    """There is one, and it never pauses: what a calendar closes is told by its status."""
    return {
        "id": call.number("session", of=call.parts),
        "name": "Always open",
        "timeZone": "UTC",
        "isContinuous": True,
        "holidays": [],
    }


def session_status(call: Call) -> Json:
    wanted = call.number("status", of=call.parts)
    for status, _, operations in render.SESSIONS.values():
        if status == wanted:
            return {"allowedOperations": operations, "allowedOrderTypes": render.ORDER_TYPES}
    raise errors.not_found("Session status")


# The account.


def state(call: Call) -> Json:
    positions = len(call.book.positions(call.account))
    return {"accountDetailsData": render.state(call.exchange, call.account, positions)}


def orders(call: Call) -> Json:
    found = call.exchange.ledger.open.get(call.account, {}).values()
    chosen = [order for order in found if _asked_for(call, order)]
    return {"orders": [render.order(order, call.book) for order in shown(chosen)]}


def orders_history(call: Call) -> Json:
    """Newest first. An order that the venue lost is told to nobody."""
    ended = [
        order
        for order in call.exchange.ledger.orders.values()
        if order.account == call.account
        and not order.is_open
        and order.reason != "dropped"
        and _asked_for(call, order)
    ]
    page = shown(ended[: -columns.HISTORY_MAX - 1 : -1])
    return {
        "ordersHistory": [render.order(order, call.book) for order in page],
        "hasMore": len(ended) > columns.HISTORY_MAX,
    }


def _asked_for(call: Call, order: Order) -> bool:
    """`from` and `to` are of the order's creation, both included; TradeLocker does not say more
    than "the interval"."""
    symbol = call.filtered()
    begin, end = call.number("from"), call.number("to")
    created = render.ms(order.accepted_ns)
    return (
        symbol in (None, order.symbol)
        and (begin is None or begin <= created)
        and (end is None or created <= end)
    )


def positions(call: Call) -> Json:
    hanging = call.book.hanging(call.account)
    return {
        "positions": [
            render.position(held, call.exchange.markets[held.symbol], hanging)
            for held in shown(call.book.positions(call.account))
        ]
    }


def executions(call: Call) -> Json:
    """Of the current session, which began with the order log."""
    fills = [fill for fill in call.exchange.ledger.fills if fill.account == call.account]
    return {"executions": [render.execution(fill, call.book) for fill in shown(fills)]}


# The market.


def quotes(call: Call) -> Json | str:
    item = call.quoted()
    book, said = call.exchange.markets[item.symbol].book, listing(item.symbol)
    bid, ask = book.bids.best, book.asks.best
    if bid is None or ask is None:
        return NO_DATA
    return {
        "ap": item.price(ask),
        "bp": item.price(bid),
        "as": said.lots(item.quantity(book.asks.total(ask))),
        "bs": said.lots(item.quantity(book.bids.total(bid))),
    }


def depth(call: Call) -> Json:
    item = call.quoted()
    book, said = call.exchange.markets[item.symbol].book, listing(item.symbol)
    return {
        name: [
            [item.price(ticks), said.lots(item.quantity(quantity))]
            for ticks, quantity in side.top(_DEPTH)
        ]
        for name, side in (("asks", book.asks), ("bids", book.bids))
    }


def history(call: Call) -> Json | str:
    """Bars of trades; TradeLocker's are of bids."""
    item = call.quoted()
    minutes = _MINUTES.get(call.query.get("resolution", ""))
    begin, end = call.number("from"), call.number("to")
    if minutes is None or begin is None or end is None or begin > end:
        raise errors.malformed("resolution, from and to are needed")
    bars = [
        bar
        for bar in call.exchange.markets[item.symbol].tape.bars(minutes * MINUTE_NS)
        if begin <= render.ms(bar.open_ns) <= end
    ]
    if not bars:
        return NO_DATA
    return {"barDetails": [{"t": render.ms(bar.open_ns), **_prices(bar)} for bar in shown(bars)]}


def daily_bar(call: Call) -> Json | str:
    if call.query.get("barType") not in ("BID", "ASK", "TRADE"):
        raise errors.malformed("barType is BID, ASK or TRADE")
    item = call.quoted()
    bars = list(call.exchange.markets[item.symbol].tape.bars(DAY_NS))
    return NO_DATA if not bars else _prices(bars[-1])


def _prices(bar: Bar) -> Json:
    return {"o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close, "v": bar.volume}
