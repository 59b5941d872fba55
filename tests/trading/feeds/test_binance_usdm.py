"""Market data of USD-M futures, against the simulated venue."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal

import pytest

from openbell.config.models import Venue
from openbell.domain.market import Quote, Trade
from openbell.trading.feeds import FeedError, make_feed
from openbell_sim import testing


@pytest.fixture
async def url():
    async with testing.running_venue(testing.settings(face="binance-usdm")) as venue:
        yield venue.url


def declared(url: str, *symbols: str) -> Venue:
    return Venue(adapter="binance-usdm", url=url, symbols=symbols or ("BTC/USDT", "ETH/USDT"))


async def test_quotes_and_trades_come_over_the_paths_that_carry_them(url):
    feed = make_feed("sim", declared(url))
    btc, eth = await feed.connect()
    assert (btc.symbol, btc.tick_size, btc.lot_size, btc.min_notional) == (
        "BTC/USDT",
        Decimal("0.10"),
        Decimal("0.001"),
        Decimal(100),
    )
    assert eth.tick_size == Decimal("0.01")
    seen = {}
    async with asyncio.timeout(30):
        async for message in feed.messages():
            seen.setdefault((type(message), message.symbol), message)
            if len(seen) == 4:
                break
    quote, trade = seen[Quote, "BTC/USDT"], seen[Trade, "BTC/USDT"]
    assert 0 < quote.bid_px < quote.ask_px
    assert abs(quote.venue_time_ns - time.time_ns()) < 60 * 10**9
    assert trade.price % btc.tick_size == 0
    assert trade.quantity % btc.lot_size == 0
    await feed.close()


async def test_a_symbol_that_is_no_perpetual_is_named(url):
    feed = make_feed("sim", declared(url, "BTC/USDT", "NOPE/USDT"))
    with pytest.raises(FeedError, match="NOPE/USDT") as raised:
        await feed.connect()
    assert "BTC/USDT" not in raised.value.message


async def test_the_end_of_one_socket_is_the_end_of_the_feed(url):
    feed = make_feed("sim", declared(url))
    await feed.connect()
    messages = feed.messages()
    async with asyncio.timeout(30):
        await anext(messages)
        await feed._sockets[1].close()
        with pytest.raises(FeedError):
            while True:
                await anext(messages)
    await feed.close()
