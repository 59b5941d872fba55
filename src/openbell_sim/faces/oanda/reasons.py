"""OANDA's words for why an order was filled, cancelled or rejected.

Source: "Transaction Definitions": OrderFillReason, OrderCancelReason, TransactionRejectReason.
Where OANDA has no such case (it matches no orders of clients with one another, and has no token
that may not trade) the nearest word is taken; docs/reference/venues/oanda.md lists them.
"""

from __future__ import annotations

from openbell_sim.events import Cancel, Refuse
from openbell_sim.faces.oanda.notes import Note
from openbell_sim.refusals import Reason

_REJECTED: dict[Reason, str] = {
    Reason.UNKNOWN_SYMBOL: "INSTRUMENT_UNKNOWN",
    Reason.PRICE_GRID: "PRICE_PRECISION_EXCEEDED",
    Reason.PRICE_COLLAR: "PRICE_INVALID",
    Reason.QUANTITY_GRID: "UNITS_INVALID",
    Reason.NOTIONAL: "UNITS_LIMIT_EXCEEDED",
    Reason.INSUFFICIENT_FUNDS: "INSUFFICIENT_MARGIN",
    Reason.WOULD_MATCH: "PRICE_INVALID",
    Reason.DUPLICATE_CL_ORD_ID: "CLIENT_ORDER_ID_ALREADY_EXISTS",
    Reason.TOO_MANY_ORDERS: "PENDING_ORDERS_ALLOWED_EXCEEDED",
    Reason.REDUCE_ONLY: "CLOSEOUT_POSITION_DOESNT_EXIST",
    Reason.WOULD_TRIGGER: "PRICE_INVALID",
    Reason.MARKET_CLOSED: "INSTRUMENT_NOT_TRADEABLE",
    Reason.CANCEL_ONLY: "INSTRUMENT_NOT_TRADEABLE",
    Reason.HALTED: "INSTRUMENT_NOT_TRADEABLE",
    Reason.MAY_NOT_TRADE: "ACCOUNT_ORDER_CREATION_LOCKED",
    Reason.UNKNOWN_ORDER: "ORDER_DOESNT_EXIST",
    Reason.MALFORMED: "INTERNAL_SERVER_ERROR",
}

_NOT_NOW: dict[Reason, str] = {
    Reason.MARKET_CLOSED: "MARKET_HALTED",
    Reason.CANCEL_ONLY: "MARKET_HALTED",
    Reason.HALTED: "MARKET_HALTED",
}
"""Why an order is created and cancelled at once rather than rejected."""

_EXPIRED = {
    "no_liquidity": "INSUFFICIENT_LIQUIDITY",
    "self_trade_prevention": "INSUFFICIENT_LIQUIDITY",
    "reduce_only": "LINKED_TRADE_CLOSED",
}


def leaves_no_trace(refusal: Refuse) -> bool:
    """What could not be read as an order makes no transaction."""
    return refusal.reason == Reason.MALFORMED and not refusal.text


def of_rejection(refusal: Refuse) -> str:
    """The face's own word where it refused by itself (it is all capitals), else the exchange's."""
    if refusal.text.replace("_", "").isalpha() and refusal.text.isupper():
        return refusal.text
    return of_reason(Reason(refusal.reason))


def of_reason(reason: Reason) -> str:
    return _REJECTED[reason]


def of_cancellation(refusal: Refuse, note: Note) -> str | None:
    """None: it was rejected, not created and cancelled."""
    reason = Reason(refusal.reason)
    if reason is Reason.INSUFFICIENT_FUNDS and note.kind == "MARKET":
        return "INSUFFICIENT_MARGIN"
    return _NOT_NOW.get(reason)


def of_cancel(event: Cancel) -> str:
    """The face cancels under OANDA's own reasons; everyone else's cancel is the client's."""
    return event.request_id if event.request_id.isupper() else "CLIENT_REQUEST"


def of_cancel_refusal(reason: Reason) -> str:
    """Of a cancel that was refused."""
    if reason is Reason.UNKNOWN_ORDER:
        return "ORDER_DOESNT_EXIST"
    return "ACCOUNT_ORDER_CANCEL_LOCKED"


def of_expiry(reason: str, note: Note) -> str:
    if reason == "time_in_force":
        if note.kind != "MARKET":
            return "TIME_IN_FORCE_EXPIRED"
        return "INSUFFICIENT_LIQUIDITY" if note.bound is None else "BOUNDS_VIOLATION"
    return _EXPIRED.get(reason, "INTERNAL_SERVER_ERROR")


def of_fill(note: Note) -> str:
    if note.kind == "MARKET" and note.reason != "CLIENT_ORDER":
        return f"MARKET_ORDER_{note.reason}"
    return f"{note.kind}_ORDER"
