"""OANDA's prices: from its stream to quotes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import Quote
from openbell.trading.feeds import FeedError, make_feed
from openbell.trading.feeds import oanda as oanda_feed
from openbell.trading.feeds.port import MarketFeed
from openbell.venues.credentials import Credentials
from openbell_sim import testing
from openbell_sim.faces.oanda import streams
from openbell_sim.market.events import Snapshot
from openbell_sim.server import Venue
from openbell_sim.sessions import MarketState

D = Decimal
KNOWN = Credentials("", testing.SECRET)


@pytest.fixture
async def sim() -> AsyncIterator[Venue]:
    market = {
        "EUR_USD": ("1.08490", "1.08510", "1000"), "USD_JPY": ("149.990", "150.010", "2000"),
    }  # fmt: skip
    settings = testing.settings(
        [testing.StillMarket("oanda", **market)], face="oanda", limit_scale=0
    )
    async with testing.running_venue(settings) as running:
        yield running


@pytest.fixture
async def opened(sim: Venue) -> AsyncIterator[Callable[..., MarketFeed]]:
    made: list[MarketFeed] = []

    def make(credentials: Credentials | None = KNOWN, **keys: Any) -> MarketFeed:
        fields = {"url": sim.url, "adapter": "oanda", "symbols": ("EUR/USD", "USD/JPY"), **keys}
        feed = make_feed("sim", VenueConfig(**fields), credentials)
        made.append(feed)
        return feed

    yield make
    for feed in made:
        await feed.close()


async def heard(messages: AsyncIterator[Any]) -> Quote:
    async with asyncio.timeout(60):
        message = await anext(messages)
    assert isinstance(message, Quote)
    return message


async def test_rules_and_quotes_keep_every_digit(sim, opened) -> None:
    feed = opened()
    euro, yen = await feed.connect()
    assert (euro.symbol, euro.tick_size, yen.tick_size) == ("EUR/USD", D("0.00001"), D("0.001"))
    messages = feed.messages()
    first, second = await heard(messages), await heard(messages)
    assert (first.symbol, first.bid_px, first.ask_px) == ("EUR/USD", D("1.08490"), D("1.08510"))
    assert (second.symbol, second.bid_qty) == ("USD/JPY", D(2000))
    sim.exchange.play(Snapshot("EUR_USD", ((D("1.08480"), D(7)),), ((D("1.08500"), D(8)),)))
    moved = await heard(messages)
    assert (moved.bid_px, moved.ask_qty, moved.venue) == (D("1.08480"), D(8), "sim")
    assert abs(moved.venue_time_ns - moved.received_ns) < 60 * 10**9


async def test_prices_that_cannot_be_traded_on_are_not_given_out(sim, opened) -> None:
    sim.exchange.set_session("EUR_USD", MarketState.CLOSED)
    feed = opened()
    await feed.connect()
    messages = feed.messages()
    assert (await heard(messages)).symbol == "USD/JPY"
    sim.exchange.set_session("EUR_USD", MarketState.OPEN)
    assert (await heard(messages)).symbol == "EUR/USD"
    assert feed.unsound == 0


async def test_a_side_without_prices_is_counted_and_not_given_out(sim, opened) -> None:
    feed = opened()
    await feed.connect()
    messages = feed.messages()
    for _ in range(2):
        await heard(messages)
    sim.exchange.play(Snapshot("EUR_USD", (), ((D("1.08500"), D(8)),)))
    following = asyncio.ensure_future(heard(messages))
    async with asyncio.timeout(60):
        while not feed.unsound:
            await asyncio.sleep(0.02)
    sim.exchange.play(Snapshot("EUR_USD", ((D("1.08480"), D(7)),), ((D("1.08500"), D(8)),)))
    assert (await following).bid_px == D("1.08480")


async def test_the_end_of_the_stream_and_silence_are_errors(sim, opened, monkeypatch) -> None:
    feed = opened()
    await feed.connect()
    messages = feed.messages()
    await heard(messages)
    await sim.face.disconnect()
    with pytest.raises(FeedError, match="ended"):
        while True:
            await heard(messages)
    monkeypatch.setattr(oanda_feed, "SILENCE_MAX_S", 0.2)
    monkeypatch.setattr(streams, "HEARTBEAT_S", 60)
    await feed.connect()
    messages = feed.messages()
    with pytest.raises(FeedError, match="silent"):
        while True:
            await heard(messages)


async def test_heartbeats_keep_a_quiet_stream_alive(sim, opened, monkeypatch) -> None:
    monkeypatch.setattr(oanda_feed, "SILENCE_MAX_S", 2.0)  # longer than a busy machine stands still
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.05)
    feed = opened()
    await feed.connect()
    messages = feed.messages()
    for _ in range(2):
        await heard(messages)
    waiting = asyncio.ensure_future(heard(messages))
    done, _ = await asyncio.wait([waiting], timeout=3.0)
    assert not done
    waiting.cancel()


async def test_it_says_what_is_missing(sim, opened) -> None:
    with pytest.raises(FeedError, match="does not list DOGE/USD"):
        await opened(symbols=("EUR/USD", "DOGE/USD")).connect()
    with pytest.raises(FeedError, match="answered 403"):
        await opened(account="101-001-0000000-001").connect()
    with pytest.raises(FeedError, match="answered 401"):
        await opened(Credentials("", "of somebody else")).connect()
    with pytest.raises(FeedError, match="given no credentials of sim") as caught:
        await opened(None).connect()
    assert 'venues = ["sim"]' in caught.value.hint
    with pytest.raises(FeedError, match="cannot connect"):
        await opened(url="http://127.0.0.1:1").connect()
