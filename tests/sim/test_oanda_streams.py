"""The OANDA face's streams: a JSON object in each line, for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from openbell_sim import testing
from openbell_sim.faces.oanda import streams
from openbell_sim.faces.oanda.book import account_id
from openbell_sim.market.events import Snapshot
from openbell_sim.server import Venue
from openbell_sim.sessions import MarketState

D = Decimal
ACCOUNT = f"/v3/accounts/{account_id('main')}"
HEADERS = {"Authorization": f"Bearer {testing.SECRET}"}


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    market = testing.StillMarket("oanda", EUR_USD=("1.08490", "1.08510", "1000"))
    settings = testing.settings([market], face="oanda", limit_scale=0)
    async with testing.running_venue(settings) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        yield session


class Lines:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self, kind: str = "") -> Any:
        """The next line, of one type where that is given. None at the end."""
        while True:
            async with asyncio.timeout(60):
                line = await self.response.content.readline()
            if not line:
                return None
            told = json.loads(line)
            if kind in ("", told["type"]):
                return told


@asynccontextmanager
async def stream(
    http: aiohttp.ClientSession, venue: Venue, path: str, **headers: str
) -> AsyncIterator[Lines]:
    async with http.get(venue.url + ACCOUNT + path, headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Lines(response)


async def place(http: aiohttp.ClientSession, venue: Venue, **spec: object) -> Any:
    order = {"type": "MARKET", "instrument": "EUR_USD", "units": "100", **spec}
    async with http.post(f"{venue.url}{ACCOUNT}/orders", json={"order": order}) as response:
        return await response.json()


async def test_transactions_are_those_of_the_list(venue, http) -> None:
    async with stream(http, venue, "/transactions/stream") as lines:
        beat = await lines.next()
        assert (beat["type"], beat["lastTransactionID"]) == ("HEARTBEAT", "2")
        await place(http, venue)
        await place(http, venue, units="0")
        told = [await lines.next() for _ in range(3)]
    assert [each["type"] for each in told] == ["MARKET_ORDER", "ORDER_FILL", "MARKET_ORDER_REJECT"]
    async with http.get(f"{venue.url}{ACCOUNT}/transactions/sinceid?id=2") as response:
        assert (await response.json())["transactions"] == told


async def test_what_the_market_fills_is_told_without_a_request(venue, http) -> None:
    await place(http, venue, type="LIMIT", price="1.08400", stopLossOnFill={"price": "1.07"})
    async with stream(
        http, venue, "/transactions/stream", **{"Accept-Datetime-Format": "UNIX"}
    ) as lines:
        await lines.next("HEARTBEAT")
        venue.exchange.play(
            Snapshot("EUR_USD", ((D("1.08300"), D(1000)),), ((D("1.08350"), D(1000)),))
        )
        fill = await lines.next()
        assert (fill["type"], fill["reason"]) == ("ORDER_FILL", "LIMIT_ORDER")
        assert fill["time"].replace(".", "").isdecimal()
        stop = await lines.next()
        assert (stop["type"], stop["tradeID"]) == ("STOP_LOSS_ORDER", fill["id"])


async def test_heartbeats_come_whether_or_not_anything_happens(venue, http, monkeypatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.05)
    for path in ("/transactions/stream", "/pricing/stream?instruments=EUR_USD"):
        async with stream(http, venue, path) as lines:
            assert [await lines.next("HEARTBEAT") for _ in range(3)]


async def test_prices_begin_with_what_they_are_and_go_on_where_they_change(venue, http) -> None:
    async with stream(http, venue, "/pricing/stream?instruments=EUR_USD") as lines:
        first = await lines.next("PRICE")
        assert (first["bids"][0]["price"], first["tradeable"]) == ("1.08490", True)
        venue.exchange.play(
            Snapshot("EUR_USD", ((D("1.08480"), D(1000)),), ((D("1.08500"), D(1000)),))
        )
        assert (await lines.next("PRICE"))["bids"][0]["price"] == "1.08480"
        venue.exchange.set_session("EUR_USD", MarketState.CLOSED)
        assert (await lines.next("PRICE"))["tradeable"] is False


async def test_streams_end_when_they_are_cut(venue, http) -> None:
    async with stream(http, venue, "/transactions/stream") as lines:
        await lines.next("HEARTBEAT")
        assert venue.face.stream_counts()[0] == 1
        assert await venue.face.disconnect() == 1
        assert await lines.next() is None
    assert venue.face.stream_counts()[0] == 0


async def test_a_client_that_goes_is_forgotten(venue, http, monkeypatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.05)
    async with stream(http, venue, "/transactions/stream") as lines:
        await lines.next("HEARTBEAT")
    async with asyncio.timeout(60):
        while venue.face.stream_counts()[0]:
            await asyncio.sleep(0.02)


async def test_an_instrument_that_is_not_known_or_a_stream_too_many_is_refused(http) -> None:
    market = testing.StillMarket("oanda", EUR_USD=("1.08490", "1.08510", "1000"))
    settings = testing.settings([market], face="oanda", limit_scale=0.1)  # two streams
    async with testing.running_venue(settings) as venue:
        path = venue.url + ACCOUNT
        venue.face.limits.connections.most = 0
        async with http.get(f"{path}/pricing/stream?instruments=DOGE_USD") as refused:
            assert refused.status == 400
        async with stream(http, venue, "/transactions/stream") as one:
            async with stream(http, venue, "/transactions/stream") as two:
                await one.next()
                await two.next()
                async with http.get(f"{path}/transactions/stream") as refused:
                    assert refused.status == 429
