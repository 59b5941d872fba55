"""Settings of an account: leverage, margin, modes, fees.

Every account is in one-way mode and trades on cross margin in single-asset mode, with the leverage
of its instruments. What would change that is refused.

Source: "Account" and "Trade" of the USD-M futures API, each call's own page.
"""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.faces.binance.common import errors
from openbell_sim.faces.binance.common.errors import BinanceError
from openbell_sim.faces.binance.common.operation import Call, Json
from openbell_sim.faces.binance_usdm.render import ZERO
from openbell_sim.instruments import Instrument

MAINTENANCE = Decimal("0.5")
"""Maintenance margin as a share of the initial margin: what is told of it, since nothing is ever
liquidated here."""
MOST_NOTIONAL = "100000000"


def leverage(item: Instrument) -> int:
    return int(1 / item.margin_rate) if item.margin_rate else 1


def configuration(call: Call) -> Json:
    return {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": False,
        "dualSidePosition": False,
        "updateTime": 0,
        "multiAssetsMargin": False,
        "tradeGroupId": -1,
    }


def symbol_configuration(call: Call) -> list[Json]:
    wanted = call.symbol_or_none()
    return [
        {
            "symbol": symbol,
            "marginType": "CROSSED",
            "isAutoAddMargin": False,
            "leverage": leverage(item),
            "maxNotionalValue": MOST_NOTIONAL,
        }
        for symbol, item in call.exchange.instruments.items()
        if wanted in (None, symbol)
    ]


def leverage_brackets(call: Call) -> Json | list[Json]:
    """One bracket per symbol: there is no tier above it."""

    def of(symbol: str) -> Json:
        item = call.exchange.instruments[symbol]
        bracket: Json = {
            "bracket": 1,
            "initialLeverage": leverage(item),
            "notionalCap": int(MOST_NOTIONAL),
            "notionalFloor": 0,
            "maintMarginRatio": float((item.margin_rate or ZERO) * MAINTENANCE),
            "cum": 0.0,
        }
        return {"symbol": symbol, "notionalCoef": 1.0, "brackets": [bracket]}

    wanted = call.symbol_or_none()
    return of(wanted) if wanted else [of(symbol) for symbol in call.exchange.instruments]


def set_leverage(call: Call) -> Json:
    """Only what it is already."""
    symbol = call.symbol()
    wanted = call.parameters.integer("leverage")
    if wanted != leverage(call.exchange.instruments[symbol]):
        raise BinanceError(-4028, f"Leverage {wanted} is not valid")
    return {"symbol": symbol, "leverage": wanted, "maxNotionalValue": MOST_NOTIONAL}


def set_margin_type(call: Call) -> Json:
    call.symbol()
    if call.parameters.text("marginType") in ("CROSSED", "CROSS"):
        raise BinanceError(-4046, "No need to change margin type.")
    raise errors.not_offered()


def position_mode(call: Call) -> Json:
    return {"dualSidePosition": False}


def set_position_mode(call: Call) -> Json:
    call.parameters.text("dualSidePosition")
    if not call.parameters.flag("dualSidePosition"):
        raise BinanceError(-4059, "No need to change position side.")
    raise errors.not_offered()


def assets_mode(call: Call) -> Json:
    return {"multiAssetsMargin": False}


def set_assets_mode(call: Call) -> Json:
    call.parameters.text("multiAssetsMargin")
    if not call.parameters.flag("multiAssetsMargin"):
        raise BinanceError(-4171, "No need to change multi-assets margin mode.")
    raise errors.not_offered()


def commission_rate(call: Call) -> Json:
    fees = call.exchange.fees
    return {
        "symbol": call.symbol(),
        "makerCommissionRate": str(fees.maker),
        "takerCommissionRate": str(fees.taker),
    }
