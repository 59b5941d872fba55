"""What happens at the exchange, told to whoever subscribed: public streams and user data.

Stream names are Binance's (`btcusdt@depth@100ms`). A listen key is a stream name too.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence

import orjson
from aiohttp import WSCloseCode

from openbell.domain.orders import Side
from openbell_sim.events import Deposit, Fill
from openbell_sim.exchange import Exchange, Market, Report
from openbell_sim.faces.binance import render
from openbell_sim.faces.binance.client import Client
from openbell_sim.faces.binance.render import Json
from openbell_sim.tape import PublicTrade

_FAST_S = 0.1
"""Period of `@depth@100ms`."""
_SLOW_EVERY = 10
"""Fast periods in one of `@depth` and `@ticker`, which come every second."""
_PARTIAL_DEPTHS = (5, 10, 20)


class _Diff:
    """Changes of one book since the last message of one kind of depth stream."""

    def __init__(self, update_id: int) -> None:
        self.told = update_id
        self.bids: set[int] = set()
        self.asks: set[int] = set()

    def take(self, market: Market) -> tuple[int, list[list[str]], list[list[str]]]:
        """`(first update id, bids, asks)` as of now."""
        first = self.told + 1
        self.told = market.book.update_id
        item = market.instrument
        bids, asks = (
            [
                [render.money(item.price(price)), render.money(item.quantity(side.total(price)))]
                for price in sorted(prices, reverse=side.side is Side.BUY)
            ]
            for side, prices in ((market.book.bids, self.bids), (market.book.asks, self.asks))
        )
        self.bids.clear()
        self.asks.clear()
        return first, bids, asks


class Hub:
    """Listens to the exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._subscribers: defaultdict[str, set[Client]] = defaultdict(set)
        self._accounts: defaultdict[str, dict[int, Client]] = defaultdict(dict)
        self._listen_keys: dict[str, str] = {}
        self._next_subscription = 0
        self._best: dict[str, dict[str, str]] = {}
        self._diffs = {
            speed: {name: _Diff(m.book.update_id) for name, m in exchange.markets.items()}
            for speed in ("@100ms", "")
        }
        self.clients: set[Client] = set()
        self.sent = 0

    # Subscriptions

    def subscribe(self, client: Client, streams: Iterable[str]) -> None:
        for stream in streams:
            client.streams.add(stream)
            self._subscribers[stream].add(client)

    def unsubscribe(self, client: Client, streams: Iterable[str]) -> None:
        for stream in streams:
            client.streams.discard(stream)
            self._subscribers[stream].discard(client)
            if not self._subscribers[stream]:
                del self._subscribers[stream]

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

    def new_listen_key(self, account: str) -> str:
        """The account's listen key; asking again gives the same, as at Binance."""
        for key, owner in self._listen_keys.items():
            if owner == account:
                return key
        key = secrets.token_hex(32)
        self._listen_keys[key] = account
        return key

    def drop_listen_key(self, key: str) -> bool:
        return self._listen_keys.pop(key, None) is not None

    def has_listen_key(self, key: str) -> bool:
        return key in self._listen_keys

    async def disconnect(self) -> int:
        """Closes every stream; how many there were."""
        clients = list(self.clients)
        closing = (
            client.socket.close(code=WSCloseCode.GOING_AWAY, message=b"") for client in clients
        )
        await asyncio.gather(*closing, return_exceptions=True)
        return len(clients)

    # From the exchange

    def on_book(self, symbol: str) -> None:
        stream = f"{symbol.lower()}@bookTicker"
        clients = self._subscribers.get(stream)
        if not clients:
            return
        market = self._exchange.markets[symbol]
        best = render.best(market)
        if self._best.get(symbol) == best:
            return
        self._best[symbol] = best
        self._send(clients, stream, {"u": market.book.update_id, "s": symbol, **best})

    def on_trade(self, trade: PublicTrade) -> None:
        name = trade.symbol.lower()
        at_ms = render.ms(trade.at_ns)
        facts: Json = {
            "p": render.money(trade.price),
            "q": render.money(trade.qty),
            "T": at_ms,
            "m": not trade.aggressor_is_buyer,
            "M": True,
        }
        if clients := self._subscribers.get(f"{name}@trade"):
            head: Json = {"e": "trade", "E": at_ms, "s": trade.symbol, "t": trade.trade_id}
            self._send(clients, f"{name}@trade", {**head, **facts})
        if clients := self._subscribers.get(f"{name}@aggTrade"):
            number = trade.trade_id
            head = {"e": "aggTrade", "E": at_ms, "s": trade.symbol}
            ids: Json = {"a": number, "f": number, "l": number}
            self._send(clients, f"{name}@aggTrade", {**head, **ids, **facts})

    def on_reports(self, reports: Sequence[Report]) -> None:
        now_ns = self._exchange.now_ns()
        touched: dict[str, set[str]] = {}
        for report in reports:
            order = report.order
            self._tell_account(order.account, render.execution_report(report, now_ns))
            item = self._exchange.instruments[order.symbol]
            currencies = touched.setdefault(order.account, set())
            currencies |= {item.base, item.quote}
            if isinstance(report.event, Fill):
                currencies.add(report.event.fee_currency)
        for name, currencies in touched.items():
            account = self._exchange.ledger.account(name)
            self._tell_account(name, render.account_position(account, sorted(currencies), now_ns))

    def on_deposit(self, deposit: Deposit) -> None:
        at_ms = render.ms(deposit.at_ns)
        event: Json = {
            "e": "balanceUpdate",
            "E": at_ms,
            "a": deposit.currency,
            "d": render.money(deposit.amount),
            "T": at_ms,
        }
        self._tell_account(deposit.account, event)

    def _tell_account(self, account: str, event: Json) -> None:
        for number, client in self._accounts.get(account, {}).items():
            client.send(orjson.dumps({"subscriptionId": number, "event": event}), private=True)
            self.sent += 1
        for key, owner in self._listen_keys.items():
            if owner == account and (clients := self._subscribers.get(key)):
                self._send(clients, key, event, private=True)

    def _send(
        self, clients: Iterable[Client], stream: str, body: Json, *, private: bool = False
    ) -> None:
        data, name = orjson.dumps(body), stream.encode()
        for client in clients:
            client.tell(data, name, private=private)
            self.sent += 1

    # Streams with a period

    async def run(self) -> None:
        """Sends what is due every 100 ms and every second, until cancelled."""
        count = 0
        while True:
            await asyncio.sleep(_FAST_S)
            count += 1
            self._collect()
            self._send_depth("@100ms")
            if count % _SLOW_EVERY == 0:
                self._send_depth("")
                self._send_tickers()

    def _collect(self) -> None:
        for name, market in self._exchange.markets.items():
            for diffs in self._diffs.values():
                diffs[name].bids |= market.book.bids.changed
                diffs[name].asks |= market.book.asks.changed
            market.book.bids.changed.clear()
            market.book.asks.changed.clear()

    def _send_depth(self, speed: str) -> None:
        for symbol, diff in self._diffs[speed].items():
            market = self._exchange.markets[symbol]
            if diff.told == market.book.update_id:
                continue
            name = symbol.lower()
            stream = f"{name}@depth{speed}"
            if clients := self._subscribers.get(stream):
                first, bids, asks = diff.take(market)
                head: Json = {"e": "depthUpdate", "E": render.ms(self._exchange.now_ns())}
                ids: Json = {"s": symbol, "U": first, "u": diff.told}
                self._send(clients, stream, {**head, **ids, "b": bids, "a": asks})
            else:
                diff.told = market.book.update_id
                diff.bids.clear()
                diff.asks.clear()
            for count in _PARTIAL_DEPTHS:
                stream = f"{name}@depth{count}{speed}"
                if clients := self._subscribers.get(stream):
                    self._send(clients, stream, _partial(market, count))

    def _send_tickers(self) -> None:
        now_ns = self._exchange.now_ns()
        for symbol, market in self._exchange.markets.items():
            name = symbol.lower()
            for kind, make in (("ticker", _ticker), ("miniTicker", _mini_ticker)):
                if clients := self._subscribers.get(f"{name}@{kind}"):
                    self._send(clients, f"{name}@{kind}", make(market, now_ns))


