"""Venues and clients for the tests of the simulated venue."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from yarl import URL

from openbell_sim import testing
from openbell_sim.server import Venue


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    async with testing.running_venue() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


def _point(urls: Any, port: int) -> Any:
    """ccxt's tree of URLs with another scheme and host, its paths as they are."""
    if isinstance(urls, dict):
        return {name: _point(value, port) for name, value in urls.items()}
    if isinstance(urls, str):
        urls = re.sub(r"^https://[^/]+", f"http://127.0.0.1:{port}", urls)
        return re.sub(r"^wss://[^/]+", f"ws://127.0.0.1:{port}", urls)
    return urls


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Any]]:
    """`connect(port, ...)`: an unmodified ccxt.pro.binance with only its URLs changed; ccxt.pro's
    class is ccxt.async_support's with streams added."""
    import ccxt.pro

    clients = []

    def make(port: int, *, kind: type[Any] = ccxt.pro.binance, **config: Any) -> Any:
        client = kind({"apiKey": testing.KEY, "secret": testing.SECRET, **config})
        client.urls["api"] = _point(client.urls["api"], port)
        client.options["warnOnFetchOpenOrdersWithoutSymbol"] = False
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


class Signed:
    """Raw signed calls, for what no well-behaved client does."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def __call__(
        self,
        method: str,
        path: str,
        *,
        key: str = testing.KEY,
        secret: str = testing.SECRET,
        tamper: str = "",
        offset_ms: int = 0,
        **parameters: object,
    ) -> tuple[int, Any, Any]:
        """`(status, body, headers)`"""
        given = {"timestamp": int(time.time() * 1000) + offset_ms, **parameters}
        query = urlencode(given)
        signature = hmac.new(secret.encode(), query.encode(), hashlib.sha256).hexdigest()
        target = f"{self._url}{path}?{query}{tamper}&signature={signature}"
        headers = {"X-MBX-APIKEY": key} if key else {}
        url = URL(target, encoded=True)  # as it was signed
        async with self._session.request(method, url, headers=headers) as reply:
            return reply.status, await reply.json(), reply.headers

    async def order(self, **parameters: object) -> tuple[int, Any]:
        status, body, _ = await self("POST", "/api/v3/order", **parameters)
        return status, body


@pytest.fixture
def signed(venue: Venue, http: aiohttp.ClientSession) -> Signed:
    return Signed(http, venue.url)


@pytest.fixture
def signed_at(http: aiohttp.ClientSession) -> Callable[[str], Signed]:
    return lambda url: Signed(http, url)


@pytest.fixture
def control(venue: Venue, http: aiohttp.ClientSession) -> Callable[..., Any]:
    """`await control("drop_reply", count=1)`: gives the venue a fault."""

    async def set_fault(kind: str, **facts: object) -> Any:
        url = f"{venue.url}/sim/v1/control/faults"
        async with http.post(url, json={"kind": kind, **facts}) as reply:
            assert reply.status == 201, await reply.text()
            return await reply.json()

    return set_fault


async def _eventually(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError("it did not come about in time")
        await asyncio.sleep(0.01)
    return value


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return _eventually


@pytest.fixture
def recordings() -> Path:
    """The folder of recordings; skips the test where there is none."""
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("OPENBELL_RECORDINGS") or beside)
    if not (folder / "binance_spot_ethusdt_20240808.gz").exists():
        pytest.skip(f"no recordings in {folder}; OPENBELL_RECORDINGS can name another folder")
    return folder
