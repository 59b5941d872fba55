"""The columns of every list, in the order in which `/trade/config` tells them.

Names and order: the official client's `types.py` and the examples in TradeLocker's reference.
"""

from __future__ import annotations

ORDER = (
    "id", "tradableInstrumentId", "routeId", "qty", "side", "type", "status", "filledQty",
    "avgPrice", "price", "stopPrice", "validity", "expireDate", "createdDate", "lastModified",
    "isOpen", "positionId", "stopLoss", "stopLossType", "takeProfit", "takeProfitType",
    "strategyId",
)  # fmt: skip
"""Of open orders, and of those that ended."""
POSITION = (
    "id", "tradableInstrumentId", "routeId", "side", "qty", "avgPrice", "stopLossId",
    "takeProfitId", "openDate", "unrealizedPl", "strategyId",
)  # fmt: skip
EXECUTION = (
    "id", "price", "side", "createdDate", "qty", "orderId", "positionId", "tradableInstrumentId",
)  # fmt: skip
ACCOUNT = (
    "balance", "projectedBalance", "availableFunds", "blockedBalance", "cashBalance",
    "unsettledCash", "withdrawalAvailable", "stocksValue", "optionValue", "initialMarginReq",
    "maintMarginReq", "marginWarningLevel", "blockedForStocks", "stockOrdersReq", "stopOutLevel",
    "warningMarginReq", "marginBeforeWarning", "todayGross", "todayNet", "todayFees",
    "todayVolume", "todayTradesCount", "openGrossPnL", "openNetPnL", "positionsCount",
    "ordersCount",
)  # fmt: skip
HISTORY_MAX = 10_000
"""Orders of one answer of `ordersHistory`."""
BARS_MAX = 20_000


def config(rate_limits: list[dict[str, object]]) -> dict[str, object]:
    return {
        "customerAccess": {
            "orders": True, "ordersHistory": True, "filledOrders": True, "positions": True,
            "symbolInfo": True, "marketDepth": True,
        },
        "positionsConfig": _list("positions", "Positions", POSITION),
        "ordersConfig": _list("orders", "Orders", ORDER),
        "ordersHistoryConfig": _list("ordersHistory", "Orders history", ORDER),
        "filledOrdersConfig": _list("filledOrders", "Filled orders", EXECUTION),
        "accountDetailsConfig": _list("accountDetails", "Account details", ACCOUNT),
        "rateLimits": rate_limits,
        "limits": [
            {"limitType": "QUOTES_HISTORY_BARS", "limit": BARS_MAX},
            {"limitType": "MAX_ORDERS_COUNT_IN_HISTORY", "limit": HISTORY_MAX},
        ],
    }  # fmt: skip


def _list(name: str, title: str, columns: tuple[str, ...]) -> dict[str, object]:
    return {
        "id": name,
        "title": title,
        "columns": [{"id": column, "description": column} for column in columns],
    }
