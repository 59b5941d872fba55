"""A venue that answers as a test tells it to, over a bare socket: every request is counted where
it arrives, below any client library."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import ClOrdID, NewOrder, OrdType, Side
from openbell.venues.binance.spot import BinanceVenue
from openbell.venues.credentials import Credentials

KEY = "canary-key-5f2d9e"
SECRET = "canary-secret-81c04b"


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What to do about a request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "reply"
    """`reply`; `hang`: never answer; `cut`: close the connection after reading; `half`: close it
    in the middle of the answer."""


def reply(payload: Any, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(payload).encode(), named)


def refusal(code: int, text: str, status: int = 400, **headers: str) -> Answer:
    return reply({"code": code, "msg": text}, status, **headers)


@dataclass
class ScriptedVenue:
    url: str
    seen: list[Seen] = field(default_factory=list)
    script: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    """By method and path; the last answer of a list repeats."""
    answered_by: Callable[[Seen], Answer | None] = lambda _: None

    def on(self, method: str, path: str, *answers: Answer) -> None:
        self.script[method, path] = list(answers)

    def count(self, method: str, path: str) -> int:
        return sum((each.method, each.path) == (method, path) for each in self.seen)

    def answer(self, seen: Seen) -> Answer:
        self.seen.append(seen)
        answers = self.script.get((seen.method, seen.path))
        if answers is None:
            return self.answered_by(seen) or refusal(-1, f"nothing scripted for {seen.path}", 404)
        return answers.pop(0) if len(answers) > 1 else answers[0]


async def _serve(
    venue: ScriptedVenue, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        while line := await reader.readline():
            method, target, _ = line.decode().split(" ", 2)
            headers = {}
            while (header := await reader.readline()).strip():
                name, _, value = header.decode().partition(":")
                headers[name.strip().lower()] = value.strip()
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            parts = urlsplit(target)
            params = dict(parse_qsl(parts.query) + parse_qsl(body.decode()))
            answer = venue.answer(Seen(method, parts.path, params, headers))
            if answer.kind == "hang":
                await asyncio.Event().wait()
            if answer.kind == "cut":
                return
            lines = [f"HTTP/1.1 {answer.status} X", "Content-Type: application/json"]
            lines += [f"{name}: {value}" for name, value in answer.headers.items()]
            length = len(answer.body) + (100 if answer.kind == "half" else 0)
            head = "\r\n".join([*lines, f"Content-Length: {length}", "", ""])
            writer.write(head.encode() + answer.body)
            await writer.drain()
            if answer.kind == "half":
                return
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedVenue]:
    tasks: set[asyncio.Task[None]] = set()
    venue = ScriptedVenue(url="")

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_serve(venue, reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    venue.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    venue.on("GET", "/api/v3/time", reply({"serverTime": 1_700_000_000_000}))
    yield venue
    server.close()
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


OpenVenue = Callable[..., Awaitable[BinanceVenue]]


@pytest.fixture
async def open_binance() -> AsyncIterator[Callable[..., BinanceVenue]]:
    """Makes venues over a URL, and closes them."""
    opened: list[BinanceVenue] = []

    def make(url: str, *, key: str = KEY, secret: str = SECRET, **keys: Any) -> BinanceVenue:
        config = VenueConfig(
            url=url, **{"symbols": ("BTC/USDT", "ETH/USDT"), "timeout": 5.0, **keys}
        )
        venue = BinanceVenue("sim", config, Credentials(key, secret))
        opened.append(venue)
        return venue

    yield make
    for venue in opened:
        await venue.close()


@pytest.fixture
def limit_order() -> Callable[..., NewOrder]:
    def make(cl_ord_id: str = "ob00000000-1-1", **changes: Any) -> NewOrder:
        fields: dict[str, Any] = {
            "cl_ord_id": ClOrdID(cl_ord_id),
            "venue": "sim",
            "symbol": "BTC/USDT",
            "side": Side.BUY,
            "ord_type": OrdType.LIMIT,
            "order_qty": Decimal("0.001"),
            "price": Decimal("20000.10"),
        }
        return NewOrder(**{**fields, **changes})

    return make


@pytest.fixture
def answers() -> Any:
    """The builders of scripted answers, as one object."""

    class Answers:
        reply = staticmethod(reply)
        refusal = staticmethod(refusal)
        hang = Answer(kind="hang")
        cut = Answer(kind="cut")
        half = Answer(kind="half", body=b'{"orderId": 1')

    return Answers


@pytest.fixture
def canaries() -> tuple[str, str]:
    return KEY, SECRET
