"""Every difference has a kind; what is adopted leaves none; an incomplete answer proves nothing."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbell.domain import ids
from openbell.domain.books import Books
from openbell.domain.compared import Difference, VenueComparison
from openbell.domain.differences import (
    EMPTY_FOR_S,
    BalanceFacts,
    More,
    classify,
    digest_of,
    overall,
    to_adopt,
    unreachable,
)
from openbell.domain.external import AdoptedTrade, PositionAdopted
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderInDoubt,
    OrderIntended,
    OrdType,
    Side,
)
from openbell.domain.reconcile import (
    Agreement,
    BookFacts,
    FillFacts,
    Kind,
    OrderFacts,
    VenueFacts,
    agreement_of,
    reconcile,
)

D = Decimal
DESK = "3f9a01c4"
VENUE = "sim"
SYMBOLS = ("BTC/USDT", "ETH/USDT", "LTC/USDT")
ASKED = 1_000_000
HOLDINGS = {"BTC": D(5), "ETH": D(5), "LTC": D(5)}


def fill_of(number: int, symbol: str, side: Side, qty: Decimal, at: int, **more: Any) -> FillFacts:
    return FillFacts(
        exec_id=f"x{number}", venue_order_id=f"v{number}", cl_ord_id=ClOrdID(""), symbol=symbol,
        side=side, last_qty=qty, last_px=D(100), venue_time_ns=at, **more,
    )  # fmt: skip


class World:
    """Books and a venue that agree, until faults are put between them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.books = Books()
        self.open: list[OrderFacts] = []
        self.fills: list[FillFacts] = []
        self.positions = dict.fromkeys(SYMBOLS, D(0))
        self.complete = True
        self.silent = False
        self.forgotten: set[str] = set()
        self.number = 0
        for _ in range(self.random.randint(0, 6)):
            self.order()

    def order(self, *, booked: bool = True, filled: Decimal | None = None) -> None:
        self.number += 1
        symbol, side = self.random.choice(SYMBOLS), self.random.choice(list(Side))
        cl_ord_id, venue_id = ids.mint(DESK, 1, self.number), f"v{self.number}"
        cum = D(self.random.randint(0, 9)) if filled is None else filled
        if booked:
            new = NewOrder(
                cl_ord_id=cl_ord_id, venue=VENUE, symbol=symbol, side=side,
                ord_type=OrdType.LIMIT, order_qty=D(10), price=D(100), strategy="s",
            )  # fmt: skip
            self.books.apply(OrderIntended(cl_ord_id=cl_ord_id, at_ns=1, order=new))
            self.books.apply(OrderAccepted(cl_ord_id=cl_ord_id, at_ns=2, venue_order_id=venue_id))
        if cum:
            told = replace(fill_of(self.number, symbol, side, cum, 10), venue_order_id=venue_id)
            self.fills.append(told)
            self.positions[symbol] += side.sign * cum
            if booked:
                self.books.apply(
                    OrderFilled(
                        cl_ord_id=cl_ord_id, at_ns=3, exec_id=told.exec_id, last_qty=cum,
                        last_px=D(100), venue_time_ns=10,
                    )
                )  # fmt: skip
        self.open.append(
            OrderFacts(
                cl_ord_id=cl_ord_id, venue_order_id=venue_id, symbol=symbol, side=side,
                order_qty=D(10), cum_qty=cum, price=D(100),
            )
        )  # fmt: skip

    def fault(self, name: str) -> None:
        self.number += 1
        symbol, side = self.random.choice(SYMBOLS), self.random.choice(list(Side))
        mine = next(iter(self.books.open_orders()), None)
        match name:
            case "hand":
                qty = D(self.random.randint(1, 5))
                self.positions[symbol] += side.sign * qty
                self.fills.append(fill_of(self.number, symbol, side, qty, self.number + 100))
            case "transfer":
                self.positions[symbol] += side.sign * D(self.random.randint(1, 5))
            case "dust":
                self.positions[symbol] += D("0.0001")
            case "cut":
                self.complete = False
                del self.open[: self.random.randint(0, len(self.open))]
            case "silent":
                self.silent = True
            case "forgets a symbol":
                self.forgotten.add(symbol)
            case "hides fills":
                self.fills.clear()
            case "foreign order":
                order = OrderFacts(
                    cl_ord_id=ClOrdID("web-1"), venue_order_id="w1", symbol=symbol, side=side,
                    order_qty=D(1), cum_qty=D(0),
                )  # fmt: skip
                self.open.append(order)
            case "unknown own order":
                self.order(booked=False)
            case "doubt" if mine:
                self.books.apply(OrderInDoubt(cl_ord_id=mine.cl_ord_id, at_ns=5, why="lost"))
            case "moving" if mine:
                self.books.apply(OrderInDoubt(cl_ord_id=mine.cl_ord_id, at_ns=ASKED, why="lost"))
            case "stray" if mine:
                self.books.apply(OrderCanceled(cl_ord_id=mine.cl_ord_id, at_ns=6))

    def sides(self) -> tuple[BookFacts, VenueFacts]:
        ours = BookFacts(
            venue=VENUE, desk_id=DESK, orders=tuple(self.books.orders.values()),
            positions=self.books.quantities(VENUE),
            tolerance=dict.fromkeys(SYMBOLS, D("0.001")),
        )  # fmt: skip
        venue = VenueFacts(
            asked_ns=ASKED, open_orders=tuple(self.open), complete=self.complete,
            positions=None
            if self.silent
            else {s: q for s, q in self.positions.items() if s not in self.forgotten},
            fills=tuple(self.fills),
        )  # fmt: skip
        return ours, venue

    def compare(self, **more: Any) -> VenueComparison:
        ours, venue = self.sides()
        balances = [
            BalanceFacts(currency=s[:3], free=HOLDINGS[s[:3]] + self.positions.get(s, D(0)), locked=D(0))
            for s in SYMBOLS
        ]  # fmt: skip
        known = {
            "adopted": self.books.adopted_at(VENUE), "balances": balances, "holdings": HOLDINGS,
        }  # fmt: skip
        return classify(ours, venue, reconcile(ours, venue), More(**{**known, **more}))

    def adopt(self, difference: Difference) -> None:
        assert difference.books is not None and difference.venue_says is not None
        self.books.apply(
            PositionAdopted(
                at_ns=ASKED, venue=VENUE, symbol=difference.symbol, books_qty=difference.books,
                venue_qty=difference.venue_says, as_of_ns=ASKED, rest=difference.unexplained,
                rest_px=D(100), by="alice", reason="test",
                trades=tuple(
                    AdoptedTrade(
                        exec_id=e.exec_id, venue_order_id=e.venue_order_id, side=Side(e.side),
                        qty=e.qty, px=e.px, venue_time_ns=e.venue_time_ns,
                    )
                    for e in difference.executions
                ),
            )
        )  # fmt: skip


