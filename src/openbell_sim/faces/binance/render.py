"""The exchange's facts in Binance's JSON. Money is text with eight digits, times are ms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from openbell.domain.orders import OrdStatus, OrdType, Side
from openbell_sim.account import Account
from openbell_sim.events import Amend, Cancel, Expire, Fill
from openbell_sim.exchange import Market, Report
from openbell_sim.faces.binance.common.klines import INTERVALS_NS
from openbell_sim.faces.binance.common.operation import Json
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import Order, OwnFill
from openbell_sim.matching.side import BookSide
from openbell_sim.tape import Bar, PublicTrade

_TYPE_NAMES = {
    OrdType.LIMIT: "LIMIT",
    OrdType.MARKET: "MARKET",
    OrdType.STOP: "STOP_LOSS",
    OrdType.STOP_LIMIT: "STOP_LOSS_LIMIT",
}


def money(amount: Decimal) -> str:
    return f"{amount:.8f}"


def ms(at_ns: int) -> int:
    return at_ns // 1_000_000


def order_type(order: Order) -> str:
    return "LIMIT_MAKER" if order.post_only else _TYPE_NAMES[order.ord_type]


def order_status(order: Order) -> str:
    if order.status is OrdStatus.EXPIRED and order.reason == "self_trade_prevention":
        return "EXPIRED_IN_MATCH"
    return order.status.value


def _order_facts(order: Order) -> Json:
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "price": money(order.price or Decimal(0)),
        "origQty": money(order.order_qty),
        "executedQty": money(order.cum_qty),
        "origQuoteOrderQty": money(order.quote_qty or Decimal(0)),
        "cummulativeQuoteQty": money(order.cum_quote),
        "status": order_status(order),
        "timeInForce": order.time_in_force.value,
        "type": order_type(order),
        "side": order.side.value,
        "selfTradePreventionMode": order.prevention.value,
    }


def _stop(order: Order) -> Json:
    """Of conditional orders alone."""
    return {} if order.stop_price is None else {"stopPrice": money(order.stop_price)}


def working_ms(order: Order) -> int:
    """When it came into the book, for a stop order: at the latest; -1: it waits for its stop price."""
    if order.waits:
        return -1
    return ms(order.accepted_ns if order.stop_price is None else order.updated_ns)


def order_query(order: Order) -> Json:
    """As `GET /api/v3/order` shows it."""
    return {
        **_order_facts(order),
        "clientOrderId": order.cl_ord_id,
        "stopPrice": money(order.stop_price or Decimal(0)),
        "icebergQty": money(Decimal(0)),
        "time": ms(order.accepted_ns),
        "updateTime": ms(order.updated_ns),
        "isWorking": not order.waits,
        "workingTime": working_ms(order),
    }


def order_placed(order: Order, fills: Iterable[OwnFill], detail: str) -> Json:
    """The reply to a new order; `detail` is its `newOrderRespType`."""
    short: Json = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.cl_ord_id,
        "transactTime": ms(order.updated_ns),
    }
    if detail == "ACK":
        return short
    result = {**short, **_order_facts(order), "workingTime": working_ms(order), **_stop(order)}
    if detail == "FULL":
        result["fills"] = [
            {
                "price": money(fill.price),
                "qty": money(fill.qty),
                "commission": money(fill.fee),
                "commissionAsset": fill.fee_currency,
                "tradeId": fill.exec_id,
            }
            for fill in fills
        ]
    return result


def order_canceled(order: Order) -> Json:
    return {
        **_order_facts(order),
        **_stop(order),
        "origClientOrderId": order.cl_ord_id,
        "clientOrderId": order.cancel_id,
        "transactTime": ms(order.updated_ns),
    }


def order_amended(order: Order, previous_cl_ord_id: str) -> Json:
    """The reply to an amendment. `executionId` numbers it among all that happened to orders; here
    it is the order's own number, since nothing else is asked by it."""
    return {
        "transactTime": ms(order.updated_ns),
        "executionId": order.order_id,
        "amendedOrder": {
            "symbol": order.symbol,
            "orderId": order.order_id,
            "orderListId": -1,
            "origClientOrderId": previous_cl_ord_id,
            "clientOrderId": order.cl_ord_id,
            "price": money(order.price or Decimal(0)),
            "qty": money(order.order_qty),
            "executedQty": money(order.cum_qty),
            "preventedQty": money(Decimal(0)),
            "quoteOrderQty": money(order.quote_qty or Decimal(0)),
            "cumulativeQuoteQty": money(order.cum_quote),
            "status": order_status(order),
            "timeInForce": order.time_in_force.value,
            "type": order_type(order),
            "side": order.side.value,
            **_stop(order),
            "workingTime": working_ms(order),
            "selfTradePreventionMode": order.prevention.value,
        },
    }