def _partial(market: Market, count: int) -> Json:
    return {
        "lastUpdateId": market.book.update_id,
        "bids": render.levels(market.book.bids, market.instrument, count),
        "asks": render.levels(market.book.asks, market.instrument, count),
    }


_TICKER_NAMES = {
    "p": "priceChange",
    "P": "priceChangePercent",
    "w": "weightedAvgPrice",
    "x": "prevClosePrice",
    "c": "lastPrice",
    "Q": "lastQty",
    "b": "bidPrice",
    "B": "bidQty",
    "a": "askPrice",
    "A": "askQty",
    "o": "openPrice",
    "h": "highPrice",
    "l": "lowPrice",
    "v": "volume",
    "q": "quoteVolume",
    "O": "openTime",
    "C": "closeTime",
    "F": "firstId",
    "L": "lastId",
    "n": "count",
}
_MINI_NAMES = {name: _TICKER_NAMES[name] for name in "cohlvq"}


def _ticker(market: Market, now_ns: int) -> Json:
    day = render.day_ticker(market, now_ns)
    head: Json = {"e": "24hrTicker", "E": render.ms(now_ns), "s": market.instrument.symbol}
    return {**head, **{short: day[long] for short, long in _TICKER_NAMES.items()}}


def _mini_ticker(market: Market, now_ns: int) -> Json:
    day = render.day_ticker(market, now_ns)
    head: Json = {"e": "24hrMiniTicker", "E": render.ms(now_ns), "s": market.instrument.symbol}
    return {**head, **{short: day[long] for short, long in _MINI_NAMES.items()}}
