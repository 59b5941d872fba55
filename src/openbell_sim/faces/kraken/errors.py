"""Kraken's error strings.

Source: docs.kraken.com, "Error messages" (guides, general), except for two that no page lists but
the venue gives: `EOrder:Post only order`, and `EGeneral:Invalid arguments:cl_ord_id not unique`.
"""

from __future__ import annotations

from openbell_sim.refusals import Reason, RefusedError


class KrakenError(Exception):
    """Answered as `{"error": ["EOrder:Unknown order"]}` with HTTP 200."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


_REFUSALS = {
    Reason.UNKNOWN_SYMBOL: "EQuery:Unknown asset pair",
    Reason.PRICE_GRID: "EOrder:Tick size check failed",
    Reason.PRICE_COLLAR: "EOrder:Invalid price",
    Reason.QUANTITY_GRID: "EOrder:Order minimum not met",
    Reason.NOTIONAL: "EOrder:Cost minimum not met",
    Reason.INSUFFICIENT_FUNDS: "EOrder:Insufficient funds",
    Reason.WOULD_MATCH: "EOrder:Post only order",
    Reason.DUPLICATE_CL_ORD_ID: "EGeneral:Invalid arguments:cl_ord_id not unique",
    Reason.TOO_MANY_ORDERS: "EOrder:Orders limit exceeded",
    Reason.REDUCE_ONLY: "EOrder:Reduce only:No position exists",
    Reason.WOULD_TRIGGER: "EOrder:Invalid price",
    Reason.MARKET_CLOSED: "EService:Unavailable",
    Reason.CANCEL_ONLY: "EService:Market in cancel_only mode",
    Reason.HALTED: "EService:Unavailable",
    Reason.MAY_NOT_TRADE: "EGeneral:Permission denied",
    Reason.UNKNOWN_ORDER: "EOrder:Unknown order",
    Reason.MALFORMED: "EGeneral:Invalid arguments",
}

INVALID_KEY = "EAPI:Invalid key"
INVALID_SIGNATURE = "EAPI:Invalid signature"
INVALID_NONCE = "EAPI:Invalid nonce"
CALL_RATE = "EAPI:Rate limit exceeded"
ORDER_RATE = "EOrder:Rate limit exceeded"
UNKNOWN_ORDER = "EOrder:Unknown order"
INVALID_ORDER = "EOrder:Invalid order"
"""Of an identifier that no order ever had."""
UNKNOWN_PAIR = "EQuery:Unknown asset pair"
UNKNOWN_METHOD = "EGeneral:Unknown method"
UNAVAILABLE = "EService:Unavailable"
DEADLINE = "EService:Deadline elapsed"
INVALID_SESSION = "ESession:Invalid session"


def from_refusal(error: RefusedError) -> KrakenError:
    return KrakenError(_REFUSALS[error.reason])


def invalid(name: str = "") -> KrakenError:
    return KrakenError("EGeneral:Invalid arguments" + (f":{name}" if name else ""))
