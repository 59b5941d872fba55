"""Calls that anybody may make."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from openbell_sim.account import ZERO
from openbell_sim.exchange import Exchange, Market
from openbell_sim.faces.kraken.errors import UNKNOWN_PAIR, KrakenError, invalid
from openbell_sim.faces.kraken.pairs import Asset, Pair, Pairs
from openbell_sim.faces.kraken.parameters import Parameters
from openbell_sim.faces.kraken.render import Json, fixed, seconds, to_the_second
from openbell_sim.matching.side import BookSide
from openbell_sim.sessions import MarketState
from openbell_sim.tape import MINUTE_NS, Bar, PublicTrade

INTERVALS_MIN = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
_BARS_MAX = 720
_DEPTH_MAX = 500
_NANOSECONDS_FROM = 10**12
"""`since` of Trades is in ns; clients give seconds too."""


def server_time(exchange: Exchange, pairs: Pairs, p: Parameters) -> Json:
    now_ns = exchange.now_ns()
    moment = datetime.fromtimestamp(now_ns // 10**9, UTC)
    return {
        "unixtime": now_ns // 10**9,
        "rfc1123": f"{moment:%a, %d %b %y %H:%M:%S} +0000",
    }


_STATUS = {
    MarketState.OPEN: "online",
    MarketState.CANCEL_ONLY: "cancel_only",
    MarketState.CLOSED: "cancel_only",
    MarketState.HALTED: "maintenance",
}


def pair_status(exchange: Exchange, pair: Pair) -> str:
    return _STATUS[exchange.session(pair.altname)]


def system_status(exchange: Exchange, pairs: Pairs, p: Parameters) -> Json:
    """What all pairs have in common; else the venue as a whole is online."""
    states = {pair_status(exchange, pair) for pair in pairs.all}
    status = states.pop() if len(states) == 1 else "online"
    return {"status": status, "timestamp": to_the_second(exchange.now_ns())}


def assets(exchange: Exchange, pairs: Pairs, p: Parameters) -> Json:
    wanted = set(p.texts("asset"))
    found = [a for a in pairs.assets if not wanted or wanted & {a.id, a.altname}]
    if wanted and not found:
        raise KrakenError("EQuery:Unknown asset")
    return {asset.id: _asset(asset) for asset in found}


def _asset(asset: Asset) -> Json:
    return {
        "aclass": "currency",
        "altname": asset.altname,
        "decimals": asset.decimals,
        "display_decimals": asset.display_decimals,
        "status": "enabled",
    }


def asset_pairs(exchange: Exchange, pairs: Pairs, p: Parameters) -> Json:
    return {pair.id: _pair(exchange, pair) for pair in _named(pairs, p)}


def _named(pairs: Pairs, p: Parameters) -> list[Pair]:
    """All of them where none is named. One unknown name refuses the whole list."""
    if not p.has("pair"):
        return pairs.all
    found = [pairs.find(name) for name in p.texts("pair")]
    known = [pair for pair in found if pair is not None]
    if len(known) < len(found):
        raise KrakenError(UNKNOWN_PAIR)
    return known


def _one(exchange: Exchange, pairs: Pairs, p: Parameters) -> tuple[Pair, Market]:
    pair = pairs.find(p.text("pair"))
    if pair is None:
        raise KrakenError(UNKNOWN_PAIR)
    return pair, exchange.markets[pair.altname]


def _pair(exchange: Exchange, pair: Pair) -> Json:
    item = pair.instrument
    return {
        "altname": pair.altname,
        "wsname": pair.wsname,
        "aclass_base": "currency",
        "base": pair.base.id,
        "aclass_quote": "currency",
        "quote": pair.quote.id,
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": pair.price_decimals,
        "lot_decimals": pair.lot_decimals,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, float(exchange.fees.taker * 100)]],
        "fees_maker": [[0, float(exchange.fees.maker * 100)]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": format(item.min_qty, "f"),
        "costmin": format(item.min_notional, "f"),
        "tick_size": format(item.tick, "f"),
        "status": pair_status(exchange, pair),
    }


def ticker(exchange: Exchange, pairs: Pairs, p: Parameters) -> Json:
    now_ns = exchange.now_ns()
    return {
        pair.id: _ticker(pair, exchange.markets[pair.altname], now_ns) for pair in _named(pairs, p)
    }


def _ticker(pair: Pair, market: Market, now_ns: int) -> Json:
    day, last = market.tape.day(now_ns), market.tape.last
    places = max(5, pair.price_decimals)

    def price(amount: Decimal) -> str:
        return fixed(amount, places)

    def twice(text: str) -> list[str]:
        return [text, text]

    return {
        "a": _best(market.book.asks, pair, places),
        "b": _best(market.book.bids, pair, places),
        "c": [price(last.price), fixed(last.qty, 8)] if last else [price(ZERO), fixed(ZERO, 8)],
        # Of today and of the last 24 hours; here the latter both times.
        "v": twice(fixed(day.volume if day else ZERO, 8)),
        "p": twice(price(vwap(day))),
        "t": [day.trades, day.trades] if day else [0, 0],
        "l": twice(price(day.low if day else ZERO)),
        "h": twice(price(day.high if day else ZERO)),
        "o": price(day.open if day else ZERO),
    }


def vwap(bar: Bar | None) -> Decimal:
    return bar.quote_volume / bar.volume if bar is not None and bar.volume else ZERO


def _best(side: BookSide, pair: Pair, places: int) -> list[str]:
    """Price, whole lots, lots."""
    if side.best is None:
        return [fixed(ZERO, places), "0", "0.000"]
    quantity = pair.instrument.quantity(side.total(side.best))
    return [
        fixed(pair.instrument.price(side.best), places),
        fixed(quantity, 0),
        fixed(quantity, 8),
    ]


def depth(exchange: Exchange, pairs: Pairs, p: Parameters) -> Json:
    pair, market = _one(exchange, pairs, p)
    count = min(max(p.integer("count", 100), 1), _DEPTH_MAX)
    now_s = exchange.now_ns() // 10**9

    def levels(side: BookSide) -> list[list[object]]:
        item = pair.instrument
        return [
            [fixed(item.price(price), pair.price_decimals), fixed(item.quantity(lots), 8), now_s]
            for price, lots in side.top(count)
        ]

    return {pair.id: {"asks": levels(market.book.asks), "bids": levels(market.book.bids)}}


def ohlc(exchange: Exchange, pairs: Pairs, p: Parameters) -> Json:
    pair, market = _one(exchange, pairs, p)
    interval = p.integer("interval", 1)
    if interval not in INTERVALS_MIN:
        raise invalid("interval")
    since_ns = int((p.seconds("since") or 0) * 10**9)
    bars = [bar for bar in market.tape.bars(interval * MINUTE_NS) if bar.open_ns > since_ns][
        -_BARS_MAX:
    ]
    last_ns = bars[-2].open_ns if len(bars) > 1 else since_ns
    return {pair.id: [_bar(bar, pair) for bar in bars], "last": last_ns // 10**9}


def _bar(bar: Bar, pair: Pair) -> list[object]:
    prices = (bar.open, bar.high, bar.low, bar.close, vwap(bar))
    return [
        bar.open_ns // 10**9,
        *(fixed(price, pair.price_decimals) for price in prices),
        fixed(bar.volume, 8),
        bar.trades,
    ]


def trades(exchange: Exchange, pairs: Pairs, p: Parameters) -> Json:
    pair, market = _one(exchange, pairs, p)
    since = p.seconds("since") or Decimal(0)
    since_ns = int(since if since >= _NANOSECONDS_FROM else since * 10**9)
    count = min(max(p.integer("count", 1000), 1), 1000)
    found = [trade for trade in market.tape.trades if trade.at_ns > since_ns]
    # The oldest ones from a time on, else the newest.
    chosen = found[:count] if p.has("since") else found[-count:]
    last_ns = chosen[-1].at_ns if chosen else since_ns
    return {pair.id: [_trade(trade, pair) for trade in chosen], "last": str(last_ns)}


def _trade(trade: PublicTrade, pair: Pair) -> list[object]:
    return [
        fixed(trade.price, max(5, pair.price_decimals)),
        fixed(trade.qty, 8),
        seconds(trade.at_ns),
        "b" if trade.aggressor_is_buyer else "s",
        "l",
        "",
        trade.trade_id,
    ]
