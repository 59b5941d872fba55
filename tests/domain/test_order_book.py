"""The life of an order over random histories, and the hard cases one by one."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbell.domain import order_book, order_states
from openbell.domain.order_book import ImpossibleEventError, OrderMove
from openbell.domain.orders import (
    CancelIntended,
    CancelRejected,
    ClOrdID,
    NewOrder,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderInDoubt,
    OrderIntended,
    OrderRejected,
    OrdStatus,
    OrdType,
    Side,
)

ID = ClOrdID("ob3f9a01c4-1-1")
D = Decimal
S = OrdStatus


def new_order(qty: str = "10") -> NewOrder:
    return NewOrder(
        cl_ord_id=ID,
        venue="binance",
        symbol="BTC/USDT",
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        order_qty=D(qty),
        price=D(100),
    )


def intended(qty: str = "10") -> OrderIntended:
    return OrderIntended(cl_ord_id=ID, at_ns=1, order=new_order(qty))


def accepted() -> OrderAccepted:
    return OrderAccepted(cl_ord_id=ID, at_ns=2, venue_order_id="v1")


def rejected(code: str = "-2010") -> OrderRejected:
    return OrderRejected(cl_ord_id=ID, at_ns=3, code=code)


def in_doubt() -> OrderInDoubt:
    return OrderInDoubt(cl_ord_id=ID, at_ns=3, why="no answer within 5 s")


def fill(exec_id: str, qty: str | Decimal, px: str = "100") -> OrderFilled:
    return OrderFilled(cl_ord_id=ID, at_ns=4, exec_id=exec_id, last_qty=D(qty), last_px=D(px))


def inferred(cum_qty: str | Decimal, px: str = "100") -> OrderFilled:
    return OrderFilled(
        cl_ord_id=ID,
        at_ns=4,
        exec_id=f"inferred-{cum_qty}",
        last_qty=D(cum_qty),
        last_px=D(px),
        inferred=True,
        cum_qty=D(cum_qty),
    )


def cancel_intended() -> CancelIntended:
    return CancelIntended(cl_ord_id=ID, at_ns=5)


def cancel_rejected() -> CancelRejected:
    return CancelRejected(cl_ord_id=ID, at_ns=6, code="-2011")


def canceled() -> OrderCanceled:
    return OrderCanceled(cl_ord_id=ID, at_ns=6)


def expired() -> OrderExpired:
    return OrderExpired(cl_ord_id=ID, at_ns=6)


def fold(*events: OrderEvent, start: Order | None = None) -> Order:
    order = start
    for event in events:
        order = order_book.apply(order, event)
        assert_sound(order)
    assert order is not None
    return order


def assert_sound(order: Order) -> None:
    assert order.new.order_qty == order.cum_qty + order.leaves_qty + order.canceled_qty
    assert min(order.cum_qty, order.leaves_qty, order.canceled_qty) >= 0
    assert order.status.is_final == (order.leaves_qty == 0)
    assert order_book.is_open(order) == (order.leaves_qty > 0)
    assert (order.status is S.FILLED) == (order.cum_qty == order.new.order_qty)
    assert order.inferred_qty == sum(qty for qty, _ in order.inferred) <= order.cum_qty
    assert len(set(order.exec_ids)) == len(order.exec_ids)


PLAIN = [accepted, rejected, in_doubt, cancel_intended, cancel_rejected, canceled, expired]
QTY = st.integers(-1, 12).map(D)
EVENTS = st.one_of(
    st.sampled_from(PLAIN).map(lambda make: make()),
    st.builds(fill, st.sampled_from("abcdefgh"), QTY, st.sampled_from(["99", "100.5"])),
    st.builds(inferred, QTY),
    st.just(intended()),
)


@settings(max_examples=500)
@given(st.lists(EVENTS, max_size=25))
def test_filled_open_and_cancelled_always_add_up_to_the_ordered_quantity(
    events: list[OrderEvent],
) -> None:
    order = order_book.apply(None, intended())
    real: dict[str, OrderFilled] = {}
    told = D(0)
    for event in events:
        try:
            after = order_book.apply(order, event)
        except ImpossibleEventError:
            continue  # nothing was returned, so nothing changed
        assert_sound(after)
        assert after.cum_qty >= order.cum_qty, "what was filled stays filled"
        assert after.updated_ns >= order.updated_ns
        if isinstance(event, OrderFilled):
            if event.inferred:
                told = max(told, event.cum_qty or D(0))
            else:
                real.setdefault(event.exec_id, event)
        order = after
        traded = sum((f.last_qty for f in real.values()), D(0))
        assert order.cum_qty == max(traded, told)
        if order.inferred_qty == 0:
            assert order.notional == sum((f.last_qty * f.last_px for f in real.values()), D(0))


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=15))
def test_the_same_events_twice_count_their_fills_once(events: list[OrderEvent]) -> None:
    order = order_book.apply(None, intended())
    taken = []
    for event in events:
        try:
            order = order_book.apply(order, event)
        except ImpossibleEventError:
            continue
        taken.append(event)
    for event in taken:
        before = order
        try:
            order = order_book.apply(order, event)
        except ImpossibleEventError:
            continue
        assert (order.cum_qty, order.notional) == (before.cum_qty, before.notional)


def test_inferred_fills_and_their_late_real_ones_count_once_in_any_order_of_arrival() -> None:
    reports = [inferred("3"), inferred("6", "101"), fill("a", "2"), fill("b", "4", "103")]
    for arrival in permutations(reports):
        order = fold(intended(), accepted(), *arrival)
        assert (order.cum_qty, order.inferred_qty, order.notional) == (D(6), D(0), D(612))


def test_a_real_fill_replaces_the_oldest_inference_first() -> None:
    order = fold(intended(), inferred("3", "90"), inferred("5", "110"), fill("a", "4", "100"))
    assert order.inferred == ((D(1), D(110)),)
    assert order.notional == 4 * 100 + 110
    assert order.avg_px == D(102)


def test_an_order_lives_from_intent_to_filled() -> None:
    order = fold(intended())
    assert (order.status, order.leaves_qty) == (S.PENDING_NEW, 10)
    order = fold(accepted(), start=order)
    assert (order.status, order.venue_order_id) == (S.NEW, "v1")
    order = fold(fill("a", "4"), start=order)
    assert (order.status, order.cum_qty, order.leaves_qty) == (S.PARTIALLY_FILLED, 4, 6)
    order = fold(fill("b", "6", "105"), start=order)
    assert (order.status, order.leaves_qty, order.avg_px) == (S.FILLED, 0, D(103))
    assert fold(accepted(), start=order) is order, "accepted after filled is harmless"


@pytest.mark.parametrize("before", [[], [in_doubt()], [cancel_intended()]])
def test_a_fill_before_the_acceptance_counts(before: list[OrderEvent]) -> None:
    order = fold(intended(), *before, fill("a", "10"))
    assert order.status is S.FILLED


def test_a_part_fill_does_not_end_the_doubt_but_asking_does() -> None:
    order = fold(intended(), in_doubt(), fill("a", "4"))
    assert order.status is S.UNKNOWN
    assert fold(accepted(), start=order).status is S.PARTIALLY_FILLED
    assert fold(canceled(), start=order).canceled_qty == 6


def test_an_order_that_never_arrived_ends_rejected() -> None:
    order = fold(intended(), in_doubt(), rejected("never_arrived"))
    assert (order.status, order.canceled_qty, order.text) == (S.REJECTED, 10, "never_arrived")


@pytest.mark.parametrize("end", [canceled(), expired()])
def test_a_late_fill_counts_and_takes_from_the_cancelled_quantity(end: OrderEvent) -> None:
    order = fold(intended(), accepted(), cancel_intended(), end)
    assert order.canceled_qty == 10
    part = fold(fill("late", "4"), start=order)
    assert (part.status, part.cum_qty, part.canceled_qty) == (order.status, 4, 6)
    assert fold(fill("later", "6"), start=part).status is S.FILLED


@pytest.mark.parametrize("end", [canceled(), expired(), fill("a", "10")])
@pytest.mark.parametrize("late", [make() for make in PLAIN])
def test_an_ended_order_is_not_reopened_by_late_messages(end: OrderEvent, late: OrderEvent) -> None:
    order = fold(intended(), accepted(), end)
    assert fold(late, start=order) is order


@pytest.mark.parametrize("proof", [fill("a", "4"), accepted()])
def test_proof_that_a_rejected_order_arrived_reopens_it_as_unknown(proof: OrderEvent) -> None:
    order = fold(intended(), in_doubt(), rejected("never_arrived"), proof)
    assert order.status is S.UNKNOWN
    assert order.canceled_qty == 0
    assert order.leaves_qty == 10 - order.cum_qty


def test_a_rejection_of_an_accepted_order_is_a_contradiction_to_be_asked_about() -> None:
    order = fold(intended(), accepted(), rejected())
    assert order.status is S.UNKNOWN
    assert fold(rejected(), start=order).status is S.CANCELED


def test_a_refused_cancel_leaves_the_order_in_doubt_and_may_be_sent_again() -> None:
    order = fold(intended(), accepted(), cancel_intended())
    assert (order.status, order.cancel_requested) == (S.PENDING_CANCEL, True)
    order = fold(cancel_rejected(), start=order)
    assert (order.status, order.cancel_requested) == (S.UNKNOWN, False)
    assert fold(accepted(), start=order).status is S.NEW


def test_a_cancel_sent_before_the_acceptance_stays_pending() -> None:
    order = fold(intended(), cancel_intended(), accepted())
    assert order.status is S.PENDING_CANCEL
    assert fold(fill("a", "1"), start=order).status is S.PENDING_CANCEL


@pytest.mark.parametrize(
    ("events", "because"),
    [
        ([accepted()], "not with its intent"),
        ([intended("0")], "orders 0"),
        ([intended("NaN")], "orders NaN"),
        ([intended(), intended("11")], "intended twice"),
        ([intended(), fill("a", "10.1")], "which ordered 10"),
        ([intended(), fill("a", "6"), fill("b", "5")], "which ordered 10"),
        ([intended(), canceled(), fill("a", "11")], "which ordered 10"),
        ([intended(), inferred("11")], "which ordered 10"),
        ([intended(), fill("a", "0")], "quantity 0"),
        ([intended(), fill("a", "-1")], "quantity -1"),
        ([intended(), fill("a", "NaN")], "quantity NaN"),
        ([intended(), inferred("NaN")], "quantity NaN"),
        ([intended(), fill("a", "1", "Infinity")], "price Infinity"),
    ],
)
def test_what_cannot_be_raises(events: list[OrderEvent], because: str) -> None:
    order = fold(*events[:-1]) if events[:-1] else None
    with pytest.raises(ImpossibleEventError, match=because):
        order_book.apply(order, events[-1])


def test_an_event_of_another_order_raises() -> None:
    other = msgspec.structs.replace(accepted(), cl_ord_id=ClOrdID("ob3f9a01c4-1-2"))
    with pytest.raises(ImpossibleEventError, match="was given to"):
        order_book.apply(fold(intended()), other)


def test_the_table_is_whole() -> None:
    assert set(order_book.MOVES) == set(OrdStatus)
    for moves in order_book.MOVES.values():
        assert set(moves) == set(OrderMove)


def test_the_page_in_docs_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "order-states.md"
    assert page.read_text() == order_states.markdown(), (
        "run: python -m openbell.domain.order_states > docs/explanation/order-states.md"
    )
