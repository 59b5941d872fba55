"""The exchange's facts in the JSON of the USD-M venue.

Prices and quantities have as many digits as their grid, as Binance writes them; amounts of money
have eight. Times are ms.

A conditional order is told by the Algo Service until it is triggered, and as an order of the
matching engine afterwards (`algo`). Its number is the same in both, which it is not at Binance.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from openbell.domain.orders import OrdStatus, OrdType, Side
from openbell_sim.exchange import Market
from openbell_sim.faces.binance.common.operation import Json
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import Order, OwnFill
from openbell_sim.matching.side import BookSide
from openbell_sim.tape import Bar, PublicTrade

ZERO = Decimal(0)
FUNDING_NS = 8 * 3600 * 1_000_000_000
"""Binance's usual funding interval. Nothing is ever paid here: the rate is zero."""


def ms(at_ns: int) -> int:
    return at_ns // 1_000_000


def money(amount: Decimal) -> str:
    return f"{amount:.8f}"


def on_grid(number: Decimal, step: Decimal) -> str:
    """With as many digits as `step` has."""
    try:
        return format(number.quantize(step), "f")
    except InvalidOperation:  # more digits than Decimal counts with
        return f"{number:.{digits(step)}f}"


def digits(step: Decimal) -> int:
    exponent = step.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


# Orders


def is_conditional(order: Order) -> bool:
    return order.ord_type in (OrdType.STOP, OrdType.STOP_LIMIT)


def algo_type(order: Order) -> str:
    return "STOP_MARKET" if order.ord_type is OrdType.STOP else "STOP"


def order_type(order: Order) -> str:
    """In the matching engine."""
    if is_conditional(order):
        return "MARKET" if order.ord_type is OrdType.STOP else "LIMIT"
    return order.ord_type.value


def original_type(order: Order) -> str:
    return algo_type(order) if is_conditional(order) else order.ord_type.value


def time_in_force(order: Order) -> str:
    return "GTX" if order.post_only else order.time_in_force.value


def order_status(order: Order) -> str:
    if order.status is OrdStatus.EXPIRED and order.reason == "self_trade_prevention":
        return "EXPIRED_IN_MATCH"
    return order.status.value


def average_price(order: Order) -> Decimal:
    return order.cum_quote / order.cum_qty if order.cum_qty else ZERO


def order_facts(order: Order, item: Instrument) -> Json:
    """What every reply about an order has."""
    return {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": order_status(order),
        "clientOrderId": order.cl_ord_id,
        "price": on_grid(order.price or ZERO, item.tick),
        "avgPrice": f"{average_price(order):.5f}",
        "origQty": on_grid(order.order_qty, item.lot),
        "executedQty": on_grid(order.cum_qty, item.lot),
        "cumQuote": money(order.cum_quote),
        "timeInForce": time_in_force(order),
        "type": order_type(order),
        "reduceOnly": order.reduce_only,
        "closePosition": False,
        "side": order.side.value,
        "positionSide": "BOTH",
        "stopPrice": on_grid(order.stop_price or ZERO, item.tick),
        "workingType": "CONTRACT_PRICE",
        "priceMatch": "NONE",
        "selfTradePreventionMode": order.prevention.value,
        "goodTillDate": 0,
        "priceProtect": False,
        "origType": original_type(order),
        "updateTime": ms(order.updated_ns),
    }


def order_query(order: Order, item: Instrument) -> Json:
    return {**order_facts(order, item), "time": ms(order.accepted_ns)}


def order_changed(order: Order, item: Instrument) -> Json:
    """The reply to what placed, changed or cancelled it."""
    return {**order_facts(order, item), "cumQty": on_grid(order.cum_qty, item.lot)}


def order_acknowledged(order: Order, item: Instrument) -> Json:
    """As it was accepted, before anything of it was filled: `newOrderRespType=ACK`."""
    return {
        **order_changed(order, item),
        "status": "NEW",
        "avgPrice": "0.00",
        "executedQty": on_grid(ZERO, item.lot),
        "cumQty": on_grid(ZERO, item.lot),
        "cumQuote": money(ZERO),
        "updateTime": ms(order.accepted_ns),
    }


