"""What is a limit, and what is none: one rule for desk.toml and for changes while the desk runs."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from openbell.config.soundness import Sound
from openbell.config.units import Amount, Percent

COUNTS = ("max_open_positions", "max_orders_per_second", "max_open_orders")
"""Limits that are whole numbers."""
LEAST = {"max_orders_per_second": 1, "max_open_orders": 1}
"""A desk that is to send nothing is halted."""
COLLAR = "price_collar"
COLLAR_MAX = Decimal(1)
"""A sell cannot be priced further below the market than all of it."""


class NoLimitError(ValueError):
    """The text is for people."""


def checked(name: str, value: Decimal) -> Decimal:
    """The value, where it limits anything. Raises NoLimitError."""
    if not value.is_finite() or value < 0:
        raise NoLimitError(f"{value} is no limit: it is 0 or more")
    if name in COUNTS and value != value.to_integral_value():
        raise NoLimitError(f"{value} is not a whole number")
    if value < LEAST.get(name, 0):
        raise NoLimitError(f"{LEAST[name]} at least; `openbell halt` stops all new orders")
    if name == COLLAR and value > COLLAR_MAX:
        raise NoLimitError(f"{value * 100:f}% is no limit: it is 100% at most")
    return value


LimitAmount = Annotated[Amount, Sound(lambda value: checked("", value))]
"""Money or a quantity that may not be exceeded."""
Collar = Annotated[Percent, Sound(lambda value: checked(COLLAR, value))]
