"""Lost replies: unknown, one request at the venue, and what asking finds."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.venues.conformance.harness import Trader

from openbell.domain.orders import OrdStatus
from openbell.venues.port import Accepted, Rejected, Unknown, VenueError

operation = pytest.mark.operation


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
