"""Order events by asking: what is told of a venue that pushes nothing.

The venue here is a plain list of orders and executions that each test changes between rounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import ClOrdID, OrdStatus, OrdType, Side
from openbell.venues.binance.spot import BinanceVenue
from openbell.venues.polling import OVERLAP_NS, OrderWatch, Seen, polled_stream
from openbell.venues.port import (
    Capabilities,
    Listing,
    OrderReport,
    StreamDown,
    StreamEvent,
    StreamUp,
    VenueFill,
    VenueOrder,
    VenueThrottledError,
    VenueUnavailableError,
)

BTC, ETH = "BTC/USDT", "ETH/USDT"
SECOND_NS = 1_000_000_000
WITHOUT_STREAM = msgspec.structs.replace(
    BinanceVenue.capabilities, server_time=False, order_stream=False
)


@dataclass
class ListVenue:
    orders: dict[str, VenueOrder] = field(default_factory=dict)
    trades: list[VenueFill] = field(default_factory=list)
    complete: bool = True
    hidden: set[str] = field(default_factory=set)
    """Venue order ids that asking does not find."""
    failure: Exception | None = None
    asked_since: list[int] = field(default_factory=list)
    rounds: int = 0
    capabilities: Capabilities = WITHOUT_STREAM
    config: VenueConfig = field(
        default_factory=lambda: VenueConfig(url="http://127.0.0.1:1", symbols=(BTC, ETH))
    )

    async def server_time_ns(self) -> int:
        raise AssertionError("it has none")

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        self.rounds += 1
        if self.failure is not None:
            raise self.failure
        found = tuple(o for o in self.orders.values() if not o.status.is_final)
        return Listing(orders=found if self.complete else (), complete=self.complete)

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        found = [
            o
            for o in self.orders.values()
            if o.cl_ord_id == cl_ord_id and o.venue_order_id not in self.hidden
        ]
        return found[-1] if found else None

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        if not venue_order_id:
            self.asked_since.append(since_ns)
        return [
            f
            for f in self.trades
            if f.symbol == symbol and venue_order_id in ("", f.venue_order_id)
        ]

    # What happens at the venue.

    def place(self, number: int, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "venue_order_id": str(number),
            "cl_ord_id": ClOrdID(f"ob-{number}"),
            "symbol": BTC,
            "side": Side.BUY,
            "ord_type": OrdType.LIMIT,
            "status": OrdStatus.NEW,
            "order_qty": Decimal(10),
            "cum_qty": Decimal(0),
            "price": Decimal(100),
            "created_ns": time.time_ns(),
            "updated_ns": time.time_ns(),
        }
        self.orders[str(number)] = VenueOrder(**{**fields, **changes})

    def change(self, number: int, **changes: Any) -> None:
        self.orders[str(number)] = msgspec.structs.replace(
            self.orders[str(number)], updated_ns=time.time_ns(), **changes
        )

    def trade(self, number: int, exec_id: str, qty: int, **changes: Any) -> None:
        """Lists an execution; the order itself is for `change`."""
        order = self.orders[str(number)]
        fields: dict[str, Any] = {
            "exec_id": exec_id,
            "venue_order_id": order.venue_order_id,
            "cl_ord_id": order.cl_ord_id,
            "symbol": order.symbol,
            "side": order.side,
            "last_qty": Decimal(qty),
            "last_px": Decimal(100),
            "fee": Decimal(0),
            "fee_currency": "USDT",
            "is_maker": True,
            "venue_time_ns": time.time_ns(),
        }
        self.trades.append(VenueFill(**{**fields, **changes}))


@pytest.fixture
def venue() -> ListVenue:
    return ListVenue()


@asynccontextmanager
async def listening(venue: ListVenue) -> AsyncIterator[AsyncIterator[StreamEvent]]:
    """The stream after its first StreamUp."""
    events = polled_stream(venue, 0.01)
    try:
        assert await heard(events) == StreamUp()
        yield events
    finally:
        await events.aclose()


async def heard(events: AsyncIterator[StreamEvent]) -> StreamEvent:
    async with asyncio.timeout(60):
        return await anext(events)


async def report(events: AsyncIterator[StreamEvent]) -> OrderReport:
    event = await heard(events)
    assert isinstance(event, OrderReport), event
    return event


async def nothing_heard(events: AsyncIterator[StreamEvent], venue: ListVenue) -> bool:
    """Whether three more rounds pass in silence."""
    until = venue.rounds + 3
    pending = asyncio.ensure_future(anext(events))
    while venue.rounds < until and not pending.done():
        await asyncio.sleep(0.005)
    silent = not pending.done()
    pending.cancel()
    await asyncio.gather(pending, return_exceptions=True)
    return silent


async def test_what_was_there_before_is_not_told(venue):
    venue.place(1, cum_qty=Decimal(3), status=OrdStatus.PARTIALLY_FILLED)
    venue.trade(1, "a", 3)
    async with listening(venue) as events:
        assert await nothing_heard(events, venue)


async def test_a_new_order_is_told_once(venue):
    async with listening(venue) as events:
        venue.place(1)
        told = await report(events)
        assert (told.order, told.fill) == (venue.orders["1"], None)
        venue.change(1)  # its time alone is no news
        assert await nothing_heard(events, venue)


async def test_a_cancelled_order_is_asked_for_and_told(venue):
    venue.place(1)
    async with listening(venue) as events:
        venue.change(1, status=OrdStatus.CANCELED)
        assert (await report(events)).order.status is OrdStatus.CANCELED


async def test_each_execution_is_told_with_the_order_as_it_was_then(venue):
    venue.place(1)
    async with listening(venue) as events:
        venue.trade(1, "a", 2)
        venue.trade(1, "b", 3)
        venue.change(1, cum_qty=Decimal(5), status=OrdStatus.PARTIALLY_FILLED)
        told = [await report(events) for _ in range(2)]
        assert [(t.order.cum_qty, t.fill.exec_id) for t in told] == [(2, "a"), (5, "b")]
        venue.trade(1, "c", 5)
        venue.change(1, cum_qty=Decimal(10), status=OrdStatus.FILLED)
        last = await report(events)
        assert (last.order.status, last.fill.exec_id) == (OrdStatus.FILLED, "c")
        assert await nothing_heard(events, venue)


async def test_an_order_that_was_never_listed_is_found_by_its_execution(venue):
    async with listening(venue) as events:
        venue.place(7, ord_type=OrdType.MARKET, price=None)
        venue.change(7, cum_qty=Decimal(10), status=OrdStatus.FILLED)
        venue.trade(7, "a", 4)
        venue.trade(7, "b", 6)
        told = [await report(events) for _ in range(2)]
        assert [t.order.status for t in told] == [OrdStatus.PARTIALLY_FILLED, OrdStatus.FILLED]
        assert [t.order.cum_qty for t in told] == [4, 10]


async def test_an_execution_behind_the_listing_is_fetched_before_the_order_is_told_as_ended(venue):
    """Some venues list executions by order sooner, or only, than by time."""
    venue.place(1)
    async with listening(venue) as events:
        old_ns = time.time_ns() - 2 * OVERLAP_NS
        venue.trade(1, "a", 10, venue_time_ns=old_ns)
        venue.change(1, cum_qty=Decimal(10), status=OrdStatus.FILLED)
        told = await report(events)
        assert (told.order.status, told.fill.exec_id) == (OrdStatus.FILLED, "a")


async def test_an_execution_listed_late_is_told_with_its_ended_order(venue):
    venue.place(1)
    async with listening(venue) as events:
        venue.change(1, cum_qty=Decimal(10), status=OrdStatus.FILLED)
        assert (await report(events)).fill is None
        venue.trade(1, "a", 10)
        late = await report(events)
        assert (late.order.status, late.fill.exec_id) == (OrdStatus.FILLED, "a")
        assert await nothing_heard(events, venue)


async def test_absence_from_an_incomplete_listing_proves_nothing(venue):
    venue.place(1)
    async with listening(venue) as events:
        venue.complete = False
        assert await nothing_heard(events, venue)


@pytest.mark.parametrize("why", ["no ClOrdID", "unknown", "another's"])
async def test_an_order_that_is_gone_and_cannot_be_asked_for_is_in_doubt(venue, why):
    venue.place(1, **({"cl_ord_id": ClOrdID("")} if why == "no ClOrdID" else {}))
    async with listening(venue) as events:
        venue.change(1, status=OrdStatus.CANCELED)
        if why == "unknown":
            venue.hidden.add("1")
        if why == "another's":
            venue.place(2, cl_ord_id=ClOrdID("ob-1"), status=OrdStatus.FILLED)
        assert (await report(events)).order.status is OrdStatus.UNKNOWN
        assert await nothing_heard(events, venue)


async def test_a_listing_that_lags_reopens_nothing():
    watch = OrderWatch(since_ns=0)
    venue = ListVenue()
    venue.place(1)
    open_order = venue.orders["1"]
    ended = msgspec.structs.replace(open_order, status=OrdStatus.CANCELED)
    watch.begin([open_order], ())
    assert [r.order for r in watch.reports(Seen(orders={"1": ended}, fills=()))] == [ended]
    assert watch.reports(Seen(orders={"1": open_order}, fills=())) == []


async def test_away_is_told_once_and_what_changed_meanwhile_afterwards(venue):
    venue.place(1)
    async with listening(venue) as events:
        venue.failure = VenueUnavailableError("no connection")
        assert await heard(events) == StreamDown(why="no connection")
        assert await nothing_heard(events, venue)


async def test_back_again_what_changed_meanwhile_is_told(venue):
    venue.place(1)
    async with listening(venue) as events:
        venue.failure = VenueUnavailableError("no connection")
        assert isinstance(await heard(events), StreamDown)
        venue.change(1, status=OrdStatus.CANCELED)
        venue.failure = None
        assert await heard(events) == StreamUp()
        assert (await report(events)).order.status is OrdStatus.CANCELED


async def test_throttled_it_asks_no_sooner_than_the_venue_allows(venue):
    venue.failure = VenueThrottledError("slow down", retry_after_s=3600)
    events = polled_stream(venue, 0.01)
    assert isinstance(await heard(events), StreamDown)
    assert await nothing_heard_within(events, 0.2)
    assert venue.rounds == 1


async def nothing_heard_within(events: AsyncIterator[StreamEvent], seconds: float) -> bool:
    try:
        await asyncio.wait_for(anext(events), seconds)
    except TimeoutError:
        return True
    return False


async def test_executions_are_asked_from_an_overlap_before_the_newest_one(venue):
    venue.place(1)
    async with listening(venue) as events:
        newest_ns = time.time_ns() + 3600 * SECOND_NS
        venue.trade(1, "a", 1, venue_time_ns=newest_ns)
        venue.change(1, cum_qty=Decimal(1), status=OrdStatus.PARTIALLY_FILLED)
        await report(events)
        assert await nothing_heard(events, venue)
        assert venue.asked_since[-2:] == [newest_ns - OVERLAP_NS, venue.asked_since[0]]
