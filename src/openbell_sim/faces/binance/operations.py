"""Every call of the spot face in one table, with its security and weight.

Weights and order limits: github.com/binance/binance-spot-api-docs, rest-api.md (each request's
"Weight", and "Limits").
"""

from __future__ import annotations

from functools import partial

from openbell_sim.faces.binance import market_data, trading
from openbell_sim.faces.binance.common.hub import Hub
from openbell_sim.faces.binance.common.limits import Limits, OrderLimit
from openbell_sim.faces.binance.common.listen_key_calls import listen_key_operations
from openbell_sim.faces.binance.common.operation import (
    Operation,
    by_limit,
    by_symbol,
    fixed,
    private,
    public,
)
from openbell_sim.faces.binance.common.parameters import Parameters
from openbell_sim.faces.binance.wallet import WALLET_ROUTES, wallet_operations
from openbell_sim.faces.port import RequestKind

WEIGHT_PER_MINUTE = 6000
"""Of one address."""
ORDER_LIMITS = (OrderLimit("SECOND", 10, 100), OrderLimit("DAY", 1, 200_000))
"""Of one account. Binance counts unfilled orders, and gives back what was filled; here every order
counts."""


def _trades_weight(p: Parameters) -> int:
    return 5 if p.has("orderId") else 20


def operations(limits: Limits, hub: Hub) -> dict[str, Operation]:
    """By the name that the WebSocket API gives them (ours where it has none)."""
    depth_weight = by_limit(100, ((100, 5), (500, 25), (1000, 50)), 250)
    one = fixed(1)
    return {
        "ping": public(market_data.ping, one),
        "time": public(market_data.server_time, one),
        "exchangeInfo": public(partial(market_data.exchange_info, limits=limits), fixed(20)),
        "depth": public(market_data.depth, depth_weight),
        "trades.recent": public(market_data.trades, fixed(25)),
        "trades.aggregate": public(market_data.aggregate_trades, fixed(4)),
        "klines": public(market_data.klines, fixed(2)),
        "avgPrice": public(market_data.average_price, fixed(2)),
        "ticker.24hr": public(market_data.day_ticker, by_symbol(2, 80)),
        "ticker.book": public(market_data.book_ticker, by_symbol(2, 4)),
        "ticker.price": public(market_data.price_ticker, by_symbol(2, 4)),
        "order.place": private(RequestKind.SUBMIT, trading.place_order, one, orders=one),
        "order.test": private(RequestKind.OTHER, trading.test_order, one),
        "order.status": private(RequestKind.ORDER, trading.query_order, fixed(4)),
        "order.cancel": private(RequestKind.CANCEL, trading.cancel_order, one),
        "order.amend.keepPriority": private(RequestKind.AMEND, trading.amend_order, fixed(4)),
        "orderList.place": private(RequestKind.SUBMIT, trading.order_list, one),
        "order.cancelReplace": private(RequestKind.AMEND, trading.cancel_replace, one, orders=one),
        "openOrders.status": private(
            RequestKind.OPEN_ORDERS, trading.open_orders, by_symbol(6, 80)
        ),
        "openOrders.cancelAll": private(RequestKind.MASS_CANCEL, trading.cancel_open_orders, one),
        "allOrders": private(RequestKind.ORDER, trading.all_orders, fixed(20)),
        "myTrades": private(RequestKind.FILLS, trading.my_trades, _trades_weight),
        "account.status": private(RequestKind.ACCOUNT, trading.account, fixed(20)),
        "orderRateLimits": private(RequestKind.ACCOUNT, lambda _: limits.order_limits(), fixed(40)),
        "futures.exchangeInfo": public(market_data.no_symbols, one),
        **listen_key_operations(hub.listen_keys, fixed(2), named=True),
        **wallet_operations(futures=False),
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
    ("PUT", "/api/v3/order/amend/keepPriority"): "order.amend.keepPriority",
    ("POST", "/api/v3/order/oco"): "orderList.place",
    ("POST", "/api/v3/orderList/oco"): "orderList.place",
    ("POST", "/api/v3/orderList/oto"): "orderList.place",
    ("POST", "/api/v3/orderList/otoco"): "orderList.place",
    ("GET", "/api/v3/rateLimit/order"): "orderRateLimits",
    ("GET", "/api/v3/allOrders"): "allOrders",
    ("GET", "/api/v3/myTrades"): "myTrades",
    ("POST", "/api/v3/userDataStream"): "listenKey.create",
    ("PUT", "/api/v3/userDataStream"): "listenKey.keepAlive",
    ("DELETE", "/api/v3/userDataStream"): "listenKey.close",
    ("GET", "/fapi/v1/exchangeInfo"): "futures.exchangeInfo",
    ("GET", "/dapi/v1/exchangeInfo"): "futures.exchangeInfo",
    **WALLET_ROUTES,
}
