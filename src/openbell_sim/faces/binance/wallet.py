"""`/sapi` calls of the main site: what a key may do, coins, fees. Clients of every one of Binance's
venues make them.

Source: "Wallet" of developers.binance.com: Get API Key Permission, All Coins' Information, Trade
Fee.
"""

from __future__ import annotations

from collections.abc import Callable

from openbell_sim.faces.binance.common.operation import (
    Call,
    Json,
    Operation,
    fixed,
    private,
)
from openbell_sim.faces.port import RequestKind

_CREATED_MS = 1_577_836_800_000
"""When every key of a simulated venue was made: the start of 2020."""


def wallet_operations(*, futures: bool) -> dict[str, Operation]:
    """`futures`: which kind of trading the venue's keys are for."""
    return {
        "capital.coins": private(RequestKind.ACCOUNT, _coins, fixed(10)),
        "margin.pairs": private(RequestKind.OTHER, lambda call: [], fixed(1)),
        "apiRestrictions": private(RequestKind.ACCOUNT, _restrictions(futures), fixed(1)),
        "tradeFee": private(RequestKind.ACCOUNT, _trade_fees, fixed(1)),
    }


WALLET_ROUTES: dict[tuple[str, str], str] = {
    ("GET", "/sapi/v1/capital/config/getall"): "capital.coins",
    ("GET", "/sapi/v1/margin/allPairs"): "margin.pairs",
    ("GET", "/sapi/v1/margin/isolated/allPairs"): "margin.pairs",
    ("GET", "/sapi/v1/account/apiRestrictions"): "apiRestrictions",
    ("GET", "/sapi/v1/asset/tradeFee"): "tradeFee",
}


def _coins(call: Call) -> list[Json]:
    """The currencies of the venue's symbols; none of them can be withdrawn from a simulation."""
    currencies = sorted(
        {c for item in call.exchange.instruments.values() for c in (item.base, item.quote)}
    )
    return [
        {
            "coin": currency,
            "name": currency,
            "depositAllEnable": False,
            "withdrawAllEnable": False,
            "trading": True,
            "isLegalMoney": False,
            "free": "0",
            "locked": "0",
            "freeze": "0",
            "withdrawing": "0",
            "ipoing": "0",
            "ipoable": "0",
            "storage": "0",
            "networkList": [],
        }
        for currency in currencies
    ]


def _restrictions(futures: bool) -> Callable[[Call], Json]:
    def restrictions(call: Call) -> Json:
        return {
            "ipRestrict": False,
            "createTime": _CREATED_MS,
            "enableReading": True,
            "enableSpotAndMarginTrading": call.may_trade and not futures,
            "enableWithdrawals": False,
            "enableInternalTransfer": False,
            "enableMargin": False,
            "enableFutures": call.may_trade and futures,
            "permitsUniversalTransfer": False,
            "enableVanillaOptions": False,
            "enableFixApiTrade": False,
            "enableFixReadOnly": False,
            "enablePortfolioMarginTrading": False,
        }

    return restrictions


def _trade_fees(call: Call) -> list[Json]:
    wanted = call.symbol_or_none()
    fees = call.exchange.fees
    return [
        {
            "symbol": symbol,
            "makerCommission": str(fees.maker),
            "takerCommission": str(fees.taker),
        }
        for symbol in call.exchange.markets
        if wanted in (None, symbol)
    ]
