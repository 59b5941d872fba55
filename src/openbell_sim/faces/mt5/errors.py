"""What the bridge says when it does not do what it was asked.

`{"error": ..., "retcode": ..., "message": ..., "sent": false}`. `sent` false: nothing reached the
terminal, or the trade server said no; null: nobody knows. Return codes are MetaTrader's (MQL5
Reference, "Return Codes of the Trade Server").
"""

from __future__ import annotations

from openbell_sim.faces.port import Answer
from openbell_sim.refusals import Reason


class BridgeError(Exception):
    def __init__(
        self,
        status: int,
        error: str,
        message: str,
        *,
        retcode: int | None = None,
        sent: bool | None = False,
    ) -> None:
        super().__init__(message)
        self.answer = Answer(
            status, {"error": error, "retcode": retcode, "message": message, "sent": sent}
        )


_RETCODES: dict[Reason, tuple[int, str]] = {
    Reason.UNKNOWN_SYMBOL: (10013, "Invalid request: no such symbol"),
    Reason.PRICE_GRID: (10015, "Invalid price"),
    Reason.PRICE_COLLAR: (10015, "Invalid price"),
    Reason.QUANTITY_GRID: (10014, "Invalid volume"),
    Reason.NOTIONAL: (10014, "Invalid volume"),
    Reason.INSUFFICIENT_FUNDS: (10019, "No money"),
    Reason.WOULD_MATCH: (10015, "Invalid price: a limit order must lie beyond the market"),
    Reason.DUPLICATE_CL_ORD_ID: (10013, "Invalid request: id in use"),
    Reason.TOO_MANY_ORDERS: (10033, "The number of pending orders has reached the limit"),
    Reason.REDUCE_ONLY: (10036, "Position with the specified identifier has already been closed"),
    Reason.WOULD_TRIGGER: (10015, "Invalid price: the stop price has been reached"),
    Reason.MARKET_CLOSED: (10018, "Market is closed"),
    Reason.CANCEL_ONLY: (10044, "Only position closing is allowed"),
    Reason.HALTED: (10017, "Trade is disabled"),
    Reason.MAY_NOT_TRADE: (10026, "Autotrading disabled by server"),
    Reason.UNKNOWN_ORDER: (10035, "Incorrect or prohibited order type"),
    Reason.MALFORMED: (10013, "Invalid request"),
}


def rejected(reason: Reason, text: str = "") -> BridgeError:
    retcode, words = _RETCODES[reason]
    return BridgeError(409, "rejected", text or words, retcode=retcode)


def malformed(message: str) -> BridgeError:
    return BridgeError(400, "malformed", message)


def unauthorized() -> BridgeError:
    return BridgeError(401, "unauthorized", "the bridge wants its bearer token")


def unknown_order() -> BridgeError:
    return BridgeError(404, "unknown_order", "no such order")


def busy() -> BridgeError:
    return BridgeError(429, "busy", "too many requests", retcode=10024)


def disconnected(status: int) -> BridgeError:
    """The terminal gave no answer: whether it took the request is not known."""
    return BridgeError(status, "unknown", "the terminal does not answer", retcode=10012, sent=None)
