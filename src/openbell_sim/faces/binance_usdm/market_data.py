"""Calls that anybody may make.

Mark, index and settlement price are all the last price: this venue has one market per symbol and
no other to compare it with. Funding is never paid; its rate is told as zero.
"""

from __future__ import annotations

from collections.abc import Callable

from openbell_sim.exchange import Exchange, Market
from openbell_sim.faces.binance.common.errors import BinanceError
from openbell_sim.faces.binance.common.klines import asked_market, chosen_bars
from openbell_sim.faces.binance.common.limits import Limits
from openbell_sim.faces.binance.common.operation import Json
from openbell_sim.faces.binance.common.parameters import Parameters
from openbell_sim.faces.binance_usdm import render
from openbell_sim.instruments import Instrument
from openbell_sim.sessions import MarketState
from openbell_sim.tape import PublicTrade

_DEPTHS = (5, 10, 20, 50, 100, 500, 1000)
_LISTED_MS = 1_569_398_400_000
_NEVER_MS = 4_133_404_800_000
"""What Binance puts where a perpetual contract has no end."""


def ping(exchange: Exchange, p: Parameters) -> Json:
    return {}


def server_time(exchange: Exchange, p: Parameters) -> Json:
    return {"serverTime": render.ms(exchange.now_ns())}


def depth(exchange: Exchange, p: Parameters) -> Json:
    market = asked_market(exchange, p)
    limit = p.integer_or_none("limit") or 500
    if limit not in _DEPTHS:
        raise BinanceError(-4021, f"Depth limit {limit} is invalid.")
    now_ms = render.ms(exchange.now_ns())
    return {
        "lastUpdateId": market.book.update_id,
        "E": now_ms,
        "T": now_ms,
        "bids": render.levels(market.book.bids, market.instrument, limit),
        "asks": render.levels(market.book.asks, market.instrument, limit),
    }


def trades(exchange: Exchange, p: Parameters) -> list[Json]:
    market = asked_market(exchange, p)
    limit = p.limit(500, 1000)
    found = list(market.tape.trades)[-limit:]
    return [render.public_trade(trade, market.instrument) for trade in found]


def aggregate_trades(exchange: Exchange, p: Parameters) -> list[Json]:
    """Every trade is its own aggregate."""
    market = asked_market(exchange, p)
    item = market.instrument
    start, end = p.integer_or_none("startTime"), p.integer_or_none("endTime")
    from_id = p.integer_or_none("fromId")

    def wanted(trade: PublicTrade) -> bool:
        at_ms = render.ms(trade.at_ns)
        return (
            (start is None or at_ms >= start)
            and (end is None or at_ms <= end)
            and (from_id is None or trade.trade_id >= from_id)
        )

    found = [trade for trade in market.tape.trades if wanted(trade)]
    limit = p.limit(500, 1000)
    return [
        {
            "a": trade.trade_id,
            "p": render.on_grid(trade.price, item.tick),
            "q": render.on_grid(trade.qty, item.lot),
            "f": trade.trade_id,
            "l": trade.trade_id,
            "T": render.ms(trade.at_ns),
            "m": not trade.aggressor_is_buyer,
        }
        for trade in (found[-limit:] if start is None and from_id is None else found[:limit])
    ]


def klines(exchange: Exchange, p: Parameters) -> list[list[object]]:
    market = asked_market(exchange, p)
    bars, width_ns = chosen_bars(market, p, 1500)
    return [render.kline(bar, width_ns, market.instrument) for bar in bars]


def premium_index(exchange: Exchange, p: Parameters) -> Json | list[Json]:
    return _of_each(exchange, p, lambda market: _premium(market, exchange.now_ns()))


def _premium(market: Market, now_ns: int) -> Json:
    mark = render.on_grid(market.mark() or render.ZERO, market.instrument.tick)
    return {
        "symbol": market.instrument.symbol,
        "markPrice": mark,
        "indexPrice": mark,
        "estimatedSettlePrice": mark,
        "lastFundingRate": "0.00000000",
        "interestRate": "0.00000000",
        "nextFundingTime": render.next_funding_ms(now_ns),
        "time": render.ms(now_ns),
    }


