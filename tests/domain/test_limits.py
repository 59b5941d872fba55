"""The last gate: what it holds back, and that no sequence of orders gets round it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbell.config.models import Risk
from openbell.domain.books import Books, WorstCase
from openbell.domain.limits import RISK_STALE_AFTER_NS, GateFacts, check_order, reduces
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    OrderCanceled,
    OrderFilled,
    OrderIntended,
    OrdType,
    Purpose,
    Side,
    TimeInForce,
)
from openbell.domain.permit import PermitScope
from openbell.domain.scopes import DESK

D = Decimal
NOW = 1_000_000_000_000
RULES = InstrumentRules(
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    tick_size=D("0.01"),
    lot_size=D("0.001"),
    min_qty=D("0.001"),
    max_qty=D(100),
    min_notional=D(5),
)
RISK = Risk()


def risk(**limits: Any) -> Risk:
    return RISK.model_copy(update=limits)


def quote(bid: str = "99", ask: str = "101", received_ns: int = NOW) -> Quote:
    return Quote(
        venue="binance",
        symbol="BTC/USDT",
        bid_px=D(bid),
        bid_qty=D(1),
        ask_px=D(ask),
        ask_qty=D(1),
        venue_time_ns=received_ns,
        received_ns=received_ns,
    )


def replace_quote(**change: Any) -> Quote:
    return msgspec.structs.replace(quote(), **change)


FACTS = GateFacts(
    now_ns=NOW,
    scope=PermitScope.TRADE,
    halted=False,
    latched=None,
    reconciled=True,
    venue_up=True,
    rules=RULES,
    quote=quote(),
    worst=WorstCase(),
    open_orders=0,
    others_exposure=D(0),
    others_open=0,
    daily_pnl=D(0),
    sent_last_second=0,
    risk_age_ns=0,
)


def order(
    side: Side = Side.BUY, qty: str = "1", price: str | None = "100", **more: Any
) -> NewOrder:
    given = {
        "cl_ord_id": ClOrdID("ob3f9a01c4-1-1"),
        "venue": "binance",
        "symbol": "BTC/USDT",
        "side": side,
        "ord_type": OrdType.MARKET if price is None else OrdType.LIMIT,
        "order_qty": D(qty),
        "price": None if price is None else D(price),
    }
    return NewOrder(**(given | more))


def code(new: NewOrder, facts: GateFacts = FACTS, limits: Risk = RISK) -> str:
    refusal = check_order(new, facts, limits)
    return refusal.code if refusal else ""


def test_an_ordinary_order_passes() -> None:
    assert check_order(order(), FACTS, RISK) is None
    assert check_order(order(price=None), FACTS, RISK) is None


def test_a_price_that_just_came_but_late_is_refused_with_the_seconds_and_one_in_time_is_not() -> (
    None
):
    late = replace_quote(late_ns=4_900_000_000)
    assert check_order(order(), replace(FACTS, quote=late), RISK) is None
    refusal = check_order(order(), replace(FACTS, quote=late, now_ns=NOW + 200_000_000), RISK)
    assert refusal is not None and refusal.code == "stale_quote" and "4.9s late" in refusal.text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"latched": DESK}, "latched"),
        ({"halted": True}, "halted"),
        ({"disabled": "s is disabled by ann"}, "disabled"),
        ({"scope": PermitScope.NONE}, "no_permit"),
        ({"scope": PermitScope.REDUCE}, "no_permit"),
        ({"reconciled": False}, "not_reconciled"),
        ({"venue_up": False}, "venue_down"),
        ({"rules": None}, "bad_order"),
        ({"quote": None}, "stale_quote"),
        ({"quote": quote(received_ns=NOW - 6_000_000_000)}, "stale_quote"),
        ({"quote": quote(received_ns=NOW + 3_600_000_000_000)}, "stale_quote"),
        ({"quote": replace_quote(late_ns=6_000_000_000)}, "stale_quote"),
        ({"quote": replace_quote(symbol="ETH/USDT")}, "stale_quote"),
        ({"quote": replace_quote(venue="alpaca")}, "stale_quote"),
        ({"quote": quote(bid="NaN")}, "stale_quote"),
        ({"quote": quote(ask="NaN")}, "stale_quote"),
        ({"quote": quote(ask="Infinity")}, "stale_quote"),
        ({"quote": quote(bid="0")}, "stale_quote"),
        ({"quote": quote(bid="102", ask="101")}, "stale_quote"),
        ({"risk_age_ns": None}, "risk_down"),
        ({"risk_age_ns": RISK_STALE_AFTER_NS + 1}, "risk_down"),
        ({"risk_breaches": ("max_daily_loss",)}, "limit_daily_loss"),
        ({"risk_breaches": ("max_position:ETH/USDT",)}, "limit_position"),
        ({"sent_last_second": 50}, "limit_rate"),
        ({"open_orders": 200}, "limit_open_orders"),
    ],
)
def test_what_is_missing_holds_an_order_back(change: dict[str, Any], expected: str) -> None:
    assert code(order(), replace(FACTS, **change)) == expected


@pytest.mark.parametrize(
    "bad",
    [
        order(qty="0"),
        order(qty="-1"),
        order(qty="NaN"),
        order(qty="Infinity"),
        order(qty="0.0015"),
        order(qty="100.001"),
        order(qty="1E+40"),
        order(price="NaN"),
        order(price="0"),
        order(price="-100"),
        order(price="100.005"),
        order(price="1E+40"),
        order(qty="0.001"),
        order(price=None, qty="0.001"),
        order(price=None, ord_type=OrdType.LIMIT),
        order(price="100", ord_type=OrdType.MARKET),
        order(price=None, post_only=True),
        order(post_only=True, time_in_force=TimeInForce.IOC),
        order(symbol="ETH/USDT"),
        order(purpose=Purpose.FLATTEN),
    ],
)
def test_a_bad_order_is_refused(bad: NewOrder) -> None:
    assert code(bad) == "bad_order"


@pytest.mark.parametrize(
    ("price", "passes"), [("105", True), ("105.01", False), ("95", True), ("94.99", False)]
)
def test_a_limit_price_stays_within_the_collar(price: str, passes: bool) -> None:
    assert code(order(price=price)) == ("" if passes else "price_collar")


@pytest.mark.parametrize(
    ("limits", "worst", "new", "expected"),
    [
        ({"max_position": {"BTC/USDT": D(2)}}, WorstCase(D(1)), order(qty="1"), ""),
        (
            {"max_position": {"BTC/USDT": D(2)}},
            WorstCase(D(1)),
            order(qty="1.001"),
            "limit_position",
        ),
        (
            {"max_position": {"BTC/USDT": D(2)}},
            WorstCase(D(1), D("0.5")),
            order(),
            "limit_position",
        ),
        ({"max_position": {"BTC/USDT": D(2)}}, WorstCase(D(1)), order(Side.SELL, "3"), ""),
        (
            {"max_position": {"BTC/USDT": D(2)}},
            WorstCase(D(1)),
            order(Side.SELL, "3.001"),
            "limit_position",
        ),
        ({"max_order_notional": D(100)}, WorstCase(), order(), "limit_notional"),
        ({"max_order_notional": D(101)}, WorstCase(), order(), ""),
        ({"max_notional_per_position": D(250)}, WorstCase(D(1)), order(qty="2"), "limit_notional"),
        ({"max_total_exposure": D(100)}, WorstCase(), order(), "limit_exposure"),
        ({"max_open_positions": 0}, WorstCase(), order(), "limit_open_positions"),
        ({"max_open_positions": 1}, WorstCase(), order(), ""),
    ],
)
def test_limits_count_the_worst_case(
    limits: dict[str, Any], worst: WorstCase, new: NewOrder, expected: str
) -> None:
    assert code(new, replace(FACTS, worst=worst), risk(**limits)) == expected


def test_the_exposure_of_others_counts_and_an_unknown_one_blocks() -> None:
    limits = risk(max_total_exposure=D(1000))
    assert code(order(), replace(FACTS, others_exposure=D(899)), limits) == ""
    assert code(order(), replace(FACTS, others_exposure=D(900)), limits) == "limit_exposure"
    assert code(order(), replace(FACTS, others_exposure=None), limits) == "stale_quote"


@pytest.mark.parametrize(
    ("pnl", "expected"),
    [
        (D("-99"), ""),
        (D(-100), "limit_daily_loss"),
        (None, "risk_down"),
        (D("NaN"), "risk_down"),
    ],
)
def test_a_lost_day_opens_nothing_more(pnl: Decimal | None, expected: str) -> None:
    assert code(order(), replace(FACTS, daily_pnl=pnl), risk(max_daily_loss=D(100))) == expected


BREACHED = replace(
    FACTS,
    worst=WorstCase(D(5)),
    quote=None,
    others_exposure=None,
    others_open=9,
    daily_pnl=None,
    risk_age_ns=None,
    risk_breaches=("max_daily_loss", "max_total_exposure"),
)
TIGHT = {
    "max_position": {"BTC/USDT": D(1)},
    "max_notional_per_position": D(1),
    "max_total_exposure": D(1),
    "max_open_positions": 1,
    "max_daily_loss": D(1),
    "max_order_notional": D(1),
}


@pytest.mark.parametrize("purpose", Purpose)
def test_an_order_that_only_reduces_is_never_locked_in_by_limits(purpose: Purpose) -> None:
    new = order(Side.SELL, "5", price=None, purpose=purpose)
    assert code(new, BREACHED, risk(**TIGHT)) == ""
    assert code(order(Side.SELL, "5.001", price=None), BREACHED, risk(**TIGHT)) != ""


def test_a_flatten_passes_a_halt_a_reduce_permit_and_a_used_up_rate() -> None:
    facts = replace(
        BREACHED,
        halted=True,
        disabled="s is disabled by ann",
        scope=PermitScope.REDUCE,
        sent_last_second=10_000,
        open_orders=10_000,
    )
    assert code(order(Side.SELL, "5", price=None, purpose=Purpose.FLATTEN), facts) == ""
    assert code(order(Side.SELL, "5", price=None), facts) == "halted"
    not_halted = replace(facts, halted=False)
    assert code(order(Side.SELL, "5", price=None), not_halted) == "disabled"
    assert code(order(Side.SELL, "5", price=None), replace(not_halted, disabled="")) == "no_permit"


def test_a_flatten_needs_only_its_own_symbol_to_agree() -> None:
    facts = replace(FACTS, worst=WorstCase(D(5)), reconciled=False, symbol_agrees=True)
    assert code(order(Side.SELL, "5", price=None, purpose=Purpose.FLATTEN), facts) == ""
    assert code(order(Side.SELL, "5", price=None), facts) == "not_reconciled"
    differs = replace(facts, symbol_agrees=False)
    assert (
        code(order(Side.SELL, "5", price=None, purpose=Purpose.FLATTEN), differs)
        == "not_reconciled"
    )


def test_a_flatten_never_passes_the_latch() -> None:
    facts = replace(FACTS, worst=WorstCase(D(5)), latched=DESK)
    assert code(order(Side.SELL, "5", price=None, purpose=Purpose.FLATTEN), facts) == "latched"


@given(
    st.decimals("-5", "5", places=3),
    st.decimals("0", "5", places=3),
    st.decimals("0", "5", places=3),
    st.decimals("0.001", "5", places=3),
    st.sampled_from(Side),
)
def test_what_reduces_cannot_flip_whatever_else_fills(
    position: Decimal, buys: Decimal, sells: Decimal, qty: Decimal, side: Side
) -> None:
    new = order(side, str(qty))
    if not reduces(new, WorstCase(position, buys, sells)):
        return
    same_side = buys if side is Side.BUY else sells
    after = position + side.sign * (same_side + qty)
    assert position != 0
    assert after * position >= 0
    assert abs(after) < abs(position)


STEP = st.tuples(
    st.sampled_from(["order", "order", "fill", "cancel"]),
    st.sampled_from(Side),
    st.integers(1, 1500).map(lambda n: D(n) / 1000),
    st.sampled_from([None, "98", "100", "103"]),
    st.sampled_from([Purpose.TRADE, Purpose.FLATTEN]),
    st.integers(0, 5),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=30))
def test_no_sequence_of_orders_and_fills_exceeds_a_limit(steps: list[tuple[Any, ...]]) -> None:
    limits = risk(
        max_position={"BTC/USDT": D(2)},
        max_total_exposure=D(180),
        max_order_notional=D(120),
        max_open_orders=4,
    )
    books = Books()
    for number, (what, side, qty, price, purpose, pick) in enumerate(steps):
        open_orders = books.open_orders()
        if what == "order":
            cl_ord_id = ClOrdID(f"ob3f9a01c4-1-{number}")
            new = order(side, str(qty), price, cl_ord_id=cl_ord_id, purpose=purpose)
            worst = books.worst_case("binance", "BTC/USDT")
            facts = replace(FACTS, worst=worst, open_orders=len(open_orders))
            if check_order(new, facts, limits) is None:
                books.apply(OrderIntended(cl_ord_id=cl_ord_id, at_ns=number, order=new))
        elif open_orders:
            chosen = open_orders[pick % len(open_orders)]
            if what == "cancel":
                books.apply(OrderCanceled(cl_ord_id=chosen.cl_ord_id, at_ns=number))
            else:
                part = min(chosen.leaves_qty, qty)
                books.apply(
                    OrderFilled(
                        cl_ord_id=chosen.cl_ord_id,
                        at_ns=number,
                        exec_id=str(number),
                        last_qty=part,
                        last_px=D(100),
                    )
                )
        largest = books.worst_case("binance", "BTC/USDT").largest
        assert largest <= 2
        assert largest * 101 <= 180
        assert len(books.open_orders()) <= 4 or purpose is Purpose.FLATTEN
