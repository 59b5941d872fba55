"""Plans of a closing never flip, never exceed, and leave only dust."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from openbell.domain.closing import (
    CancelScope,
    ClosingStatement,
    open_points,
    plan_cancels,
    verified,
)
from openbell.domain.flattening import (
    Dust,
    Flatness,
    RemainingOrder,
    RemainingPosition,
    is_flat,
    plan_flatten,
)
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    Order,
    OrdStatus,
    OrdType,
    Side,
    TimeInForce,
)
from openbell.domain.positions import Position

D = Decimal
KEY = ("binance", "BTC/USDT")
RULES = InstrumentRules(
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    tick_size=D("0.01"),
    lot_size=D("0.001"),
    min_qty=D("0.001"),
    max_qty=D(5),
    min_notional=D(5),
)


def quote(bid: str = "99", ask: str = "101", symbol: str = "BTC/USDT") -> Quote:
    return Quote(
        venue="binance",
        symbol=symbol,
        bid_px=D(bid),
        bid_qty=D(1),
        ask_px=D(ask),
        ask_qty=D(1),
        venue_time_ns=0,
        received_ns=0,
    )


def held(quantity: str | Decimal, avg_px: str = "100") -> Position:
    return Position(venue="binance", symbol="BTC/USDT", quantity=D(quantity), avg_px=D(avg_px))


@settings(max_examples=500)
@given(
    st.decimals("-40", "40", places=5),
    st.decimals("0", "40", places=3),
    st.sampled_from(["market", "limit"]),
    st.sampled_from([D("0.001"), D("0.01"), D(1)]),
    st.sampled_from([D(1), D("1.5"), D(5), D(1000)]),
    st.sampled_from([D(0), D(5), D(90)]),
    st.sampled_from([D("0.001"), D("0.5"), D(1)]),
    st.booleans(),
)
def test_a_flatten_never_flips_and_leaves_only_what_no_order_can_close(
    quantity: Decimal,
    under_way: Decimal,
    mode: str,
    lot: Decimal,
    max_qty: Decimal,
    min_notional: Decimal,
    min_qty: Decimal,
    has_quote: bool,
) -> None:
    rules = replace(
        RULES, lot_size=lot, max_qty=max_qty, min_notional=min_notional, min_qty=min_qty
    )
    quotes = {KEY: quote()} if has_quote else {}
    plan = plan_flatten(
        [held(quantity)],
        {KEY: rules},
        quotes,
        mode,  # type: ignore[arg-type]
        under_way={KEY: under_way},
    )
    total = sum((leg.order_qty for leg in plan.legs), D(0))
    assert total + min(under_way, abs(quantity)) <= abs(quantity) or not plan.legs
    for leg in plan.legs:
        assert leg.side is (Side.SELL if quantity > 0 else Side.BUY)
        assert leg.order_qty % lot == 0
        assert min_qty <= leg.order_qty <= max_qty
        assert leg.order_qty * 100 >= min_notional
        assert (leg.price is None) == (leg.ord_type is OrdType.MARKET)
    left = abs(quantity) - total - under_way
    largest = is_flat(rules.round_qty(max_qty), rules, D(100))
    if left > 0 and largest is Flatness.OPEN:
        assert is_flat(left, rules, D(100)) is not Flatness.OPEN


def test_a_flatten_rounds_down_to_the_lot_and_splits_above_the_largest_order() -> None:
    plan = plan_flatten([held("12.0009")], {KEY: RULES}, {KEY: quote()}, "market")
    assert [leg.order_qty for leg in plan.legs] == [5, 5, 2]
    assert all(leg.side is Side.SELL and leg.price is None for leg in plan.legs)


def test_a_split_leaves_no_part_too_small_to_send() -> None:
    """5.04 with a largest order of 5 would leave 0.04, worth 4 and below the minimum of 5."""
    plan = plan_flatten([held("5.04")], {KEY: RULES}, {KEY: quote()}, "market")
    assert [leg.order_qty for leg in plan.legs] == [D("2.52"), D("2.52")]


def test_dust_is_told_and_not_ordered() -> None:
    plan = plan_flatten([held("-0.04")], {KEY: RULES}, {KEY: quote()}, "market")
    assert plan.legs == ()
    assert plan.dust == (Dust(venue="binance", symbol="BTC/USDT", quantity=D("-0.04")),)


def test_a_limit_flatten_is_ioc_at_the_mid_and_market_where_there_is_no_quote() -> None:
    (leg,) = plan_flatten([held("-2")], {KEY: RULES}, {KEY: quote("99", "101.01")}, "limit").legs
    assert (leg.side, leg.price, leg.time_in_force) == (Side.BUY, D("100.00"), TimeInForce.IOC)
    (leg,) = plan_flatten([held("-2")], {KEY: RULES}, {KEY: quote("NaN", "1")}, "limit").legs
    assert (leg.price, leg.expected_px, leg.expected_fee) == (None, None, None)


def test_a_flatten_says_what_it_will_cost() -> None:
    (leg,) = plan_flatten(
        [held("2")], {KEY: RULES}, {KEY: quote()}, "market", taker_fee=D("0.001")
    ).legs
    assert leg.expected_px == 99
    assert leg.expected_slippage == 2
    assert leg.expected_fee == D("0.198")


def test_a_position_whose_rules_are_not_known_is_named() -> None:
    plan = plan_flatten([held("2")], {}, {}, "market")
    assert plan.legs == ()
    assert plan.blocked == ("binance BTC/USDT: the venue's rules are not known",)


def test_planning_again_while_orders_are_under_way_orders_nothing_twice() -> None:
    plan = plan_flatten(
        [held("2")], {KEY: RULES}, {KEY: quote()}, "market", under_way={KEY: D("1.5")}
    )
    assert [leg.order_qty for leg in plan.legs] == [D("0.5")]
    plan = plan_flatten([held("2")], {KEY: RULES}, {KEY: quote()}, "market", under_way={KEY: D(2)})
    assert plan.legs == ()


@pytest.mark.parametrize(
    ("quantity", "price", "expected"),
    [
        ("0", "100", Flatness.FLAT),
        ("0.0009", "100", Flatness.DUST),
        ("-0.0499", "100", Flatness.DUST),
        ("0.05", "100", Flatness.OPEN),
        ("0.0009", None, Flatness.DUST),
        ("0.001", None, Flatness.OPEN),
        ("0.001", "NaN", Flatness.OPEN),
    ],
)
def test_a_position_is_flat_dust_or_open(
    quantity: str, price: str | None, expected: Flatness
) -> None:
    assert is_flat(D(quantity), RULES, None if price is None else D(price)) is expected


def resting(
    number: int,
    side: Side,
    price: str | None,
    qty: str = "1",
    *,
    symbol: str = "BTC/USDT",
    strategy: str = "mm",
    status: OrdStatus = OrdStatus.NEW,
    post_only: bool = False,
) -> Order:
    return Order(
        new=NewOrder(
            cl_ord_id=ClOrdID(f"ob3f9a01c4-1-{number}"),
            venue="binance",
            symbol=symbol,
            side=side,
            ord_type=OrdType.MARKET if price is None else OrdType.LIMIT,
            order_qty=D(qty),
            price=None if price is None else D(price),
            strategy=strategy,
            post_only=post_only,
        ),
        status=status,
        created_ns=number,
        updated_ns=number,
        leaves_qty=D(0) if status.is_final else D(qty),
    )


def test_the_riskiest_order_is_cancelled_first() -> None:
    orders = [
        resting(1, Side.BUY, "90"),
        resting(2, Side.SELL, "102"),
        resting(3, Side.BUY, "100", "1"),
        resting(4, Side.BUY, "100", "3"),
        resting(5, Side.BUY, None, "1", status=OrdStatus.UNKNOWN),
        resting(6, Side.SELL, "50", "2", symbol="LTC/USDT"),
        resting(7, Side.BUY, "100", status=OrdStatus.CANCELED),
    ]
    targets = plan_cancels(orders, CancelScope(), {KEY: quote()})
    # 5 may trade at once and 6 has no quote: both count as near; the larger goes first.
    assert [target.cl_ord_id[-1] for target in targets] == ["5", "6", "4", "3", "2", "1"]
    assert targets[-1].distance == D("0.11")
    assert targets[2].notional == 300


def test_exactly_the_orders_of_the_scope_are_cancelled() -> None:
    orders = [
        resting(1, Side.BUY, "90"),
        resting(2, Side.BUY, "90", strategy="arb"),
        resting(3, Side.BUY, "90", symbol="ETH/USDT"),
    ]

    def chosen(scope: CancelScope) -> list[str]:
        return [target.cl_ord_id[-1] for target in plan_cancels(orders, scope, {})]

    assert chosen(CancelScope()) == ["1", "2", "3"]
    assert chosen(CancelScope(strategy="mm")) == ["1", "3"]
    assert chosen(CancelScope(symbol="BTC/USDT", strategy="mm")) == ["1"]
    assert chosen(CancelScope(venue="alpaca")) == []
    assert chosen(CancelScope(cl_ord_ids={orders[1].cl_ord_id})) == ["2"]
    assert chosen(CancelScope(cl_ord_ids=())) == [], "an empty list is not every order"


def test_only_what_can_never_take_liquidity_is_passive() -> None:
    """A price that is far away now may be near in the next moment."""
    orders = [
        resting(1, Side.BUY, "90", post_only=True),
        resting(2, Side.BUY, "1"),
        resting(3, Side.BUY, None, post_only=True),
    ]
    targets = plan_cancels(orders, CancelScope(passive_stay=True), {KEY: quote()})
    assert sorted(target.cl_ord_id[-1] for target in targets) == ["2", "3"]


GOOD = ClosingStatement(checkpoint="/state/a.obc", processes_left=0, sockets_left=0)
ORDER = RemainingOrder(
    venue="binance",
    symbol="BTC/USDT",
    cl_ord_id="ob3f9a01c4-1-1",
    venue_order_id="v1",
    side=Side.BUY,
    leaves_qty=D(1),
)
POSITION = RemainingPosition(venue="binance", symbol="BTC/USDT", quantity=D(1))


@pytest.mark.parametrize(
    ("change", "point"),
    [
        ({"remaining_orders": (ORDER,)}, "1 order remains at the venue"),
        ({"remaining_positions": (POSITION,)}, "1 position remains"),
        ({"unknown": ("binance: time-out",)}, "not verified: binance: time-out"),
        ({"checkpoint": None}, "no checkpoint was written"),
        ({"processes_left": 1}, "1 process is left"),
        ({"processes_left": None}, "processes left could not be counted"),
        ({"sockets_left": None}, "sockets left could not be counted"),
        ({"reconciled": False}, "the books differ from the venue"),
    ],
)
def test_a_closing_with_anything_open_is_not_verified(
    change: dict[str, object], point: str
) -> None:
    statement = replace(GOOD, **change)
    assert not verified(statement)
    assert open_points(statement) == [point]


def test_a_closing_is_verified_with_what_the_policy_keeps_and_what_is_anothers() -> None:
    assert verified(GOOD)
    assert verified(replace(GOOD, errors_last_5m=3))
    assert verified(replace(GOOD, remaining_orders=(replace(ORDER, own=False),)))
    assert verified(replace(GOOD, remaining_positions=(POSITION,), positions_kept=True))
    assert verified(replace(GOOD, remaining_orders=(ORDER,), orders_kept=True))
    assert verified(replace(GOOD, remaining_orders=(ORDER,), kept=(ORDER.cl_ord_id,)))
    assert not verified(replace(GOOD, remaining_orders=(ORDER,), kept=("another",)))
    assert verified(replace(GOOD, dust=(Dust(venue="b", symbol="BTC/USDT", quantity=D("0.0001")),)))
