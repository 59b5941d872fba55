"""Differences of position that stand, on an account that trades all the time."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.reconcile import Agreement, PositionFinding
from openbell.domain.standing import UNCLEAR_LOOKS, Standing, follow, told

D = Decimal
SYMBOL = "ETH/USDT"


def seen(
    difference: str = "0", *, in_flight: tuple[str, str] = ("0", "0"), clear: bool = True
) -> PositionFinding:
    """What a look finds: `in_flight`, the least and most that orders under way may account for."""
    low, high = D(difference) - D(in_flight[1]), D(difference) - D(in_flight[0])
    beyond = None if low <= 0 <= high else (low, high)
    status = Agreement.OK if D(difference) == 0 else Agreement.MISMATCH
    if D(difference) != 0 and not (clear and in_flight == ("0", "0")):
        status = Agreement.UNKNOWN
    return PositionFinding(
        symbol=SYMBOL,
        books=D(0),
        venue_says=D(difference),
        status=status,
        why="differs",
        beyond=beyond,
    )


def after(*looks: PositionFinding) -> dict[str, Standing]:
    standing: dict[str, Standing] = {}
    for each in looks:
        standing = follow(standing, [each], complete=True)
    return standing


def test_a_difference_is_counted_in_looks_that_orders_under_way_cannot_explain() -> None:
    busy = [seen("-1", in_flight=("-0.05", "0")), seen("-1.05", in_flight=("-0.05", "0.05"))]
    (standing,) = after(seen("-1"), *busy).values()
    assert standing.looks == 3
    assert (standing.low, standing.high) == (D(-1), D(-1))


def test_a_look_that_tells_nothing_neither_counts_nor_forgets() -> None:
    unclear = seen("-1", in_flight=("-2", "2"))
    standing = after(seen("-1"), unclear, seen("-1"), unclear, unclear, seen("-1"))
    assert standing[SYMBOL].looks == 3
    assert told(standing, [seen("-1")], looks=3) == {SYMBOL: "differs"}
    assert "less than the books" in told(standing, [unclear], looks=3)[SYMBOL]
    assert after(seen("-1"), *[unclear] * (UNCLEAR_LOOKS + 1)) == {}


def test_another_difference_and_one_that_passed_are_counted_anew() -> None:
    assert after(seen("-1"), seen("-1"), seen("-2"))[SYMBOL].looks == 1
    assert after(seen("-1"), seen("-1"), seen("0"), seen("-1"))[SYMBOL].looks == 1
    assert after(seen("-1"), seen("1"))[SYMBOL].looks == 1
    assert follow({"BTC/USDT": Standing(D(1), D(1))}, [], complete=True) == {}, "flat on both sides"


def test_what_a_look_that_is_not_complete_does_not_name_is_not_flat_for_that() -> None:
    """The books were flat, the venue held, and once it told no positions: what stood was forgotten."""
    before = {SYMBOL: Standing(D(1), D(1), looks=2)}
    unheard = follow(before, [], complete=False)
    assert unheard == {SYMBOL: Standing(D(1), D(1), looks=2, unclear=1)}
    assert follow(unheard, [seen("1")], complete=True)[SYMBOL].looks == 3
    for _ in range(UNCLEAR_LOOKS):
        unheard = follow(unheard, [], complete=False)
    assert unheard == {}


@given(
    hand=st.integers(-50, 50).filter(bool),
    looks=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(-5, 5)), min_size=1, max_size=20
    ),
)
def test_a_trade_by_hand_is_counted_whatever_is_under_way_and_nothing_else_ever_is(
    hand: int, looks: list[tuple[int, int, int]]
) -> None:
    """What is under way moves the difference by something between what it may sell and buy."""
    busy: dict[str, Standing] = {}
    quiet: dict[str, Standing] = {}
    counted = 0
    for sells, buys, moved in looks:
        moved = max(-sells, min(buys, moved))
        bounds = (str(-sells), str(buys))
        with_hand = seen(str(hand + moved), in_flight=bounds, clear=False)
        busy = follow(busy, [with_hand], complete=True)
        quiet = follow(quiet, [seen(str(moved), in_flight=bounds, clear=False)], complete=True)
        assert quiet == {}
        counted += with_hand.beyond is not None
        if SYMBOL in busy:
            assert busy[SYMBOL].low <= hand <= busy[SYMBOL].high
    if abs(hand) > 10:
        assert counted == len(looks) == busy[SYMBOL].looks, "more than orders under way may trade"
