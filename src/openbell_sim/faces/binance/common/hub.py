"""What happens at the exchange, told to whoever subscribed: public streams and user data.

Stream names are Binance's (`btcusdt@depth@100ms`). A listen key is a stream name too. How an event
reads is the venue's to say (`StreamWords`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson
from aiohttp import WSCloseCode

from openbell_sim.events import Deposit
from openbell_sim.exchange import Exchange, Market, Report
from openbell_sim.faces.binance.common.client import Client
from openbell_sim.faces.binance.common.klines import INTERVALS_NS, KlineStream
from openbell_sim.faces.binance.common.listen_keys import ListenKeys
from openbell_sim.faces.binance.common.operation import Json
from openbell_sim.sessions import MarketState
from openbell_sim.tape import Bar, PublicTrade

_BEAT_MS = 50
"""All periods of streams are multiples of it."""
_SECOND_MS = 1000
_PARTIAL_DEPTHS = (5, 10, 20)


@dataclass(frozen=True)
class DepthChange:
    """What changed in a book since the last message of one stream: prices in ticks, the best
    first."""

    previous: int
    """The book's update id then."""
    last: int
    """The book's update id now."""
    bids: Sequence[int]
    asks: Sequence[int]

    @property
    def first(self) -> int:
        return self.previous + 1


class StreamWords(Protocol):
    """The events of one of Binance's venues. Times are the exchange's."""

    depth_periods_ms: Mapping[str, int]
    """By the end of the stream's name: `{"": 1000, "@100ms": 100}`."""

    def book_ticker(self, market: Market, now_ns: int) -> Json: ...
    def trade(self, trade: PublicTrade) -> Json: ...
    def aggregate_trade(self, trade: PublicTrade) -> Json: ...
    def depth(self, market: Market, change: DepthChange, now_ns: int) -> Json: ...
    def partial_depth(self, market: Market, levels: int, previous: int, now_ns: int) -> Json: ...
    def kline(
        self, market: Market, interval: str, bar: Bar, *, closed: bool, now_ns: int
    ) -> Json: ...
    def each_second(
        self, market: Market, now_ns: int, second: int
    ) -> Mapping[str, Callable[[], Json]]:
        """Further streams of a symbol that are due in this second since the start, by kind
        (`ticker`)."""
        ...

    def reports(self, reports: Sequence[Report]) -> Iterable[tuple[str, Json]]:
        """User data events, each with its account."""
        ...

    def deposit(self, deposit: Deposit) -> Json: ...
    def listen_key_expired(self, key: str, now_ns: int) -> Json: ...


class _Diff:
    """Changes of one book since the last message of one kind of depth stream."""

    def __init__(self, update_id: int) -> None:
        self.told = update_id
        self.bids: set[int] = set()
        self.asks: set[int] = set()

    def take(self, update_id: int) -> DepthChange:
        change = DepthChange(
            self.told, update_id, sorted(self.bids, reverse=True), sorted(self.asks)
        )
        self.told = update_id
        self.bids.clear()
        self.asks.clear()
        return change


