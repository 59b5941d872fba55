"""Products, books, trades and candles; most of it under a public and a private address."""

from __future__ import annotations

from openbell_sim.exchange import Market
from openbell_sim.faces.coinbase import errors, render
from openbell_sim.faces.coinbase.call import SECOND_NS, Call
from openbell_sim.faces.coinbase.errors import Json

_MINUTE_NS = 60 * SECOND_NS
GRANULARITIES_NS = {
    "ONE_MINUTE": _MINUTE_NS,
    "FIVE_MINUTE": 5 * _MINUTE_NS,
    "FIFTEEN_MINUTE": 15 * _MINUTE_NS,
    "THIRTY_MINUTE": 30 * _MINUTE_NS,
    "ONE_HOUR": 60 * _MINUTE_NS,
    "TWO_HOUR": 120 * _MINUTE_NS,
    "FOUR_HOUR": 240 * _MINUTE_NS,
    "SIX_HOUR": 360 * _MINUTE_NS,
    "ONE_DAY": 1440 * _MINUTE_NS,
}
MOST_CANDLES = 350
"""Of one answer ("Get Product Candles")."""


def v2_time(call: Call) -> Json:
    now_ns = call.exchange.now_ns()
    seconds = now_ns // SECOND_NS
    return {"data": {"iso": render.when(seconds * SECOND_NS), "epoch": seconds}}


def v3_time(call: Call) -> Json:
    now_ns = call.exchange.now_ns()
    return {
        "iso": render.when(now_ns),
        "epochSeconds": str(now_ns // SECOND_NS),
        "epochMillis": str(now_ns // 1_000_000),
    }


def products(call: Call) -> Json:
    """Products that are not known are left out; there are no futures."""
    wanted = call.listed("product_ids")
    markets = [
        market
        for name, market in call.exchange.markets.items()
        if (not wanted or name in wanted) and call.query.get("product_type", "SPOT") == "SPOT"
    ]
    return {
        "products": [render.product(market, call.exchange) for market in markets],
        "num_products": len(markets),
    }


def product(call: Call) -> Json:
    return render.product(call.market(call.name), call.exchange)


def candles(call: Call) -> Json:
    """Newest first. Times without trades have none."""
    market = call.market(call.name)
    width_ns = GRANULARITIES_NS.get(call.query.get("granularity", ""))
    start, end = call.query.get("start", ""), call.query.get("end", "")
    if width_ns is None or not start.isdecimal() or not end.isdecimal():
        raise errors.invalid_argument("start, end and granularity are required")
    first_ns, last_ns = int(start) * SECOND_NS, int(end) * SECOND_NS
    if (last_ns - first_ns) // width_ns > MOST_CANDLES:
        raise errors.invalid_argument(
            f"number of candles requested should be less than {MOST_CANDLES}"
        )
    bars = [bar for bar in market.tape.bars(width_ns) if first_ns <= bar.open_ns <= last_ns]
    return {"candles": [render.candle(bar) for bar in reversed(bars)]}


def ticker(call: Call) -> Json:
    """The newest trades, newest first, and the best prices."""
    market = call.market(call.name)
    limit = call.count("limit", 100, 1000)
    trades = list(market.tape.trades)[-limit:]
    item = market.instrument
    return {
        "trades": [render.public_trade(trade) for trade in reversed(trades)],
        "best_bid": render.best_price(market.book.bids, item),
        "best_ask": render.best_price(market.book.asks, item),
    }


def product_book(call: Call) -> Json:
    market = call.market(call.query.get("product_id", ""))
    count = call.count("limit", 0, 10_000) if "limit" in call.query else None
    return {
        "pricebook": render.price_book(market, count, call.exchange.now_ns()),
        "last": render.product(market, call.exchange)["price"],
        "mid_market": render.middle(market),
        "spread_bps": "",
        "spread_absolute": "",
    }


def best_bid_ask(call: Call) -> Json:
    names = list(call.listed("product_ids")) or list(call.exchange.markets)
    markets: list[Market] = [call.market(name) for name in names]
    now_ns = call.exchange.now_ns()
    return {"pricebooks": [render.price_book(market, 1, now_ns) for market in markets]}


# What clients ask for when they load the markets: the older public API.


def currencies(call: Call) -> Json:
    names = [name for name in _currencies(call) if name in render.FIAT]
    return {"data": [{"id": name, "name": name, "min_size": "0.01"} for name in names]}


def crypto_currencies(call: Call) -> Json:
    names = [name for name in _currencies(call) if name not in render.FIAT]
    return {
        "data": [
            {
                "asset_id": render.named_uuid("asset", name),
                "code": name,
                "name": name,
                "color": "#000000",
                "sort_index": 100,
                "exponent": 8,
                "type": "crypto",
                "address_regex": "",
            }
            for name in names
        ]
    }


def exchange_rates(call: Call) -> Json:
    """Of one US dollar, by the last prices in it."""
    rates = {"USD": "1"}
    for market in call.exchange.markets.values():
        mark = market.mark()
        if market.instrument.quote == "USD" and mark:
            rates[market.instrument.base] = render.money(
                (1 / mark).quantize(render.ZERO.scaleb(-16))
            )
    return {"data": {"currency": "USD", "rates": rates}}


def _currencies(call: Call) -> list[str]:
    return sorted(
        {
            name
            for instrument in call.exchange.instruments.values()
            for name in (instrument.base, instrument.quote)
        }
    )
