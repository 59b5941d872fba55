"""Sending orders, finding them, cancelling them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal

import pytest
from tests.venues.conformance.harness import DESK_ID, WAIT_S, new_id

from openbell.domain.orders import OrdStatus, OrdType, Purpose, Side, TimeInForce
from openbell.venues.asking import ask, ask_and_withdraw, withdraw
from openbell.venues.port import Accepted, Rejected, Unknown, VenueError
from openbell.venues.transport import NotSentError

operation = pytest.mark.operation


@operation("submit limit")
async def test_an_accepted_order_rests_and_is_found_by_its_id(venue, trader, sim, subject):
    order = await trader.resting()
    outcome = await venue.submit(order)
    assert isinstance(outcome, Accepted), outcome
    found = await venue.order(trader.symbol, order.cl_ord_id)
    assert found is not None
    assert found.venue_order_id == outcome.venue_order_id
    assert (found.status, found.side, found.ord_type) == (OrdStatus.NEW, Side.BUY, OrdType.LIMIT)
    assert (found.order_qty, found.price, found.cum_qty) == (order.order_qty, order.price, 0)
    assert sim.arrivals(order.cl_ord_id) == 1


@operation("submit limit")
async def test_an_order_stopped_before_its_first_byte_never_arrives(venue, trader, sim):
    """The kill switch's last look: an order may have waited for a connection meanwhile."""
    order = await trader.resting()

    def stop(_cl_ord_id: str, _at_ns: int) -> None:
        raise NotSentError("the kill switch is latched")

    venue.on_sent = stop
    try:
        outcome = await venue.submit(order)
    finally:
        venue.on_sent = None
    assert isinstance(outcome, Rejected), outcome
    assert outcome.code == "never_arrived"
    later = await trader.resting()
    assert isinstance(await venue.submit(later), Accepted)
    assert (sim.arrivals(order.cl_ord_id), sim.arrivals(later.cl_ord_id)) == (0, 1)


@operation("open orders")
async def test_open_orders_are_listed_by_symbol(venue, trader, subject):
    order = await trader.resting()
    await venue.submit(order)
    listing = await venue.open_orders()
    assert listing.complete
    listed = {each.cl_ord_id: each for each in listing.orders}
    assert order.cl_ord_id in listed
    assert listed[order.cl_ord_id] == await venue.order(trader.symbol, order.cl_ord_id)
    quiet = (await venue.open_orders([subject.symbols[1]])).orders
    assert order.cl_ord_id not in {each.cl_ord_id for each in quiet}


@operation("open orders")
async def test_a_full_book_is_listed_to_its_last_order(venue, trader):
    """More than one page of the venues whose pages are small."""
    orders = [await trader.resting() for _ in range(60)]
    outcomes = [await venue.submit(order) for order in orders]
    assert all(isinstance(outcome, Accepted) for outcome in outcomes), outcomes
    listing = await venue.open_orders([trader.symbol])
    assert listing.complete
    assert {o.cl_ord_id for o in orders} <= {o.cl_ord_id for o in listing.orders}


@operation("open orders")
async def test_an_adapter_that_never_connected_lists_every_order_or_raises(venue, trader, opened):
    """It must not say that there is none: whoever believes it leaves an order behind."""
    order = await trader.resting()
    assert isinstance(await venue.submit(order), Accepted)
    with suppress(VenueError):
        listing = await opened().open_orders()
        listed = [each.cl_ord_id for each in listing.orders]
        assert order.cl_ord_id in listed or not listing.complete


@operation("order by ClOrdID", needs=lambda venue: venue.lookup_by_cl_ord_id)
async def test_an_adapter_that_never_connected_finds_an_order_or_raises(venue, trader, opened):
    order = await trader.resting()
    assert isinstance(await venue.submit(order), Accepted)
    with suppress(VenueError):
        assert await opened().order(trader.symbol, order.cl_ord_id) is not None


@operation("list others' stop orders")
async def test_stop_orders_of_others_are_listed_as_such(venue, trader, sim, subject):
    quote = await venue.quote(trader.symbol)
    stop = venue.rules(trader.symbol).round_price(quote.ask_px * Decimal("1.05"))
    row = next(r for r in sim.told("/sim/v1/market")["market"] if r["symbol"] == _name(sim, trader))
    manual = {
        "symbol": row["symbol"], "side": "BUY", "type": "STOP",
        "quantity": str(subject.quantity), "stop_price": str(stop),
    }  # fmt: skip
    made = sim.ask_for("/sim/v1/orders", manual)["order"]
    try:
        listed = {o.venue_order_id: o for o in (await venue.open_orders([trader.symbol])).orders}
        stops = [o for o in listed.values() if o.ord_type is OrdType.STOP]
        assert [(o.stop_px, o.side, o.order_qty) for o in stops] == [
            (stop, Side.BUY, subject.quantity)
        ]
        outcome = await venue.cancel(
            trader.symbol, stops[0].cl_ord_id, venue_order_id=stops[0].venue_order_id
        )
        assert isinstance(outcome, Accepted), outcome
    finally:
        state = {r["order_id"]: r["status"] for r in sim.rows()}
        assert state[made["order_id"]] == "CANCELED"


