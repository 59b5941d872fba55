"""Quotes that are asked for, by adapters that need credentials and by one that does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from openbell.config.models import Venue
from openbell.domain.market import Quote
from openbell.trading.feeds import NEED_CREDENTIALS, FeedError, make_feed
from openbell.trading.feeds.connecting import words
from openbell.trading.feeds.polled import PolledFeed
from openbell.venues.coinbase.venue import CoinbaseVenue
from openbell.venues.credentials import Credentials
from openbell.venues.port import VenueThrottledError
from openbell.venues.registry import load_adapter
from openbell_sim import testing
from openbell_sim.server import Venue as Sim

WITHIN_S = 60
D = Decimal


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    still = testing.StillMarket("coinbase", **{"BTC-USD": ("60000", "60001", "1")})
    settings = testing.settings([still], face="coinbase", limit_scale=0)
    async with testing.running_venue(settings) as running:
        yield running


def declared(sim: Sim, adapter: str, **options: str) -> Venue:
    return Venue(
        adapter=adapter,
        url=sim.url,
        symbols=("BTC/USD",),
        options={"quote_every": "0.01", **options},
    )


async def heard(messages: AsyncIterator[Any]) -> Any:
    async with asyncio.timeout(WITHIN_S):
        return await anext(messages)


async def test_quotes_of_a_ccxt_exchange_need_no_credentials(sim):
    feed = make_feed("sim", declared(sim, "ccxt", exchange="coinbase"))
    (rules,) = await feed.connect()
    assert (rules.symbol, rules.tick_size) == ("BTC/USD", D("0.01"))
    messages = feed.messages()
    quotes = [await heard(messages) for _ in range(3)]
    assert {(q.symbol, q.bid_px, q.ask_px) for q in quotes} == {("BTC/USD", D(60000), D(60001))}
    assert quotes[0].received_ns < quotes[2].received_ns
    await feed.close()


async def test_where_credentials_are_needed_and_not_given_it_says_what_to_do(sim):
    feed = PolledFeed("sim", declared(sim, "coinbase"), None)
    with pytest.raises(FeedError) as raised:
        await feed.connect()
    assert 'venues = ["sim"]' in raised.value.hint


@pytest.fixture
async def connected(sim) -> AsyncIterator[PolledFeed]:
    feed = PolledFeed("sim", declared(sim, "coinbase"), Credentials(testing.KEY, testing.SECRET))
    await feed.connect()
    yield feed
    await feed.close()


async def test_a_venue_that_goes_away_ends_the_messages(connected, sim):
    messages = connected.messages()
    await heard(messages)
    await sim.stop()
    with pytest.raises(FeedError):
        while True:
            await heard(messages)


async def test_a_crossed_quote_is_counted_and_not_given_out(connected, monkeypatch):
    quote = CoinbaseVenue.quote

    async def crossed_once(self: CoinbaseVenue, symbol: str) -> Quote:
        monkeypatch.undo()
        told = await quote(self, symbol)
        return type(told)(
            **{**{f: getattr(told, f) for f in told.__struct_fields__}, "bid_px": D(9**9)}
        )

    monkeypatch.setattr(CoinbaseVenue, "quote", crossed_once)
    assert (await heard(connected.messages())).bid_px == 60000
    assert connected.unsound == 1


async def test_throttled_it_waits_as_long_as_the_venue_says(connected, monkeypatch):
    asked = []

    async def throttled(self: CoinbaseVenue, symbol: str) -> Quote:
        asked.append(symbol)
        raise VenueThrottledError("slow down", retry_after_s=3600)

    monkeypatch.setattr(CoinbaseVenue, "quote", throttled)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(connected.messages()), 0.2)
    assert asked == ["BTC/USD"]


@pytest.mark.parametrize("adapter", ["ccxt", "mt5", "tradelocker"])
def test_an_adapter_that_tells_nobody_its_quotes_needs_credentials(adapter):
    is_public = hasattr(load_adapter(adapter), "connect_public")
    assert is_public is (adapter not in NEED_CREDENTIALS)


async def test_a_connection_that_fails_is_told_without_the_address_again() -> None:
    closed = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = closed.sockets[0].getsockname()[1]
    closed.close()
    await closed.wait_closed()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError) as failed:
            await session.get(f"http://127.0.0.1:{port}/")
    told = words(failed.value)
    assert told and "ssl" not in told and str(port) not in told, told
