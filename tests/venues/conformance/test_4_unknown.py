"""Lost replies: unknown, one request at the venue, and what asking finds."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.venues.conformance.harness import Trader
from tests.venues.subjects import all_subjects

from openbell.domain.orders import OrdStatus
from openbell.venues.clock import VenueClock
from openbell.venues.port import Accepted, Rejected, Unknown, VenueError

operation = pytest.mark.operation

LATE_BY_S = {"binance": 0.0, "binance-usdm": 0.0, "kraken": 0.0, "coinbase": 20.0}
"""With a time-out of 10 s. All others: none."""


@operation("lost reply to a submit")
@pytest.mark.parametrize("fault", ["lose", "503", "hold"])
async def test_a_submit_whose_reply_is_lost_is_unknown_and_found_by_asking(
    opened, relay, sim, subject, fault
):
    venue = opened(timeout=3.0)
    await venue.connect()
    trader = Trader(venue, subject)
    order = await trader.resting()
    relay.strike(fault, subject.submit)
    assert isinstance(await venue.submit(order), Unknown)
    assert relay.struck == 1
    found = await venue.order(trader.symbol, order.cl_ord_id)
    assert found is not None
    assert found.status is OrdStatus.NEW
    assert sim.arrivals(order.cl_ord_id) == 1
    await venue.cancel(trader.symbol, order.cl_ord_id)


async def test_an_order_that_comes_late_is_refused_where_the_adapter_says_so(venue, trader, sim):
    """By it the engine tells from when on an order that is not there never will be. The clock that
    stamps its requests is put back: one that was made as long ago as the adapter says, and a
    second, makes no order; one of half that age does, so it is not the clock that is refused."""
    late_by_s = venue.capabilities.refuses_late_by_s
    if late_by_s is None:
        pytest.skip("its requests carry no end, so it promises nothing")
    clock = getattr(venue, "_clock", None)
    if not isinstance(clock, VenueClock) or clock._venue_minus_monotonic_ms is None:
        pytest.skip("its clock is its own, and cannot be put back here")
    right_ms = clock._venue_minus_monotonic_ms
    life_s = venue.config.timeout + late_by_s
    for age_s, arrives in ((life_s / 2, 1), (life_s + 1, 0)):
        order = await trader.resting()
        clock._venue_minus_monotonic_ms = right_ms - age_s * 1000
        outcome = await venue.submit(order)
        clock._venue_minus_monotonic_ms = right_ms
        assert isinstance(outcome, Accepted) == bool(arrives), outcome
        stored = [row for row in sim.rows() if row["cl_ord_id"] == order.cl_ord_id]
        assert sum(row["status"] != "REJECTED" for row in stored) == arrives, stored


def test_every_adapter_states_whether_its_orders_end_by_themselves(subject, opened):
    """The statement itself, so that it is not changed unawares: one that is wrong in this way has a
    closing called verified while its order is on its way."""
    if subject.name not in {each.name for each in all_subjects()}:
        pytest.skip("an adapter of another package")
    said = opened(timeout=10.0).capabilities.refuses_late_by_s
    assert said == LATE_BY_S.get(subject.name)


@operation("lost reply to a cancel")
@pytest.mark.parametrize("fault", ["lose", "503", "hold"])
async def test_a_cancel_whose_reply_is_lost_is_unknown_and_found_by_asking(
    opened, relay, subject, fault
):
    venue = opened(timeout=3.0)
    await venue.connect()
    trader = Trader(venue, subject)
    order = await trader.resting()
    assert isinstance(await venue.submit(order), Accepted)
    relay.strike(fault, subject.cancel)
    assert isinstance(await venue.cancel(trader.symbol, order.cl_ord_id), Unknown)
    assert relay.struck == 1
    assert await trader.settled(order.cl_ord_id) is OrdStatus.CANCELED


@operation("no second order of one ClOrdID", needs=lambda venue: venue.cl_ord_id_unique)
async def test_sending_an_intent_a_second_time_makes_no_second_order(venue, trader):
    """A venue that answers with the order it has is as good as one that refuses. "Rejected" would
    make the books forget an order that exists."""
    order = await trader.resting()
    first = await venue.submit(order)
    assert isinstance(first, Accepted)
    again = await venue.submit(order)
    assert not isinstance(again, Rejected)
    if isinstance(again, Accepted):
        assert again.venue_order_id == first.venue_order_id
    listed = [o for o in (await venue.open_orders()).orders if o.cl_ord_id == order.cl_ord_id]
    assert len(listed) == 1


@operation("nothing sent twice")
async def test_no_order_reached_the_venue_twice(venue, trader, relay, sim, subject):
    """Many at once, replies lost among them: the venue's own log has each exactly once."""
    orders = [await trader.resting() for _ in range(20)]
    relay.strike("lose", subject.submit)
    outcomes = await asyncio.gather(*map(venue.submit, orders))
    assert sum(isinstance(each, Unknown) for each in outcomes) >= 1
    assert not any(isinstance(each, Rejected) for each in outcomes), outcomes
    counted = [row["cl_ord_id"] for row in sim.rows()]
    assert {counted.count(order.cl_ord_id) for order in orders} == {1}


@operation("incomplete list of open orders")
async def test_open_orders_of_which_a_part_is_lost_are_not_taken_for_all(opened, relay, subject):
    venue = opened(timeout=3.0)
    await venue.connect()
    relay.strike("503", subject.open_orders)
    with contextlib.suppress(VenueError):  # nothing is told then, so nothing can be mistaken
        assert not (await venue.open_orders()).complete
    assert relay.struck == 1
    assert (await venue.open_orders()).complete
