"""OANDA's transaction stream: when it counts as up, and what becomes of lines that go astray."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import OrdStatus
from openbell.venues.credentials import Credentials
from openbell.venues.oanda import stream as oanda_stream
from openbell.venues.oanda.venue import OandaVenue
from openbell.venues.port import OrderReport, StreamDown, StreamEvent, StreamUp
from openbell.venues.pushing import Backoff

ID = "101-001-0000001-001"
TOKEN = "canary-token-77ab31"
SUMMARY = {
    "account": {
        "id": ID, "currency": "USD", "balance": "1000", "NAV": "1000", "pendingOrderCount": 0,
        "openPositionCount": 0,
    }
}  # fmt: skip


class Streaming:
    """A venue with an account's transactions; which of them its stream brings, the test says."""

    def __init__(self) -> None:
        self.transactions: list[dict[str, Any]] = [
            {"id": "1", "time": "1.0", "type": "CREATE"},
            {"id": "2", "time": "2.0", "type": "TRANSFER_FUNDS"},
        ]
        self.replies: list[web.StreamResponse] = []
        self.opened = asyncio.Event()
        self.refusal: tuple[int, dict[str, str]] | None = None

    def routes(self) -> web.Application:
        app = web.Application()
        path = f"/v3/accounts/{ID}"
        app.router.add_get("/v3/accounts", self._accounts)
        app.router.add_get(f"{path}/summary", self._summary)
        app.router.add_get(f"{path}/transactions/stream", self._stream)
        app.router.add_get(f"{path}/transactions/sinceid", self._since)
        app.router.add_get(f"{path}/transactions/idrange", self._range)
        return app

    async def _accounts(self, request: web.Request) -> web.Response:
        return web.json_response({"accounts": [{"id": ID}]})

    async def _summary(self, request: web.Request) -> web.Response:
        return web.json_response({**SUMMARY, "lastTransactionID": self.last})

    async def _since(self, request: web.Request) -> web.Response:
        return self._listed(self.transactions[int(request.query["id"]) :])

    async def _range(self, request: web.Request) -> web.Response:
        first, last = int(request.query["from"]), int(request.query["to"])
        return self._listed(self.transactions[first - 1 : last])

    def _listed(self, listed: list[dict[str, Any]]) -> web.Response:
        return web.json_response({"transactions": listed, "lastTransactionID": self.last})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self.refusal is not None:
            status, body = self.refusal
            return web.json_response(body, status=status)
        reply = web.StreamResponse()
        await reply.prepare(request)
        self.replies.append(reply)
        self.opened.set()
        await asyncio.Event().wait()
        return reply

    @property
    def last(self) -> str:
        return self.transactions[-1]["id"]

    def happens(self, kind: str, **facts: object) -> dict[str, Any]:
        """A transaction, of which the stream says nothing yet."""
        number = str(len(self.transactions) + 1)
        made = {"id": number, "time": f"{number}.0", "type": kind, "instrument": "EUR_USD", **facts}
        self.transactions.append(made)
        return made

    def order(self, name: str = "mine", **facts: object) -> dict[str, Any]:
        return self.happens(
            "LIMIT_ORDER", units="100", price="1.1", clientExtensions={"id": name}, **facts
        )

    def fill(self, order: dict[str, Any], units: str) -> dict[str, Any]:
        return self.happens("ORDER_FILL", orderID=order["id"], units=units, price="1.1")

    async def push(self, *lines: object) -> None:
        await self.opened.wait()
        for line in lines:
            data = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
            await self.replies[-1].write(data)

    async def beat(self, last: str | None = None) -> None:
        await self.push(
            {"type": "HEARTBEAT", "time": "1.0", "lastTransactionID": last or self.last}
        )

    async def cut(self) -> None:
        reply = self.replies[-1]
        self.opened.clear()
        assert reply._req is not None
        assert reply._req.transport is not None
        reply._req.transport.abort()


