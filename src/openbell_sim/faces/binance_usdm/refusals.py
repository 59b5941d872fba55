"""Codes of the USD-M venue for what the exchange refuses.

Source: "Error Codes" of the USD-M futures API (developers.binance.com, derivatives,
usds-margined-futures, error-code).
"""

from __future__ import annotations

from openbell_sim.faces.binance.common import errors
from openbell_sim.faces.binance.common.errors import BinanceError
from openbell_sim.instruments import Instrument
from openbell_sim.refusals import Reason, RefusedError

_NOT_A_MAKER = (
    "Due to the order could not be executed as maker, the Post Only order will be rejected. "
    "The order will not be recorded in the order history"
)
_REFUSALS: dict[Reason, tuple[int, str]] = {
    Reason.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    Reason.PRICE_GRID: (-4014, "Price not increased by tick size."),
    Reason.PRICE_COLLAR: (-4016, "Price is higher than mark price multiplier cap."),
    Reason.QUANTITY_GRID: (-4023, "Qty not increased by step size."),
    Reason.TOO_MANY_ORDERS: (-2025, "Reach max open order limit."),
    Reason.INSUFFICIENT_FUNDS: (-2019, "Margin is insufficient."),
    Reason.WOULD_MATCH: (-5022, _NOT_A_MAKER),
    Reason.DUPLICATE_CL_ORD_ID: (-4116, "ClientOrderId is duplicated."),
    Reason.REDUCE_ONLY: (-2022, "ReduceOnly Order is rejected."),
    Reason.WOULD_TRIGGER: (-2021, "Order would immediately trigger."),
    Reason.MARKET_CLOSED: (-4141, "Symbol is closed."),
    Reason.CANCEL_ONLY: (-4140, "Invalid symbol status for opening position."),
    Reason.HALTED: (-1122, "Invalid symbol status."),
    Reason.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
}


def from_refusal(error: RefusedError, instrument: Instrument | None = None) -> BinanceError:
    if error.reason is Reason.MAY_NOT_TRADE:
        return errors.bad_key()
    if error.reason is Reason.NOTIONAL:
        least = f"{instrument.min_notional.normalize():f}" if instrument is not None else "5"
        return BinanceError(
            -4164,
            f"Order's notional must be no smaller than {least} (unless you choose reduce only).",
        )
    return BinanceError(*_REFUSALS[error.reason])
