"""What happens at the exchange, told to whoever subscribed on WebSocket v2."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from aiohttp import WSCloseCode, web

from openbell_sim.events import Accept, Cancel, Deposit, Expire, Fill
from openbell_sim.exchange import Exchange
from openbell_sim.faces.kraken import socket_render
from openbell_sim.faces.kraken.pairs import Pair, Pairs
from openbell_sim.faces.kraken.render import Json, rfc3339
from openbell_sim.faces.kraken.socket_render import Levels
from openbell_sim.outbox import Gate, Outbox, SocketSink
from openbell_sim.recorder import Report
from openbell_sim.sessions import MarketState
from openbell_sim.tape import MINUTE_NS, PublicTrade

BOOK_EVERY_S = 0.05
"""Changes of a book within this time are one message. Ours."""
HEARTBEAT_S = 1.0
"""Kraken sends a heartbeat about once in a second in which it says nothing else."""
DEPTHS = (10, 25, 100, 500, 1000)
SNAP_TRADES = 50

_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(eq=False)
class Subscription:
    """A channel that a client asked for: of one pair, or of its account."""

    channel: str
    pair: Pair | None = None
    account: str = ""
    key: str = ""
    depth: int = 10
    on_quotes: bool = False
    """Of a ticker: told of each change of the best prices, not of trades."""
    interval_min: int = 1
    transitions: bool = True
    """Of executions: every status an order passes through."""
    bids: Levels = field(default_factory=dict)
    asks: Levels = field(default_factory=dict)
    quote: tuple[object, ...] = ()
    sequence: int = 0

    @property
    def name(self) -> tuple[object, ...]:
        """Asking for the same again is refused."""
        symbol = self.pair.v2 if self.pair is not None else ""
        return self.channel, symbol, self.interval_min if self.channel == "ohlc" else 0


class Client(Outbox):
    def __init__(self, socket: web.WebSocketResponse, gate: Gate) -> None:
        super().__init__(SocketSink(socket), gate)
        self.socket = socket
        self.subscriptions: dict[tuple[object, ...], Subscription] = {}
        self.quiet = True
        """Nothing was said since the last heartbeat was due."""

    def tell(
        self, subscription: Subscription, kind: str, data: object, *, private: bool = False
    ) -> None:
        body: Json = {"channel": subscription.channel, "type": kind, "data": data}
        if private:
            subscription.sequence += 1
            body["sequence"] = subscription.sequence
        self.quiet = False
        if kind == "snapshot":
            self.put(_encode(body))
        else:
            self.send(_encode(body), private=private)


class Hub:
    """Listens to the exchange."""

    def __init__(self, exchange: Exchange, pairs: Pairs) -> None:
        self._exchange = exchange
        self._pairs = pairs
        self._dirty: set[str] = set()
        self.clients: set[Client] = set()
        self.sent = 0

    async def disconnect(self) -> int:
        clients = list(self.clients)
        closing = (
            client.socket.close(code=WSCloseCode.GOING_AWAY, message=b"") for client in clients
        )
        await asyncio.gather(*closing, return_exceptions=True)
        return len(clients)

    # The beginning of a subscription.

    def begin(self, client: Client, subscription: Subscription, *, snapshot: bool) -> None:
        client.subscriptions[subscription.name] = subscription
        if subscription.channel == "book":
            self._look(subscription)
        elif subscription.on_quotes:
            subscription.quote = self._quote(subscription)
        if snapshot:
            self._snapshot(client, subscription)

    def _snapshot(self, client: Client, subscription: Subscription) -> None:
        exchange, pair = self._exchange, subscription.pair
        match subscription.channel:
            case "instrument":
                data: object = socket_render.instruments(
                    exchange, self._pairs.all, self._pairs.assets
                )
            case "balances":
                data = socket_render.balances(exchange, subscription.account)
            case "book":
                assert pair is not None
                data = [self._book(subscription, subscription.bids, subscription.asks)]
            case "ticker":
                assert pair is not None
                market = exchange.markets[pair.altname]
                data = [socket_render.ticker(pair, market, exchange.now_ns())]
            case "trade":
                assert pair is not None
                last = list(exchange.markets[pair.altname].tape.trades)[-SNAP_TRADES:]
                data = [socket_render.public_trade(pair, trade) for trade in last]
            case _:
                assert pair is not None
                width = subscription.interval_min
                bars = exchange.markets[pair.altname].tape.bars(width * MINUTE_NS)
                data = [socket_render.candle(pair, bar, width) for bar in bars]
        # A market in which nothing was ever traded is none of Kraken's, and clients stumble over it.
        if data or subscription.channel == "balances":
            self._tell(client, subscription, "snapshot", data)

    def snapshot_executions(
        self, client: Client, subscription: Subscription, *, orders: bool, trades: bool
    ) -> None:
        ledger, by_symbol = self._exchange.ledger, self._pairs.by_symbol
        data: list[Json] = []
        if trades:
            own = [fill for fill in ledger.fills if fill.account == subscription.account]
            data += [
                socket_render.trade(ledger.orders[fill.order_id], fill, by_symbol[fill.symbol])
                for fill in own[-SNAP_TRADES:]
            ]
        if orders:
            data += [
                socket_render.standing(order, by_symbol[order.symbol])
                for order in ledger.open.get(subscription.account, {}).values()
            ]
        self._tell(client, subscription, "snapshot", data)

    # From the exchange.

    def on_session(self, symbol: str, state: MarketState) -> None:
        pair = self._pairs.by_symbol[symbol]
        row = socket_render.instruments(self._exchange, [pair], [])
        for client in self.clients:
            for subscription in client.subscriptions.values():
                if subscription.channel == "instrument":
                    self._tell(client, subscription, "update", row)

    def on_book(self, symbol: str) -> None:
        self._dirty.add(symbol)
        for client, subscription in self._of_symbol("ticker", symbol):
            if not subscription.on_quotes:
                continue
            quote = self._quote(subscription)
            if quote != subscription.quote:
                subscription.quote = quote
                self._tell_ticker(client, subscription)

    def on_trade(self, trade: PublicTrade) -> None:
        pair = self._pairs.by_symbol[trade.symbol]
        for client, subscription in self._of_symbol("trade", trade.symbol):
            row = socket_render.public_trade(pair, trade)
            self._tell(client, subscription, "update", [row])
        for client, subscription in self._of_symbol("ticker", trade.symbol):
            if not subscription.on_quotes:
                self._tell_ticker(client, subscription)
        for client, subscription in self._of_symbol("ohlc", trade.symbol):
            width = subscription.interval_min
            *_, bar = self._exchange.markets[trade.symbol].tape.bars(width * MINUTE_NS)
            self._tell(client, subscription, "update", [socket_render.candle(pair, bar, width)])

    def on_reports(self, reports: Sequence[Report]) -> None:
        for report in reports:
            account = report.order.account
            pair = self._pairs.by_symbol[report.order.symbol]
            for client, subscription in self._of_account("executions", account):
                for row in socket_render.executions(report, pair):
                    if subscription.transitions or _is_plain(report, row):
                        self._tell(client, subscription, "update", [row], private=True)
            if report.fill is None:
                continue
            for client, subscription in self._of_account("balances", account):
                rows = socket_render.ledger_of_fill(self._exchange, report.fill, pair)
                for row in rows:
                    self._tell(client, subscription, "update", [row], private=True)

    def on_deposit(self, deposit: Deposit) -> None:
        for client, subscription in self._of_account("balances", deposit.account):
            row = socket_render.ledger_of_deposit(self._exchange, deposit)
            self._tell(client, subscription, "update", [row], private=True)

    # What is due from time to time.

    async def run(self) -> None:
        """Sends changes of books and heartbeats, until cancelled."""
        count = 0
        while True:
            await asyncio.sleep(BOOK_EVERY_S)
            count += 1
            dirty, self._dirty = self._dirty, set()
            for symbol in dirty:
                for client, subscription in self._of_symbol("book", symbol):
                    self._tell_book(client, subscription)
            if count * BOOK_EVERY_S >= HEARTBEAT_S:
                count = 0
                for client in self.clients:
                    if client.subscriptions and client.quiet:
                        client.put(b'{"channel":"heartbeat"}')
                    client.quiet = True

    def _tell_book(self, client: Client, subscription: Subscription) -> None:
        assert subscription.pair is not None
        bids, asks = subscription.bids, subscription.asks
        self._look(subscription)
        market = self._exchange.markets[subscription.pair.altname]
        bid_changes = socket_render.changed(bids, subscription.bids, market.book.bids)
        ask_changes = socket_render.changed(asks, subscription.asks, market.book.asks)
        if bid_changes or ask_changes:
            data = self._book(subscription, bid_changes, ask_changes)
            self._tell(client, subscription, "update", [data])

    def _look(self, subscription: Subscription) -> None:
        assert subscription.pair is not None
        market = self._exchange.markets[subscription.pair.altname]
        subscription.bids = socket_render.levels_of(market.book.bids, subscription.depth)
        subscription.asks = socket_render.levels_of(market.book.asks, subscription.depth)

    def _book(self, subscription: Subscription, bids: Levels, asks: Levels) -> Json:
        pair = subscription.pair
        assert pair is not None
        crc = socket_render.checksum(pair, subscription.bids, subscription.asks)
        at = rfc3339(self._exchange.now_ns())
        return {**socket_render.book(pair, bids, asks), "checksum": crc, "timestamp": at}

    def _quote(self, subscription: Subscription) -> tuple[object, ...]:
        assert subscription.pair is not None
        book = self._exchange.markets[subscription.pair.altname].book
        return tuple(
            (side.best, side.total(side.best) if side.best is not None else 0)
            for side in (book.bids, book.asks)
        )

    def _tell_ticker(self, client: Client, subscription: Subscription) -> None:
        pair = subscription.pair
        assert pair is not None
        market = self._exchange.markets[pair.altname]
        row = socket_render.ticker(pair, market, self._exchange.now_ns())
        self._tell(client, subscription, "update", [row])

    def _of_symbol(self, channel: str, symbol: str) -> list[tuple[Client, Subscription]]:
        return [
            (client, subscription)
            for client in self.clients
            for subscription in client.subscriptions.values()
            if subscription.channel == channel
            and subscription.pair is not None
            and subscription.pair.altname == symbol
        ]

    def _of_account(self, channel: str, account: str) -> list[tuple[Client, Subscription]]:
        return [
            (client, subscription)
            for client in self.clients
            for subscription in client.subscriptions.values()
            if subscription.channel == channel and subscription.account == account
        ]

    def _tell(
        self,
        client: Client,
        subscription: Subscription,
        kind: str,
        data: object,
        *,
        private: bool = False,
    ) -> None:
        numbered = private or subscription.channel in ("executions", "balances")
        client.tell(subscription, kind, data, private=numbered)
        self.sent += 1


def _is_plain(report: Report, row: Json) -> bool:
    """Whether it is told to those who want no other than the transitions of opening and closing,
    and executions."""
    return (
        isinstance(report.event, Accept | Fill | Cancel | Expire)
        and row["exec_type"] != "pending_new"
    )
