"""Why the venue says no, in its own neutral words; each face has its codes for them."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    UNKNOWN_SYMBOL = "unknown_symbol"
    PRICE_GRID = "price_grid"
    """Off the tick grid or outside the price range."""
    PRICE_COLLAR = "price_collar"
    """Too far from the last price."""
    QUANTITY_GRID = "quantity_grid"
    NOTIONAL = "notional"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    WOULD_MATCH = "would_match"
    """A post-only order that would take."""
    DUPLICATE_CL_ORD_ID = "duplicate_cl_ord_id"
    TOO_MANY_ORDERS = "too_many_orders"
    REDUCE_ONLY = "reduce_only"
    """Nothing is left to close in that direction."""
    WOULD_TRIGGER = "would_trigger"
    """A stop order whose price has been reached already."""
    MARKET_CLOSED = "market_closed"
    CANCEL_ONLY = "cancel_only"
    HALTED = "halted"
    """Neither orders nor cancels are taken."""
    MAY_NOT_TRADE = "may_not_trade"
    """The key may only read, cancel and close."""
    UNKNOWN_ORDER = "unknown_order"
    """Of a cancel: no such open order."""
    MALFORMED = "malformed"
    """The request could not be read as an order."""


class RefusedError(Exception):
    """The venue's state is as if the request had never come, but for the record of it."""

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(text or reason.value)
        self.reason = reason
        self.text = text
