"""Prices, candles and the order book."""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.exchange import Exchange, Market
from openbell_sim.faces.oanda import errors
from openbell_sim.faces.oanda.accounts import Call
from openbell_sim.faces.oanda.book import Json
from openbell_sim.faces.oanda.markets import HOME, listing
from openbell_sim.faces.oanda.times import SECOND_NS, TimeFormat, read_time
from openbell_sim.listing import shown
from openbell_sim.sessions import MarketState
from openbell_sim.tape import MINUTE_NS, Bar

_DEPTH = 5
"""Price levels of each side."""
_CANDLES_DEFAULT, _CANDLES_MAX = 500, 5000
_GRANULARITIES_NS = {
    **{f"M{n}": n * MINUTE_NS for n in (1, 2, 4, 5, 10, 15, 30)},
    **{f"H{n}": n * 60 * MINUTE_NS for n in (1, 2, 3, 4, 6, 8, 12)},
    "D": 1440 * MINUTE_NS,
}
"""The tape keeps minutes; OANDA has seconds, weeks and months besides."""


def price(exchange: Exchange, market: Market, times: TimeFormat) -> Json:
    item = market.instrument
    said = listing(item)
    tradeable = exchange.session(item.symbol) is MarketState.OPEN
    sides: Json = {}
    for name, closeout, side in (
        ("bids", "closeoutBid", market.book.bids),
        ("asks", "closeoutAsk", market.book.asks),
    ):
        levels = [
            {"price": said.price(item.price(ticks)), "liquidity": int(item.quantity(lots))}
            for ticks, lots in side.top(_DEPTH)
        ]
        sides[name] = levels
        if levels:
            sides[closeout] = levels[-1]["price"]
    return {
        "type": "PRICE",
        "instrument": item.symbol,
        "time": times.write(exchange.now_ns()),
        "status": "tradeable" if tradeable else "non-tradeable",
        "tradeable": tradeable,
        **sides,
    }


def prices(call: Call) -> Json:
    exchange = call.exchange
    wanted = [name for name in call.query.get("instruments", "").split(",") if name]
    if not wanted:
        raise errors.missing()
    items = [call.instrument(name) for name in wanted]
    listed: list[Json] = []
    for item in items:
        market = exchange.markets[item.symbol]
        factor = _home_factor(market)
        facts = price(exchange, market, call.times)
        facts["quoteHomeConversionFactors"] = {"positiveUnits": factor, "negativeUnits": factor}
        listed.append(facts)
    # OANDA's answer about prices carries no transaction id.
    return {"prices": listed, "time": call.times.write(exchange.now_ns())}


def _home_factor(market: Market) -> str:
    """Home currency for one unit of the quote currency."""
    item, mark = market.instrument, market.mark()
    if item.quote == HOME:
        return "1"
    return "0" if mark is None or item.base != HOME else f"{1 / mark:.8f}"


def candles(call: Call) -> Json:
    item = call.instrument(call.parts["instrument"])
    granularity = call.query.get("granularity", "M1")
    width_ns = _GRANULARITIES_NS.get(granularity)
    if width_ns is None:
        raise errors.invalid("granularity")
    wanted = call.query.get("price", "M")
    if not wanted or set(wanted) - set("MBA"):
        raise errors.invalid("price")
    count = call.query.get("count", str(_CANDLES_DEFAULT))
    if not count.isdecimal() or not 0 < int(count) <= _CANDLES_MAX:
        raise errors.invalid("count")
    market = call.exchange.markets[item.symbol]
    begin, end = (_time(call, name) for name in ("from", "to"))
    bars = [
        bar
        for bar in market.tape.bars(width_ns)
        if (begin is None or bar.open_ns >= begin) and (end is None or bar.open_ns <= end)
    ]
    chosen = bars[: int(count)] if begin is not None else bars[-int(count) :]
    now_ns = call.exchange.now_ns()
    return {
        "instrument": item.symbol,
        "granularity": granularity,
        "candles": [
            _candle(bar, market, wanted, call.times, complete=bar.open_ns + width_ns <= now_ns)
            for bar in shown(chosen)
        ],
    }


def _candle(bar: Bar, market: Market, wanted: str, times: TimeFormat, *, complete: bool) -> Json:
    """From trades, which OANDA has none of: its candles are of quotes. So bid and ask candles are
    the traded ones moved by half of today's spread."""
    said = listing(market.instrument)
    bid, ask = market.book.bids.best, market.book.asks.best
    ticks = 0 if bid is None or ask is None else ask - bid
    half = market.instrument.tick * (ticks // 2)
    facts: Json = {"time": times.write(bar.open_ns), "volume": bar.trades, "complete": complete}
    for letter, name, shift in (("M", "mid", 0), ("B", "bid", -1), ("A", "ask", 1)):
        if letter in wanted:
            facts[name] = {
                key: said.price(value + shift * half)
                for key, value in zip("ohlc", (bar.open, bar.high, bar.low, bar.close), strict=True)
            }
    return facts


def order_book(call: Call) -> Json:
    """The book in buckets of a tenth of a pip. OANDA's is of its clients' orders, published every
    twenty minutes; here it is the whole market's, now."""
    item = call.instrument(call.parts["instrument"])
    market, said = call.exchange.markets[item.symbol], listing(item)
    mark = market.mark()
    levels = [
        (ticks, "longCountPercent" if side is market.book.bids else "shortCountPercent", lots)
        for side in (market.book.bids, market.book.asks)
        for ticks, lots in side.top(20)
    ]
    total = sum(lots for _, _, lots in levels) or 1
    return {
        "orderBook": {
            "instrument": item.symbol,
            "time": call.times.write(call.exchange.now_ns()),
            "unixTime": str(call.exchange.now_ns() // SECOND_NS),
            "price": "" if mark is None else said.price(mark),
            "bucketWidth": said.price(item.tick),
            "buckets": [
                {
                    "price": said.price(item.price(ticks)),
                    "longCountPercent": "0.0000",
                    "shortCountPercent": "0.0000",
                    name: f"{Decimal(100) * lots / total:.4f}",
                }
                for ticks, name, lots in sorted(levels)
            ],
        }
    }


def _time(call: Call, name: str) -> int | None:
    text = call.query.get(name)
    if text is None:
        return None
    try:
        return read_time(text)
    except ValueError:
        raise errors.invalid(name) from None