class Hub:
    """Listens to the exchange."""

    def __init__(self, exchange: Exchange, words: StreamWords) -> None:
        self._exchange = exchange
        self._words = words
        self._subscribers: defaultdict[str, set[Client]] = defaultdict(set)
        self._accounts: defaultdict[str, dict[int, Client]] = defaultdict(dict)
        self._next_subscription = 0
        self._best: dict[str, tuple[object, ...]] = {}
        self._diffs = {
            speed: {name: _Diff(m.book.update_id) for name, m in exchange.markets.items()}
            for speed in words.depth_periods_ms
        }
        self._klines: dict[str, KlineStream] = {}
        self.listen_keys = ListenKeys()
        self.clients: set[Client] = set()
        self.sent = 0

    # Subscriptions

    def subscribe(self, client: Client, streams: Iterable[str]) -> None:
        for stream in streams:
            client.streams.add(stream)
            self._subscribers[stream].add(client)
            symbol, _, kind = stream.partition("@")
            interval = kind.removeprefix("kline_")
            market = self._exchange.markets.get(symbol.upper())
            if market is not None and kind != interval and interval in INTERVALS_NS:
                now_ns = self._exchange.now_ns()
                self._klines.setdefault(stream, KlineStream(market, interval, now_ns))

    def unsubscribe(self, client: Client, streams: Iterable[str]) -> None:
        for stream in streams:
            client.streams.discard(stream)
            self._subscribers[stream].discard(client)
            if not self._subscribers[stream]:
                del self._subscribers[stream]
                self._klines.pop(stream, None)

    def forget(self, client: Client) -> None:
        self.unsubscribe(client, list(client.streams))
        for subscriptions in self._accounts.values():
            for number in [n for n, c in subscriptions.items() if c is client]:
                del subscriptions[number]
        self.clients.discard(client)

    def subscribe_account(self, client: Client, account: str) -> int:
        """The number of the subscription, unique at this venue."""
        number = self._next_subscription
        self._next_subscription += 1
        self._accounts[account][number] = client
        return number

    def unsubscribe_account(self, client: Client, number: int | None) -> None:
        """Ends one subscription of a client, or all of them."""
        for subscriptions in self._accounts.values():
            for mine in [n for n, c in subscriptions.items() if c is client]:
                if number in (None, mine):
                    del subscriptions[mine]

    async def disconnect(self) -> int:
        """Closes every stream; how many there were."""
        clients = list(self.clients)
        closing = (
            client.socket.close(code=WSCloseCode.GOING_AWAY, message=b"") for client in clients
        )
        await asyncio.gather(*closing, return_exceptions=True)
        return len(clients)

    # From the exchange

    def on_session(self, symbol: str, state: MarketState) -> None:
        """No stream of the venue tells it; exchangeInfo does."""

    def on_book(self, symbol: str) -> None:
        one = self._subscribers.get(f"{symbol.lower()}@bookTicker")
        every = self._subscribers.get("!bookTicker")
        if not one and not every:
            return
        market = self._exchange.markets[symbol]
        best = (market.book.bids.top(1), market.book.asks.top(1))
        if self._best.get(symbol) == best:
            return
        self._best[symbol] = best
        event = self._words.book_ticker(market, self._exchange.now_ns())
        self._send(one or (), f"{symbol.lower()}@bookTicker", event)
        self._send(every or (), "!bookTicker", event)

    def on_trade(self, trade: PublicTrade) -> None:
        name = trade.symbol.lower()
        if clients := self._subscribers.get(f"{name}@trade"):
            self._send(clients, f"{name}@trade", self._words.trade(trade))
        if clients := self._subscribers.get(f"{name}@aggTrade"):
            self._send(clients, f"{name}@aggTrade", self._words.aggregate_trade(trade))

    def on_reports(self, reports: Sequence[Report]) -> None:
        heard = [report for report in reports if self._hears(report.order.account)]
        for account, event in self._words.reports(heard):
            self.tell_account(account, event)

    def _hears(self, account: str) -> bool:
        """Whether anybody does: an event takes longer to put into words than an order to cancel."""
        key = self.listen_keys.of(account)
        return bool(self._accounts.get(account) or (key is not None and self._subscribers.get(key)))

    def on_deposit(self, deposit: Deposit) -> None:
        self.tell_account(deposit.account, self._words.deposit(deposit))

    def tell_account(self, account: str, event: Json) -> None:
        for number, client in self._accounts.get(account, {}).items():
            client.send(orjson.dumps({"subscriptionId": number, "event": event}), private=True)
            self.sent += 1
        key = self.listen_keys.of(account)
        if key is not None and (clients := self._subscribers.get(key)):
            self._send(clients, key, event, private=True)

    def _send(
        self,
        clients: Iterable[Client],
        stream: str,
        body: Json | list[Json],
        *,
        private: bool = False,
    ) -> None:
        data, name = orjson.dumps(body), stream.encode()
        for client in clients:
            client.tell(data, name, private=private)
            self.sent += 1

    # Streams with a period

    async def run(self) -> None:
        """Sends what is due, until cancelled."""
        elapsed_ms = 0
        while True:
            await asyncio.sleep(_BEAT_MS / 1000)
            elapsed_ms += _BEAT_MS
            self._collect()
            for speed, period_ms in self._words.depth_periods_ms.items():
                if elapsed_ms % period_ms == 0:
                    self._send_depth(speed)
            if elapsed_ms % _SECOND_MS == 0:
                self._each_second(elapsed_ms // _SECOND_MS)

    def _collect(self) -> None:
        for name, market in self._exchange.markets.items():
            for diffs in self._diffs.values():
                diffs[name].bids |= market.book.bids.changed
                diffs[name].asks |= market.book.asks.changed
            market.book.bids.changed.clear()
            market.book.asks.changed.clear()

    def _send_depth(self, speed: str) -> None:
        now_ns = self._exchange.now_ns()
        for symbol, diff in self._diffs[speed].items():
            market = self._exchange.markets[symbol]
            if diff.told == market.book.update_id:
                continue
            name = symbol.lower()
            change = diff.take(market.book.update_id)
            if clients := self._subscribers.get(f"{name}@depth{speed}"):
                event = self._words.depth(market, change, now_ns)
                self._send(clients, f"{name}@depth{speed}", event)
            for levels in _PARTIAL_DEPTHS:
                stream = f"{name}@depth{levels}{speed}"
                if clients := self._subscribers.get(stream):
                    event = self._words.partial_depth(market, levels, change.previous, now_ns)
                    self._send(clients, stream, event)

    def _each_second(self, second: int) -> None:
        now_ns = self._exchange.now_ns()
        arrays: dict[str, list[Json]] = defaultdict(list)
        for symbol, market in self._exchange.markets.items():
            for kind, make in self._words.each_second(market, now_ns, second).items():
                stream, every = f"{symbol.lower()}@{kind}", _of_every_symbol(kind)
                clients = self._subscribers.get(stream)
                if not clients and every not in self._subscribers:
                    continue
                event = make()
                self._send(clients or (), stream, event)
                arrays[every].append(event)
        for stream, events in arrays.items():
            self._send(self._subscribers.get(stream, ()), stream, events)
        for stream, klines in self._klines.items():
            for bar, closed in klines.due(now_ns):
                event = self._words.kline(
                    klines.market, klines.interval, bar, closed=closed, now_ns=now_ns
                )
                self._send(self._subscribers[stream], stream, event)
        for key in self.listen_keys.expired():
            event = self._words.listen_key_expired(key, now_ns)
            self._send(self._subscribers.get(key, ()), key, event, private=True)


def _of_every_symbol(kind: str) -> str:
    """`!markPrice@arr@1s` for `markPrice@1s`."""
    name, at, speed = kind.partition("@")
    return f"!{name}@arr{at}{speed}"
