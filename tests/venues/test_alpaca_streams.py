"""Alpaca's streams: the adapter's order events and the feed's quotes, where the venue misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import Quote, Trade
from openbell.domain.orders import OrdStatus
from openbell.trading.feeds import FeedError, MarketFeed, make_feed
from openbell.trading.feeds.alpaca import TradeSides
from openbell.venues.alpaca.venue import AlpacaVenue
from openbell.venues.credentials import Credentials
from openbell.venues.port import OrderReport, StreamDown, StreamUp
from openbell_sim import testing

AUTHORIZED = {"stream": "authorization", "data": {"action": "authenticate", "status": "authorized"}}
LISTENING = {"stream": "listening", "data": {"streams": ["trade_updates"]}}
ORDER = {
    "id": "o-1",
    "client_order_id": "c-1",
    "created_at": "2024-08-08T13:30:00Z",
    "updated_at": "2024-08-08T13:30:01Z",
    "symbol": "AAPL",
    "qty": "3",
    "filled_qty": "2",
    "type": "market",
    "side": "sell",
    "status": "partially_filled",
}
FILL = {
    "event": "partial_fill",
    "price": "150.5",
    "qty": "1.5",
    "timestamp": "2024-08-08T13:30:01.5Z",
    "execution_id": "e-1",
    "order": ORDER,
}


@pytest.fixture
async def serving() -> AsyncIterator[Callable[[list[Any]], Any]]:
    """`await serving(messages)`: a URL at which each connection is sent these, a message in answer
    to each of the client's first two and the rest at once, and is then closed."""
    runners: list[web.AppRunner] = []

    async def serve(messages: list[Any]) -> str:
        async def handle(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            for number, message in enumerate(messages):
                if number < 2:
                    await socket.receive()
                text = message if isinstance(message, str) else json.dumps(message)
                await socket.send_bytes(text.encode())
            await socket.close()
            return socket

        app = web.Application()
        app.router.add_get("/stream", handle)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield serve
    for runner in runners:
        await runner.cleanup()


async def told(url: str, count: int) -> list[Any]:
    """The first events of the adapter's stream."""
    config = VenueConfig(adapter="alpaca", url=url, symbols=("AAPL/USD",))
    venue = AlpacaVenue("sim", config, Credentials("key-of-this", "secret-of-this"))
    events = venue.stream()
    try:
        async with asyncio.timeout(60):
            return [await anext(events) for _ in range(count)]
    finally:
        await events.aclose()
        await venue.close()


async def test_a_fill_is_named_as_the_history_names_it(serving: Any) -> None:
    update = {"stream": "trade_updates", "data": FILL}
    up, report, down = await told(await serving([AUTHORIZED, LISTENING, update]), 3)
    assert up == StreamUp()
    assert isinstance(report, OrderReport)
    assert report.order.status is OrdStatus.PARTIALLY_FILLED
    assert report.fill is not None
    assert (report.fill.exec_id, report.fill.last_qty, report.fill.last_px) == (
        "o-1:2",
        Decimal("1.5"),
        Decimal("150.5"),
    )
    assert report.fill.venue_time_ns == 1723123801_500000000
    assert isinstance(down, StreamDown)


async def test_orders_in_other_symbols_and_other_streams_are_passed_over(serving: Any) -> None:
    others = [
        {"stream": "trade_updates", "data": {**FILL, "order": {**ORDER, "symbol": "TSLA"}}},
        {"stream": "account_updates", "data": {"cash": "1"}},
        {"stream": "trade_updates", "data": {"event": "new", "order": ORDER}},
    ]
    _, report = await told(await serving([AUTHORIZED, LISTENING, *others]), 2)
    assert isinstance(report, OrderReport)
    assert report.fill is None


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        (
            [{"stream": "authorization", "data": {"status": "unauthorized"}}],
            "authentication refused: unauthorized",
        ),
        ([AUTHORIZED, {"stream": "listening", "data": {"streams": []}}], "not available"),
        ([AUTHORIZED, {"stream": "authorization", "data": {"status": "x"}}], "listening refused"),
        (["no json"], "unreadable message"),
        ([], "connection closed"),
    ],
)
async def test_a_stream_that_does_not_listen_is_down_and_says_why(
    serving: Any, messages: list[Any], why: str
) -> None:
    (down,) = await told(await serving(messages), 1)
    assert isinstance(down, StreamDown)
    assert why in down.why
    assert "secret-of-this" not in down.why


