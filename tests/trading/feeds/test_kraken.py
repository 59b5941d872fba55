"""The Kraken feed against a venue that speaks its public WebSocket v2."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from openbell.config.models import Venue
from openbell.domain.market import Quote, Trade
from openbell.trading.feeds import FeedError, make_feed

PAIRS = {
    "XXBTZUSD": {
        "altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD",
        "pair_decimals": 1, "lot_decimals": 8, "ordermin": "0.00005", "costmin": "0.5",
        "tick_size": "0.1",
    },
    "XDGUSD": {
        "altname": "XDGUSD", "wsname": "XDG/USD", "base": "XXDG", "quote": "ZUSD",
        "pair_decimals": 7, "lot_decimals": 8, "ordermin": "13", "costmin": "0.5",
    },
}  # fmt: skip


class PublicKraken:
    """`say` sends a line to every connection that has subscribed."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[dict[str, Any]] = []
        self.refusing = ""
        self.early = ""
        """Sent before the second subscription is confirmed."""
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/0/public/AssetPairs", self._asset_pairs)
        app.router.add_get("/v2", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self.cut()
        if self._runner is not None:
            await self._runner.cleanup()

    async def cut(self) -> None:
        for socket in tuple(self._sockets):
            await socket.close()

    async def say(self, line: str) -> None:
        for socket in self._sockets:
            await socket.send_str(line)

    def feed(self, *symbols: str, fee_currency: str | None = None) -> Any:
        venue = Venue(
            adapter="kraken",
            url=f"http://127.0.0.1:{self.port}",
            symbols=symbols or ("BTC/USD",),
            fee_currency=fee_currency,
            timeout=2.0,
        )
        return make_feed("krk", venue)

    async def _asset_pairs(self, request: web.Request) -> web.Response:
        by_name = {pair["altname"]: (key, pair) for key, pair in PAIRS.items()}
        names = request.query["pair"].split(",")
        if any(name not in by_name for name in names):
            return web.json_response({"error": ["EQuery:Unknown asset pair"]})
        return web.json_response({"error": [], "result": dict(by_name[n] for n in names)})

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str('{"channel":"status","type":"update","data":[{"system":"online"}]}')
        with contextlib.suppress(ConnectionError):
            async for message in socket:
                assert message.type is aiohttp.WSMsgType.TEXT
                said = json.loads(message.data)["params"]
                self.asked.append(said)
                if self.early and said["channel"] == "trade":
                    await socket.send_str(self.early)
                for symbol in said["symbol"]:
                    if symbol == self.refusing:
                        answer = {"success": False, "error": f"not supported {symbol}"}
                    else:
                        answer = {"success": True, "result": {"symbol": symbol}}
                    await socket.send_json({"method": "subscribe", **answer})
                self._sockets.add(socket)
        self._sockets.discard(socket)
        return socket


@pytest.fixture
async def kraken() -> AsyncIterator[PublicKraken]:
    venue = PublicKraken()
    await venue.start()
    yield venue
    await venue.stop()


def ticker(symbol: str, bid: str, ask: str) -> str:
    row = (
        f'{{"symbol":"{symbol}","bid":{bid},"bid_qty":0.10000000,"ask":{ask},"ask_qty":2.5,'
        '"last":1,"timestamp":"2026-01-02T03:04:05.678901Z"}'
    )
    return f'{{"channel":"ticker","type":"update","data":[{row}]}}'


async def test_prices_are_exactly_the_digits_on_the_wire(kraken: PublicKraken) -> None:
    feed = kraken.feed()
    (rules,) = await feed.connect()
    assert (rules.symbol, rules.base, rules.quote) == ("BTC/USD", "BTC", "USD")
    assert (rules.tick_size, rules.lot_size) == (Decimal("0.1"), Decimal("1E-8"))
    assert (rules.min_qty, rules.min_notional) == (Decimal("0.00005"), Decimal("0.5"))
    assert [(said["channel"], said["symbol"]) for said in kraken.asked] == [
        ("ticker", ["BTC/USD"]),
        ("trade", ["BTC/USD"]),
    ]
    assert kraken.asked[0]["event_trigger"] == "bbo"
    await kraken.say('{"channel":"heartbeat"}')
    await kraken.say(ticker("BTC/USD", "62000.10", "62000.2"))
    await kraken.say(
        '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell",'
        '"price":62000.1,"qty":0.00500000,"ord_type":"limit","trade_id":7,'
        '"timestamp":"2026-01-02T03:04:05.678901Z"}]}'
    )
    messages = feed.messages()
    quote, trade = await anext(messages), await anext(messages)
    await feed.close()
    assert isinstance(quote, Quote)
    assert (quote.venue, quote.symbol, str(quote.bid_px)) == ("krk", "BTC/USD", "62000.10")
    assert str(quote.bid_qty) == "0.10000000"
    assert quote.venue_time_ns == 1_767_323_045_678_901_000
    assert isinstance(trade, Trade)
    assert (trade.price, trade.quantity) == (Decimal("62000.1"), Decimal("0.005"))
    assert trade.aggressor_is_buyer is False


async def test_what_came_before_the_last_subscription_was_confirmed_is_given_out(
    kraken: PublicKraken,
) -> None:
    kraken.early = ticker("DOGE/USD", "0.1234567", "0.1234568")
    feed = kraken.feed("BTC/USD", "DOGE/USD")
    await feed.connect()
    quote = await anext(feed.messages())
    await feed.close()
    assert quote.symbol == "DOGE/USD"
    assert quote.ask_px == Decimal("0.1234568")


async def test_an_unsound_quote_is_counted_and_not_given_out(kraken: PublicKraken) -> None:
    feed = kraken.feed()
    await feed.connect()
    await kraken.say(ticker("BTC/USD", "2", "1"))
    await kraken.say(ticker("BTC/USD", "0", "1"))
    await kraken.say(ticker("BTC/USD", "1", "2"))
    quote = await anext(feed.messages())
    await feed.close()
    assert quote.bid_px == 1
    assert feed.unsound == 2


async def test_a_cut_connection_is_an_error_and_not_an_end(kraken: PublicKraken) -> None:
    feed = kraken.feed()
    await feed.connect()
    await kraken.cut()
    with pytest.raises(FeedError, match="ended the stream"):
        await anext(feed.messages())
    await feed.close()


async def test_a_connection_without_a_heartbeat_is_given_up(
    kraken: PublicKraken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openbell.trading.feeds.kraken._SILENCE_MAX_S", 0.2)
    feed = kraken.feed()
    await feed.connect()
    async with asyncio.timeout(60):
        with pytest.raises(FeedError, match="silent"):
            await anext(feed.messages())
    await feed.close()


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        '{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD"}]}',
        ticker("NO/ONE", "1", "2"),
    ],
)
async def test_what_cannot_be_read_is_an_error(kraken: PublicKraken, line: str) -> None:
    feed = kraken.feed()
    await feed.connect()
    await kraken.say(line)
    with pytest.raises(FeedError, match="cannot be read"):
        await anext(feed.messages())
    await feed.close()