def own_trade(fill: OwnFill) -> Json:
    return {
        "symbol": fill.symbol,
        "id": fill.exec_id,
        "orderId": fill.order_id,
        "orderListId": -1,
        "price": money(fill.price),
        "qty": money(fill.qty),
        "quoteQty": money(fill.quote_qty),
        "commission": money(fill.fee),
        "commissionAsset": fill.fee_currency,
        "time": ms(fill.at_ns),
        "isBuyer": fill.side is Side.BUY,
        "isMaker": fill.is_maker,
        "isBestMatch": True,
    }


def balances(account: Account) -> list[Json]:
    return [
        {"asset": currency, "free": money(balance.free), "locked": money(balance.locked)}
        for currency, balance in sorted(account.balances.items())
    ]


def levels(side: BookSide, item: Instrument, count: int) -> list[list[str]]:
    return [[money(item.price(price)), money(item.quantity(qty))] for price, qty in side.top(count)]


def changed_levels(market: Market, side: BookSide, prices: Sequence[int]) -> list[list[str]]:
    """What lies at these prices now; a level that is gone has quantity zero."""
    item = market.instrument
    return [[money(item.price(price)), money(item.quantity(side.total(price)))] for price in prices]


def best(market: Market) -> dict[str, str]:
    """`b`, `B`, `a`, `A` as in a bookTicker event; zeros for an empty side."""
    item, book = market.instrument, market.book
    (bid, bid_qty), (ask, ask_qty) = (
        (side.top(1) or [(0, 0)])[0] for side in (book.bids, book.asks)
    )
    return {
        "b": money(item.price(bid)),
        "B": money(item.quantity(bid_qty)),
        "a": money(item.price(ask)),
        "A": money(item.quantity(ask_qty)),
    }


def public_trade(trade: PublicTrade) -> Json:
    return {
        "id": trade.trade_id,
        "price": money(trade.price),
        "qty": money(trade.qty),
        "quoteQty": money(trade.price * trade.qty),
        "time": ms(trade.at_ns),
        "isBuyerMaker": not trade.aggressor_is_buyer,
        "isBestMatch": True,
    }


def kline(bar: Bar, width_ns: int) -> list[object]:
    return [
        ms(bar.open_ns),
        money(bar.open),
        money(bar.high),
        money(bar.low),
        money(bar.close),
        money(bar.volume),
        ms(bar.open_ns + width_ns) - 1,
        money(bar.quote_volume),
        bar.trades,
        money(bar.taker_buy_volume),
        money(bar.taker_buy_quote_volume),
        "0",
    ]


def kline_event(bar: Bar, interval: str) -> Json:
    """The numbers of a bar as streams have them."""
    return {
        "t": ms(bar.open_ns),
        "T": ms(bar.open_ns + INTERVALS_NS[interval]) - 1,
        "f": bar.first_trade_id,
        "L": bar.last_trade_id,
        "o": money(bar.open),
        "c": money(bar.close),
        "h": money(bar.high),
        "l": money(bar.low),
        "v": money(bar.volume),
        "n": bar.trades,
        "q": money(bar.quote_volume),
        "V": money(bar.taker_buy_volume),
        "Q": money(bar.taker_buy_quote_volume),
        "B": "0",
    }


