"""How Coinbase says no.

Three ways. Around an order it answers 200 with `"success": false` and a reason ("Create Order",
`error_response`; "Cancel Orders", `failure_reason`; "Edit Order", `errors`). A request that it does
not take at all is `{"error", "error_details", "message"}` with an HTTP status, as its gRPC gateway
writes errors. A key that is not accepted is 401 and the bare word "Unauthorized".

Reasons are those of the enumerations of the API reference; which of them Coinbase gives where two
would fit is not documented, and here it is the more particular one.
"""

from __future__ import annotations

from openbell_sim.refusals import Reason

Json = dict[str, object]

UNKNOWN_FAILURE = "UNKNOWN_FAILURE_REASON"
UNKNOWN_PREVIEW_FAILURE = "UNKNOWN_PREVIEW_FAILURE_REASON"


class CoinbaseError(Exception):
    """Answered as `body` with an HTTP status."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


class OrderFailedError(Exception):
    """Answered 200: `"success": false` and this reason. `preview` says the same in the words of the
    check that Coinbase makes before every order."""

    def __init__(self, reason: str, preview: str, message: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.preview = preview
        self.message = message

    def body(self) -> Json:
        return {
            "error": self.reason,
            "message": self.message,
            "error_details": "",
            "preview_failure_reason": self.preview,
            "new_order_failure_reason": UNKNOWN_FAILURE,
        }


_FAILURES: dict[Reason, tuple[str, str, str]] = {
    Reason.UNKNOWN_SYMBOL: (
        "INVALID_PRODUCT_ID", "PREVIEW_INVALID_PRODUCT_ID", "Invalid product id",
    ),
    Reason.PRICE_GRID: (
        "INVALID_PRICE_PRECISION", "PREVIEW_INVALID_PRICE_PRECISION", "Too many decimals in order price",
    ),
    Reason.PRICE_COLLAR: (
        "LIMIT_PRICE_TOO_FAR_FROM_MARKET", "PREVIEW_INVALID_LIMIT_PRICE",
        "Limit price is too far from the market",
    ),
    Reason.QUANTITY_GRID: (
        "INVALID_SIZE_PRECISION", "PREVIEW_INVALID_SIZE_PRECISION", "Too many decimals in order amount",
    ),
    Reason.NOTIONAL: (
        "UNKNOWN_FAILURE_REASON", "PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL",
        "Order size is outside of the product's bounds",
    ),
    Reason.INSUFFICIENT_FUNDS: (
        "INSUFFICIENT_FUND", "PREVIEW_INSUFFICIENT_FUND", "Insufficient balance in source account",
    ),
    Reason.WOULD_MATCH: (
        "INVALID_LIMIT_PRICE_POST_ONLY", "PREVIEW_INVALID_LIMIT_PRICE_POST_ONLY",
        "Post only order would cross the book",
    ),
    # Never seen here: an order of a known client_order_id is answered with the first one.
    Reason.DUPLICATE_CL_ORD_ID: ("INVALID_REQUEST", UNKNOWN_PREVIEW_FAILURE, "Duplicate order"),
    Reason.TOO_MANY_ORDERS: (
        "COMMANDER_REJECTED_NEW_ORDER", UNKNOWN_PREVIEW_FAILURE, "Too many open orders",
    ),
    Reason.REDUCE_ONLY: (
        "INVALID_REQUEST", UNKNOWN_PREVIEW_FAILURE, "Reduce only is not offered for this product",
    ),
    Reason.WOULD_TRIGGER: (
        UNKNOWN_FAILURE, "PREVIEW_STOP_PRICE_BELOW_LAST_TRADE_PRICE",
        "Stop price is on the wrong side of the last trade",
    ),
    Reason.MARKET_CLOSED: (
        "ORDER_ENTRY_DISABLED", UNKNOWN_PREVIEW_FAILURE, "Order entry is disabled",
    ),
    Reason.CANCEL_ONLY: (
        "ORDER_ENTRY_DISABLED", UNKNOWN_PREVIEW_FAILURE, "The product is in cancel only mode",
    ),
    Reason.HALTED: ("ORDER_ENTRY_DISABLED", UNKNOWN_PREVIEW_FAILURE, "Trading is disabled"),
    Reason.UNKNOWN_ORDER: ("INVALID_REQUEST", UNKNOWN_PREVIEW_FAILURE, "Unknown order"),
    Reason.MALFORMED: ("INVALID_REQUEST", "PREVIEW_INVALID_ORDER_CONFIG", "Invalid request"),
}  # fmt: skip


def order_failure(reason: Reason, stop_is_up: bool = False) -> OrderFailedError | CoinbaseError:
    """What a refusal of the exchange is here."""
    if reason is Reason.MAY_NOT_TRADE:
        return permission_denied()
    code, preview, message = _FAILURES[reason]
    if reason is Reason.WOULD_TRIGGER and not stop_is_up:
        preview = "PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE"
    return OrderFailedError(code, preview, message)


def cancel_failure(reason: Reason) -> str:
    """The `failure_reason` of a cancel."""
    if reason in (Reason.HALTED, Reason.MARKET_CLOSED):
        return "COMMANDER_REJECTED_CANCEL_ORDER"
    return "UNKNOWN_CANCEL_ORDER"


def _gateway(status: int, error: str, details: str) -> CoinbaseError:
    return CoinbaseError(
        status, {"error": error, "error_details": details, "message": details, "code": status}
    )


def invalid_argument(details: str) -> CoinbaseError:
    return _gateway(400, "INVALID_ARGUMENT", details)


def permission_denied() -> CoinbaseError:
    return _gateway(403, "PERMISSION_DENIED", "Missing required scopes")


def order_not_found() -> CoinbaseError:
    return _gateway(404, "unknown", "order with this orderID was not found")


def product_not_found(product_id: str) -> CoinbaseError:
    return _gateway(404, "NOT_FOUND", f"valid product_id is required: {product_id}")


def account_not_found() -> CoinbaseError:
    return _gateway(404, "NOT_FOUND", "account not found")


def unauthorized() -> CoinbaseError:
    return CoinbaseError(401, "Unauthorized")


def rate_limited() -> CoinbaseError:
    return CoinbaseError(
        429, {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}
    )


def unavailable(status: int) -> CoinbaseError:
    return _gateway(status, "UNAVAILABLE", "upstream request timeout")
