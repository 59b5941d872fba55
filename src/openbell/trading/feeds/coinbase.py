"""Coinbase market data: its public WebSocket, read without a client library.

Quotes are the top of a book kept from the channel `level2`: `ticker` tells the best prices only when
there is a trade. All messages of a connection are numbered together, so a lost one is noticed; the
book is then not the venue's any more, and the connection is made again.

Source: "Advanced Trade WebSocket Channels"; "List Public Products".
"""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from decimal import Decimal, InvalidOperation
from typing import TypeVar

import msgspec

from openbell.config.models import Venue
from openbell.domain.market import InstrumentRules, Quote, Trade
from openbell.http_library import aiohttp
from openbell.trading.feeds.connecting import (
    PING_EVERY_S,
    connecting,
    not_listed,
    websocket_url,
)
from openbell.trading.feeds.port import FeedError
from openbell.venues.coinbase import wire
from openbell.venues.credentials import Credentials

REST = "https://api.coinbase.com"
STREAM = "wss://advanced-trade-ws.coinbase.com"
CHANNELS = ("level2", "market_trades", "heartbeats")
"""Without heartbeats a quiet connection is closed after a minute or so."""
T = TypeVar("T")


class _Message(msgspec.Struct, frozen=True):
    channel: str = ""
    timestamp: str = ""
    sequence_num: int | None = None
    events: msgspec.Raw = msgspec.Raw()
    type: str = ""
    message: str = ""


class _Update(msgspec.Struct, frozen=True):
    side: str
    price_level: str
    new_quantity: str


class _BookEvent(msgspec.Struct, frozen=True):
    type: str
    product_id: str
    updates: list[_Update]


class _Trade(msgspec.Struct, frozen=True):
    product_id: str
    price: str
    size: str
    time: str
    side: str
    """The maker's."""


class _TradesEvent(msgspec.Struct, frozen=True):
    type: str
    trades: list[_Trade]


class _Listed(wire.Product, frozen=True):
    alias: str = ""
    """The product whose market this one shares: BTC-USDC is traded on the book of BTC-USD, and told
    under that name."""


class _Products(msgspec.Struct, frozen=True):
    products: list[_Listed]