def day_ticker(market: Market, now_ns: int) -> Json:
    """As `GET /api/v3/ticker/24hr` shows it."""
    day = market.tape.day(now_ns)
    zero = Decimal(0)
    last = market.tape.last
    quotes = best(market)
    opened = day.open if day else market.mark() or zero
    # Before the first trade of a day clients still expect a price.
    close = day.close if day else market.mark() or zero
    change = close - opened
    return {
        "symbol": market.instrument.symbol,
        "priceChange": money(change),
        "priceChangePercent": f"{change / opened * 100 if opened else zero:.3f}",
        "weightedAvgPrice": money(day.quote_volume / day.volume if day else zero),
        "prevClosePrice": money(opened),
        "lastPrice": money(close),
        "lastQty": money(last.qty if last else zero),
        "bidPrice": quotes["b"],
        "bidQty": quotes["B"],
        "askPrice": quotes["a"],
        "askQty": quotes["A"],
        "openPrice": money(opened),
        "highPrice": money(day.high if day else zero),
        "lowPrice": money(day.low if day else zero),
        "volume": money(day.volume if day else zero),
        "quoteVolume": money(day.quote_volume if day else zero),
        "openTime": ms(now_ns) - 86_400_000,
        "closeTime": ms(now_ns),
        "firstId": day.first_trade_id if day else -1,
        "lastId": day.last_trade_id if day else -1,
        "count": day.trades if day else 0,
    }


def execution_report(report: Report, now_ns: int) -> Json:
    """The user data event of one order event."""
    order, fill = report.order, report.fill
    zero = money(Decimal(0))
    match report.event:
        case Fill():
            kind = "TRADE"
        case Cancel():
            kind = "CANCELED"
        case Expire(reason="self_trade_prevention"):
            kind = "TRADE_PREVENTION"
        case Expire():
            kind = "EXPIRED"
        case Amend():
            kind = "REPLACED"
        case _:
            kind = "NEW"
    cancelled = kind == "CANCELED"
    body: Json = {
        "e": "executionReport",
        "E": ms(now_ns),
        "s": order.symbol,
        "c": order.cancel_id if cancelled else order.cl_ord_id,
        "S": order.side.value,
        "o": order_type(order),
        "f": order.time_in_force.value,
        "q": money(order.order_qty),
        "p": money(order.price or Decimal(0)),
        "P": money(order.stop_price or Decimal(0)),
        "F": zero,
        "g": -1,
        "C": order.cl_ord_id if cancelled else "",
        "x": kind,
        "X": order_status(order),
        "r": "NONE",
        "i": order.order_id,
        "l": money(fill.qty) if fill else zero,
        "z": money(order.cum_qty),
        "L": money(fill.price) if fill else zero,
        "n": money(fill.fee) if fill else "0",
        "N": fill.fee_currency if fill else None,
        "T": ms(order.updated_ns),
        "t": fill.exec_id if fill else -1,
        "I": order.order_id,
        "w": order.is_open and not order.waits,
        "m": fill.is_maker if fill else False,
        "M": False,
        "O": ms(order.accepted_ns),
        "Z": money(order.cum_quote),
        "Y": money(fill.quote_qty) if fill else zero,
        "Q": money(order.quote_qty or Decimal(0)),
        "V": order.prevention.value,
    }
    if not order.waits and (order.is_open or fill is not None):
        body["W"] = working_ms(order)
    return body


def account_position(account: Account, currencies: Iterable[str], now_ns: int) -> Json:
    return {
        "e": "outboundAccountPosition",
        "E": ms(now_ns),
        "u": ms(account.updated_ns),
        "B": [
            {
                "a": currency,
                "f": money(account.balance(currency).free),
                "l": money(account.balance(currency).locked),
            }
            for currency in currencies
        ],
    }
