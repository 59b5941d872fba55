"""What a venue's word means: facts in, events out."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from openbell.domain import order_book
from openbell.domain.ids import mint
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderIntended,
    OrderRejected,
    OrdStatus,
    OrdType,
    Side,
)
from openbell.state.order_latency import LANDS_WITHIN_S
from openbell.trading.engine import core
from openbell.trading.engine.tracker import SendClock
from openbell.venues.port import Accepted, Rejected, Unknown, VenueFill, VenueOrder

S = OrdStatus
D = Decimal
ID = mint("0123abcd", 1, 1)


def sent(qty: int = 10) -> Order:
    new = NewOrder(
        cl_ord_id=ID, venue="v", symbol="BTC/USDT", side=Side.BUY, ord_type=OrdType.LIMIT,
        order_qty=D(qty), price=D(100),
    )  # fmt: skip
    return order_book.apply(None, OrderIntended(cl_ord_id=ID, at_ns=1, order=new))


def seen(cum: int, status: OrdStatus, qty: int = 10) -> VenueOrder:
    return VenueOrder(
        venue_order_id="v1", cl_ord_id=ID, symbol="BTC/USDT", side=Side.BUY,
        ord_type=OrdType.LIMIT, status=status, order_qty=D(qty), cum_qty=D(cum), price=D(100),
        created_ns=1, updated_ns=1,
    )  # fmt: skip


def trade(number: int, qty: int) -> VenueFill:
    return VenueFill(
        exec_id=str(number), venue_order_id="v1", cl_ord_id=ClOrdID(""), symbol="BTC/USDT",
        side=Side.BUY, last_qty=D(qty), last_px=D(100), fee=D(0), fee_currency="", is_maker=True,
        venue_time_ns=number,
    )  # fmt: skip


def folded(order: Order, change: core.CatchUp) -> Order:
    for event in change.events:
        order = order_book.apply(order, event)
    return order


def test_outcomes_of_a_send_are_three() -> None:
    kinds = [
        type(core.of_submit(ID, outcome, now_ns=1)).__name__
        for outcome in (
            Accepted(venue_order_id="1"),
            Rejected(code="x", text=""),
            Unknown(why="time-out"),
        )
    ]
    assert kinds == ["OrderAccepted", "OrderRejected", "OrderInDoubt"]


def test_an_end_waits_for_the_fills_before_it() -> None:
    change = core.catch_up(sent(), seen(4, S.CANCELED), now_ns=2)
    assert change.missing == 4
    assert change.events == (), "it has ended: nobody may take it for one that works"
    change = core.catch_up(sent(), seen(4, S.CANCELED), [trade(1, 4)], now_ns=2)
    assert isinstance(change.events[0], OrderAccepted)
    order = folded(sent(), change)
    assert change.missing == 0
    assert (order.status, order.cum_qty, order.canceled_qty) == (S.CANCELED, 4, 6)


def test_an_older_word_changes_nothing() -> None:
    order = folded(
        sent(), core.catch_up(sent(), seen(7, S.PARTIALLY_FILLED), [trade(1, 7)], now_ns=2)
    )
    for old in (seen(0, S.NEW), seen(3, S.PARTIALLY_FILLED), seen(3, S.CANCELED)):
        assert core.catch_up(order, old, now_ns=3) == core.CatchUp()


def test_a_word_of_life_ends_a_false_rejection() -> None:
    rejected = order_book.apply(sent(), OrderRejected(cl_ord_id=ID, at_ns=2, code="never_arrived"))
    order = folded(rejected, core.catch_up(rejected, seen(0, S.NEW), now_ns=3))
    assert order.status is S.UNKNOWN, "it did arrive; what is left of it must be asked for"
    order = folded(order, core.catch_up(order, seen(0, S.NEW), now_ns=4))
    assert order.status is S.NEW


def test_fills_of_others_are_left_out() -> None:
    other = [
        trade(1, 4).__class__(**{**_fields(trade(1, 4)), "venue_order_id": "v2"}),
        trade(2, 4).__class__(**{**_fields(trade(2, 4)), "symbol": "ETH/USDT"}),
    ]
    assert core.catch_up(sent(), seen(4, S.PARTIALLY_FILLED), other, now_ns=2).missing == 4


def _fields(fill: VenueFill) -> dict[str, object]:
    return {name: getattr(fill, name) for name in fill.__struct_fields__}


def test_an_inference_fills_the_gap_and_is_replaced() -> None:
    there = seen(10, S.FILLED)
    order = folded(sent(), core.catch_up(sent(), there, [trade(1, 4)], now_ns=2))
    for event in core.infer(order, there, D(99), now_ns=3):
        order = order_book.apply(order, event)
    assert (order.status, order.inferred_qty) == (S.FILLED, 6)
    order = folded(order, core.catch_up(order, there, [trade(1, 4), trade(2, 6)], now_ns=4))
    assert (order.cum_qty, order.inferred_qty, order.avg_px) == (10, 0, 100)


@given(st.data())
def test_any_order_of_words_ends_in_the_venues_truth(data: st.DataObject) -> None:
    """Reports pushed, polled and repeated, in any order, each with any part of the fills; in the
    end the last word with all fills. Books and venue agree, and hearing it again is no news."""
    quantities = data.draw(st.lists(st.integers(1, 4), max_size=4))
    trades = [trade(n, qty) for n, qty in enumerate(quantities)]
    total = sum(quantities)
    qty = total + data.draw(st.integers(0, 3)) or 1
    end = S.FILLED if qty == total else data.draw(st.sampled_from([S.CANCELED, S.EXPIRED]))
    words = [seen(0, S.NEW, qty)]
    for n in range(1, len(trades) + 1):
        cum = sum(quantities[:n])
        words.append(seen(cum, S.FILLED if cum == qty else S.PARTIALLY_FILLED, qty))
    words.append(seen(total, end, qty))
    order = sent(qty)
    for word in data.draw(st.lists(st.sampled_from(words), max_size=8)):
        part = data.draw(st.lists(st.sampled_from(trades), unique=True)) if trades else []
        order = folded(order, core.catch_up(order, word, part, now_ns=5))
        assert order.cum_qty + order.leaves_qty + order.canceled_qty == qty
    order = folded(order, core.catch_up(order, words[-1], trades, now_ns=6))
    assert (order.cum_qty, order.status) == (total, end)
    assert core.catch_up(order, words[-1], trades, now_ns=7) == core.CatchUp()


def test_absence_is_proven_by_many_late_answers_only() -> None:
    assert not core.absence_proves(core.NotFound(times=1, settled=True))
    assert not core.absence_proves(core.NotFound(times=50, settled=False))
    assert core.absence_proves(core.NotFound(times=3, settled=True))


def test_an_earlier_engines_order_may_arrive_as_long_as_its_permit_lived() -> None:
    clock = SendClock(window_s=5, permit_ttl_s=10, refuses_late_by_s=0, begun_s=100, longest_s=1)
    assert clock.cannot_arrive_after_s(mint("0123abcd", 1, 1), epoch=2) == 116
    assert clock.cannot_arrive_after_s(mint("0123abcd", 2, 1), epoch=2) == 106


def test_an_order_may_land_as_long_as_a_stop_believes_where_its_request_has_no_end() -> None:
    """After the time-out and the longest latency seen, a fraction of a second, it counted as never
    arrived; a request of that venue carries no end, and its order rested after the closing."""
    own = mint("0123abcd", 2, 1)
    endless = SendClock(window_s=5, permit_ttl_s=10, begun_s=100, longest_s=1)
    assert endless.cannot_arrive_after_s(own, epoch=2) == 105 + LANDS_WITHIN_S
    endless.longest_s = LANDS_WITHIN_S + 7  # this engine stood still: what it saw counts as well
    assert endless.cannot_arrive_after_s(own, epoch=2) == 105 + LANDS_WITHIN_S + 7
    longer = SendClock(window_s=5, permit_ttl_s=10, refuses_late_by_s=2, begun_s=100, longest_s=1)
    assert longer.cannot_arrive_after_s(own, epoch=2) == 108


def test_a_cancel_that_ended_it_already_is_no_news() -> None:
    order = folded(sent(), core.catch_up(sent(), seen(0, S.NEW), now_ns=2))
    order = order_book.apply(order, OrderCanceled(cl_ord_id=ID, at_ns=3))
    assert core.catch_up(order, seen(0, S.CANCELED), now_ns=4) == core.CatchUp()