FAULTS = st.lists(
    st.sampled_from(
        [
            "hand", "hand", "transfer", "dust", "cut", "silent", "forgets a symbol", "hides fills",
            "foreign order", "unknown own order", "doubt", "moving", "stray",
        ]
    ),
    max_size=6,
)  # fmt: skip


@settings(max_examples=300)
@given(seed=st.integers(0, 1 << 30), faults=FAULTS)
def test_every_difference_is_named_and_nothing_else_is(seed: int, faults: list[str]) -> None:
    world = World(seed)
    for fault in faults:
        world.fault(fault)
    found = reconcile(*world.sides())
    told = world.compare()
    named = {(d.symbol, d.cl_ord_id) for d in told.differences}
    for order in found.orders:
        assert order.status is Agreement.OK or (order.symbol, order.cl_ord_id) in named
    symbols = {symbol for symbol, _ in named}
    for row in told.positions:
        assert row.status is Agreement.OK or row.symbol in symbols
        assert (row.kind is None) == (row.books == row.venue_says)
    for difference in told.differences:
        assert difference.status is agreement_of(difference.kind)
        assert difference.why and difference.mend
    statuses = {d.status for d in told.differences} | {row.status for row in told.positions}
    if Agreement.MISMATCH in statuses:
        assert told.status is Agreement.MISMATCH
    elif Agreement.UNKNOWN in statuses or not found.complete:
        assert told.status is Agreement.UNKNOWN
    else:
        assert told.status is Agreement.OK
    if not faults:
        assert told.status is Agreement.OK and not told.differences


@settings(max_examples=300)
@given(seed=st.integers(0, 1 << 30), faults=FAULTS)
def test_adopting_makes_the_books_equal_the_venue_and_doing_it_again_changes_nothing(
    seed: int, faults: list[str]
) -> None:
    world = World(seed)
    for fault in faults:
        world.fault(fault)
    told = world.compare(stood_s=EMPTY_FOR_S)
    wanted = to_adopt([told])
    if not world.complete or world.silent:
        assert wanted == ()
    for difference in wanted:
        world.adopt(difference)
        held = world.books.position(VENUE, difference.symbol).quantity
        assert held == world.positions[difference.symbol]
    again = world.compare(stood_s=EMPTY_FOR_S)
    assert to_adopt([again]) == ()
    left = {(d.symbol, d.kind) for d in told.differences} - {(d.symbol, d.kind) for d in wanted}
    assert {(d.symbol, d.kind) for d in again.differences} <= left | {
        (d.symbol, kind) for d in wanted for kind in (Kind.ROUNDING,)
    }


