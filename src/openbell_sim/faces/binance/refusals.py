"""Codes of the spot venue for what the exchange refuses.

Source: errors.md of the spot API: "Filter failures", and "Messages for -1010, -2010 and -2011".
"""

from __future__ import annotations

from openbell_sim.faces.binance.common import errors
from openbell_sim.faces.binance.common.errors import BinanceError
from openbell_sim.refusals import Reason, RefusedError

_REFUSALS: dict[Reason, tuple[int, str]] = {
    Reason.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    Reason.PRICE_GRID: (-1013, "Filter failure: PRICE_FILTER"),
    Reason.PRICE_COLLAR: (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    Reason.QUANTITY_GRID: (-1013, "Filter failure: LOT_SIZE"),
    Reason.NOTIONAL: (-1013, "Filter failure: NOTIONAL"),
    Reason.TOO_MANY_ORDERS: (-1013, "Filter failure: MAX_NUM_ORDERS"),
    Reason.INSUFFICIENT_FUNDS: (-2010, "Account has insufficient balance for requested action."),
    Reason.WOULD_MATCH: (-2010, "Order would immediately match and take."),
    Reason.DUPLICATE_CL_ORD_ID: (-2010, "Duplicate order sent."),
    Reason.REDUCE_ONLY: (-2010, "Unsupported order combination"),
    Reason.WOULD_TRIGGER: (-2010, "Order would trigger immediately."),
    Reason.MARKET_CLOSED: (-1013, "Market is closed."),
    Reason.CANCEL_ONLY: (-1013, "Market is closed."),
    Reason.HALTED: (-1013, "Market is closed."),
    Reason.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
}


def from_refusal(error: RefusedError) -> BinanceError:
    if error.reason is Reason.MAY_NOT_TRADE:
        return errors.bad_key()
    return BinanceError(*_REFUSALS[error.reason])