def _name(sim, trader):
    """The venue's own name of the traded symbol: the one whose price the adapter sees."""
    names = [row["symbol"] for row in sim.told("/sim/v1/market")["market"]]
    base, _, quote = trader.symbol.partition("/")
    squeezed = {"".join(c for c in n if c.isalnum()).replace("XBT", "BTC"): n for n in names}
    return squeezed.get(base + quote) or squeezed[base]


@operation("order by ClOrdID", needs=lambda venue: venue.lookup_by_cl_ord_id)
async def test_an_order_nobody_sent_is_none(venue, trader):
    assert await venue.order(trader.symbol, new_id()) is None


@operation("submit market")
async def test_a_market_order_fills_and_its_fills_add_up(venue, trader):
    order = trader.market()
    outcome = await venue.submit(order)
    assert isinstance(outcome, Accepted), outcome
    assert await trader.settled(order.cl_ord_id) is OrdStatus.FILLED
    fills = await venue.fills(trader.symbol, venue_order_id=outcome.venue_order_id)
    assert sum((fill.last_qty for fill in fills), Decimal(0)) == order.order_qty
    assert len({fill.exec_id for fill in fills}) == len(fills)
    for fill in fills:
        assert (fill.side, fill.symbol, fill.is_maker) == (Side.BUY, trader.symbol, False)
        assert fill.last_px > 0


@operation("fills")
async def test_fills_from_a_time_on_are_complete_and_in_order(venue, trader):
    first = trader.market()
    outcome = await venue.submit(first)
    await trader.settled(first.cl_ord_id)
    own = await venue.fills(trader.symbol, venue_order_id=outcome.venue_order_id)
    late = await venue.fills(trader.symbol, since_ns=own[0].venue_time_ns)
    assert {fill.exec_id for fill in own} <= {fill.exec_id for fill in late}
    assert [f.venue_time_ns for f in late] == sorted(f.venue_time_ns for f in late)


@operation("submit limit IOC", needs=lambda venue: venue.limit_ioc)
async def test_an_immediate_or_cancel_order_never_rests(venue, trader):
    order = await trader.resting(time_in_force=TimeInForce.IOC)
    outcome = await venue.submit(order)
    assert isinstance(outcome, Accepted), outcome
    assert await trader.settled(order.cl_ord_id) in (OrdStatus.EXPIRED, OrdStatus.CANCELED)


@operation("submit post-only", needs=lambda venue: venue.post_only)
async def test_a_post_only_order_that_rests_is_accepted(venue, trader):
    order = await trader.resting(post_only=True)
    assert isinstance(await venue.submit(order), Accepted)


@operation("submit post-only", needs=lambda venue: venue.post_only)
async def test_a_post_only_order_that_would_match_takes_nothing(venue, trader):
    """Some venues refuse it, others accept and cancel it; a fill is what may not be."""
    quote = await venue.quote(trader.symbol)
    price = venue.rules(trader.symbol).round_price(quote.ask_px * Decimal("1.01"))
    order = trader.order(price=price, post_only=True)
    outcome = await venue.submit(order)
    if isinstance(outcome, Accepted):
        assert await trader.settled(order.cl_ord_id) in (OrdStatus.CANCELED, OrdStatus.REJECTED)
    else:
        assert isinstance(outcome, Rejected), outcome
    found = await venue.order(trader.symbol, order.cl_ord_id)
    assert found is None or found.cum_qty == 0


@operation("submit reduce-only", needs=lambda venue: venue.reduce_only)
async def test_a_flattening_order_never_flips_the_position(venue, trader):
    opening = trader.market()
    await venue.submit(opening)
    await trader.settled(opening.cl_ord_id)
    held = await trader.position()
    assert held > 0
    too_much = trader.market(Side.SELL, purpose=Purpose.FLATTEN, order_qty=held * 3)
    if isinstance(await venue.submit(too_much), Accepted):
        await trader.settled(too_much.cl_ord_id)
    exact = trader.market(Side.SELL, purpose=Purpose.FLATTEN, order_qty=held)
    if isinstance(await venue.submit(exact), Accepted):
        await trader.settled(exact.cl_ord_id)
    assert await trader.position() == 0


@operation("cancel")
async def test_a_cancelled_order_is_gone_and_stays_queryable(venue, trader):
    order = await trader.resting()
    await venue.submit(order)
    assert isinstance(await venue.cancel(trader.symbol, order.cl_ord_id), Accepted)
    assert await trader.settled(order.cl_ord_id) is OrdStatus.CANCELED
    assert order.cl_ord_id not in {o.cl_ord_id for o in (await venue.open_orders()).orders}
    assert isinstance(await venue.cancel(trader.symbol, order.cl_ord_id), Rejected)


@operation("cancel")
async def test_cancelling_what_is_missing_or_filled_is_rejected_and_not_fatal(venue, trader):
    assert isinstance(await venue.cancel(trader.symbol, new_id()), Rejected)
    order = trader.market()
    await venue.submit(order)
    await trader.settled(order.cl_ord_id)
    assert isinstance(await venue.cancel(trader.symbol, order.cl_ord_id), Rejected)


