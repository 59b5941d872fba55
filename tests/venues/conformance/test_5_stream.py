"""Order events: pushed by the venue, or asked for where it pushes none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.venues.conformance.harness import WAIT_S

from openbell.domain.orders import OrdStatus
from openbell.venues.port import OrderReport, StreamDown, StreamEvent, StreamUp

operation = pytest.mark.operation


async def _next(events: AsyncIterator[StreamEvent]) -> StreamEvent:
    async with asyncio.timeout(WAIT_S):
        return await anext(events)


async def _report_of(events: AsyncIterator[StreamEvent], cl_ord_id: str) -> OrderReport:
    while True:
        event = await _next(events)
        assert not isinstance(event, StreamDown), event
        if isinstance(event, OrderReport) and event.order.cl_ord_id == cl_ord_id:
            return event


@operation("order events")
async def test_the_stream_tells_an_orders_whole_life(venue, trader):
    events = venue.stream()
    assert await _next(events) == StreamUp()
    order = await trader.resting()
    await venue.submit(order)
    new = await _report_of(events, order.cl_ord_id)
    assert (new.order.status, new.order.price, new.fill) == (OrdStatus.NEW, order.price, None)
    await venue.cancel(trader.symbol, order.cl_ord_id)
    gone = new
    while not gone.order.status.is_final:
        gone = await _report_of(events, order.cl_ord_id)
    assert gone.order.status is OrdStatus.CANCELED
    await events.aclose()


@operation("order events")
async def test_the_streams_fills_are_those_of_the_trade_list(venue, trader):
    events = venue.stream()
    assert await _next(events) == StreamUp()
    order = trader.market()
    outcome = await venue.submit(order)
    pushed = []
    while sum(fill.last_qty for fill in pushed) < order.order_qty:
        report = await _report_of(events, order.cl_ord_id)
        if report.fill is not None:
            pushed.append(report.fill)
    listed = await venue.fills(trader.symbol, venue_order_id=outcome.venue_order_id)
    assert [(f.exec_id, f.last_qty, f.last_px, f.fee, f.fee_currency) for f in pushed] == [
        (f.exec_id, f.last_qty, f.last_px, f.fee, f.fee_currency) for f in listed
    ]
    await events.aclose()


@operation("gap in the order events")
async def test_a_gap_in_the_stream_is_told_and_asking_fills_it(venue, trader, relay):
    events = venue.stream()
    assert await _next(events) == StreamUp()
    relay.refusing = True
    relay.cut_all()
    while not isinstance(await _next(events), StreamDown):
        pass
    relay.refusing = False
    while not isinstance(await _next(events), StreamUp):
        pass
    order = await trader.resting()
    await venue.submit(order)
    assert (await _report_of(events, order.cl_ord_id)).order.status is OrdStatus.NEW
    await events.aclose()
