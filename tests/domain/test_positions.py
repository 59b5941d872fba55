"""Positions against a reference in exact fractions, and money that neither appears nor vanishes."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbell.domain.orders import Side
from openbell.domain.positions import (
    Position,
    apply_fill,
    common_quote,
    revert_fill,
    total_pnl,
    unrealized,
)

D = Decimal
QTY = st.decimals("0.001", "5", places=3)
PX = st.decimals("0.01", "500", places=2)
FEE = st.decimals("-0.01", "0.05", places=4)
FILLS = st.lists(
    st.tuples(st.sampled_from(Side), QTY, PX, FEE, st.sampled_from(["BTC", "USDT", "BNB"])),
    max_size=30,
)
Fill = tuple[Side, Decimal, Decimal, Decimal, str]


def traded(fills: list[Fill], symbol: str = "BTC/USDT") -> Position:
    position = Position(venue="binance", symbol=symbol)
    for side, quantity, price, fee, currency in fills:
        position = apply_fill(
            position,
            side=side,
            quantity=quantity,
            price=price,
            fee=fee,
            fee_currency=currency,
            base="BTC",
            quote="USDT",
        )
    return position


def one(side: Side, qty: str, px: str, fee: str = "0", currency: str = "USDT") -> Fill:
    return side, D(qty), D(px), D(fee), currency


def near(value: Decimal, exact: Fraction) -> bool:
    return abs(Fraction(value) - exact) < Fraction(1, 10**18)


@settings(max_examples=300)
@given(FILLS, PX)
def test_money_is_neither_made_nor_lost(fills: list[Fill], mark: Decimal) -> None:
    """Realized and unrealized P&L together are the account's change, whatever happened between."""
    position = traded(fills)
    cash = held = Fraction(0)
    for side, quantity, price, fee, currency in fills:
        cash -= side.sign * Fraction(quantity) * Fraction(price)
        held += side.sign * Fraction(quantity)
        cash -= Fraction(fee) if currency == "USDT" else 0
        held -= Fraction(fee) if currency == "BTC" else 0
    assert Fraction(position.quantity) == held
    assert near(position.realized_pnl + unrealized(position, mark), cash + held * Fraction(mark))
    if position.is_flat:
        assert Fraction(position.realized_pnl) == cash
        assert position.avg_px == 0


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(Side), QTY, PX), max_size=30))
def test_the_average_is_that_of_the_exact_reference(
    fills: list[tuple[Side, Decimal, Decimal]],
) -> None:
    held = average = realized = Fraction(0)
    position = Position(venue="binance", symbol="BTC/USDT")
    for side, quantity, price in fills:
        position = apply_fill(
            position, side=side, quantity=quantity, price=price, base="BTC", quote="USDT"
        )
        change, px = side.sign * Fraction(quantity), Fraction(price)
        closing = min(abs(change), abs(held)) if held * change < 0 else Fraction(0)
        realized += closing * (px - average) * (1 if held > 0 else -1)
        opening = abs(change) - closing
        after = held + change
        if after == 0:
            average = Fraction(0)
        elif opening and closing:
            average = px
        elif opening:
            average = (abs(held) * average + opening * px) / abs(after)
        held = after
        assert Fraction(position.quantity) == held
        assert near(position.avg_px, average)
        assert near(position.realized_pnl, realized)


@settings(max_examples=200)
@given(FILLS, st.tuples(st.sampled_from(Side), QTY, PX), FILLS, PX)
def test_a_reverted_fill_leaves_no_trace_in_money(
    before: list[Fill], wrong: tuple[Side, Decimal, Decimal], after: list[Fill], mark: Decimal
) -> None:
    with_it = traded([*before, (*wrong, D(0), "USDT"), *after])
    side, quantity, price = wrong
    reverted = revert_fill(
        with_it, side=side, quantity=quantity, price=price, base="BTC", quote="USDT"
    )
    without = traded([*before, *after])
    assert reverted.quantity == without.quantity
    assert (reverted.bought, reverted.sold) == (without.bought, without.sold)
    assert near(
        reverted.realized_pnl + unrealized(reverted, mark),
        Fraction(without.realized_pnl) + Fraction(unrealized(without, mark)),
    )