class CoinbaseFeed:
    """See `MarketFeed`. `venue.url` replaces the venue's own hosts, for a simulated one."""

    def __init__(self, name: str, venue: Venue, _: Credentials | None) -> None:
        self.unsound = 0
        self._name = name
        self._declared = venue.symbols
        self._rest = (venue.url or REST).rstrip("/")
        self._stream = websocket_url(venue.url) if venue.url else STREAM
        self._timeout_s = venue.timeout
        self._symbols: dict[str, list[str]] = {}
        """Unified ones by the product that is streamed for them."""
        self._books: dict[str, Book] = {}
        self._told: dict[str, tuple[Decimal, Decimal, Decimal, Decimal]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._expected: int | None = None

    async def connect(self) -> tuple[InstrumentRules, ...]:
        await self.close()
        self._books, self._told, self._expected = {}, {}, None
        self._session = session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s)
        )
        async with connecting("Coinbase", self._rest, self.close):
            rules = await self._products(session)
            self._socket = await session.ws_connect(
                self._stream, heartbeat=PING_EVERY_S, max_msg_size=0
            )
            for channel in CHANNELS:
                await self._socket.send_json(
                    {"type": "subscribe", "product_ids": list(self._symbols), "channel": channel}
                )
        return rules

    async def messages(self) -> AsyncIterator[Quote | Trade]:
        assert self._socket is not None, "connect first"
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            received_ns = time.time_ns()
            try:
                told = self._parse(_decode(message.data, _Message), received_ns)
            except (msgspec.MsgspecError, ValueError, InvalidOperation) as error:
                raise FeedError(f"{self._stream} sent what cannot be read: {error}") from error
            for each in told:
                yield each
        raise FeedError(f"{self._stream} ended the stream", close_code=self._socket.close_code)

    async def close(self) -> None:
        socket, self._socket = self._socket, None
        session, self._session = self._session, None
        if socket is not None:
            await socket.close()
        if session is not None:
            await session.close()

    async def _products(self, session: aiohttp.ClientSession) -> tuple[InstrumentRules, ...]:
        """The declared symbols' rules; notes what will be streamed."""
        ids = [wire.product_id(symbol) for symbol in self._declared]
        url = f"{self._rest}/api/v3/brokerage/market/products"
        async with session.get(url, params=[("product_ids", each) for each in ids]) as response:
            body = await response.read()
            if response.status != 200:
                raise FeedError(f"{url} answered {response.status}", status=response.status)
        listed = {each.product_id: each for each in _decode(body, _Products).products}
        missing = [symbol for symbol in self._declared if wire.product_id(symbol) not in listed]
        if missing:
            raise not_listed(self._rest, missing, self._name)
        streamed: defaultdict[str, list[str]] = defaultdict(list)
        for each in ids:
            streamed[listed[each].alias or each].append(wire.unified(each))
        self._symbols = dict(streamed)
        return tuple(listed[each].to_port() for each in ids)

    def _parse(self, message: _Message, received_ns: int) -> list[Quote | Trade]:
        if message.type == "error":
            raise FeedError(f"{self._stream} refused: {message.message}")
        if not self._is_next(message.sequence_num):
            return []
        if message.channel == "l2_data":
            return self._quotes(message, received_ns)
        if message.channel == "market_trades":
            return self._trades(message, received_ns)
        return []

    def _is_next(self, number: int | None) -> bool:
        """False for a message that came before. Raises FeedError where one is missing."""
        if number is None:
            return True
        expected, self._expected = self._expected, number + 1
        if expected is None or number == expected:
            return True
        if number > expected:
            raise FeedError(f"{self._stream}: {number - expected} messages are missing")
        self._expected = expected
        return False

    def _quotes(self, message: _Message, received_ns: int) -> list[Quote | Trade]:
        changed: dict[str, None] = {}
        for event in _decode(message.events, list[_BookEvent]):
            if event.product_id not in self._symbols:
                continue
            if event.type == "snapshot":
                self._books[event.product_id] = Book()
            book = self._books.get(event.product_id)
            if book is None:
                raise FeedError(f"{self._stream}: a book that begins with a change")
            for each in event.updates:
                book.set(each.side == "bid", Decimal(each.price_level), Decimal(each.new_quantity))
            changed[event.product_id] = None
        quotes: list[Quote | Trade] = []
        for product in changed:
            top = self._books[product].top()
            if top is not None and self._told.get(product) != top:
                self._told[product] = top
                quotes += self._sound_quotes(product, top, message.timestamp, received_ns)
        return quotes

    def _sound_quotes(
        self,
        product: str,
        top: tuple[Decimal, Decimal, Decimal, Decimal],
        timestamp: str,
        received_ns: int,
    ) -> list[Quote | Trade]:
        bid_px, bid_qty, ask_px, ask_qty = top
        quotes = [
            Quote(
                venue=self._name,
                symbol=symbol,
                bid_px=bid_px,
                bid_qty=bid_qty,
                ask_px=ask_px,
                ask_qty=ask_qty,
                venue_time_ns=wire.nanoseconds(timestamp),
                received_ns=received_ns,
            )
            for symbol in self._symbols[product]
        ]
        self.unsound += sum(not quote.is_sound for quote in quotes)
        return [quote for quote in quotes if quote.is_sound]

    def _trades(self, message: _Message, received_ns: int) -> list[Quote | Trade]:
        """Oldest first; the venue gives the newest first, and old ones in its snapshot."""
        trades: list[Quote | Trade] = []
        for event in _decode(message.events, list[_TradesEvent]):
            if event.type == "snapshot":
                continue
            for each in reversed(event.trades):
                price, quantity = wire.number(each.price), wire.number(each.size)
                if price <= 0 or quantity <= 0:
                    self.unsound += 1
                    continue
                trades += [
                    Trade(
                        venue=self._name,
                        symbol=symbol,
                        price=price,
                        quantity=quantity,
                        aggressor_is_buyer=each.side == "SELL",
                        venue_time_ns=wire.nanoseconds(each.time),
                        received_ns=received_ns,
                    )
                    for symbol in self._symbols.get(each.product_id, ())
                ]
        return trades


class Book:
    """The two sides of one product's book."""

    def __init__(self) -> None:
        self._bids = _Side(sign=-1)
        self._asks = _Side(sign=1)

    def set(self, is_bid: bool, price: Decimal, quantity: Decimal) -> None:
        """`quantity` 0: nothing is left at this price."""
        (self._bids if is_bid else self._asks).set(price, quantity)

    def top(self) -> tuple[Decimal, Decimal, Decimal, Decimal] | None:
        """Best bid and its quantity, best ask and its quantity; None where a side is empty."""
        bid, ask = self._bids.best(), self._asks.best()
        return None if bid is None or ask is None else (*bid, *ask)


class _Side:
    """The best price is found by a heap, since the venue's books have tens of thousands of levels.
    Prices that have gone stay in it until they come to its top, or are too many."""

    def __init__(self, *, sign: int) -> None:
        """`sign`: 1 where the lowest price is the best."""
        self._sign = sign
        self._levels: dict[Decimal, Decimal] = {}
        self._heap: list[Decimal] = []

    def set(self, price: Decimal, quantity: Decimal) -> None:
        if not quantity:
            self._levels.pop(price, None)
            return
        if price not in self._levels:
            heapq.heappush(self._heap, price * self._sign)
        self._levels[price] = quantity
        if len(self._heap) > 2 * len(self._levels) + 1000:
            self._heap = [each * self._sign for each in self._levels]
            heapq.heapify(self._heap)

    def best(self) -> tuple[Decimal, Decimal] | None:
        while self._heap and self._heap[0] * self._sign not in self._levels:
            heapq.heappop(self._heap)
        if not self._heap:
            return None
        price = self._heap[0] * self._sign
        return price, self._levels[price]


def _decode(data: str | bytes | msgspec.Raw, shape: type[T]) -> T:
    return msgspec.json.decode(data, type=shape)
