"""Binance USD-M market data, read like spot's (`binance`).

The venue carries its streams under several paths, and confirms a stream that is asked for under
another path without ever sending it: the book under `/public`, trades under `/market`. Trades come
as aggregates (`aggTrade`), since the stream of single ones is not documented.

Source: "Websocket Market Streams" and "Important WebSocket Change Notice" of the USD-M futures API.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import ClassVar

from openbell.domain.market import Quote, Trade
from openbell.http_library import aiohttp
from openbell.trading.feeds.binance import BinanceFeed, Symbol, theirs


class BinanceUsdmFeed(BinanceFeed):
    """See `MarketFeed`. Symbols are perpetual contracts."""

    rest_url: ClassVar[Mapping[str, str]] = {
        "live": "https://fapi.binance.com",
        "practice": "https://demo-fapi.binance.com",
    }
    stream_url: ClassVar[Mapping[str, str]] = {
        "live": "wss://fstream.binance.com",
        "practice": "wss://fstream.binancefuture.com",
    }
    streams: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "/public/stream": ("bookTicker",),
        "/market/stream": ("aggTrade",),
    }

    async def messages(self) -> AsyncIterator[Quote | Trade]:
        """Of both sockets; the end of one ends all."""
        streams = [self._told_by(socket) for socket in self._sockets]
        waiting = {asyncio.ensure_future(anext(stream)): stream for stream in streams}
        try:
            while True:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    stream = waiting.pop(task)
                    yield task.result()
                    waiting[asyncio.ensure_future(anext(stream))] = stream
        finally:
            for task in waiting:
                task.cancel()

    async def _listed(
        self, session: aiohttp.ClientSession, symbols: tuple[str, ...]
    ) -> dict[str, Symbol] | None:
        """The venue tells all of its symbols or none."""
        info = await self._exchange_info(session, "/fapi/v1/exchangeInfo", {})
        if info is None:
            return None
        names = {theirs(symbol) for symbol in symbols}
        return {
            entry.symbol: entry
            for entry in info.symbols
            if entry.symbol in names and entry.contract_type == "PERPETUAL"
        }
