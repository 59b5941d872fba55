"""What flattening a position would cost, from the best bid and offer alone.

An estimate to decide by, and no promise: a quote shows how much rests at its touch and nothing of what
lies behind it. What is not known is None, with the reason; it is never taken for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from openbell.domain.orders import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """Best bid and offer as somebody saw them."""

    bid_px: Decimal
    bid_qty: Decimal
    ask_px: Decimal
    ask_qty: Decimal
    age_s: float

    @property
    def is_sound(self) -> bool:
        figures = (self.bid_px, self.ask_px, self.bid_qty, self.ask_qty)
        return all(each.is_finite() for each in figures) and 0 < self.bid_px <= self.ask_px


@dataclass(frozen=True, slots=True, kw_only=True)
class FlattenCost:
    """Of market orders, in the symbol's quote currency; positive: a cost."""

    slippage: Decimal | None
    """The touch against the mid."""
    is_least: bool
    """More is to be traded than the touch shows: it will be so much at least."""
    fee: Decimal | None
    unknown: tuple[str, ...] = ()
    """Why one of them is not known."""


def flatten_cost(
    quantity: Decimal, touch: Touch | None, taker_fee: Decimal | None, stale_after_s: float
) -> FlattenCost:
    """`quantity`: signed, as held. `taker_fee`: a share; None: nobody said."""
    why = _no_quote(touch, stale_after_s)
    if why or touch is None:
        unknown = (f"slippage: {why}", f"fee: {why if taker_fee is not None else _NO_FEE}")
        return FlattenCost(slippage=None, is_least=False, fee=None, unknown=unknown)
    sells = quantity > 0
    price, shown = (touch.bid_px, touch.bid_qty) if sells else (touch.ask_px, touch.ask_qty)
    amount = abs(quantity)
    mid = (touch.bid_px + touch.ask_px) / 2
    return FlattenCost(
        slippage=abs(mid - price) * amount,
        is_least=amount > shown,
        fee=None if taker_fee is None else price * amount * taker_fee,
        unknown=() if taker_fee is not None else (f"fee: {_NO_FEE}",),
    )


def slippage_of(
    side: Side, quantity: Decimal, avg_px: Decimal | None, mid_px: Decimal | None
) -> Decimal | None:
    """Of what was traded, against the mid before; positive: a cost. None: not known."""
    if quantity == 0:
        return Decimal(0)
    if avg_px is None or mid_px is None:
        return None
    return (avg_px - mid_px) * side.sign * quantity


_NO_FEE = "desk.toml has no taker_fee for the venue"


def _no_quote(touch: Touch | None, stale_after_s: float) -> str:
    if touch is None:
        return "there is no quote"
    if not touch.is_sound:
        return "the quote is not sound"
    if touch.age_s > stale_after_s:
        return f"the quote is {touch.age_s:.0f}s old"
    return ""
