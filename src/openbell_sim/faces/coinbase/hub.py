"""What happens at the exchange, told to whoever subscribed.

Messages of all channels of a connection are numbered together (`sequence_num`). Periods are those
of "Advanced Trade WebSocket Channels": books every 50 ms, market trades every 250 ms, tickers with
each trade or every 5 s (`ticker_batch`), heartbeats every second.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import orjson
from aiohttp import WSCloseCode

from openbell_sim.events import Deposit
from openbell_sim.exchange import Exchange, Market, Report
from openbell_sim.faces.coinbase import render
from openbell_sim.faces.coinbase.client import Client
from openbell_sim.faces.coinbase.errors import Json
from openbell_sim.ledger import Order, OwnFill
from openbell_sim.matching.side import BookSide
from openbell_sim.sessions import MarketState
from openbell_sim.tape import PublicTrade

PERIOD_S = 0.05
_TRADES_EVERY, _SECOND_EVERY, _BATCH_EVERY = 5, 20, 100
"""Periods in 250 ms, one second and five seconds."""
ORDERS_PER_SNAPSHOT = 50
"""Open orders in one message of the snapshot ("User Channel")."""

MESSAGE_CHANNELS = {
    "heartbeats": "heartbeats",
    "ticker": "ticker",
    "ticker_batch": "ticker_batch",
    "level2": "l2_data",
    "market_trades": "market_trades",
    "user": "user",
    "status": "status",
}
"""By what is subscribed to: what the messages call the channel."""
_WITHOUT_PRODUCTS = {"heartbeats", "user"}


class Hub:
    """Listens to the exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._new_trades: defaultdict[str, list[PublicTrade]] = defaultdict(list)
        self.clients: set[Client] = set()
        self.sent = 0

    # Subscriptions

    def subscribe(self, client: Client, channel: str, wanted: Sequence[str]) -> None:
        """The snapshot, and after it what the client now is subscribed to."""
        client.products[channel] |= set(wanted)
        names = wanted or ([] if channel in _WITHOUT_PRODUCTS else list(self._exchange.markets))
        if channel == "user":
            self._send_open_orders(client)
        elif channel in _SNAPSHOTS:
            for name in names:
                events = _SNAPSHOTS[channel](self._exchange.markets[name], self._exchange.now_ns())
                if events:
                    self._tell([client], channel, events)
        elif channel == "status":
            told = [self._product_status(name) for name in names]
            self._tell([client], channel, [{"type": "snapshot", "products": told}])
        self.confirm(client)

    def unsubscribe(self, client: Client, channel: str, products: Sequence[str]) -> None:
        client.products[channel] -= set(products)
        if not products or not client.products[channel]:
            del client.products[channel]
            if channel == "user":
                client.account = None
        self.confirm(client)

    def confirm(self, client: Client) -> None:
        """Tells all of the client's subscriptions."""
        told: dict[str, list[str]] = {}
        for channel, products in client.products.items():
            told[channel] = sorted(products) or [channel]
        if client.account is not None:
            told["user"] = [render.named_uuid("user", client.account)]
        client.answer("subscriptions", orjson.dumps([{"subscriptions": told}]), self._now())

    def forget(self, client: Client) -> None:
        self.clients.discard(client)

    async def disconnect(self) -> int:
        """Closes every stream; how many there were."""
        clients = list(self.clients)
        closing = (
            client.socket.close(code=WSCloseCode.GOING_AWAY, message=b"") for client in clients
        )
        await asyncio.gather(*closing, return_exceptions=True)
        return len(clients)

    def _send_open_orders(self, client: Client) -> None:
        assert client.account is not None
        wanted = client.products["user"]
        orders = [
            render.pushed_order(order, self._exchange.ledger.fills_of(order.order_id))
            for order in self._exchange.ledger.open.get(client.account, {}).values()
            if not wanted or order.symbol in wanted
        ]
        for start in range(0, max(len(orders), 1), ORDERS_PER_SNAPSHOT):
            part = orders[start : start + ORDERS_PER_SNAPSHOT]
            event: Json = {"type": "snapshot", "orders": part, "positions": _NO_POSITIONS}
            self._tell([client], "user", [event], private=True)

    def _product_status(self, name: str) -> Json:
        item, state = self._exchange.instruments[name], self._exchange.session(name)
        closed = state in (MarketState.HALTED, MarketState.CLOSED)
        return {
            "product_type": "SPOT",
            "id": name,
            "base_currency": item.base,
            "quote_currency": item.quote,
            "base_increment": render.money(item.lot),
            "quote_increment": render.money(item.tick),
            "display_name": name.replace("-", "/"),
            "status": "offline" if closed else "online",
            "status_message": "",
            "min_market_funds": render.money(item.min_notional),
        }

    # From the exchange

    def on_reports(self, reports: Sequence[Report]) -> None:
        for report in reports:
            order = report.order
            clients = [
                client
                for client in self.clients
                if client.account == order.account
                and (not client.products["user"] or order.symbol in client.products["user"])
            ]
            if clients:
                fills = _fills_until(order, self._exchange.ledger.fills_of(order.order_id))
                pushed = [render.pushed_order(order, fills)]
                event: Json = {"type": "update", "orders": pushed, "positions": _NO_POSITIONS}
                self._tell(clients, "user", [event], private=True)

    def on_deposit(self, deposit: Deposit) -> None:
        """No channel tells of balances."""

    def on_trade(self, trade: PublicTrade) -> None:
        self._new_trades[trade.symbol].append(trade)
        if clients := self._subscribers("ticker", trade.symbol):
            market = self._exchange.markets[trade.symbol]
            ticker = render.ticker(market, self._exchange.now_ns())
            self._tell(clients, "ticker", [{"type": "update", "tickers": [ticker]}])

    def on_session(self, symbol: str, state: MarketState) -> None:
        if clients := self._subscribers("status", symbol):
            event: Json = {"type": "update", "products": [self._product_status(symbol)]}
            self._tell(clients, "status", [event])

    def on_book(self, symbol: str) -> None:
        """Books are told by the clock."""

    # By the clock

    async def run(self) -> None:
        """Sends what is due, until cancelled."""
        count = 0
        while True:
            await asyncio.sleep(PERIOD_S)
            count += 1
            self._send_books()
            if count % _TRADES_EVERY == 0:
                self._send_trades()
            if count % _SECOND_EVERY == 0:
                self._send_heartbeats()
            if count % _BATCH_EVERY == 0:
                self._send_ticker_batches()

    def _send_books(self) -> None:
        for name, market in self._exchange.markets.items():
            bids, asks = market.book.bids, market.book.asks
            if not bids.changed and not asks.changed:
                continue
            if clients := self._subscribers("level2", name):
                now = self._now()
                updates = [
                    *_updates("bid", bids, bids.changed, market, now),
                    *_updates("offer", asks, asks.changed, market, now),
                ]
                event: Json = {"type": "update", "product_id": name, "updates": updates}
                self._tell(clients, "level2", [event])
            bids.changed.clear()
            asks.changed.clear()

    def _send_trades(self) -> None:
        for name, trades in self._new_trades.items():
            if clients := self._subscribers("market_trades", name):
                rendered = [render.public_trade(trade) for trade in reversed(trades)]
                self._tell(clients, "market_trades", [{"type": "update", "trades": rendered}])
        self._new_trades.clear()

    def _send_heartbeats(self) -> None:
        for client in self.clients:
            if "heartbeats" in client.products:
                now, counter = self._now(), str(client.heartbeats)
                client.heartbeats += 1
                self._tell(
                    [client], "heartbeats", [{"current_time": now, "heartbeat_counter": counter}]
                )

    def _send_ticker_batches(self) -> None:
        for name, market in self._exchange.markets.items():
            if clients := self._subscribers("ticker_batch", name):
                ticker = render.ticker(market, self._exchange.now_ns())
                self._tell(clients, "ticker_batch", [{"type": "update", "tickers": [ticker]}])

    def _subscribers(self, channel: str, product_id: str) -> list[Client]:
        return [
            client
            for client in self.clients
            if channel in client.products
            and (not client.products[channel] or product_id in client.products[channel])
        ]

    def _tell(
        self,
        clients: Iterable[Client],
        channel: str,
        events: Sequence[Json],
        *,
        private: bool = False,
    ) -> None:
        data, now = orjson.dumps(events), self._now()
        for client in clients:
            client.tell(MESSAGE_CHANNELS[channel], data, now, private=private)
            self.sent += 1

    def _now(self) -> str:
        return render.when(self._exchange.now_ns())