async def test_a_refused_subscription_is_an_error(kraken: PublicKraken) -> None:
    kraken.refusing = "DOGE/USD"
    feed = kraken.feed("BTC/USD", "DOGE/USD")
    with pytest.raises(FeedError, match="not supported DOGE/USD"):
        await feed.connect()


async def test_a_symbol_the_venue_does_not_list_is_named(kraken: PublicKraken) -> None:
    feed = kraken.feed("BTC/USD", "ETH/USD")
    with pytest.raises(FeedError, match="does not list ETH/USD"):
        await feed.connect()


async def test_what_prices_the_fee_currency_is_streamed_where_the_venue_lists_it(
    kraken: PublicKraken,
) -> None:
    feed = kraken.feed("BTC/USD", fee_currency="DOGE")
    rules = await feed.connect()
    await feed.close()
    assert [rule.symbol for rule in rules] == ["BTC/USD"]
    assert kraken.asked[0]["symbol"] == ["BTC/USD", "DOGE/USD"]
    unlisted = kraken.feed("BTC/USD", fee_currency="XYZ")
    await unlisted.connect()
    await unlisted.close()
    assert kraken.asked[-1]["symbol"] == ["BTC/USD"]


async def test_a_venue_that_is_down_is_an_error_that_names_it(kraken: PublicKraken) -> None:
    await kraken.stop()
    with pytest.raises(FeedError, match=f"127.0.0.1:{kraken.port}"):
        await kraken.feed().connect()