def own_trade(fill: OwnFill, item: Instrument) -> Json:
    buyer = fill.side is Side.BUY
    return {
        "symbol": fill.symbol,
        "id": fill.exec_id,
        "orderId": fill.order_id,
        "side": fill.side.value,
        "price": on_grid(fill.price, item.tick),
        "qty": on_grid(fill.qty, item.lot),
        "realizedPnl": money(fill.realized),
        "quoteQty": money(fill.quote_qty),
        "commission": money(fill.fee),
        "commissionAsset": fill.fee_currency,
        "time": ms(fill.at_ns),
        "positionSide": "BOTH",
        "maker": fill.is_maker,
        "buyer": buyer,
    }


# Market data


def levels(side: BookSide, item: Instrument, count: int) -> list[list[str]]:
    return [
        [on_grid(item.price(price), item.tick), on_grid(item.quantity(qty), item.lot)]
        for price, qty in side.top(count)
    ]


def changed_levels(item: Instrument, side: BookSide, prices: Sequence[int]) -> list[list[str]]:
    """What lies at these prices now; a level that is gone has quantity zero."""
    return [
        [on_grid(item.price(price), item.tick), on_grid(item.quantity(side.total(price)), item.lot)]
        for price in prices
    ]


def best(market: Market) -> dict[str, str]:
    """`b`, `B`, `a`, `A` as in a bookTicker event; zeros for an empty side."""
    item, book = market.instrument, market.book
    (bid, bid_qty), (ask, ask_qty) = (
        (side.top(1) or [(0, 0)])[0] for side in (book.bids, book.asks)
    )
    return {
        "b": on_grid(item.price(bid), item.tick),
        "B": on_grid(item.quantity(bid_qty), item.lot),
        "a": on_grid(item.price(ask), item.tick),
        "A": on_grid(item.quantity(ask_qty), item.lot),
    }


def public_trade(trade: PublicTrade, item: Instrument) -> Json:
    return {
        "id": trade.trade_id,
        "price": on_grid(trade.price, item.tick),
        "qty": on_grid(trade.qty, item.lot),
        "quoteQty": money(trade.price * trade.qty),
        "time": ms(trade.at_ns),
        "isBuyerMaker": not trade.aggressor_is_buyer,
    }


def kline(bar: Bar, width_ns: int, item: Instrument) -> list[object]:
    return [
        ms(bar.open_ns),
        *(on_grid(price, item.tick) for price in (bar.open, bar.high, bar.low, bar.close)),
        on_grid(bar.volume, item.lot),
        ms(bar.open_ns + width_ns) - 1,
        money(bar.quote_volume),
        bar.trades,
        on_grid(bar.taker_buy_volume, item.lot),
        money(bar.taker_buy_quote_volume),
        "0",
    ]


def day_ticker(market: Market, now_ns: int) -> Json:
    """As `GET /fapi/v1/ticker/24hr` shows it."""
    item = market.instrument
    day, last = market.tape.day(now_ns), market.tape.last
    opened = day.open if day else market.mark() or ZERO
    # Before the first trade of a day clients still expect a price.
    close = day.close if day else market.mark() or ZERO
    change = close - opened
    return {
        "symbol": item.symbol,
        "priceChange": on_grid(change, item.tick),
        "priceChangePercent": f"{change / opened * 100 if opened else ZERO:.3f}",
        "weightedAvgPrice": on_grid(day.quote_volume / day.volume if day else ZERO, item.tick),
        "lastPrice": on_grid(close, item.tick),
        "lastQty": on_grid(last.qty if last else ZERO, item.lot),
        "openPrice": on_grid(opened, item.tick),
        "highPrice": on_grid(day.high if day else close, item.tick),
        "lowPrice": on_grid(day.low if day else close, item.tick),
        "volume": on_grid(day.volume if day else ZERO, item.lot),
        "quoteVolume": money(day.quote_volume if day else ZERO),
        "openTime": ms(now_ns) - 86_400_000,
        "closeTime": ms(now_ns),
        "firstId": day.first_trade_id if day else -1,
        "lastId": day.last_trade_id if day else -1,
        "count": day.trades if day else 0,
    }


def next_funding_ms(now_ns: int) -> int:
    return ms((now_ns // FUNDING_NS + 1) * FUNDING_NS)