@pytest.mark.parametrize(
    "unreadable",
    [
        {"stream": "trade_updates", "data": {"event": "fill"}},
        {"stream": "trade_updates", "data": {**FILL, "price": "NaN"}},
        {"stream": "trade_updates", "data": {**FILL, "timestamp": "noon"}},
    ],
)
async def test_an_event_that_cannot_be_read_is_a_gap(serving: Any, unreadable: Any) -> None:
    up, down = await told(await serving([AUTHORIZED, LISTENING, unreadable]), 2)
    assert up == StreamUp()
    assert isinstance(down, StreamDown)
    assert "unreadable" in down.why


# The feed


KNOWN = Credentials(testing.KEY, testing.SECRET)


def feed_of(url: str, *symbols: str, credentials: Credentials | None = KNOWN) -> MarketFeed:
    config = VenueConfig(adapter="alpaca", url=url, symbols=symbols or ("AAPL/USD",))
    return make_feed("broker", config, credentials)


async def test_the_feed_tells_quotes_trades_and_rules() -> None:
    async with testing.running_venue(testing.settings(face="alpaca")) as sim:
        feed = feed_of(sim.url, "AAPL/USD", "SPY/USD")
        try:
            rules = await feed.connect()
            assert [each.symbol for each in rules] == ["AAPL/USD", "SPY/USD"]
            heard: dict[type, Any] = {}
            async with asyncio.timeout(30):
                async for message in feed.messages():
                    heard[type(message)] = message
                    if len(heard) == 2:
                        break
        finally:
            await feed.close()
    assert heard[Quote].is_sound
    assert heard[Quote].venue == "broker"
    assert abs(heard[Quote].venue_time_ns - heard[Quote].received_ns) < 60 * 10**9
    assert heard[Trade].price > 0


async def test_the_feed_can_be_connected_again() -> None:
    async with testing.running_venue(testing.settings(face="alpaca")) as sim:
        feed = feed_of(sim.url)
        await feed.connect()
        await sim.face.disconnect()
        with pytest.raises(FeedError, match="ended"):
            async for _ in feed.messages():
                pass
        await feed.close()
        # Until the venue has noticed, the old connection is in the way of a new one.
        async with asyncio.timeout(60):
            while True:
                try:
                    await feed.connect()
                    break
                except FeedError as error:
                    assert "406" in error.message
                    await asyncio.sleep(0.05)
        await feed.close()


async def test_a_second_connection_is_refused_in_the_venues_words() -> None:
    async with testing.running_venue(testing.settings(face="alpaca")) as sim:
        first, second = feed_of(sim.url), feed_of(sim.url)
        await first.connect()
        with pytest.raises(FeedError, match="406 connection limit exceeded"):
            await second.connect()
        await first.close()


async def test_a_feed_without_credentials_says_what_to_do() -> None:
    with pytest.raises(FeedError) as caught:
        await feed_of("http://127.0.0.1:1", credentials=None).connect()
    assert 'venues = ["broker"]' in caught.value.hint


async def test_a_symbol_that_is_not_listed_is_named() -> None:
    async with testing.running_venue(testing.settings(face="alpaca")) as sim:
        with pytest.raises(FeedError, match="NOPE/USD"):
            await feed_of(sim.url, "AAPL/USD", "NOPE/USD").connect()
        with pytest.raises(FeedError, match="cannot connect"):
            await feed_of("http://127.0.0.1:1").connect()


def test_the_aggressor_is_told_by_the_middle_of_the_quote_and_the_last_move() -> None:
    sides = TradeSides()
    assert sides.bought(Decimal(200)) is True  # nothing is known: as good as any
    assert sides.bought(Decimal(199)) is False
    sides.mid = Decimal(200)
    assert sides.bought(Decimal(201)) is True
    assert sides.bought(Decimal(199)) is False
    assert sides.bought(Decimal(200)) is True
    assert sides.bought(Decimal(200)) is True
    assert sides.bought(Decimal("200.01")) is True
    assert sides.bought(Decimal(200)) is False
