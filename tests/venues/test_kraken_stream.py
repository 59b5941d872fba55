"""Kraken's executions channel: up means subscribed, and whatever is missing ends the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from openbell.config.models import Venue as VenueConfig
from openbell.domain.ids import mint
from openbell.domain.orders import OrdStatus, OrdType, Side
from openbell.venues.credentials import Credentials
from openbell.venues.kraken import stream as kraken_stream
from openbell.venues.kraken.ids import to_kraken
from openbell.venues.kraken.venue import KrakenVenue
from openbell.venues.port import OrderReport, StreamDown, StreamEvent, StreamUp
from openbell.venues.pushing import Backoff

KEY, SECRET = "canary-key-5f2d9e", "ca" * 32
CL_ORD_ID = mint("3f9a01c4", 71, 9)
TXID = "OUF4EM-FRGI2-MQMWZD"
PAIRS = {
    "XXBTZUSD": {
        "altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD",
        "pair_decimals": 1, "lot_decimals": 8, "ordermin": "0.00005", "costmin": "0.5",
        "tick_size": "0.1",
    }
}  # fmt: skip
RESULTS: dict[str, Any] = {
    "Time": {"unixtime": 1688665496},
    "AssetPairs": PAIRS,
    "Assets": {"XXBT": {"altname": "XBT"}},
    "BalanceEx": {},
}

NEW = {
    "order_id": TXID, "cl_ord_id": to_kraken(CL_ORD_ID), "symbol": "BTC/USD", "side": "buy",
    "order_type": "limit", "order_qty": 1.5, "limit_price": 26500.1, "exec_type": "new",
    "order_status": "new", "cum_qty": 0, "timestamp": "2023-07-06T17:44:56.500000Z",
}  # fmt: skip
TRADE = {
    "order_id": TXID, "exec_id": "TWWDJF-LYWXH-HSDVO7", "exec_type": "trade", "cum_qty": 0.5,
    "order_status": "partially_filled", "last_qty": 0.5, "last_price": 26500.0,
    "liquidity_ind": "m", "fees": [{"asset": "USD", "qty": 21.2}],
    "timestamp": "2023-07-06T17:44:57.123456Z",
}  # fmt: skip
CANCELED = {
    "order_id": TXID, "exec_type": "canceled", "order_status": "canceled",
    "timestamp": "2023-07-06T17:45:00.000000Z",
}  # fmt: skip


class PushingKraken:
    """Gives tokens and confirms subscriptions, unless told otherwise; `tell` sends executions."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[dict[str, Any]] = []
        self.subscribed = asyncio.Event()
        self.confirms = True
        self.refusal = ""
        self.token_error = ""
        self.tokens = 0
        self._socket = web.WebSocketResponse()
        self._sequence = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/0/{access}/{call}", self._call)
        app.router.add_get("/v2", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _call(self, request: web.Request) -> web.Response:
        call = request.match_info["call"]
        if call != "GetWebSocketsToken":
            return web.json_response({"error": [], "result": RESULTS[call]})
        self.tokens += 1
        if self.token_error:
            return web.json_response({"error": [self.token_error]})
        result = {"token": f"token-{self.tokens}", "expires": 900}
        return web.json_response({"error": [], "result": result})

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        self._socket, self._sequence = web.WebSocketResponse(), 0
        socket = self._socket
        await socket.prepare(request)
        await socket.send_json({"channel": "status", "type": "update", "data": [{}]})
        async for message in socket:
            assert message.type is aiohttp.WSMsgType.TEXT
            self.asked.append(message.json())
            if self.confirms:
                await self.confirm()
            self.subscribed.set()
        return socket

    async def confirm(self) -> None:
        if self.refusal:
            answer = {"method": "subscribe", "success": False, "error": self.refusal}
            await self._socket.send_json(answer)
            return
        result = {"channel": "executions"}
        await self._socket.send_json({"method": "subscribe", "success": True, "result": result})

    async def tell(self, *rows: dict[str, Any], kind: str = "update", skip: int = 0) -> None:
        """One message. `skip` -1 repeats a number, 1 leaves one out."""
        self._sequence += 1 + skip
        body = {"channel": "executions", "type": kind, "sequence": self._sequence, "data": rows}
        await self._socket.send_json(body)

    async def say(self, text: str) -> None:
        await self._socket.send_str(text)

    async def cut(self) -> None:
        await self._socket.close()


@pytest.fixture
async def kraken(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PushingKraken]:
    monkeypatch.setattr(kraken_stream, "BACKOFF", Backoff(first_s=0.01, max_s=1.0))
    server = PushingKraken()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def venue(kraken: PushingKraken) -> AsyncIterator[KrakenVenue]:
    config = VenueConfig(
        adapter="kraken", url=f"http://127.0.0.1:{kraken.port}", symbols=("BTC/USD",), timeout=10.0
    )
    made = KrakenVenue("krk", config, Credentials(KEY, SECRET))
    await made.connect()
    yield made
    await made.close()


@pytest.fixture
async def events(venue: KrakenVenue) -> AsyncIterator[AsyncIterator[StreamEvent]]:
    async with aclosing(venue.stream()) as stream:  # type: ignore[type-var]
        yield stream


async def following(events: AsyncIterator[StreamEvent]) -> StreamEvent:
    async with asyncio.timeout(60):
        return await anext(events)


async def report(events: AsyncIterator[StreamEvent]) -> OrderReport:
    event = await following(events)
    assert isinstance(event, OrderReport)
    return event


async def down(events: AsyncIterator[StreamEvent]) -> str:
    event = await following(events)
    assert isinstance(event, StreamDown)
    return event.why


# The subscription.


async def test_up_is_told_once_the_subscription_is_confirmed(
    kraken: PushingKraken, events: AsyncIterator[StreamEvent]
) -> None:
    kraken.confirms = False
    first = asyncio.ensure_future(following(events))
    await kraken.subscribed.wait()
    done, _ = await asyncio.wait([first], timeout=0.2)
    assert not done
    await kraken.confirm()
    assert await first == StreamUp()
    params = kraken.asked[0]["params"]
    assert (params["channel"], params["token"]) == ("executions", "token-1")
    assert params["snap_orders"] is True


async def test_each_connection_takes_a_token_of_its_own(
    kraken: PushingKraken, events: AsyncIterator[StreamEvent]
) -> None:
    assert await following(events) == StreamUp()
    await kraken.cut()
    assert "closed" in await down(events)
    assert await following(events) == StreamUp()
    assert [said["params"]["token"] for said in kraken.asked] == ["token-1", "token-2"]


async def test_a_refused_subscription_is_told_once_and_tried_again(
    kraken: PushingKraken, events: AsyncIterator[StreamEvent]
) -> None:
    kraken.refusal = f"EAccount:Invalid permissions {KEY}"
    why = await down(events)
    assert "subscription refused: EAccount:Invalid permissions" in why
    assert KEY not in why
    coming = asyncio.ensure_future(following(events))
    async with asyncio.timeout(60):
        while len(kraken.asked) < 3:
            await asyncio.sleep(0.005)
    kraken.refusal = ""
    assert await coming == StreamUp()


async def test_a_refused_token_is_told(
    kraken: PushingKraken, events: AsyncIterator[StreamEvent]
) -> None:
    kraken.token_error = "EGeneral:Permission denied"
    assert "no token: krk: EGeneral:Permission denied" in await down(events)
    kraken.token_error = ""
    assert await following(events) == StreamUp()


async def test_a_venue_that_does_not_confirm_is_given_up(kraken: PushingKraken) -> None:
    kraken.confirms = False
    config = VenueConfig(
        adapter="kraken", url=f"http://127.0.0.1:{kraken.port}", symbols=("BTC/USD",), timeout=2.5
    )
    venue = KrakenVenue("krk", config, Credentials(KEY, SECRET))
    await venue.connect()
    async with aclosing(venue.stream()) as events:  # type: ignore[type-var]
        assert await down(events) == "not subscribed within 2.5 s"
    await venue.close()


# What is told.


async def test_later_events_are_completed_from_the_first(
    kraken: PushingKraken, events: AsyncIterator[StreamEvent]
) -> None:
    await following(events)
    await kraken.tell(NEW)
    await kraken.tell(TRADE, CANCELED)
    order = (await report(events)).order
    assert (order.cl_ord_id, order.venue_order_id) == (CL_ORD_ID, TXID)
    assert (order.symbol, order.side, order.ord_type) == ("BTC/USD", Side.BUY, OrdType.LIMIT)
    assert (order.order_qty, order.price) == (Decimal("1.5"), Decimal("26500.1"))
    assert order.status is OrdStatus.NEW
    traded = await report(events)
    assert traded.fill is not None
    assert (traded.fill.exec_id, traded.fill.cl_ord_id) == ("TWWDJF-LYWXH-HSDVO7", CL_ORD_ID)
    assert (traded.fill.last_qty, traded.fill.last_px) == (Decimal("0.5"), Decimal(26500))
    assert (traded.fill.fee, traded.fill.fee_currency) == (Decimal("21.2"), "USD")
    assert traded.fill.is_maker is True
    assert traded.fill.venue_time_ns == 1_688_665_497_123_456_000
    assert (traded.order.status, traded.order.cum_qty) == (
        OrdStatus.PARTIALLY_FILLED,
        Decimal("0.5"),
    )
    ended = await report(events)
    assert ended.fill is None
    assert (ended.order.status, ended.order.cum_qty) == (OrdStatus.CANCELED, Decimal("0.5"))
    assert ended.order.symbol == "BTC/USD"


async def test_a_snapshot_is_known_and_no_news(
    kraken: PushingKraken, events: AsyncIterator[StreamEvent]
) -> None:
    await following(events)
    await kraken.tell(NEW, kind="snapshot")
    await kraken.tell(CANCELED)
    ended = await report(events)
    assert (ended.order.cl_ord_id, ended.order.status) == (CL_ORD_ID, OrdStatus.CANCELED)


async def test_an_order_that_is_not_live_yet_is_not_reported(
    kraken: PushingKraken, events: AsyncIterator[StreamEvent]
) -> None:
    await following(events)
    await kraken.tell({**NEW, "exec_type": "pending_new", "order_status": "pending_new"})
    await kraken.tell({"order_id": TXID, "exec_type": "new", "order_status": "new",
                       "timestamp": NEW["timestamp"]})  # fmt: skip
    order = (await report(events)).order
    assert (order.status, order.symbol) == (OrdStatus.NEW, "BTC/USD")


async def test_orders_in_other_symbols_are_passed_over_to_their_end(
    kraken: PushingKraken, events: AsyncIterator[StreamEvent]
) -> None:
    await following(events)
    stranger = "OAAAAA-BBBBB-CCCCCC"
    await kraken.tell({**NEW, "order_id": stranger, "symbol": "MATIC/USD"})
    await kraken.tell({**CANCELED, "order_id": stranger})
    await kraken.tell(NEW)
    assert (await report(events)).order.venue_order_id == TXID


async def test_a_repeated_message_is_told_once(
    kraken: PushingKraken, events: AsyncIterator[StreamEvent]
) -> None:
    await following(events)
    await kraken.tell(NEW)
    await kraken.tell(NEW, skip=-1)
    await kraken.tell(CANCELED)
    statuses = [(await report(events)).order.status for _ in range(2)]
    assert statuses == [OrdStatus.NEW, OrdStatus.CANCELED]


# What ends a connection.


async def test_a_missing_message_ends_the_connection(
    kraken: PushingKraken, events: AsyncIterator[StreamEvent]
) -> None:
    await following(events)
    await kraken.tell(NEW)
    await report(events)
    await kraken.tell(CANCELED, skip=2)
    assert await down(events) == "2 messages are missing"
    assert await following(events) == StreamUp()
    # Numbers begin anew with each connection.
    await kraken.tell(NEW)
    assert (await report(events)).order.status is OrdStatus.NEW


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (CANCELED, "canceled of an order that was not told before"),
        ({**NEW, "exec_type": "trade"}, "a trade without its identifier"),
        ({**NEW, "side": "hold"}, "an unreadable message"),
        ({**NEW, "order_qty": "1.5x"}, "an unreadable message"),
        ({**NEW, "timestamp": "yesterday"}, "an event that tells too little"),
    ],
)
async def test_what_cannot_be_understood_ends_the_connection(
    kraken: PushingKraken, events: AsyncIterator[StreamEvent], row: dict[str, Any], why: str
) -> None:
    await following(events)
    await kraken.tell(row)
    assert why in await down(events)
    assert await following(events) == StreamUp()


