"""Alpaca's errors: `{"code": 40310000, "message": "insufficient buying power"}`.

The first three digits of a code are the HTTP status by which Alpaca files it; the reply's own
status differs in places (a malformed order is 422 with 4001xxxx). Sources: the API reference's
responses of each call; the guide "How to fix common Trading API errors" (alpaca.markets/learn);
the words of 40310000 and 42210000 as the issues of Alpaca's own client libraries quote them.
"""

from __future__ import annotations

from collections.abc import Mapping

from openbell_sim.checks import OrderRequest
from openbell_sim.faces.alpaca import names
from openbell_sim.refusals import Reason, RefusedError

MALFORMED = 40010001
UNAUTHORIZED = 40110000
FORBIDDEN = 40310000
NOT_FOUND = 40410000
UNPROCESSABLE = 42210000
TOO_MANY_REQUESTS = 42910000


class AlpacaError(Exception):
    def __init__(
        self, status: int, code: int, message: str, more: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self._more = more or {}

    def body(self) -> dict[str, object]:
        return {"code": self.code, "message": self.message, **self._more}


def malformed(message: str) -> AlpacaError:
    return AlpacaError(422, MALFORMED, message)


def unprocessable(message: str) -> AlpacaError:
    return AlpacaError(422, UNPROCESSABLE, message)


def forbidden(message: str, more: Mapping[str, object] | None = None) -> AlpacaError:
    return AlpacaError(403, FORBIDDEN, message, more)


def not_found(message: str) -> AlpacaError:
    return AlpacaError(404, NOT_FOUND, message)


def unauthorized() -> AlpacaError:
    return AlpacaError(401, UNAUTHORIZED, "request is not authorized")


def too_many_requests() -> AlpacaError:
    return AlpacaError(429, TOO_MANY_REQUESTS, "rate limit exceeded")


def not_unique() -> AlpacaError:
    return malformed("client_order_id must be unique")


def ended(status: str) -> AlpacaError:
    return unprocessable(f'order is already in "{status}" state')


def of_status(status: int) -> dict[str, object]:
    """The body beside a status that is not about the request itself."""
    if status == 429:
        return too_many_requests().body()
    return {"code": status * 100_000 + 10_000, "message": "internal server error occurred"}


def insufficient_quantity(
    symbol: str, *, requested: str, existing: str, held: str, available: str
) -> AlpacaError:
    return forbidden(
        f"insufficient qty available for order (requested: {requested}, available: {available})",
        {
            "symbol": symbol,
            "existing_qty": existing,
            "held_for_orders": held,
            "available": available,
        },
    )


def from_refusal(error: RefusedError, request: OrderRequest) -> AlpacaError:
    """The exchange's no in Alpaca's words."""
    match error.reason:
        case Reason.UNKNOWN_SYMBOL:
            return unprocessable(f'asset "{request.symbol}" not found')
        case Reason.PRICE_GRID:
            name, price = ("limit_price", request.price)
            if price is None:
                name, price = ("stop_price", request.stop_price)
            shown = names.number_or_none(price)
            return unprocessable(
                f"invalid {name} {shown}. sub-penny increment does not fulfill minimum pricing "
                "criteria"
            )
        case Reason.PRICE_COLLAR:
            return unprocessable("limit price is too far from the market")
        case Reason.QUANTITY_GRID:
            return unprocessable("invalid qty: at most nine digits after the point")
        case Reason.NOTIONAL:
            return forbidden("cost basis must be >= minimal amount of order 1")
        case Reason.INSUFFICIENT_FUNDS:
            return forbidden("insufficient buying power")
        case Reason.WOULD_MATCH:
            # No order of this face is post-only: Alpaca has none.
            return unprocessable("order would match")
        case Reason.DUPLICATE_CL_ORD_ID:
            return not_unique()
        case Reason.TOO_MANY_ORDERS:
            return forbidden("too many open orders")
        case Reason.REDUCE_ONLY:
            return not_found("position does not exist")
        case Reason.WOULD_TRIGGER:
            return unprocessable("stop price must be beyond the current price")
        case Reason.MARKET_CLOSED:
            return unprocessable("market is closed: this venue queues no orders")
        case Reason.CANCEL_ONLY:
            return unprocessable("market is in cancel-only mode")
        case Reason.HALTED:
            return unprocessable("trading is halted")
        case Reason.MAY_NOT_TRADE:
            return forbidden("account is not allowed to trade")
        case Reason.UNKNOWN_ORDER:
            return not_found("order not found")
        case Reason.MALFORMED:
            return malformed(error.text or "request body format is invalid")
