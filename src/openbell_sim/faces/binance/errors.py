"""Binance's error codes. Source: its "Error codes" and "Filters" pages for the spot API."""

from __future__ import annotations

from openbell_sim.refusals import Reason, RefusedError


class BinanceError(Exception):
    """Answered as `{"code": -1121, "msg": "Invalid symbol."}` with an HTTP status."""

    def __init__(self, code: int, msg: str, status: int = 400) -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.status = status

    def body(self) -> dict[str, object]:
        return {"code": self.code, "msg": self.msg}


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
    Reason.REDUCE_ONLY: (-2022, "ReduceOnly Order is rejected."),
    Reason.WOULD_TRIGGER: (-2010, "Stop price would trigger immediately."),
    Reason.MARKET_CLOSED: (-1013, "Market is closed."),
    Reason.CANCEL_ONLY: (-1013, "This symbol is in cancel-only mode."),
    Reason.HALTED: (-1013, "Trading is halted."),
    Reason.MAY_NOT_TRADE: (-2015, "Invalid API-key, IP, or permissions for action."),
    Reason.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
}


def from_refusal(error: RefusedError) -> BinanceError:
    return BinanceError(*_REFUSALS[error.reason])


def invalid_symbol() -> BinanceError:
    return BinanceError(-1121, "Invalid symbol.")


def missing(name: str) -> BinanceError:
    return BinanceError(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def not_required(name: str) -> BinanceError:
    return BinanceError(-1106, f"Parameter '{name}' sent when not required.")


def illegal_characters(name: str, pattern: str) -> BinanceError:
    return BinanceError(
        -1100, f"Illegal characters found in parameter '{name}'; legal range is '{pattern}'."
    )


def unknown_order() -> BinanceError:
    return BinanceError(-2011, "Unknown order sent.")


def no_such_order() -> BinanceError:
    return BinanceError(-2013, "Order does not exist.")


def bad_key_format() -> BinanceError:
    return BinanceError(-2014, "API-key format invalid.", 401)


def bad_key() -> BinanceError:
    return BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)


def bad_signature() -> BinanceError:
    return BinanceError(-1022, "Signature for this request is not valid.")


def late_timestamp() -> BinanceError:
    return BinanceError(-1021, "Timestamp for this request is outside of the recvWindow.")


def too_much_weight(limit: int) -> BinanceError:
    return BinanceError(
        -1003,
        f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API.",
        429,
    )


def cancel_refused() -> BinanceError:
    return BinanceError(-2011, "Order was not canceled due to cancel restrictions.")


def of_status(status: int) -> dict[str, object]:
    """What Binance's body says beside an HTTP status that is not about the request itself."""
    if status in (418, 429):
        return BinanceError(-1003, "Way too much request weight used; IP banned.").body()
    return BinanceError(
        -1007,
        "Timeout waiting for response from backend server. "
        "Send status unknown; execution status unknown.",
    ).body()
