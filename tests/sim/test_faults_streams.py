"""Faults of streams, as a client with an open socket meets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from openbell_sim import testing
from openbell_sim.faults.kinds import (
    DelayedEvents,
    DuplicateEvents,
    MissingEvents,
    ReorderedEvents,
    StreamFault,
)
from openbell_sim.faults.streams import Gate
from openbell_sim.outbox import Outbox
from openbell_sim.server import Venue

ORDER = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "50000",
}


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    """Nothing happens there but what the test does."""
    still = testing.StillMarket(BTCUSDT=("59990", "60000", "1"))
    async with testing.running_venue(testing.settings([still])) as running:
        yield running


class Reports:
    """The order events of account `main`, as its stream tells them."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def take(self, count: int) -> list[str]:
        """The client ids of the next so many execution reports."""
        seen: list[str] = []
        while len(seen) < count:
            event = await self._socket.receive_json(timeout=20)
            if event["e"] == "executionReport":
                seen.append(event["c"])
        return seen


@pytest.fixture
async def reports(venue: Venue, http: aiohttp.ClientSession) -> AsyncIterator[Reports]:
    headers = {"X-MBX-APIKEY": testing.KEY}
    async with http.post(f"{venue.url}/api/v3/userDataStream", headers=headers) as reply:
        listen_key = (await reply.json())["listenKey"]
    async with http.ws_connect(f"{venue.url}/ws/{listen_key}") as socket:
        yield Reports(socket)


async def place(signed: Any, *names: str) -> None:
    for name in names:
        status, body = await signed.order(**ORDER, newClientOrderId=name)
        assert status == 200, body


def accepted(venue: Venue) -> list[str]:
    return [order.cl_ord_id for order in venue.exchange.ledger.orders.values()]


async def test_missing_events_never_arrive(
    venue: Venue, signed: Any, control: Callable[..., Any], reports: Reports
) -> None:
    # Two events for each order: its report and its balances.
    await control("missing_events", after=2, count=2)
    await place(signed, "a", "b", "c")
    assert await reports.take(2) == ["a", "c"]
    assert accepted(venue) == ["a", "b", "c"]


async def test_duplicate_events_arrive_twice(
    venue: Venue, signed: Any, control: Callable[..., Any], reports: Reports
) -> None:
    await control("duplicate_events", count=1)
    await place(signed, "a", "b")
    assert await reports.take(3) == ["a", "a", "b"]
    assert accepted(venue) == ["a", "b"]


async def test_delayed_events_arrive_late_and_in_their_order(
    venue: Venue, signed: Any, control: Callable[..., Any], reports: Reports
) -> None:
    await control("delayed_events", delay_s=1.0, count=1)
    begun = asyncio.get_running_loop().time()
    await place(signed, "a", "b")
    assert accepted(venue) == ["a", "b"]
    assert await reports.take(2) == ["a", "b"]
    assert asyncio.get_running_loop().time() - begun >= 1.0


async def test_reordered_events_are_overtaken(
    venue: Venue, signed: Any, control: Callable[..., Any], reports: Reports
) -> None:
    await control("reordered_events", by=2, within_s=60, count=1)
    await place(signed, "a", "b")
    assert await reports.take(2) == ["b", "a"]
    assert accepted(venue) == ["a", "b"]


async def test_an_event_that_nothing_overtakes_arrives_all_the_same(
    signed: Any, control: Callable[..., Any], reports: Reports
) -> None:
    await control("reordered_events", by=50, within_s=0.05, count=1)
    await place(signed, "a")
    assert await reports.take(1) == ["a"]


async def test_public_events_are_struck_apart_from_private_ones(
    venue: Venue,
    http: aiohttp.ClientSession,
    signed: Any,
    control: Callable[..., Any],
    reports: Reports,
) -> None:
    await control("missing_events", streams="public", count=1)
    async with http.ws_connect(f"{venue.url}/ws/btcusdt@trade") as trades:
        await place(signed, "a")
        for quantity in ("0.01", "0.02"):
            await signed.order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity=quantity)
        assert (await reports.take(1)) == ["a"]
        assert (await trades.receive_json(timeout=20))["q"] == "0.02000000"
    assert len(venue.exchange.ledger.fills) == 2


async def test_streams_are_cut(
    venue: Venue, http: aiohttp.ClientSession, control: Callable[..., Any]
) -> None:
    async with http.ws_connect(f"{venue.url}/ws/btcusdt@bookTicker") as socket:
        answer = await control("disconnect_streams")
        assert (answer["faults"][0]["hits"], answer["faults"][0]["spent"]) == (1, True)
        while not socket.closed:
            await socket.receive(timeout=20)


async def test_streams_are_cut_when_a_request_comes(
    venue: Venue, signed: Any, control: Callable[..., Any], reports: Reports
) -> None:
    """The order that cuts the stream is accepted, and told to nobody."""
    await control("disconnect_streams", kinds=["submit"], count=1)
    await place(signed, "a")
    with pytest.raises(TypeError):  # A message that closes the socket is no JSON.
        await reports.take(1)
    assert accepted(venue) == ["a"]


class Sink:
    closed = False


async def test_what_is_late_holds_up_what_follows_and_nothing_else() -> None:
    fates: list[StreamFault | None] = [None, DelayedEvents(delay_s=0.05), None, MissingEvents()]
    fates += [DuplicateEvents(), ReorderedEvents(by=1), None]
    coming = iter(fates)
    gate = Gate(lambda private: next(coming))
    arrived: list[bytes] = []

    class Box(Outbox):
        def put(self, data: bytes) -> None:
            arrived.append(data)

    box = Box(Sink(), gate)  # type: ignore[arg-type]
    for number in range(len(fates)):
        box.send(b"%d" % number)
    assert arrived == [b"0"]
    async with asyncio.timeout(60):
        while len(arrived) < 7:
            await asyncio.sleep(0.01)
    assert b"".join(arrived) == b"0124465"
