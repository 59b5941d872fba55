"""Binance's error codes, as far as all of its venues share them.

Source: "Error codes" of the spot API (github.com/binance/binance-spot-api-docs, errors.md) and of
the USD-M futures API (developers.binance.com, derivatives, usds-margined-futures, error-code).
"""

from __future__ import annotations

import math
from collections.abc import Mapping


class BinanceError(Exception):
    """Answered as `{"code": -1121, "msg": "Invalid symbol."}` with an HTTP status."""

    def __init__(
        self, code: int, msg: str, status: int = 400, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.status = status
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        return {"code": self.code, "msg": self.msg}


def invalid_symbol() -> BinanceError:
    return BinanceError(-1121, "Invalid symbol.")


def missing(name: str) -> BinanceError:
    return BinanceError(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def not_required(name: str) -> BinanceError:
    return BinanceError(-1106, f"Parameter '{name}' sent when not required.")


def not_valid(name: str) -> BinanceError:
    return BinanceError(-1130, f"Data sent for parameter '{name}' is not valid.")


def illegal_characters(name: str, pattern: str) -> BinanceError:
    return BinanceError(
        -1100, f"Illegal characters found in parameter '{name}'; legal range is '{pattern}'."
    )


def invalid_order_type() -> BinanceError:
    return BinanceError(-1116, "Invalid orderType.")


def invalid_side() -> BinanceError:
    return BinanceError(-1117, "Invalid side.")


def invalid_time_in_force() -> BinanceError:
    return BinanceError(-1115, "Invalid timeInForce.")


def not_offered() -> BinanceError:
    """For what Binance has and this simulation has not."""
    return BinanceError(-1020, "This operation is not supported.")


def unknown_order() -> BinanceError:
    return BinanceError(-2011, "Unknown order sent.")


def no_such_order() -> BinanceError:
    return BinanceError(-2013, "Order does not exist.")


def no_listen_key() -> BinanceError:
    return BinanceError(-1125, "This listenKey does not exist.")


def bad_key_format() -> BinanceError:
    return BinanceError(-2014, "API-key format invalid.", 401)


def bad_key() -> BinanceError:
    return BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)


def bad_signature() -> BinanceError:
    return BinanceError(-1022, "Signature for this request is not valid.")


def late_timestamp() -> BinanceError:
    return BinanceError(-1021, "Timestamp for this request is outside of the recvWindow.")


def too_much_weight(limit: int, retry_after_s: float) -> BinanceError:
    return BinanceError(
        -1003,
        f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API.",
        429,
        headers=_retry_after(retry_after_s),
    )


def banned(until_ms: int, retry_after_s: float) -> BinanceError:
    return BinanceError(
        -1003,
        f"Way too much request weight used; IP banned until {until_ms}. "
        "Please use WebSocket Streams for live updates to avoid bans.",
        418,
        headers=_retry_after(retry_after_s),
    )


def too_many_orders(limit: int, period: str) -> BinanceError:
    """Without Retry-After, as Binance documents it."""
    return BinanceError(
        -1015, f"Too many new orders; current limit is {limit} orders per {period}.", 429
    )


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def cancel_refused() -> BinanceError:
    return BinanceError(-2011, "Order was not canceled due to cancel restrictions.")


def of_status(status: int) -> dict[str, object]:
    """What Binance's body says beside an HTTP status that is not about the request itself."""
    if status == 418:
        return BinanceError(-1003, "Way too much request weight used; IP banned.").body()
    if status == 429:
        return BinanceError(
            -1003, "Too much request weight used; please use fewer requests."
        ).body()
    return BinanceError(
        -1007,
        "Timeout waiting for response from backend server. "
        "Send status unknown; execution status unknown.",
    ).body()