_NO_POSITIONS: Json = {"perpetual_futures_positions": [], "expiring_futures_positions": []}


def _fills_until(order: Order, fills: Sequence[OwnFill]) -> list[OwnFill]:
    """The fills that an order had when it was as it is given."""
    found: list[OwnFill] = []
    left = order.cum_qty
    for fill in fills:
        if left < fill.qty:
            break
        found.append(fill)
        left -= fill.qty
    return found


def _updates(
    side_name: str, side: BookSide, prices: Iterable[int], market: Market, at: str
) -> list[Json]:
    item = market.instrument
    return [
        {
            "side": side_name,
            "event_time": at,
            "price_level": render.money(item.price(price)),
            "new_quantity": render.money(item.quantity(side.total(price))),
        }
        for price in prices
    ]


def _book_snapshot(market: Market, now_ns: int) -> list[Json]:
    bids, asks = market.book.bids, market.book.asks
    beginning = "1970-01-01T00:00:00Z"
    updates = [
        *_updates("bid", bids, bids.prices(), market, beginning),
        *_updates("offer", asks, asks.prices(), market, beginning),
    ]
    return [{"type": "snapshot", "product_id": market.instrument.symbol, "updates": updates}]


def _trades_snapshot(market: Market, now_ns: int) -> list[Json]:
    """Empty where nothing was traded yet: the venue never is in that state, and clients do not
    expect a snapshot without a trade."""
    if not market.tape.trades:
        return []
    trades = [render.public_trade(trade) for trade in reversed(market.tape.trades)]
    return [{"type": "snapshot", "trades": trades[:100]}]


def _ticker_snapshot(market: Market, now_ns: int) -> list[Json]:
    return [{"type": "snapshot", "tickers": [render.ticker(market, now_ns)]}]


_SNAPSHOTS: dict[str, Callable[[Market, int], list[Json]]] = {
    "level2": _book_snapshot,
    "market_trades": _trades_snapshot,
    "ticker": _ticker_snapshot,
    "ticker_batch": _ticker_snapshot,
}
