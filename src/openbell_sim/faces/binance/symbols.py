"""Symbols as exchangeInfo lists them, with the filters that their orders must pass.

Shapes: "Exchange information" of rest-api.md, and filters.md of the same documentation.
"""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.faces.binance import render
from openbell_sim.faces.binance.common.operation import Json
from openbell_sim.instruments import Instrument
from openbell_sim.sessions import MarketState

_ORDER_TYPES = ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT"]
_SYMBOL_STATUS = {
    MarketState.OPEN: "TRADING",
    MarketState.CANCEL_ONLY: "BREAK",
    MarketState.HALTED: "HALT",
    MarketState.CLOSED: "END_OF_DAY",
}
_PREVENTIONS = ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"]


def listed(item: Instrument, state: MarketState, max_open_orders: int) -> Json:
    """One entry of exchangeInfo's `symbols`."""
    return {
        "symbol": item.symbol,
        "status": _SYMBOL_STATUS[state],
        "baseAsset": item.base,
        "baseAssetPrecision": 8,
        "quoteAsset": item.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": _ORDER_TYPES,
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": render.money(item.min_price),
                "maxPrice": render.money(item.max_price),
                "tickSize": render.money(item.tick),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": render.money(item.min_qty),
                "maxQty": render.money(item.max_qty),
                "stepSize": render.money(item.lot),
            },
            {
                "filterType": "MARKET_LOT_SIZE",
                "minQty": render.money(Decimal(0)),
                "maxQty": render.money(item.max_qty),
                "stepSize": render.money(Decimal(0)),
            },
            {
                "filterType": "PERCENT_PRICE_BY_SIDE",
                "bidMultiplierUp": str(item.collar_up),
                "bidMultiplierDown": str(item.collar_down),
                "askMultiplierUp": str(item.collar_up),
                "askMultiplierDown": str(item.collar_down),
                "avgPriceMins": 0,
            },
            {
                "filterType": "NOTIONAL",
                "minNotional": render.money(item.min_notional),
                "applyMinToMarket": True,
                "maxNotional": render.money(item.max_notional),
                "applyMaxToMarket": True,
                "avgPriceMins": 0,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": max_open_orders},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": _PREVENTIONS,
    }
