"""Every call of the USD-M face in one table, with its security and weight.

Weights and limits: "Request Weight" of each call of the USD-M futures API
(developers.binance.com, derivatives, usds-margined-futures).
"""

from __future__ import annotations

from functools import partial

from openbell_sim.faces.binance.common.hub import Hub
from openbell_sim.faces.binance.common.limits import Limits, OrderLimit
from openbell_sim.faces.binance.common.listen_key_calls import listen_key_operations
from openbell_sim.faces.binance.common.operation import (
    Call,
    Operation,
    by_limit,
    by_symbol,
    fixed,
    private,
    public,
)
from openbell_sim.faces.binance.market_data import no_symbols
from openbell_sim.faces.binance.wallet import WALLET_ROUTES, wallet_operations
from openbell_sim.faces.binance_usdm import accounts, algo, market_data, settings, trading
from openbell_sim.faces.port import RequestKind

WEIGHT_PER_MINUTE = 2400
"""Of one address."""
ORDER_LIMITS = (OrderLimit("SECOND", 10, 300), OrderLimit("MINUTE", 1, 1200))
"""Of one account."""


def operations(limits: Limits, hub: Hub) -> dict[str, Operation]:
    """By the name that the WebSocket API gives them (ours where it has none)."""
    return {
        **_public(limits),
        **_orders(),
        **_algo_orders(),
        **_account(limits),
        **listen_key_operations(hub.listen_keys, fixed(1), named=False),
        **wallet_operations(futures=True),
        "elsewhere.exchangeInfo": public(no_symbols, fixed(1)),
    }


def _public(limits: Limits) -> dict[str, Operation]:
    depth_weight = by_limit(500, ((50, 2), (100, 5), (500, 10)), 20)
    bars_weight = by_limit(500, ((99, 1), (499, 2), (1000, 5)), 10)
    info = partial(market_data.exchange_info, limits=limits)
    return {
        "ping": public(market_data.ping, fixed(1)),
        "time": public(market_data.server_time, fixed(1)),
        "exchangeInfo": public(info, fixed(1)),
        "depth": public(market_data.depth, depth_weight),
        "trades.recent": public(market_data.trades, fixed(5)),
        "trades.historical": public(market_data.trades, fixed(20)),
        "trades.aggregate": public(market_data.aggregate_trades, fixed(20)),
        "klines": public(market_data.klines, bars_weight),
        "premiumIndex": public(market_data.premium_index, by_symbol(1, 10)),
        "fundingRate": public(market_data.funding_rates, fixed(0)),
        "fundingInfo": public(market_data.funding_info, fixed(0)),
        "ticker.24hr": public(market_data.day_ticker, by_symbol(1, 40)),
        "ticker.book": public(market_data.book_ticker, by_symbol(2, 5)),
        "ticker.price": public(market_data.price_ticker, by_symbol(1, 2)),
    }


def _orders() -> dict[str, Operation]:
    kind, one, free = RequestKind, fixed(1), fixed(0)
    return {
        "order.place": private(kind.SUBMIT, trading.place_order, free, orders=one),
        "order.test": private(kind.OTHER, trading.test_order, free),
        "orders.place": private(
            kind.SUBMIT, trading.place_many, fixed(5), orders=trading.count_of_batch
        ),
        "order.modify": private(kind.AMEND, trading.amend_order, free, orders=one),
        "order.cancel": private(kind.CANCEL, trading.cancel_order, one),
        "orders.cancel": private(kind.CANCEL, trading.cancel_many, one),
        "openOrders.cancelAll": private(kind.MASS_CANCEL, trading.cancel_all, one),
        "countdownCancelAll": private(kind.DEAD_MAN, trading.countdown, fixed(10)),
        "order.status": private(kind.ORDER, trading.query_order, one),
        "openOrder.status": private(kind.ORDER, trading.query_open_order, one),
        "openOrders.status": private(kind.OPEN_ORDERS, trading.open_orders, by_symbol(1, 40)),
        "allOrders": private(kind.ORDER, trading.all_orders, fixed(5)),
        "userTrades": private(kind.FILLS, trading.user_trades, fixed(5)),
    }


def _algo_orders() -> dict[str, Operation]:
    kind, one = RequestKind, fixed(1)
    return {
        "algoOrder.place": private(kind.SUBMIT, algo.place, fixed(0), orders=one),
        "algoOrder.cancel": private(kind.CANCEL, algo.cancel, one),
        "algoOrder.status": private(kind.ORDER, algo.query, one),
        "algoOrders.cancelAll": private(kind.MASS_CANCEL, algo.cancel_all, one),
        "algoOrders.open": private(kind.OPEN_ORDERS, algo.open_orders, by_symbol(1, 40)),
        "algoOrders.all": private(kind.ORDER, algo.all_orders, fixed(5)),
    }


