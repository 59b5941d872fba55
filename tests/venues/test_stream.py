"""The order event stream: up means subscribed, and every gap is told."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from decimal import Decimal

import aiohttp
import pytest
from aiohttp import web

from openbell.domain.orders import OrdStatus, Side
from openbell.venues.binance import stream as binance_stream
from openbell.venues.port import OrderReport, StreamDown, StreamUp
from openbell.venues.pushing import Backoff


def report(**changes):
    fields = {
        "e": "executionReport", "E": 1, "s": "BTCUSDT", "c": "ob00000000-1-1", "C": "",
        "S": "BUY", "o": "LIMIT", "f": "GTC", "q": "1.00000000", "p": "10.10264410", "x": "NEW",
        "X": "NEW", "i": 4293153, "l": "0.00000000", "z": "0.00000000", "L": "0.00000000",
        "n": "0", "N": None, "T": 1499405658657, "t": -1, "m": False, "O": 1499405658657,
    }  # fmt: skip
    return {"subscriptionId": 0, "event": {**fields, **changes}}


FILL = {
    "x": "TRADE", "X": "PARTIALLY_FILLED", "l": "0.10000001", "z": "0.10000001",
    "L": "10.10000001", "n": "0.00001", "N": "BNB", "t": 99, "m": True,
}  # fmt: skip


class Pushing:
    """A WebSocket API: `confirm` answers the subscription, `push` sends, `drop` cuts."""

    def __init__(self) -> None:
        self.sockets: list[web.WebSocketResponse] = []
        self.requests: list[dict] = []
        self.arrived = asyncio.Event()
        self.confirms = True
        self.answers_pings = True
        self.answer: dict = {"status": 200, "result": {"subscriptionId": 0}}

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=self.answers_pings)
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            asked = message.json()
            self.requests.append(asked)
            if self.confirms:
                await socket.send_json({"id": asked["id"], **self.answer})
            self.arrived.set()
        return socket

    async def push(self, message: dict) -> None:
        await self.sockets[-1].send_json(message)


@pytest.fixture
async def pushing(monkeypatch) -> AsyncIterator[tuple[Pushing, str]]:
    monkeypatch.setattr(binance_stream, "BACKOFF", Backoff(first_s=0.01, max_s=1.0))
    server = Pushing()
    app = web.Application()
    app.router.add_get("/ws-api/v3", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield server, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def listen(open_binance):
    async def next_of(events):
        async with asyncio.timeout(60):
            return await anext(events)

    return next_of


async def test_up_is_told_after_the_subscription_was_confirmed_and_not_before(
    pushing, open_binance, listen
):
    server, url = pushing
    server.confirms = False
    events = open_binance(url).stream()
    first = asyncio.ensure_future(listen(events))
    await server.arrived.wait()
    done, _ = await asyncio.wait([first], timeout=0.2)
    assert not done
    await server.push({"id": 1, "status": 200, "result": {"subscriptionId": 0}})
    assert await first == StreamUp()
    await events.aclose()


async def test_the_subscription_is_signed_over_its_sorted_parameters(
    pushing, open_binance, listen, canaries
):
    server, url = pushing
    key, secret = canaries
    events = open_binance(url).stream()
    await listen(events)
    params = dict(server.requests[0]["params"])
    signature = params.pop("signature")
    text = "&".join(f"{name}={params[name]}" for name in sorted(params))
    assert params["apiKey"] == key
    assert signature == hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    await events.aclose()


async def test_reports_carry_the_order_and_the_fill_exactly(pushing, open_binance, listen):
    server, url = pushing
    events = open_binance(url).stream()
    await listen(events)
    await server.push(report())
    await server.push(report(**FILL))
    new, filled = await listen(events), await listen(events)
    assert isinstance(new, OrderReport)
    assert new.fill is None
    assert (new.order.status, new.order.price) == (OrdStatus.NEW, Decimal("10.10264410"))
    assert isinstance(filled, OrderReport)
    assert filled.fill is not None
    assert (filled.fill.exec_id, filled.fill.last_qty, filled.fill.side) == (
        "99",
        Decimal("0.10000001"),
        Side.BUY,
    )
    assert (filled.fill.fee, filled.fill.fee_currency, filled.fill.is_maker) == (
        Decimal("0.00001"),
        "BNB",
        True,
    )
    assert filled.order.cum_qty == Decimal("0.10000001")
    await events.aclose()


async def test_fills_of_one_order_in_quick_succession_are_all_told(pushing, open_binance, listen):
    server, url = pushing
    events = open_binance(url).stream()
    await listen(events)
    for number in range(1, 51):
        await server.push(report(**{**FILL, "t": number}))
    heard = [(await listen(events)).fill.exec_id for _ in range(50)]
    assert heard == [str(number) for number in range(1, 51)]
    await events.aclose()


async def test_a_cancel_is_reported_under_the_orders_own_id(pushing, open_binance, listen):
    server, url = pushing
    events = open_binance(url).stream()
    await listen(events)
    await server.push(report(c="cancel-id", C="ob00000000-1-1", x="CANCELED", X="CANCELED"))
    event = await listen(events)
    assert (event.order.cl_ord_id, event.order.status) == ("ob00000000-1-1", OrdStatus.CANCELED)
    await events.aclose()


@pytest.mark.parametrize("gap", ["cut", "closed", "terminated", "unreadable", "not_finite"])
async def test_every_gap_is_told_and_the_stream_comes_back(pushing, open_binance, listen, gap):
    server, url = pushing
    events = open_binance(url).stream()
    assert await listen(events) == StreamUp()
    if gap == "cut":
        server.sockets[-1]._req.transport.abort()
    elif gap == "closed":
        await server.sockets[-1].close(code=aiohttp.WSCloseCode.GOING_AWAY)
    elif gap == "terminated":
        await server.push({"subscriptionId": 0, "event": {"e": "eventStreamTerminated", "E": 1}})
    elif gap == "unreadable":
        await server.push({"subscriptionId": 0, "event": {"e": "executionReport", "E": 1}})
    else:
        await server.push(report(**{**FILL, "l": "NaN"}))
    down = await listen(events)
    assert isinstance(down, StreamDown)
    assert down.why
    assert await listen(events) == StreamUp()
    await server.push(report())
    assert isinstance(await listen(events), OrderReport)
    await events.aclose()


async def test_a_refused_subscription_is_down_with_the_venues_reason_and_no_secret(
    pushing, open_binance, listen, canaries
):
    server, url = pushing
    key, _ = canaries
    server.answer = {"status": 401, "error": {"code": -2015, "msg": f"Invalid API-key {key}."}}
    events = open_binance(url).stream()
    down = await listen(events)
    assert isinstance(down, StreamDown)
    assert "-2015" in down.why
    assert key not in down.why
    server.answer = {"status": 200, "result": {"subscriptionId": 0}}
    assert await listen(events) == StreamUp()
    await events.aclose()


async def test_a_venue_that_never_confirms_is_down(pushing, open_binance, listen):
    server, url = pushing
    server.confirms = False
    events = open_binance(url, timeout=1.5).stream()
    down = await listen(events)
    assert isinstance(down, StreamDown)
    assert "1.5 s" in down.why
    await events.aclose()


async def test_orders_in_symbols_of_others_do_not_end_the_stream(pushing, open_binance, listen):
    server, url = pushing
    events = open_binance(url).stream()
    await listen(events)
    await server.push(report(s="DOGEUSDT"))
    await server.push({"subscriptionId": 0, "event": {"e": "outboundAccountPosition", "B": []}})
    await server.push(report())
    assert (await listen(events)).order.symbol == "BTC/USDT"
    await events.aclose()


async def test_a_peer_that_falls_silent_is_down(pushing, open_binance, listen, monkeypatch):
    monkeypatch.setattr(binance_stream, "HEARTBEAT_S", 1.0)
    server, url = pushing
    server.answers_pings = False
    events = open_binance(url).stream()
    while await listen(events) != StreamUp():
        pass  # on a busy machine a second may pass before it is subscribed
    assert isinstance(await listen(events), StreamDown)
    await events.aclose()
