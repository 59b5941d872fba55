"""Binance spot market data: its public WebSocket streams, read without a client library.

A library for a hundred venues takes 1.3 s and 100 MB to import and gives prices as floats; these
are two message types, whose prices are text.

Source: Binance "WebSocket Streams for Binance SPOT": combined streams at `/stream?streams=...`,
`<symbol>@bookTicker`, `<symbol>@trade`; "General endpoints": `GET /api/v3/exchangeInfo`.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from openbell.config.models import Venue
from openbell.domain.market import InstrumentRules, Quote, Trade, base_quote
from openbell.http_library import aiohttp
from openbell.trading.feeds.connecting import (
    PING_EVERY_S,
    connecting,
    fee_symbol,
    not_listed,
    websocket_url,
)
from openbell.trading.feeds.port import FeedError
from openbell.venues.credentials import Credentials

_NS_PER_MS = 1_000_000


class _Message(msgspec.Struct):
    stream: str
    data: msgspec.Raw


class _BookTicker(msgspec.Struct):
    b: Decimal
    B: Decimal
    a: Decimal
    A: Decimal
    T: int = 0
    """Transaction time in ms; the spot stream does not carry it."""


class _Trade(msgspec.Struct):
    p: Decimal
    q: Decimal
    T: int
    m: bool
    """The buyer is the maker."""


class _Filter(msgspec.Struct, rename="camel"):
    filter_type: str
    tick_size: Decimal = Decimal(0)
    step_size: Decimal = Decimal(0)
    min_qty: Decimal = Decimal(0)
    max_qty: Decimal = Decimal(0)
    min_notional: Decimal = Decimal(0)
    notional: Decimal = Decimal(0)
    """The least one as futures call it."""


class Symbol(msgspec.Struct, rename="camel"):
    symbol: str
    filters: list[_Filter]
    contract_type: str = ""
    """Of futures: `PERPETUAL`."""


class ExchangeInfo(msgspec.Struct):
    symbols: list[Symbol]


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_book_ticker = msgspec.json.Decoder(_BookTicker).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode


class BinanceFeed:
    """See `MarketFeed`. `venue.url` replaces the venue's own hosts, for a simulated one."""

    rest_url: ClassVar[Mapping[str, str]] = {
        "live": "https://api.binance.com",
        "practice": "https://testnet.binance.vision",
    }
    stream_url: ClassVar[Mapping[str, str]] = {
        "live": "wss://stream.binance.com:9443",
        "practice": "wss://stream.testnet.binance.vision",
    }
    streams: ClassVar[Mapping[str, tuple[str, ...]]] = {"/stream": ("bookTicker", "trade")}
    """Streams of each symbol, by the path that carries them; a socket each."""

    def __init__(self, name: str, venue: Venue, _: Credentials | None) -> None:
        self.unsound = 0
        self._name = name
        self._declared = venue.symbols
        self._fee_symbol = fee_symbol(venue)
        self._symbols: dict[str, str] = {}
        self._rest = (venue.url or self.rest_url[venue.environment]).rstrip("/")
        self._streams = (
            websocket_url(venue.url) if venue.url else self.stream_url[venue.environment]
        )
        self._timeout_s = venue.timeout
        self._session: aiohttp.ClientSession | None = None
        self._sockets: list[aiohttp.ClientWebSocketResponse] = []

    async def connect(self) -> tuple[InstrumentRules, ...]:
        await self.close()
        self._session = session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s)
        )
        async with connecting("Binance", self._rest, self.close):
            rules = await self._instruments(session)
            for path, kinds in self.streams.items():
                names = (f"{symbol.lower()}@{kind}" for symbol in self._symbols for kind in kinds)
                url = f"{self._streams}{path}?streams={'/'.join(names)}"
                self._sockets.append(
                    await session.ws_connect(url, heartbeat=PING_EVERY_S, max_msg_size=0)
                )
        return rules

    async def messages(self) -> AsyncIterator[Quote | Trade]:
        assert self._sockets, "connect first"
        (socket,) = self._sockets
        async for message in self._told_by(socket):
            yield message

    async def _told_by(
        self, socket: aiohttp.ClientWebSocketResponse
    ) -> AsyncIterator[Quote | Trade]:
        """What comes over one socket. Raises FeedError when it ends."""
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            try:
                parsed = self._parse(message.data, time.time_ns())
            except (msgspec.MsgspecError, KeyError) as error:
                raise FeedError(f"{self._rest} sent what cannot be read: {error}") from error
            if parsed is not None:
                yield parsed
        raise FeedError(f"{self._rest} ended the stream", close_code=socket.close_code)

    async def close(self) -> None:
        sockets, self._sockets = self._sockets, []
        session, self._session = self._session, None
        for socket in sockets:
            await socket.close()
        if session is not None:
            await session.close()

    def _parse(self, text: str, received_ns: int) -> Quote | Trade | None:
        message = _decode_message(text)
        name, _, kind = message.stream.partition("@")
        symbol = self._symbols[name.upper()]
        if kind == "bookTicker":
            book = _decode_book_ticker(message.data)
            quote = Quote(
                venue=self._name,
                symbol=symbol,
                bid_px=book.b,
                bid_qty=book.B,
                ask_px=book.a,
                ask_qty=book.A,
                venue_time_ns=book.T * _NS_PER_MS,
                received_ns=received_ns,
            )
            if quote.is_sound:
                return quote
        else:
            trade = _decode_trade(message.data)
            if trade.p.is_finite() and trade.q.is_finite() and trade.p > 0 and trade.q > 0:
                return Trade(
                    venue=self._name,
                    symbol=symbol,
                    price=trade.p,
                    quantity=trade.q,
                    aggressor_is_buyer=not trade.m,
                    venue_time_ns=trade.T * _NS_PER_MS,
                    received_ns=received_ns,
                )
        self.unsound += 1
        return None

    async def _instruments(self, session: aiohttp.ClientSession) -> tuple[InstrumentRules, ...]:
        """The declared symbols' rules; notes what will be streamed."""
        listed = await self._listed(session, self._declared)
        if listed is None or len(listed) < len(self._declared):
            missing = [s for s in self._declared if not await self._listed(session, (s,))]
            raise not_listed(self._rest, missing, self._name)
        streamed = [*self._declared]
        if self._fee_symbol and await self._listed(session, (self._fee_symbol,)):
            streamed.append(self._fee_symbol)
        self._symbols = {theirs(symbol): symbol for symbol in streamed}
        return tuple(_rules(symbol, listed[theirs(symbol)]) for symbol in self._declared)

    async def _listed(
        self, session: aiohttp.ClientSession, symbols: tuple[str, ...]
    ) -> dict[str, Symbol] | None:
        """Those of `symbols` that the venue lists, by its own names; None where it refuses the
        question, as Binance does for a list with one symbol it does not know (-1121)."""
        names = [theirs(symbol) for symbol in symbols]
        wanted = {"symbols": json.dumps(names, separators=(",", ":"))}
        info = await self._exchange_info(session, "/api/v3/exchangeInfo", wanted)
        if info is None:
            return None
        return {entry.symbol: entry for entry in info.symbols if entry.symbol in names}

    async def _exchange_info(
        self, session: aiohttp.ClientSession, path: str, wanted: Mapping[str, str]
    ) -> ExchangeInfo | None:
        """None where the venue refuses the question."""
        url = f"{self._rest}{path}"
        async with session.get(url, params=wanted) as response:
            body = await response.read()
            if response.status == 400:
                return None
            if response.status != 200:
                raise FeedError(f"{url} answered {response.status}", status=response.status)
        return msgspec.json.decode(body, type=ExchangeInfo)


def theirs(symbol: str) -> str:
    """`BTCUSDT` for `BTC/USDT`."""
    return symbol.replace("/", "")


def _rules(symbol: str, listed: Symbol) -> InstrumentRules:
    filters: dict[str, Any] = {entry.filter_type: entry for entry in listed.filters}
    try:
        price, lot = filters["PRICE_FILTER"], filters["LOT_SIZE"]
    except KeyError as error:
        raise FeedError(f"{symbol} is listed without its {error} filter") from error
    notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL")
    base, quote = base_quote(symbol)
    return InstrumentRules(
        symbol=symbol,
        base=base,
        quote=quote,
        tick_size=price.tick_size,
        lot_size=lot.step_size,
        min_qty=lot.min_qty,
        max_qty=lot.max_qty,
        min_notional=(notional.min_notional or notional.notional) if notional else Decimal(0),
    )