def test_a_flip_realizes_what_was_held_and_opens_the_rest_at_the_new_price() -> None:
    position = traded([one(Side.BUY, "1", "100"), one(Side.SELL, "3", "110")])
    assert (position.quantity, position.avg_px, position.realized_pnl) == (-2, 110, 10)


def test_a_fee_in_the_base_currency_makes_the_position_smaller() -> None:
    position = traded([one(Side.BUY, "1", "100", "0.001", "BTC")])
    assert position.quantity == D("0.999")
    assert position.avg_px == 100
    assert position.realized_pnl == D("-0.1")
    assert position.fees == {"BTC": D("0.001")}
    # The account paid 100 and holds 0.999 that are worth 199.8.
    assert position.realized_pnl + unrealized(position, D(200)) == D("99.8")


def test_a_total_separates_profit_from_fees_in_every_currency() -> None:
    position = traded(
        [
            one(Side.BUY, "1", "100", "0.1", "USDT"),
            one(Side.BUY, "1", "100", "0.001", "BTC"),
            one(Side.SELL, "1", "120", "0.01", "BNB"),
        ]
    )
    pnl = total_pnl([position], {("binance", "BTC/USDT"): D(110)}, {"BNB": D(600)})
    assert pnl.currency == "USDT"
    assert pnl.fees == D("0.1") + D("0.1") + D(6)
    assert pnl.realized == 20
    assert pnl.unrealized == D("0.999") * 10
    assert pnl.net == pnl.realized + pnl.unrealized - pnl.fees
    # By the account: -200 + 120 in cash, 0.1 of fees, 0.999 BTC held, 0.01 BNB paid.
    assert pnl.net == D(-80) - D("0.1") + D("0.999") * 110 - 6
    assert pnl.unpriced == ()


@pytest.mark.parametrize("mark", [None, D("NaN"), D("Infinity")])
def test_what_has_no_price_is_named_and_not_taken_as_nothing(mark: Decimal | None) -> None:
    position = traded([one(Side.BUY, "1", "100", "0.01", "BNB")])
    marks = {} if mark is None else {("binance", "BTC/USDT"): mark}
    pnl = total_pnl([position], marks, {})
    assert pnl.unpriced == ("binance BTC/USDT", "fees in BNB")
    assert pnl.net == 0


def test_a_flat_position_needs_no_mark() -> None:
    position = traded([one(Side.BUY, "1", "100"), one(Side.SELL, "1", "90")])
    assert total_pnl([position], {}, {}).net == -10
    assert total_pnl([position], {}, {}).unpriced == ()


def test_another_quote_currency_is_converted() -> None:
    position = apply_fill(
        Position(venue="binance", symbol="ETH/BTC"),
        side=Side.BUY,
        quantity=D(10),
        price=D("0.05"),
        base="ETH",
        quote="BTC",
    )
    marks = {("binance", "ETH/BTC"): D("0.06")}
    assert total_pnl([position], marks, {"BTC": D(50000)}, currency="USDT").net == 5000
    assert total_pnl([position], marks, {}, currency="USDT").unpriced == ("binance ETH/BTC",)


def test_a_fee_in_the_base_currency_leaves_a_kept_position_alone() -> None:
    """A dollar-yen position at a broker: the commission is dollars of the account, not of the
    position; what it cost is counted in yen like any other."""
    position = apply_fill(
        Position(venue="broker", symbol="USD/JPY"),
        side=Side.BUY,
        quantity=D(1000),
        price=D(150),
        fee=D(2),
        fee_currency="USD",
        fee_in_kind=False,
        base="USD",
        quote="JPY",
    )
    assert (position.quantity, position.avg_px) == (1000, 150)
    assert position.fee_cost == 300
    assert position.realized_pnl == -300


def test_the_common_quote_is_that_of_most_symbols() -> None:
    assert common_quote(["ETH/BTC", "BTC/USDT", "LTC/USDT"]) == "USDT"
    assert common_quote(["ETH/BTC", "BTC/USDT"]) == "BTC"
    assert common_quote([]) == ""


def _decimal(value: Fraction) -> Decimal:
    return D(value.numerator) / D(value.denominator)
