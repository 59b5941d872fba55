"""Figures as people read them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from openbell.cli.commands.trading import pnl_text, position_row
from openbell.cli.tables import price


@pytest.mark.parametrize(
    ("value", "tick", "said"),
    [
        ("1.084835", "0.00001", "1.08484"),
        ("149.1235", "0.001", "149.124"),
        ("62002.65", "0.1", "62,002.65"),
        ("62002.65", "0.0100", "62,002.65"),
        ("1.084835", None, "1.08484"),
        ("62002.654", None, "62,002.65"),
        ("0.0000123456", None, "0.000012346"),
        ("0", None, "0.00"),
        (None, "0.1", "-"),
    ],
)
def test_a_price_has_the_digits_that_tell_something(
    value: str | None, tick: str | None, said: str
) -> None:
    assert price(value, tick) == said


def test_rows_before_fees_add_up_to_the_total() -> None:
    """A row said -0.03, after a fee in the quote currency, and the total 0.28, before it."""
    row = {
        "venue": "fx",
        "symbol": "EUR/USD",
        "quantity": "0",
        "venue_quantity": "0",
        "avg_px": "0",
        "mark_px": "1.08469",
        "tick_size": "0.00001",
        "realized_pnl": "-0.03",
        "unrealized_pnl": "0",
        "fees": {"USD": "0.31"},
        "fee_cost": "0.31",
    }
    shown = position_row(row)
    assert shown[4:9] == ("-", "1.08469", "0.28", "0.00", "0.31 USD")
    total = {
        "realized": Decimal("0.28"),
        "unrealized": 0,
        "fees": "0.31",
        "net": "-0.03",
        "currency": "USD",
    }
    assert (
        pnl_text(total) == "net -0.03 USD (before fees: realized 0.28, unrealized 0.00; fees 0.31)"
    )