@pytest.fixture
async def streaming(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Streaming, str]]:
    monkeypatch.setattr(oanda_stream, "BACKOFF", Backoff(first_s=0.01, max_s=1.0))
    server = Streaming()
    runner = web.AppRunner(server.routes(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield server, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


class Heard:
    """What the adapter's stream tells, one after the other."""

    def __init__(self, venue: OandaVenue) -> None:
        self._events = venue.stream()

    async def next(self) -> StreamEvent:
        async with asyncio.timeout(60):
            return await anext(self._events)

    async def report(self) -> OrderReport:
        event = await self.next()
        assert isinstance(event, OrderReport), event
        return event

    async def close(self) -> None:
        await self._events.aclose()  # type: ignore[attr-defined]


@pytest.fixture
async def heard(streaming: tuple[Streaming, str]) -> AsyncIterator[Heard]:
    _, url = streaming
    config = VenueConfig(url=url, adapter="oanda", symbols=("EUR/USD",), timeout=5.0)
    venue = OandaVenue("sim", config, Credentials("", TOKEN))
    made = Heard(venue)
    yield made
    await made.close()
    await venue.close()


@pytest.fixture
def server(streaming: tuple[Streaming, str]) -> Streaming:
    return streaming[0]


async def test_it_is_up_when_a_line_came_and_not_before(server, heard) -> None:
    first = asyncio.ensure_future(heard.next())
    await server.opened.wait()
    done, _ = await asyncio.wait([first], timeout=0.2)
    assert not done
    await server.beat()
    assert await first == StreamUp()


async def test_reports_carry_the_order_and_the_fill_exactly(server, heard) -> None:
    first = asyncio.ensure_future(heard.next())
    await server.beat()
    await first
    order = server.order()
    await server.push(order, server.fill(order, "40"), server.fill(order, "60"))
    await server.push(server.happens("DAILY_FINANCING"))
    new, part, full = [await heard.report() for _ in range(3)]
    assert (new.order.status, new.order.price, new.fill) == (OrdStatus.NEW, Decimal("1.1"), None)
    assert part.fill is not None
    assert (part.order.status, part.order.cum_qty, part.fill.last_qty) == (
        OrdStatus.PARTIALLY_FILLED, 40, 40,
    )  # fmt: skip
    assert (full.order.status, full.order.cum_qty) == (OrdStatus.FILLED, 100)
    assert [each.order.cl_ord_id for each in (new, part, full)] == ["mine"] * 3


async def test_a_transaction_may_be_the_first_line(server, heard) -> None:
    first = asyncio.ensure_future(heard.next())
    await server.push(server.order())
    assert await first == StreamUp()
    assert (await heard.report()).order.cl_ord_id == "mine"


async def test_an_order_older_than_the_stream_is_looked_up(server, heard) -> None:
    order = server.order("old")
    server.fill(order, "10")
    for _ in range(3):
        server.happens("DAILY_FINANCING")
    first = asyncio.ensure_future(heard.next())
    await server.beat()
    await first
    await server.push(server.fill(order, "20"))
    report = await heard.report()
    assert (report.order.cl_ord_id, report.order.cum_qty) == ("old", 30)
    assert report.fill is not None
    assert report.fill.last_qty == 20


async def test_lines_that_are_lost_doubled_or_late_are_told_once_and_in_order(
    server, heard
) -> None:
    first = asyncio.ensure_future(heard.next())
    await server.beat()
    await first
    order = server.order()
    fills = [server.fill(order, "10") for _ in range(4)]
    await server.push(order, order, fills[1], fills[0], fills[1], fills[3], fills[2])
    told = [await heard.report() for _ in range(5)]
    assert [each.fill and each.fill.exec_id for each in told] == [
        None, *(fill["id"] for fill in fills),
    ]  # fmt: skip


async def test_a_last_line_that_never_comes_is_noticed_by_the_heartbeats(server, heard) -> None:
    first = asyncio.ensure_future(heard.next())
    await server.beat()
    await first
    server.order("lost")
    await server.beat()
    await server.beat()
    assert (await heard.report()).order.cl_ord_id == "lost"


@pytest.mark.parametrize("gap", ["cut", "unreadable", "not finite", "silence", "no number"])
async def test_every_gap_is_told_and_the_stream_comes_back(server, heard, monkeypatch, gap) -> None:
    first = asyncio.ensure_future(heard.next())
    await server.beat()
    assert await first == StreamUp()
    if gap == "cut":
        await server.cut()
    elif gap == "silence":
        monkeypatch.setattr(oanda_stream, "SILENCE_MAX_S", 0.2)
        await server.beat()  # the silence under way was allowed to be longer
    elif gap == "unreadable":
        await server.push(b"{...\n")
    elif gap == "no number":
        await server.push({"type": "LIMIT_ORDER", "id": "x", "time": "1.0"})
    else:
        await server.push({**server.order(), "units": "NaN"})
    server.opened.clear()
    down = await heard.next()
    assert isinstance(down, StreamDown)
    assert down.why
    if gap == "silence":
        monkeypatch.setattr(oanda_stream, "SILENCE_MAX_S", 15.0)  # the next one may come late
    second = asyncio.ensure_future(heard.next())
    await server.beat()
    assert await second == StreamUp()
    await server.push(server.order("after"))
    assert (await heard.report()).order.cl_ord_id == "after"


async def test_a_refused_stream_is_down_with_the_venues_reason_and_no_token(server, heard) -> None:
    said = {"errorMessage": f"no stream for {TOKEN}", "errorCode": "TOO_MANY"}
    server.refusal = (429, said)
    down = await heard.next()
    assert isinstance(down, StreamDown)
    assert "HTTP 429: TOO_MANY" in down.why
    assert TOKEN not in down.why
    server.refusal = None
    up = asyncio.ensure_future(heard.next())
    await server.beat()
    assert await up == StreamUp()


async def test_orders_in_instruments_of_others_are_passed_over(server, heard) -> None:
    first = asyncio.ensure_future(heard.next())
    await server.beat()
    await first
    await server.push(server.order("theirs", instrument="DE30_EUR"), server.order("ours"))
    assert (await heard.report()).order.cl_ord_id == "ours"
