"""Kraken spot market data: `ticker` and `trade` of its public WebSocket v2, read without a client
library.

The ticker is asked for by `event_trigger: bbo`: told at each change of the best prices. (By default
it is told only when something is traded.)

Source: docs.kraken.com, "Spot WebSocket v2": ticker, trade, heartbeat; "Get Tradable Asset Pairs".
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from decimal import Decimal

import msgspec

from openbell.config.models import Venue
from openbell.domain.market import InstrumentRules, Quote, Trade
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
from openbell.venues.kraken import errors, wire

_REST = "https://api.kraken.com"
_STREAMS = "wss://ws.kraken.com"
"""There is no test system; a simulated venue has a url."""
_SILENCE_MAX_S = 5.0
"""A heartbeat comes about every second; without one the peer is gone, even if TCP has not noticed."""


class _Message(msgspec.Struct):
    """An answer (`method`, `success`) or something of a channel."""

    method: str = ""
    success: bool | None = None
    error: str = ""
    symbol: str = ""
    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw()


class _Ticker(msgspec.Struct):
    symbol: str
    bid: Decimal
    bid_qty: Decimal
    ask: Decimal
    ask_qty: Decimal
    timestamp: str = ""


class _Trade(msgspec.Struct):
    symbol: str
    side: wire.BuyOrSell
    price: Decimal
    qty: Decimal
    timestamp: str


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_tickers = msgspec.json.Decoder(list[_Ticker]).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode


class KrakenFeed:
    """See `MarketFeed`. `venue.url` replaces the venue's own hosts, for a simulated one."""

    def __init__(self, name: str, venue: Venue, _: Credentials | None) -> None:
        self.unsound = 0
        self._name = name
        self._declared = venue.symbols
        self._fee_symbol = fee_symbol(venue)
        self._symbols: dict[str, str] = {}
        self._rest = (venue.url or _REST).rstrip("/")
        self._streams = websocket_url(venue.url) if venue.url else _STREAMS
        self._timeout_s = venue.timeout
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._early: list[_Message] = []
        """What came before the last subscription was confirmed."""

    async def connect(self) -> tuple[InstrumentRules, ...]:
        await self.close()
        self._session = session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s)
        )
        async with connecting("Kraken", self._rest, self.close):
            rules = await self._instruments(session)
            self._socket = await session.ws_connect(
                f"{self._streams}/v2", heartbeat=PING_EVERY_S, max_msg_size=0
            )
            await self._subscribe(self._socket)
        return rules

    async def messages(self) -> AsyncIterator[Quote | Trade]:
        assert self._socket is not None, "connect first"
        early, self._early = self._early, []
        for message in early:
            for parsed in self._read(message):
                yield parsed
        while True:
            try:
                received = await self._socket.receive(timeout=_SILENCE_MAX_S)
            except TimeoutError:
                raise FeedError(f"{self._rest} is silent for {_SILENCE_MAX_S:g} s") from None
            if received.type is not aiohttp.WSMsgType.TEXT:
                raise FeedError(
                    f"{self._rest} ended the stream", close_code=self._socket.close_code
                )
            for parsed in self._read(self._decoded(received.data)):
                yield parsed

    async def close(self) -> None:
        socket, self._socket = self._socket, None
        session, self._session = self._session, None
        self._early = []
        if socket is not None:
            await socket.close()
        if session is not None:
            await session.close()

    async def _subscribe(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Both channels of every symbol, each confirmed by itself."""
        names = list(self._symbols)
        for params in (
            {"channel": "ticker", "symbol": names, "event_trigger": "bbo"},
            {"channel": "trade", "symbol": names, "snapshot": False},
        ):
            await socket.send_json({"method": "subscribe", "params": params})
        missing = 2 * len(names)
        while missing:
            received = await socket.receive(timeout=self._timeout_s)
            if received.type is not aiohttp.WSMsgType.TEXT:
                raise FeedError(f"{self._rest} ended the stream", close_code=socket.close_code)
            message = self._decoded(received.data)
            if message.method != "subscribe":
                self._early.append(message)
            elif not message.success:
                raise FeedError(f"{self._rest} refused a subscription: {message.error}")
            else:
                missing -= 1

    def _decoded(self, text: str) -> _Message:
        try:
            return _decode_message(text)
        except msgspec.MsgspecError as error:
            raise FeedError(f"{self._rest} sent what cannot be read: {error}") from error

    def _read(self, message: _Message) -> Iterator[Quote | Trade]:
        received_ns = time.time_ns()
        try:
            if message.channel == "ticker":
                yield from self._quotes(_decode_tickers(message.data), received_ns)
            elif message.channel == "trade":
                yield from self._trades(_decode_trades(message.data), received_ns)
        except (msgspec.MsgspecError, KeyError, ValueError) as error:
            raise FeedError(f"{self._rest} sent what cannot be read: {error}") from error

    def _quotes(self, tickers: Iterable[_Ticker], received_ns: int) -> Iterator[Quote]:
        for ticker in tickers:
            quote = Quote(
                venue=self._name,
                symbol=self._symbols[ticker.symbol],
                bid_px=ticker.bid,
                bid_qty=ticker.bid_qty,
                ask_px=ticker.ask,
                ask_qty=ticker.ask_qty,
                venue_time_ns=wire.moment_ns(ticker.timestamp) if ticker.timestamp else 0,
                received_ns=received_ns,
            )
            if quote.is_sound:
                yield quote
            else:
                self.unsound += 1

    def _trades(self, trades: Iterable[_Trade], received_ns: int) -> Iterator[Trade]:
        for trade in trades:
            sound = trade.price.is_finite() and trade.qty.is_finite()
            if not sound or trade.price <= 0 or trade.qty <= 0:
                self.unsound += 1
                continue
            yield Trade(
                venue=self._name,
                symbol=self._symbols[trade.symbol],
                price=trade.price,
                quantity=trade.qty,
                aggressor_is_buyer=trade.side == "buy",
                venue_time_ns=wire.moment_ns(trade.timestamp),
                received_ns=received_ns,
            )

    async def _instruments(self, session: aiohttp.ClientSession) -> tuple[InstrumentRules, ...]:
        """The declared symbols' rules; notes what will be streamed."""
        listed = await self._listed(session, self._declared)
        if len(listed) < len(self._declared):
            missing = [s for s in self._declared if not await self._listed(session, (s,))]
            raise not_listed(self._rest, missing, self._name)
        streamed = dict(listed)
        if self._fee_symbol:
            streamed |= await self._listed(session, (self._fee_symbol,))
        self._symbols = {pair.v2_name: symbol for symbol, pair in streamed.items()}
        return tuple(listed[symbol].to_port() for symbol in self._declared)

    async def _listed(
        self, session: aiohttp.ClientSession, symbols: tuple[str, ...]
    ) -> dict[str, wire.AssetPair]:
        """Those of `symbols` that the venue lists; none where it refuses the question, as Kraken
        does for a list with one pair it does not know."""
        url = f"{self._rest}/0/public/AssetPairs"
        wanted = {"pair": ",".join(map(wire.altname, symbols))}
        async with session.get(url, params=wanted) as response:
            body = await response.read()
            problem = errors.problem_in(response.status, body)
        if problem is not None:
            if problem.code == errors.UNKNOWN_PAIR:
                return {}
            raise FeedError(f"{url} answered {problem.text}", status=response.status)
        reply = msgspec.json.decode(body, type=wire.Reply[dict[str, wire.AssetPair]])
        return {pair.symbol: pair for pair in reply.result.values() if pair.symbol in symbols}