def _account(limits: Limits) -> dict[str, Operation]:
    kind, one, five = RequestKind, fixed(1), fixed(5)
    return {
        "account.balance": private(kind.ACCOUNT, accounts.balances, five),
        "account.status": private(kind.ACCOUNT, accounts.account_v2, five),
        "v2/account.balance": private(kind.ACCOUNT, accounts.balances, five),
        "v2/account.status": private(kind.ACCOUNT, accounts.account_v3, five),
        "account.position": private(kind.POSITIONS, accounts.positions_v2, five),
        "v2/account.position": private(kind.POSITIONS, accounts.positions_v3, five),
        "account.config": private(kind.ACCOUNT, settings.configuration, five),
        "symbol.config": private(kind.ACCOUNT, settings.symbol_configuration, five),
        "leverage.brackets": private(kind.ACCOUNT, settings.leverage_brackets, one),
        "leverage.set": private(kind.OTHER, settings.set_leverage, one),
        "marginType.set": private(kind.OTHER, settings.set_margin_type, one),
        "positionMode": private(kind.ACCOUNT, settings.position_mode, fixed(30)),
        "positionMode.set": private(kind.OTHER, settings.set_position_mode, one),
        "assetsMode": private(kind.ACCOUNT, settings.assets_mode, fixed(30)),
        "assetsMode.set": private(kind.OTHER, settings.set_assets_mode, one),
        "commissionRate": private(kind.ACCOUNT, settings.commission_rate, fixed(20)),
        "income": private(kind.ACCOUNT, accounts.income, fixed(30)),
        "orderRateLimits": private(kind.ACCOUNT, lambda _: limits.order_limits(), one),
        "forceOrders": private(kind.ORDER, _none_liquidated, by_symbol(20, 50)),
    }


def _none_liquidated(call: Call) -> object:
    return []


ROUTES: dict[tuple[str, str], str] = {
    ("GET", "/fapi/v1/ping"): "ping",
    ("GET", "/fapi/v1/time"): "time",
    ("GET", "/fapi/v1/exchangeInfo"): "exchangeInfo",
    ("GET", "/fapi/v1/depth"): "depth",
    ("GET", "/fapi/v1/trades"): "trades.recent",
    ("GET", "/fapi/v1/historicalTrades"): "trades.historical",
    ("GET", "/fapi/v1/aggTrades"): "trades.aggregate",
    ("GET", "/fapi/v1/klines"): "klines",
    ("GET", "/fapi/v1/premiumIndex"): "premiumIndex",
    ("GET", "/fapi/v1/fundingRate"): "fundingRate",
    ("GET", "/fapi/v1/fundingInfo"): "fundingInfo",
    ("GET", "/fapi/v1/ticker/24hr"): "ticker.24hr",
    ("GET", "/fapi/v1/ticker/bookTicker"): "ticker.book",
    ("GET", "/fapi/v1/ticker/price"): "ticker.price",
    ("GET", "/fapi/v2/ticker/price"): "ticker.price",
    ("POST", "/fapi/v1/order"): "order.place",
    ("PUT", "/fapi/v1/order"): "order.modify",
    ("DELETE", "/fapi/v1/order"): "order.cancel",
    ("GET", "/fapi/v1/order"): "order.status",
    ("POST", "/fapi/v1/order/test"): "order.test",
    ("POST", "/fapi/v1/batchOrders"): "orders.place",
    ("DELETE", "/fapi/v1/batchOrders"): "orders.cancel",
    ("GET", "/fapi/v1/openOrder"): "openOrder.status",
    ("GET", "/fapi/v1/openOrders"): "openOrders.status",
    ("DELETE", "/fapi/v1/allOpenOrders"): "openOrders.cancelAll",
    ("POST", "/fapi/v1/countdownCancelAll"): "countdownCancelAll",
    ("GET", "/fapi/v1/allOrders"): "allOrders",
    ("GET", "/fapi/v1/userTrades"): "userTrades",
    ("POST", "/fapi/v1/algoOrder"): "algoOrder.place",
    ("GET", "/fapi/v1/algoOrder"): "algoOrder.status",
    ("DELETE", "/fapi/v1/algoOrder"): "algoOrder.cancel",
    ("GET", "/fapi/v1/openAlgoOrders"): "algoOrders.open",
    ("DELETE", "/fapi/v1/algoOpenOrders"): "algoOrders.cancelAll",
    ("GET", "/fapi/v1/allAlgoOrders"): "algoOrders.all",
    ("GET", "/fapi/v2/balance"): "account.balance",
    ("GET", "/fapi/v3/balance"): "v2/account.balance",
    ("GET", "/fapi/v2/account"): "account.status",
    ("GET", "/fapi/v3/account"): "v2/account.status",
    ("GET", "/fapi/v2/positionRisk"): "account.position",
    ("GET", "/fapi/v3/positionRisk"): "v2/account.position",
    ("GET", "/fapi/v1/accountConfig"): "account.config",
    ("GET", "/fapi/v1/symbolConfig"): "symbol.config",
    ("GET", "/fapi/v1/leverageBracket"): "leverage.brackets",
    ("POST", "/fapi/v1/leverage"): "leverage.set",
    ("POST", "/fapi/v1/marginType"): "marginType.set",
    ("GET", "/fapi/v1/positionSide/dual"): "positionMode",
    ("POST", "/fapi/v1/positionSide/dual"): "positionMode.set",
    ("GET", "/fapi/v1/multiAssetsMargin"): "assetsMode",
    ("POST", "/fapi/v1/multiAssetsMargin"): "assetsMode.set",
    ("GET", "/fapi/v1/commissionRate"): "commissionRate",
    ("GET", "/fapi/v1/income"): "income",
    ("GET", "/fapi/v1/rateLimit/order"): "orderRateLimits",
    ("GET", "/fapi/v1/forceOrders"): "forceOrders",
    ("POST", "/fapi/v1/listenKey"): "listenKey.create",
    ("PUT", "/fapi/v1/listenKey"): "listenKey.keepAlive",
    ("DELETE", "/fapi/v1/listenKey"): "listenKey.close",
    ("GET", "/api/v3/exchangeInfo"): "elsewhere.exchangeInfo",
    ("GET", "/dapi/v1/exchangeInfo"): "elsewhere.exchangeInfo",
    **WALLET_ROUTES,
}
