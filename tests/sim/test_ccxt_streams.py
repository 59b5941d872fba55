"""Unmodified ccxt.pro against the venue's WebSockets, and the legacy listen key beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from openbell_sim import testing
from openbell_sim.server import Venue

PAIR = "BTC/USDT"
SECONDS = 60


@pytest.fixture
async def client(venue: Venue, connect: Callable[..., Any]) -> Any:
    made = connect(venue.port)
    await made.load_markets()
    return made


async def within(coroutine: Any) -> Any:
    return await asyncio.wait_for(coroutine, SECONDS)


async def test_the_watched_book_is_the_venues_book(client: Any, venue: Venue) -> None:
    """ccxt checks the continuity of every update against the snapshot itself."""
    book = await within(client.watch_order_book(PAIR))
    for _ in range(15):
        book = await within(client.watch_order_book(PAIR))
    market = venue.exchange.markets["BTCUSDT"]
    # The book is compared at the moment of an update that is the newest.
    while book["nonce"] != market.book.update_id:
        book = await within(client.watch_order_book(PAIR))
    for side, levels in ((market.book.bids, book["bids"]), (market.book.asks, book["asks"])):
        expected = [
            [float(market.instrument.price(p)), float(market.instrument.quantity(q))]
            for p, q in side.top(10)
        ]
        assert [list(level[:2]) for level in levels[:10]] == expected


async def test_an_own_order_is_seen_in_the_public_book(client: Any, venue: Venue) -> None:
    bid = (await client.fetch_bids_asks([PAIR]))[PAIR]["bid"]
    price = float(client.price_to_precision(PAIR, bid * 0.995))
    await within(client.watch_order_book(PAIR))
    await client.create_order(PAIR, "limit", "buy", 0.77777, price)
    while True:
        book = await within(client.watch_order_book(PAIR))
        if any(p == price and q >= 0.77777 for p, q, *_ in book["bids"]):
            break


async def test_trades_quotes_tickers_and_bars_are_watched(client: Any) -> None:
    (trade, *_) = await within(client.watch_trades(PAIR))
    assert trade["price"] > 0
    quotes = await within(client.watch_bids_asks([PAIR]))
    assert quotes[PAIR]["bid"] < quotes[PAIR]["ask"]
    assert (await within(client.watch_ticker(PAIR)))["last"] > 0
    (bar, *_) = await within(client.watch_ohlcv(PAIR, "1m"))
    assert bar[3] <= bar[4] <= bar[2]


async def test_orders_trades_and_balances_are_watched(client: Any) -> None:
    orders = asyncio.create_task(client.watch_orders())
    trades = asyncio.create_task(client.watch_my_trades())
    balance = asyncio.create_task(client.watch_balance())
    # All three wait on one subscription; it stands when the venue answered it.
    ws_api = client.urls["api"]["ws"]["ws-api"]["spot"]
    while not (ws_api in client.clients and "spot" in client.clients[ws_api].subscriptions):
        await asyncio.sleep(0.01)
    await client.ensure_user_data_stream_ws_subscribe_signature("spot")
    bid = (await client.fetch_bids_asks([PAIR]))[PAIR]["bid"]
    price = float(client.price_to_precision(PAIR, bid * 0.9))
    placed = await client.create_order(
        PAIR, "limit", "buy", 0.01, price, {"clientOrderId": "watched"}
    )
    (seen,) = await within(orders)
    assert (seen["id"], seen["clientOrderId"], seen["status"]) == (placed["id"], "watched", "open")
    assert (await within(balance))["USDT"]["used"] == pytest.approx(price * 0.01)
    orders = asyncio.create_task(client.watch_orders())
    await client.cancel_order(placed["id"], PAIR)
    (seen,) = await within(orders)
    assert (seen["clientOrderId"], seen["status"]) == ("watched", "canceled")
    bought = await client.create_order(PAIR, "market", "buy", 0.01)
    (trade, *_) = await within(trades)
    assert (trade["order"], trade["takerOrMaker"]) == (bought["id"], "taker")
    assert trade["fee"]["currency"] == "BTC"


async def test_a_wrong_signature_gets_no_user_data(
    venue: Venue, http: aiohttp.ClientSession
) -> None:
    """Asked by hand: ccxt 4.5.90 raises a bare KeyError on a subscription that is refused."""
    stamp = str(time.time_ns() // 1_000_000)
    params = {"apiKey": testing.KEY, "timestamp": stamp, "signature": "0" * 64}
    async with http.ws_connect(f"{venue.url}/ws-api/v3") as socket:
        for key, code in ((testing.KEY, -1022), ("nobody", -2015)):
            await socket.send_json(
                {
                    "id": "1",
                    "method": "userDataStream.subscribe.signature",
                    "params": {**params, "apiKey": key},
                }
            )
            reply = await within(socket.receive_json())
            assert reply["status"] in (400, 401)
            assert reply["error"]["code"] == code


async def test_orders_are_placed_and_cancelled_over_the_websocket_api(client: Any) -> None:
    bid = (await client.fetch_bids_asks([PAIR]))[PAIR]["bid"]
    price = float(client.price_to_precision(PAIR, bid * 0.9))
    placed = await within(client.create_order_ws(PAIR, "limit", "buy", 0.01, price))
    assert placed["status"] == "open"
    (listed,) = await within(client.fetch_open_orders_ws(PAIR))
    assert listed["id"] == placed["id"]
    assert (await within(client.cancel_order_ws(placed["id"], PAIR)))["status"] == "canceled"


async def test_a_listen_key_opens_the_legacy_stream(
    venue: Venue, http: aiohttp.ClientSession, signed: Any
) -> None:
    url = f"{venue.url}/api/v3/userDataStream"
    headers = {"X-MBX-APIKEY": testing.KEY}
    async with http.post(url, headers=headers) as reply:
        key = (await reply.json())["listenKey"]
    async with http.put(f"{url}?listenKey={key}", headers=headers) as reply:
        assert (reply.status, await reply.json()) == (200, {})
    async with http.ws_connect(f"{venue.url}/ws/{key}") as socket:
        await signed.order(symbol="BTCUSDT", side="SELL", type="MARKET", quantity="0.01")
        events = []
        while [event["e"] for event in events].count("outboundAccountPosition") < 1:
            events.append(await within(socket.receive_json()))
    kinds = [(event["e"], event.get("x"), event.get("X")) for event in events]
    assert kinds[0] == ("executionReport", "NEW", "NEW")
    assert kinds[-2] == ("executionReport", "TRADE", "FILLED")
    assert {balance["a"] for balance in events[-1]["B"]} == {"BTC", "USDT"}
    async with http.delete(f"{url}?listenKey={key}", headers=headers) as reply:
        assert reply.status == 200
    async with http.put(f"{url}?listenKey={key}", headers=headers) as reply:
        assert (await reply.json())["code"] == -1125


async def test_combined_streams_name_their_stream(
    venue: Venue, http: aiohttp.ClientSession
) -> None:
    url = f"{venue.url}/stream?streams=btcusdt@bookTicker/btcusdt@depth5@100ms"
    seen = {}
    async with http.ws_connect(url) as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": ["ethusdt@trade"], "id": 7})
        while len(seen) < 3:
            message = await within(socket.receive_json())
            if "stream" in message:
                seen[message["stream"]] = message["data"]
            else:
                assert message == {"result": None, "id": 7}
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 8})
        while "result" not in (message := await within(socket.receive_json())):
            pass
    assert sorted(message["result"]) == sorted(seen)
    assert seen["ethusdt@trade"]["e"] == "trade"
    assert len(seen["btcusdt@depth5@100ms"]["bids"]) == 5


async def test_depth_updates_follow_each_other_without_a_gap(
    venue: Venue, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect(f"{venue.url}/ws/btcusdt@depth@100ms") as socket:
        last = None
        for _ in range(10):
            update = await within(socket.receive_json())
            assert update["U"] <= update["u"]
            assert last is None or update["U"] == last + 1
            last = update["u"]
