"""A venue's order events lost, doubled, late and overtaken, as Openbell's own adapters meet them: what
they tell is never false, and after a look their view is the venue's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import pytest
from tests.venues.conformance.harness import WAIT_S, Trader
from tests.venues.subjects import Subject, all_subjects

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import ClOrdID, OrdStatus
from openbell.venues.credentials import Credentials
from openbell.venues.port import Accepted, OrderReport, StreamEvent, StreamUp, VenueFill
from openbell.venues.port import Venue as Adapter
from openbell.venues.registry import open_venue
from openbell_sim import testing
from openbell_sim.arguments import settings
from openbell_sim.faults.document import PlanDocument
from openbell_sim.faults.kinds import (
    AnyFault,
    DelayedEvents,
    DuplicateEvents,
    MissingEvents,
    ReorderedEvents,
)
from openbell_sim.server import Venue

PUSHING = ("alpaca", "binance", "binance-usdm", "coinbase", "kraken", "oanda")
FAULTS: tuple[AnyFault, ...] = (
    MissingEvents(count=2),
    DuplicateEvents(count=4),
    DelayedEvents(count=2, delay_s=0.2),
    ReorderedEvents(count=2, by=1, within_s=0.2),
)


@pytest.fixture(
    params=[subject for subject in all_subjects() if subject.name in PUSHING],
    ids=lambda subject: subject.name,
)
def subject(request: pytest.FixtureRequest) -> Subject:
    given: Subject = request.param
    return given


@pytest.fixture
async def venue(subject: Subject) -> AsyncIterator[Venue]:
    environ = {"OPENBELL_SIM_KEY": subject.key, "OPENBELL_SIM_SECRET": subject.secret}
    given = settings(["--port", "0", "--face", subject.face, *subject.sim], environ)
    async with testing.running_venue(given) as running:
        yield running


@pytest.fixture
async def adapter(subject: Subject, venue: Venue) -> AsyncIterator[Adapter]:
    fields: dict[str, Any] = {"url": venue.url, "symbols": subject.symbols, **subject.config}
    config = VenueConfig(adapter=subject.adapter, **fields)
    made = open_venue("sim", config, Credentials(subject.key, subject.secret))
    await made.connect()
    yield made
    await made.close()


class Listener:
    """All that the stream says."""

    def __init__(self) -> None:
        self.heard: list[StreamEvent] = []
        self._news = asyncio.Event()

    async def listen(self, adapter: Adapter) -> None:
        async with aclosing(adapter.stream()) as events:  # type: ignore[type-var]
            async for event in events:
                self.heard.append(event)
                self._news.set()

    def reports(self, cl_ord_id: ClOrdID) -> list[OrderReport]:
        return [
            event
            for event in self.heard
            if isinstance(event, OrderReport) and event.order.cl_ord_id == cl_ord_id
        ]

    async def up(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while not self.heard or self.heard[-1] != StreamUp():
                await self._next()

    @property
    def ups(self) -> int:
        return self.heard.count(StreamUp())

    async def told_of(self, cl_ord_id: ClOrdID, ups: int) -> bool:
        """False: the stream has come up since it had `ups` times, and tells nothing of what it
        missed."""
        async with asyncio.timeout(WAIT_S):
            while not self.reports(cl_ord_id):
                if self.ups > ups:
                    return False
                await self._next()
        return True

    async def _next(self) -> None:
        self._news.clear()
        await self._news.wait()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_whatever_becomes_of_the_events_a_look_tells_what_the_venue_has(
    subject: Subject, venue: Venue, adapter: Adapter, fault: AnyFault
) -> None:
    trader = Trader(adapter, subject)
    listener = Listener()
    listening = asyncio.create_task(listener.listen(adapter))
    await listener.up()
    await venue.faults.load(PlanDocument(faults=(fault,)))

    bought, resting, cancelled = trader.market(), await trader.resting(), await trader.resting()
    for order in (bought, resting, cancelled):
        assert isinstance(await adapter.submit(order), Accepted)
    await adapter.cancel(trader.symbol, cancelled.cl_ord_id)
    async with asyncio.timeout(WAIT_S):
        while not venue.faults.armed[0].hits:
            await asyncio.sleep(0.01)
    venue.faults.clear()

    # An order that a working stream tells of: by then all is told that will be.
    told = False
    while not told:
        ups, last = listener.ups, await trader.resting()
        assert isinstance(await adapter.submit(last), Accepted)
        told = await listener.told_of(last.cl_ord_id, ups)

    rows = {subject.own_id(row.cl_ord_id): row for row in venue.exchange.ledger.orders.values()}
    listed = {fill.exec_id: fill for fill in await adapter.fills(trader.symbol)}
    for order in (bought, resting, cancelled):
        row, found = rows[order.cl_ord_id], await adapter.order(trader.symbol, order.cl_ord_id)
        assert found is not None
        assert (found.status, found.cum_qty) == (row.status, row.cum_qty)
        reports = listener.reports(order.cl_ord_id)
        assert all(report.order.cum_qty <= row.cum_qty for report in reports), reports
        assert all(
            report.order.status is row.status for report in reports if report.order.status.is_final
        ), reports
        # A fill that was told twice has one name, and it is the name that the list has for it.
        fills: dict[str, VenueFill] = {r.fill.exec_id: r.fill for r in reports if r.fill}
        assert all(listed[name].last_qty == fill.last_qty for name, fill in fills.items()), fills
    assert sum(fill.last_qty for fill in listed.values()) == rows[bought.cl_ord_id].cum_qty
    open_orders = await adapter.open_orders([trader.symbol])
    assert open_orders.complete
    assert {order.cl_ord_id for order in open_orders.orders} == {
        name for name, row in rows.items() if row.is_open
    }
    if adapter.capabilities.positions:
        assert await trader.position() == subject.quantity
    assert rows[cancelled.cl_ord_id].status is OrdStatus.CANCELED

    listening.cancel()
    with suppress(asyncio.CancelledError):
        await listening