def test_executions_explain_what_they_add_up_to_and_the_rest_is_told() -> None:
    world = World(0)
    world.books, world.open, world.fills = Books(), [], []
    world.positions = {"BTC/USDT": D(3)}
    world.fills = [
        fill_of(1, "BTC/USDT", Side.BUY, D(2), 50),
        fill_of(2, "BTC/USDT", Side.SELL, D(2), 60),
        fill_of(3, "BTC/USDT", Side.BUY, D(3), 70),
    ]
    (difference,) = world.compare(agreed_ns=65).differences
    assert [e.exec_id for e in difference.executions] == ["x3"]
    assert (difference.kind, difference.unexplained) == (Kind.EXTERNAL_TRADE, 0)
    world.positions = {"BTC/USDT": D("3.5")}
    (difference,) = world.compare(agreed_ns=65).differences
    assert [e.exec_id for e in difference.executions] == ["x3"]
    assert (difference.kind, difference.unexplained) == (Kind.UNEXPLAINED, D("0.5"))
    (difference,) = world.compare(agreed_ns=75).differences
    assert (difference.executions, difference.unexplained) == ((), D("3.5"))


def test_a_fee_in_kind_is_part_of_what_a_trade_explains() -> None:
    world = World(0)
    world.books, world.open = Books(), []
    world.positions = {"BTC/USDT": D("1.999")}
    world.fills = [
        replace(fill_of(1, "BTC/USDT", Side.BUY, D(2), 50), fee=D("0.001"), fee_currency="BTC")
    ]
    (difference,) = world.compare().differences
    assert difference.kind is Kind.EXTERNAL_TRADE
    (difference,) = world.compare(fee_in_kind=False).differences
    assert difference.unexplained == D("-0.001")


@pytest.mark.parametrize("spot", [True, False])
def test_an_account_without_anything_is_believed_only_when_it_stood(spot: bool) -> None:
    world = World(0)
    world.books, world.open, world.fills = Books(), [], []
    world.order(filled=D(4))
    world.open.clear()
    world.books.apply(OrderCanceled(cl_ord_id=ids.mint(DESK, 1, world.number), at_ns=9))
    world.positions = dict.fromkeys(SYMBOLS, D(0))
    world.fills.clear()
    more: dict[str, Any] = {"balances": [], "holdings": HOLDINGS if spot else None}
    told = world.compare(**more)
    assert (told.status, {d.kind for d in told.differences}) == (
        Agreement.UNKNOWN,
        {Kind.INCOMPLETE},
    )
    told = world.compare(**more, stood_s=EMPTY_FOR_S)
    assert {d.kind for d in told.differences} == {Kind.UNEXPLAINED}


def test_funds_locked_for_no_listed_order_contradict_the_list() -> None:
    world = World(0)
    world.books, world.open, world.fills = Books(), [], []
    world.positions = dict.fromkeys(SYMBOLS, D(0))
    locked = [BalanceFacts(currency="USDT", free=D(1), locked=D(99))]
    told = world.compare(balances=locked)
    assert (told.status, told.differences[0].kind) == (Agreement.UNKNOWN, Kind.INCOMPLETE)
    assert "99 USDT" in told.why


def test_the_digest_names_what_would_be_booked_and_not_the_price_of_the_moment() -> None:
    world = World(0)
    world.fault("hand")
    first = to_adopt([world.compare()])
    assert digest_of(first) == digest_of(to_adopt([world.compare(stood_s=2)]))
    world.fault("hand")
    assert digest_of(first) != digest_of(to_adopt([world.compare()]))


def test_of_several_venues_a_difference_is_certain_and_silence_is_not_agreement() -> None:
    clean = World(0).compare()
    world = World(0)
    world.fault("transfer")
    silent = unreachable("kraken", "no connection", {"BTC/USDT": D(1)})
    assert overall([clean]) is Agreement.OK
    assert overall([clean, silent]) is Agreement.UNKNOWN
    assert overall([silent, world.compare()]) is Agreement.MISMATCH
    assert overall([]) is Agreement.UNKNOWN
    assert silent.positions[0].venue_says is None