def funding_rates(exchange: Exchange, p: Parameters) -> list[Json]:
    """None has ever been charged."""
    if p.has("symbol"):
        asked_market(exchange, p)
    return []


def funding_info(exchange: Exchange, p: Parameters) -> list[Json]:
    """Binance lists symbols whose funding was adjusted; here there are none."""
    return []


def day_ticker(exchange: Exchange, p: Parameters) -> Json | list[Json]:
    return _of_each(exchange, p, lambda market: render.day_ticker(market, exchange.now_ns()))


def book_ticker(exchange: Exchange, p: Parameters) -> Json | list[Json]:
    def ticker(market: Market) -> Json:
        quotes = render.best(market)
        return {
            "lastUpdateId": market.book.update_id,
            "symbol": market.instrument.symbol,
            "bidPrice": quotes["b"],
            "bidQty": quotes["B"],
            "askPrice": quotes["a"],
            "askQty": quotes["A"],
            "time": render.ms(exchange.now_ns()),
        }

    return _of_each(exchange, p, ticker)


def price_ticker(exchange: Exchange, p: Parameters) -> Json | list[Json]:
    return _of_each(
        exchange,
        p,
        lambda market: {
            "symbol": market.instrument.symbol,
            "price": render.on_grid(market.mark() or render.ZERO, market.instrument.tick),
            "time": render.ms(exchange.now_ns()),
        },
    )


def _of_each(exchange: Exchange, p: Parameters, of: Callable[[Market], Json]) -> Json | list[Json]:
    """Of the symbol that is named, or of every one."""
    if p.has("symbol"):
        return of(asked_market(exchange, p))
    return [of(market) for market in exchange.markets.values()]


def exchange_info(exchange: Exchange, p: Parameters, limits: Limits) -> Json:
    items = list(exchange.instruments.values())
    return {
        "timezone": "UTC",
        "serverTime": render.ms(exchange.now_ns()),
        "futuresType": "U_MARGINED",
        "rateLimits": limits.rate_limits(),
        "exchangeFilters": [],
        "assets": [
            {"asset": asset, "marginAvailable": True, "autoAssetExchange": "0"}
            for asset in sorted({item.settle_currency for item in items})
        ],
        "symbols": [
            _symbol(item, exchange.session(item.symbol), exchange.max_open_orders) for item in items
        ],
    }


_STATUS = {
    MarketState.OPEN: "TRADING",
    MarketState.CANCEL_ONLY: "PRE_SETTLE",
    MarketState.HALTED: "SETTLING",
    MarketState.CLOSED: "CLOSE",
}


def _symbol(item: Instrument, state: MarketState, max_open_orders: int) -> Json:
    margin = (item.margin_rate or render.ZERO) * 100
    return {
        "symbol": item.symbol,
        "pair": item.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": _NEVER_MS,
        "onboardDate": _LISTED_MS,
        "status": _STATUS[state],
        "maintMarginPercent": f"{margin / 2:.4f}",
        "requiredMarginPercent": f"{margin:.4f}",
        "baseAsset": item.base,
        "quoteAsset": item.quote,
        "marginAsset": item.settle_currency,
        "pricePrecision": render.digits(item.tick),
        "quantityPrecision": render.digits(item.lot),
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.000000",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": render.on_grid(item.min_price, item.tick),
                "maxPrice": render.on_grid(item.max_price, item.tick),
                "tickSize": str(item.tick),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": render.on_grid(item.min_qty, item.lot),
                "maxQty": render.on_grid(item.max_qty, item.lot),
                "stepSize": str(item.lot),
            },
            {
                "filterType": "MARKET_LOT_SIZE",
                "minQty": render.on_grid(item.min_qty, item.lot),
                "maxQty": render.on_grid(item.max_qty, item.lot),
                "stepSize": str(item.lot),
            },
            {"filterType": "MAX_NUM_ORDERS", "limit": max_open_orders},
            {"filterType": "MIN_NOTIONAL", "notional": str(item.min_notional)},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": f"{item.collar_up:.4f}",
                "multiplierDown": f"{item.collar_down:.4f}",
                "multiplierDecimal": "4",
            },
        ],
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }
