"""A venue that speaks Binance's public streams, and says what a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from openbell.config.models import Venue

LISTED = {
    "symbols": [
        {
            "symbol": name,
            "filters": [
                {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
                {
                    "filterType": "LOT_SIZE",
                    "stepSize": "0.00001",
                    "minQty": "0.00001",
                    "maxQty": "9000",
                },
                {"filterType": "NOTIONAL", "minNotional": "5.00"},
            ],
        }
        for name in ("BTCUSDT", "ETHUSDT", "BNBUSDT")
    ]
}


class PublicVenue:
    """Serves exchangeInfo and a combined stream; `say` sends to every connection."""

    def __init__(self) -> None:
        self.port = 0
        self.streams: list[str] = []
        self.connected = asyncio.Event()
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/api/v3/exchangeInfo", self._exchange_info)
        app.router.add_get("/stream", self._stream)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def stop(self) -> None:
        await self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def cut(self) -> None:
        """End every connection."""
        self.connected.clear()
        for socket in tuple(self._sockets):
            await socket.close()

    async def say(self, stream: str, data: dict[str, Any] | str) -> None:
        text = data if isinstance(data, str) else json.dumps({"stream": stream, "data": data})
        for socket in self._sockets:
            await socket.send_str(text)

    async def quote(self, symbol: str, bid: str, ask: str) -> None:
        data = {"u": 1, "s": symbol.upper(), "b": bid, "B": "1.5", "a": ask, "A": "2.5"}
        await self.say(f"{symbol}@bookTicker", data)

    def declared(self, *symbols: str, fee_currency: str | None = None) -> Venue:
        return Venue(
            url=f"http://127.0.0.1:{self.port}",
            symbols=symbols or ("BTC/USDT", "ETH/USDT"),
            fee_currency=fee_currency,
        )

    async def _exchange_info(self, request: web.Request) -> web.Response:
        wanted = json.loads(request.query["symbols"])
        found = [entry for entry in LISTED["symbols"] if entry["symbol"] in wanted]
        if len(found) < len(wanted):
            return web.json_response({"code": -1121, "msg": "Invalid symbol."}, status=400)
        return web.json_response({"symbols": found})

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.streams.append(request.query["streams"])
        self._sockets.add(socket)
        self.connected.set()
        try:
            async for _ in socket:
                pass
        finally:
            self._sockets.discard(socket)
        return socket


@pytest.fixture
async def venue() -> AsyncIterator[PublicVenue]:
    venue = PublicVenue()
    await venue.start()
    yield venue
    await venue.stop()
