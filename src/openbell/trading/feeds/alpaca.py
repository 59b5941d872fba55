"""Alpaca's market data: the WebSocket stream of quotes and trades of US stocks.

Alpaca tells its data to known accounts only, so the service that streams it must be given the
venue's credentials (`venues = ["NAME"]` in its table of desk.toml), and an account may have one
connection to a feed: a second one is refused (406) until the first is gone.

Source: "WebSocket Stream" and "Real-time Stock Data" (docs.alpaca.markets/docs).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec

from openbell.config.models import Venue
from openbell.domain.market import InstrumentRules, Quote, Trade
from openbell.http_library import aiohttp
from openbell.trading.feeds.connecting import (
    PING_EVERY_S,
    connecting,
    given,
    not_listed,
    websocket_url,
)
from openbell.trading.feeds.port import FeedError
from openbell.venues.alpaca import wire
from openbell.venues.credentials import Credentials

_TRADING = {
    "live": "https://api.alpaca.markets",
    "practice": "https://paper-api.alpaca.markets",
}
_STREAM = "wss://stream.data.alpaca.markets"
_ZERO = Decimal(0)


class _Message(msgspec.Struct):
    """Of any kind; each has its own of these fields."""

    kind: str = msgspec.field(name="T")
    symbol: str = msgspec.field(name="S", default="")
    at: str = msgspec.field(name="t", default="")
    ask_px: Decimal = msgspec.field(name="ap", default=_ZERO)
    ask_qty: Decimal = msgspec.field(name="as", default=_ZERO)
    bid_px: Decimal = msgspec.field(name="bp", default=_ZERO)
    bid_qty: Decimal = msgspec.field(name="bs", default=_ZERO)
    price: Decimal = msgspec.field(name="p", default=_ZERO)
    quantity: Decimal = msgspec.field(name="s", default=_ZERO)
    code: int = 0
    text: str = msgspec.field(name="msg", default="")


_decode_messages = msgspec.json.Decoder(list[_Message]).decode


class AlpacaFeed:
    """See `MarketFeed`. `venue.url` replaces all of the venue's own hosts, for a simulated one."""

    def __init__(self, name: str, venue: Venue, credentials: Credentials | None) -> None:
        self.unsound = 0
        self._name = name
        self._unified = {wire.alpaca_symbol(symbol): symbol for symbol in venue.symbols}
        self._trading = (venue.url or _TRADING[venue.environment]).rstrip("/")
        stream = websocket_url(venue.url) if venue.url else _STREAM
        self._stream = f"{stream}/v2/{venue.options.get('feed', 'iex')}"
        self._credentials = credentials
        self._timeout_s = venue.timeout
        self._sides = {symbol: TradeSides() for symbol in venue.symbols}
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def connect(self) -> tuple[InstrumentRules, ...]:
        await self.close()
        known = given(self._credentials, "Alpaca", self._name)
        self._session = session = aiohttp.ClientSession(
            headers={"APCA-API-KEY-ID": known.key, "APCA-API-SECRET-KEY": known.secret},
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
        )
        async with connecting("Alpaca", self._stream, self.close):
            rules = [
                await self._rules(session, symbol, theirs)
                for theirs, symbol in self._unified.items()
            ]
            # The stream takes the same headers, and says so without being asked.
            self._socket = socket = await session.ws_connect(
                self._stream, heartbeat=PING_EVERY_S, max_msg_size=0
            )
            await self._confirmed(socket, "authenticated")
            symbols = list(self._unified)
            await socket.send_json({"action": "subscribe", "quotes": symbols, "trades": symbols})
            await self._confirmed(socket, "subscription")
        return tuple(rules)

    async def messages(self) -> AsyncIterator[Quote | Trade]:
        assert self._socket is not None, "connect first"
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            try:
                for each in _decode_messages(message.data):
                    parsed = self._parse(each, time.time_ns())
                    if parsed is not None:
                        yield parsed
            except (msgspec.MsgspecError, KeyError, ValueError) as error:
                raise FeedError(f"{self._stream} sent what cannot be read: {error}") from error
        raise FeedError(f"{self._stream} ended the stream", close_code=self._socket.close_code)

    async def close(self) -> None:
        socket, self._socket = self._socket, None
        session, self._session = self._session, None
        if socket is not None:
            await socket.close()
        if session is not None:
            await session.close()

    async def _rules(
        self, session: aiohttp.ClientSession, symbol: str, theirs: str
    ) -> InstrumentRules:
        url = f"{self._trading}/v2/assets/{theirs}"
        async with session.get(url) as response:
            body = await response.read()
        if response.status == 404:
            raise not_listed(self._trading, [symbol], self._name)
        if response.status != 200:
            raise FeedError(f"{url} answered {response.status}", status=response.status)
        return msgspec.json.decode(body, type=wire.Asset).to_port(symbol)

    async def _confirmed(self, socket: aiohttp.ClientWebSocketResponse, word: str) -> None:
        """Reads until the venue says so. Raises FeedError for its no."""
        while True:
            for message in _decode_messages(await socket.receive_str(timeout=self._timeout_s)):
                if message.kind == "error":
                    raise FeedError(f"{self._stream}: {message.code} {message.text}")
                if word in (message.kind, message.text):
                    return

    def _parse(self, message: _Message, received_ns: int) -> Quote | Trade | None:
        """None for what is neither, and for what is not sound."""
        if message.kind == "error":
            raise FeedError(f"{self._stream}: {message.code} {message.text}")
        if message.kind not in ("q", "t"):
            return None
        symbol = self._unified[message.symbol]
        sides = self._sides[symbol]
        if message.kind == "q":
            quote = Quote(
                venue=self._name,
                symbol=symbol,
                bid_px=message.bid_px,
                bid_qty=message.bid_qty,
                ask_px=message.ask_px,
                ask_qty=message.ask_qty,
                venue_time_ns=wire.time_ns(message.at),
                received_ns=received_ns,
            )
            if quote.is_sound:
                sides.mid = quote.mid
                return quote
        elif message.price.is_finite() and message.price > 0 and message.quantity > 0:
            return Trade(
                venue=self._name,
                symbol=symbol,
                price=message.price,
                quantity=message.quantity,
                aggressor_is_buyer=sides.bought(message.price),
                venue_time_ns=wire.time_ns(message.at),
                received_ns=received_ns,
            )
        self.unsound += 1
        return None


class TradeSides:
    """Who was the aggressor of a trade, which the tape of US stocks does not tell.

    Lee and Ready's rule (The Journal of Finance, 1991): above the middle of the quote a buyer,
    below it a seller; in the middle, whoever moved the price last.
    """

    def __init__(self) -> None:
        self.mid: Decimal | None = None
        self._last: Decimal | None = None
        self._rose = True

    def bought(self, price: Decimal) -> bool:
        if self._last is not None and price != self._last:
            self._rose = price > self._last
        self._last = price
        if self.mid is None or price == self.mid:
            return self._rose
        return price > self.mid
