"""Amounts as people read them; `--json` and the records have them exactly."""

from __future__ import annotations

from decimal import Decimal

NOTHING = "-"


def number(value: object, digits: int | None = None) -> str:
    """An amount in plain figures without trailing zeros, or with so many digits; `-` for None."""
    if value is None:
        return NOTHING
    amount = Decimal(str(value))
    if digits is not None:
        return f"{amount:,.{digits}f}"
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(fraction: object) -> str:
    """`5%` of 0.05, as desk.toml has it."""
    return f"{number(Decimal(str(fraction)) * 100)}%"
