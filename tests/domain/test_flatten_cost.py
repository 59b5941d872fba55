"""What a flatten would cost is told as far as it is known, and never as less."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.flatten_cost import Touch, flatten_cost

D = Decimal
FEE = D("0.001")


def touch(**more: Any) -> Touch:
    told = {"bid_px": D(99), "bid_qty": D(1), "ask_px": D(101), "ask_qty": D(5), "age_s": 0.1}
    return Touch(**{**told, **more})


def test_a_long_is_sold_at_the_bid_and_a_short_bought_at_the_offer() -> None:
    sold = flatten_cost(D("0.5"), touch(), FEE, 5.0)
    assert (sold.slippage, sold.fee, sold.is_least) == (D("0.5"), D("0.0495"), False)
    bought = flatten_cost(D(-2), touch(), FEE, 5.0)
    assert (bought.slippage, bought.fee, bought.is_least) == (D(2), D("0.202"), False)


def test_more_than_the_touch_shows_costs_so_much_at_least() -> None:
    assert flatten_cost(D("1.1"), touch(), FEE, 5.0).is_least
    assert not flatten_cost(D(1), touch(), FEE, 5.0).is_least


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (None, "there is no quote"),
        (touch(bid_px=D(102)), "the quote is not sound"),
        (touch(bid_px=D("NaN")), "the quote is not sound"),
        (touch(bid_px=D(0)), "the quote is not sound"),
        (touch(age_s=6.0), "the quote is 6s old"),
    ],
)
def test_without_a_quote_to_go_by_nothing_is_estimated(seen: Touch | None, why: str) -> None:
    cost = flatten_cost(D(1), seen, FEE, 5.0)
    assert cost.slippage is cost.fee is None
    assert cost.unknown == (f"slippage: {why}", f"fee: {why}")


def test_a_fee_that_nobody_told_is_not_known_to_be_nothing() -> None:
    cost = flatten_cost(D(1), touch(), None, 5.0)
    assert cost.slippage == D(1) and cost.fee is None
    assert "taker_fee" in cost.unknown[0]
    assert flatten_cost(D(1), touch(), D(0), 5.0).fee == 0


@given(
    st.decimals(D("0.0001"), D("1e6"), places=4), st.decimals(D("0.01"), D("1e5"), places=2),
    st.decimals(D(0), D(100), places=2), st.booleans(),
)  # fmt: skip
def test_it_is_a_cost_on_either_side(
    held: Decimal, bid: Decimal, spread: Decimal, short: bool
) -> None:
    cost = flatten_cost(-held if short else held, touch(bid_px=bid, ask_px=bid + spread), FEE, 5.0)
    assert cost.slippage is not None and cost.fee is not None
    assert cost.slippage == spread / 2 * held and cost.fee > 0
