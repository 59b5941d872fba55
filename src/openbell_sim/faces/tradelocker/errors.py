"""How TradeLocker says no: `{"s": "error", "errmsg": ...}`, in words and without codes.

What it understood and did not do is told with HTTP 200, as its own client expects (`delete_order`
and `create_order` look at `s` and at what is missing). 400, 401, 403 and 404 are as its
reference lists them for each call. The words here are ours.
"""

from __future__ import annotations

from openbell_sim.faces.port import Answer
from openbell_sim.refusals import Reason


class TradeLockerError(Exception):
    def __init__(self, errmsg: str, status: int = 200) -> None:
        super().__init__(errmsg)
        self.answer = Answer(status, {"s": "error", "errmsg": errmsg})


_WORDS = {
    Reason.UNKNOWN_SYMBOL: "Instrument not found",
    Reason.PRICE_GRID: "Invalid price: not a multiple of the tick size",
    Reason.PRICE_COLLAR: "Invalid price: too far from the market",
    Reason.QUANTITY_GRID: "Invalid quantity: check lot step, minimum and maximum lot",
    Reason.NOTIONAL: "Invalid quantity: order value out of bounds",
    Reason.INSUFFICIENT_FUNDS: "Not enough margin",
    Reason.WOULD_MATCH: "Invalid price: order would be executed at once",
    Reason.DUPLICATE_CL_ORD_ID: "Order already exists",
    Reason.TOO_MANY_ORDERS: "Maximum number of pending orders reached",
    Reason.REDUCE_ONLY: "Position not found",
    Reason.WOULD_TRIGGER: "Invalid stop price: the market is beyond it",
    Reason.MARKET_CLOSED: "Market is closed",
    Reason.CANCEL_ONLY: "Trading is halted, orders can only be cancelled",
    Reason.HALTED: "Trading is halted",
    Reason.MAY_NOT_TRADE: "Trading is not allowed on this account",
    Reason.UNKNOWN_ORDER: "Order not found or not active",
    Reason.MALFORMED: "Invalid request",
}


def refused(reason: Reason) -> TradeLockerError:
    return TradeLockerError(_WORDS[reason])


def malformed(words: str) -> TradeLockerError:
    return TradeLockerError(words, 400)


def bad_credentials() -> TradeLockerError:
    """Of a login. Its reference lists 400 and no other."""
    return TradeLockerError("Invalid credentials", 400)


def unauthorized() -> TradeLockerError:
    return TradeLockerError("Unauthorized", 401)


def not_found(what: str) -> TradeLockerError:
    return TradeLockerError(f"{what} not found", 404)


def throttled() -> TradeLockerError:
    return TradeLockerError("Too many requests", 429)
