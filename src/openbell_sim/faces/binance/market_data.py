"""Calls that anybody may make."""

from __future__ import annotations

import orjson

from openbell_sim.exchange import Exchange, Market
from openbell_sim.faces.binance import render, symbols
from openbell_sim.faces.binance.common import errors
from openbell_sim.faces.binance.common.errors import BinanceError
from openbell_sim.faces.binance.common.klines import asked_market, chosen_bars
from openbell_sim.faces.binance.common.limits import Limits
from openbell_sim.faces.binance.common.operation import Json
from openbell_sim.faces.binance.common.parameters import Parameters


def _markets(exchange: Exchange, p: Parameters) -> tuple[list[Market], bool]:
    """The markets asked for by `symbol`, `symbols` or neither; whether it was a single one."""
    if p.has("symbol"):
        market = exchange.markets.get(p.text("symbol"))
        if market is None:
            raise errors.invalid_symbol()
        return [market], True
    if not p.has("symbols"):
        return list(exchange.markets.values()), False
    try:
        names = orjson.loads(p.text("symbols"))
    except orjson.JSONDecodeError:
        raise errors.illegal_characters("symbols", '^\\["[A-Z0-9-_.]{1,20}"...\\]$') from None
    if not isinstance(names, list) or any(name not in exchange.markets for name in names):
        raise errors.invalid_symbol()
    return [exchange.markets[name] for name in names], False


def ping(exchange: Exchange, p: Parameters) -> Json:
    return {}


def server_time(exchange: Exchange, p: Parameters) -> Json:
    return {"serverTime": render.ms(exchange.now_ns())}


def depth(exchange: Exchange, p: Parameters) -> Json:
    market = asked_market(exchange, p)
    limit = p.limit(100, 5000)
    return {
        "lastUpdateId": market.book.update_id,
        "bids": render.levels(market.book.bids, market.instrument, limit),
        "asks": render.levels(market.book.asks, market.instrument, limit),
    }


def trades(exchange: Exchange, p: Parameters) -> list[Json]:
    market = asked_market(exchange, p)
    limit = p.limit(500, 1000)
    return [render.public_trade(trade) for trade in list(market.tape.trades)[-limit:]]


def aggregate_trades(exchange: Exchange, p: Parameters) -> list[Json]:
    """Every trade is its own aggregate."""
    market = asked_market(exchange, p)
    limit = p.limit(500, 1000)
    return [
        {
            "a": trade.trade_id,
            "p": render.money(trade.price),
            "q": render.money(trade.qty),
            "f": trade.trade_id,
            "l": trade.trade_id,
            "T": render.ms(trade.at_ns),
            "m": not trade.aggressor_is_buyer,
            "M": True,
        }
        for trade in list(market.tape.trades)[-limit:]
    ]


def klines(exchange: Exchange, p: Parameters) -> list[list[object]]:
    bars, width_ns = chosen_bars(asked_market(exchange, p), p, 1000)
    return [render.kline(bar, width_ns) for bar in bars]


def day_ticker(exchange: Exchange, p: Parameters) -> Json | list[Json]:
    markets, single = _markets(exchange, p)
    tickers = [render.day_ticker(market, exchange.now_ns()) for market in markets]
    return tickers[0] if single else tickers


def book_ticker(exchange: Exchange, p: Parameters) -> Json | list[Json]:
    markets, single = _markets(exchange, p)
    tickers: list[Json] = []
    for market in markets:
        quotes = render.best(market)
        tickers.append(
            {
                "symbol": market.instrument.symbol,
                "bidPrice": quotes["b"],
                "bidQty": quotes["B"],
                "askPrice": quotes["a"],
                "askQty": quotes["A"],
            }
        )
    return tickers[0] if single else tickers


def price_ticker(exchange: Exchange, p: Parameters) -> Json | list[Json]:
    markets, single = _markets(exchange, p)
    tickers: list[Json] = [
        {"symbol": market.instrument.symbol, "price": render.money(mark)}
        for market in markets
        if (mark := market.mark()) is not None
    ]
    if single and not tickers:
        raise BinanceError(-1112, "No orders on book for symbol.")
    return tickers[0] if single else tickers


def average_price(exchange: Exchange, p: Parameters) -> Json:
    market = asked_market(exchange, p)
    mark = market.mark()
    if mark is None:
        raise BinanceError(-1112, "No orders on book for symbol.")
    return {"mins": 1, "price": render.money(mark), "closeTime": render.ms(exchange.now_ns())}


def exchange_info(exchange: Exchange, p: Parameters, limits: Limits) -> Json:
    markets, _ = _markets(exchange, p)
    return {
        "timezone": "UTC",
        "serverTime": render.ms(exchange.now_ns()),
        "rateLimits": limits.rate_limits(),
        "exchangeFilters": [],
        "symbols": [
            symbols.listed(market.instrument, market.state, exchange.max_open_orders)
            for market in markets
        ],
    }


def no_symbols(exchange: Exchange, p: Parameters) -> Json:
    """Of a venue that this process does not serve: clients ask for the symbols of every one when
    they load markets."""
    return {
        "timezone": "UTC",
        "serverTime": render.ms(exchange.now_ns()),
        "rateLimits": [],
        "exchangeFilters": [],
        "symbols": [],
    }
