"""Every call of the face in one table, with its security and weight; REST and the WebSocket API
are two ways to the same operations.

Weights are those of Binance's REST documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from openbell_sim.exchange import Exchange
from openbell_sim.faces.binance import market_data, trading
from openbell_sim.faces.binance.parameters import Parameters
from openbell_sim.faces.binance.trading import Call
from openbell_sim.faces.port import RequestKind

Public = Callable[[Exchange, Parameters], object]
Private = Callable[[Call], object]


class Security(Enum):
    NONE = "none"
    KEY = "key"
    """A known key, no signature."""
    SIGNED = "signed"


@dataclass(frozen=True)
class Operation:
    weight: Callable[[Parameters], int]
    public: Public | None = None
    private: Private | None = None
    security: Security = Security.NONE
    places_order: bool = False
    kind: RequestKind = RequestKind.MARKET_DATA


def _fixed(weight: int) -> Callable[[Parameters], int]:
    return lambda _: weight


def _by_symbol(one: int, every: int) -> Callable[[Parameters], int]:
    return lambda p: one if p.has("symbol") else every


def _depth_weight(p: Parameters) -> int:
    text = p.text_or_none("limit") or "100"
    limit = int(text) if text.isdigit() else 100
    return next((w for most, w in ((100, 5), (500, 25), (1000, 50)) if limit <= most), 250)


def _public(function: Public, weight: Callable[[Parameters], int]) -> Operation:
    return Operation(weight, public=function)


def _private(
    kind: RequestKind,
    function: Private,
    weight: Callable[[Parameters], int],
    *,
    places_order: bool = False,
) -> Operation:
    return Operation(
        weight, private=function, security=Security.SIGNED, places_order=places_order, kind=kind
    )


def operations(weight_limit: int) -> dict[str, Operation]:
    """By the name that the WebSocket API gives them (ours where it has none)."""
    info: Public = partial(market_data.exchange_info, weight_limit=weight_limit)
    return {
        "ping": _public(market_data.ping, _fixed(1)),
        "time": _public(market_data.server_time, _fixed(1)),
        "exchangeInfo": _public(info, _fixed(20)),
        "depth": _public(market_data.depth, _depth_weight),
        "trades.recent": _public(market_data.trades, _fixed(25)),
        "trades.aggregate": _public(market_data.aggregate_trades, _fixed(4)),
        "klines": _public(market_data.klines, _fixed(2)),
        "avgPrice": _public(market_data.average_price, _fixed(2)),
        "ticker.24hr": _public(market_data.day_ticker, _by_symbol(2, 80)),
        "ticker.book": _public(market_data.book_ticker, _by_symbol(2, 4)),
        "ticker.price": _public(market_data.price_ticker, _by_symbol(2, 4)),
        "order.place": _private(
            RequestKind.SUBMIT, trading.place_order, _fixed(1), places_order=True
        ),
        "order.test": _private(RequestKind.OTHER, trading.test_order, _fixed(1)),
        "order.status": _private(RequestKind.ORDER, trading.query_order, _fixed(4)),
        "order.cancel": _private(RequestKind.CANCEL, trading.cancel_order, _fixed(1)),
        "order.cancelReplace": _private(
            RequestKind.AMEND, trading.cancel_replace, _fixed(1), places_order=True
        ),
        "openOrders.status": _private(
            RequestKind.OPEN_ORDERS, trading.open_orders, _by_symbol(6, 80)
        ),
        "openOrders.cancelAll": _private(
            RequestKind.MASS_CANCEL, trading.cancel_open_orders, _fixed(1)
        ),
        "allOrders": _private(RequestKind.ORDER, trading.all_orders, _fixed(20)),
        "myTrades": _private(RequestKind.FILLS, trading.my_trades, _fixed(20)),
        "account.status": _private(RequestKind.ACCOUNT, trading.account, _fixed(20)),
        "capital.coins": _private(
            RequestKind.ACCOUNT, lambda call: market_data.coins(call.exchange), _fixed(10)
        ),
        "margin.pairs": _private(RequestKind.OTHER, lambda call: [], _fixed(1)),
        "futures.exchangeInfo": _public(_no_symbols, _fixed(1)),
    }


def _no_symbols(exchange: Exchange, p: Parameters) -> object:
    """Clients ask the futures venues for their symbols too when they load markets; this venue has
    no futures."""
    now_ms = exchange.now_ns() // 1_000_000
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": [],
        "exchangeFilters": [],
        "symbols": [],
    }


ROUTES: dict[tuple[str, str], str] = {
    ("GET", "/api/v3/ping"): "ping",
    ("GET", "/api/v3/time"): "time",
    ("GET", "/api/v3/exchangeInfo"): "exchangeInfo",
    ("GET", "/api/v3/depth"): "depth",
    ("GET", "/api/v3/trades"): "trades.recent",
    ("GET", "/api/v3/historicalTrades"): "trades.recent",
    ("GET", "/api/v3/aggTrades"): "trades.aggregate",
    ("GET", "/api/v3/klines"): "klines",
    ("GET", "/api/v3/avgPrice"): "avgPrice",
    ("GET", "/api/v3/ticker/24hr"): "ticker.24hr",
    ("GET", "/api/v3/ticker/bookTicker"): "ticker.book",
    ("GET", "/api/v3/ticker/price"): "ticker.price",
    ("GET", "/api/v3/account"): "account.status",
    ("GET", "/api/v3/openOrders"): "openOrders.status",
    ("DELETE", "/api/v3/openOrders"): "openOrders.cancelAll",
    ("GET", "/api/v3/order"): "order.status",
    ("POST", "/api/v3/order"): "order.place",
    ("DELETE", "/api/v3/order"): "order.cancel",
    ("POST", "/api/v3/order/test"): "order.test",
    ("POST", "/api/v3/order/cancelReplace"): "order.cancelReplace",
    ("GET", "/api/v3/allOrders"): "allOrders",
    ("GET", "/api/v3/myTrades"): "myTrades",
    ("GET", "/sapi/v1/capital/config/getall"): "capital.coins",
    ("GET", "/sapi/v1/margin/allPairs"): "margin.pairs",
    ("GET", "/sapi/v1/margin/isolated/allPairs"): "margin.pairs",
    ("GET", "/fapi/v1/exchangeInfo"): "futures.exchangeInfo",
    ("GET", "/dapi/v1/exchangeInfo"): "futures.exchangeInfo",
}