async def test_a_line_that_is_no_json_ends_the_connection(
    kraken: PushingKraken, events: AsyncIterator[StreamEvent]
) -> None:
    await following(events)
    await kraken.say('{"channel":')
    assert "an unreadable message" in await down(events)


async def test_a_connection_without_heartbeats_is_given_up(
    kraken: PushingKraken,
    events: AsyncIterator[StreamEvent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kraken_stream, "SILENCE_MAX_S", 0.2)
    await following(events)
    assert await down(events) == "nothing heard for 0.2 s"


async def test_a_heartbeat_keeps_a_connection_up(
    kraken: PushingKraken,
    events: AsyncIterator[StreamEvent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kraken_stream, "SILENCE_MAX_S", 3.0)
    await following(events)
    coming = asyncio.ensure_future(following(events))
    for _ in range(8):  # longer than the silence that is borne
        await asyncio.wait([coming], timeout=0.5)
        await kraken.say('{"channel":"heartbeat"}')
    await kraken.tell(NEW)
    assert isinstance(await coming, OrderReport)


async def test_a_stream_that_was_asked_for_before_the_connection_is_read_after_it(
    kraken: PushingKraken,
) -> None:
    config = VenueConfig(
        adapter="kraken", url=f"http://127.0.0.1:{kraken.port}", symbols=("BTC/USD",), timeout=10.0
    )
    made = KrakenVenue("krk", config, Credentials(KEY, SECRET))
    try:
        async with aclosing(made.stream()) as stream:  # type: ignore[type-var]
            await made.connect()
            assert await following(stream) == StreamUp()
            await made.connect()
            await kraken.tell(NEW)
            assert (await report(stream)).order.cl_ord_id == CL_ORD_ID
    finally:
        await made.close()