@operation("cancel by the venue's id")
async def test_an_order_without_our_id_is_cancelled_by_the_venues(venue, trader):
    order = await trader.resting()
    outcome = await venue.submit(order)
    by_id = await venue.cancel(
        trader.symbol, order.cl_ord_id, venue_order_id=outcome.venue_order_id
    )
    assert isinstance(by_id, Accepted), by_id
    assert await trader.settled(order.cl_ord_id) is OrdStatus.CANCELED


@operation("batch cancel", needs=lambda venue: venue.batch_cancel > 0)
async def test_a_batch_is_cancelled_by_one_request_with_an_outcome_each(venue, trader):
    orders = [await trader.resting() for _ in range(min(5, venue.capabilities.batch_cancel))]
    for order in orders:
        assert isinstance(await venue.submit(order), Accepted)
    missing = new_id()
    wanted = [order.cl_ord_id for order in orders[:-1]] + [missing]
    outcomes = await venue.cancel_many(trader.symbol, wanted)
    assert len(outcomes) == len(wanted)
    for order in orders[:-1]:
        assert await trader.settled(order.cl_ord_id) is OrdStatus.CANCELED
    # Some venues answer for the batch as a whole; of the missing one only this is sure.
    assert not isinstance(outcomes[-1], Accepted) or len(set(map(type, outcomes))) == 1
    assert await trader.listed(orders[-1].cl_ord_id)


@operation("mass cancel per symbol", needs=lambda venue: venue.mass_cancel_per_symbol)
async def test_cancel_all_takes_every_order_of_that_symbol(venue, trader):
    for order in [await trader.resting() for _ in range(3)]:
        assert isinstance(await venue.submit(order), Accepted)
    assert isinstance(await venue.cancel_all(trader.symbol), Accepted)
    assert (await venue.open_orders([trader.symbol])).orders == ()
    # With nothing left to cancel, venues differ in what they say; none may be unsure.
    assert not isinstance(await venue.cancel_all(trader.symbol), Unknown)


@operation("mass cancel", needs=lambda venue: venue.mass_cancel)
async def test_a_mass_cancel_takes_every_order_of_the_account(venue, trader):
    for order in [await trader.resting() for _ in range(3)]:
        assert isinstance(await venue.submit(order), Accepted)
    assert isinstance(await venue.cancel_account(), Accepted)
    assert (await venue.open_orders()).orders == ()


@operation("dead-man's switch", needs=lambda venue: venue.dead_mans_switch is not None)
async def test_a_dead_mans_switch_that_is_not_refreshed_cancels(venue, trader):
    order = await trader.resting()
    assert isinstance(await venue.submit(order), Accepted)
    await venue.arm_dead_mans_switch(venue.capabilities.dead_mans_switch.min_s)
    assert await trader.settled(order.cl_ord_id) is OrdStatus.CANCELED


@operation("dead-man's switch", needs=lambda venue: venue.dead_mans_switch is not None)
async def test_a_dead_mans_switch_that_is_disarmed_does_not(venue, trader):
    order = await trader.resting()
    await venue.submit(order)
    least_s = venue.capabilities.dead_mans_switch.min_s
    await venue.arm_dead_mans_switch(least_s)
    await venue.arm_dead_mans_switch(0)
    later = asyncio.get_running_loop().time() + 2 * least_s
    while asyncio.get_running_loop().time() < later:
        found = await venue.order(trader.symbol, order.cl_ord_id)
        assert found is not None
        assert found.status is OrdStatus.NEW
        await asyncio.sleep(0.1)


@operation("withdraw and verify")
async def test_a_withdrawal_connects_by_itself_where_it_must(venue, trader, opened):
    """It is the first thing that the clerk does at a venue."""
    order = await trader.resting()
    assert isinstance(await venue.submit(order), Accepted)
    stranger = opened()
    give_up_at_s = asyncio.get_running_loop().time() + 2 * WAIT_S
    result = await withdraw(stranger, DESK_ID, give_up_at_s)
    assert (result.result, result.cancelled) == ("verified", (order.cl_ord_id,)), result
    assert (await venue.open_orders()).orders == ()


@operation("withdraw and verify")
async def test_after_a_withdrawal_nothing_is_open_and_nothing_locked(venue, trader, subject):
    orders = [await trader.resting(side) for side in (Side.BUY, Side.SELL) for _ in range(5)]
    for order in orders:
        outcome = await venue.submit(order)
        assert isinstance(outcome, Accepted), outcome
    before = await ask(venue, subject.symbols, DESK_ID)
    assert before.status == "ok", before.why
    assert {each.cl_ord_id for each in orders} <= {each.cl_ord_id for each in before.own_orders}
    give_up_at_s = asyncio.get_running_loop().time() + 2 * WAIT_S
    after = await ask_and_withdraw(venue, subject.symbols, DESK_ID, give_up_at_s)
    assert after.cancel is not None
    assert (after.status, after.cancel.result, after.own_orders) == ("ok", "verified", ())
    assert all(balance.locked == 0 for balance in after.balances)
