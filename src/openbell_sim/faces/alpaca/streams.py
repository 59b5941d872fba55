"""What happens at the exchange, told to the clients of both kinds of stream.

`/stream` tells an account its `trade_updates`, in binary frames ("Websocket Streaming").
`/v2/iex` and `/v2/sip` tell everybody's quotes, trades and minute bars, as JSON, or as MessagePack
where the client asks for it with its Content-Type ("WebSocket Stream").
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from openbell_sim.events import Accept, Cancel, Deposit, Expire, Fill
from openbell_sim.exchange import Exchange, Report
from openbell_sim.faces.alpaca import market_data, names, render
from openbell_sim.faces.alpaca.market_data import MINUTE_NS, Stamp
from openbell_sim.faces.alpaca.orders import DAY_ENDED, Replacements, note_of, status_of
from openbell_sim.faces.alpaca.render import Json
from openbell_sim.outbox import Gate, Outbox, SocketSink
from openbell_sim.sessions import MarketState
from openbell_sim.tape import PublicTrade

_EVERY_S = 0.25
"""How often it is looked whether a minute has ended."""
CHANNELS = ("trades", "quotes", "bars")

Encode = Callable[[object], bytes]
encode_json: Encode = msgspec.json.Encoder(decimal_format="number").encode
"""Numbers with every digit they have."""
_encode_msgpack: Encode = msgspec.msgpack.Encoder(decimal_format="number").encode


class _BinarySink(SocketSink):
    async def write(self, data: bytes) -> None:
        await self.socket.send_frame(data, WSMsgType.BINARY)


@dataclass(frozen=True)
class Codec:
    encode: Encode
    decode: Callable[[bytes], object]
    stamp: Stamp
    sink: type[SocketSink]


JSON = Codec(encode_json, msgspec.json.decode, names.rfc3339, SocketSink)
BINARY_JSON = Codec(encode_json, msgspec.json.decode, names.rfc3339, _BinarySink)
MSGPACK = Codec(_encode_msgpack, msgspec.msgpack.decode, names.msgpack_time, _BinarySink)


class Client(Outbox):
    """One connection."""

    def __init__(self, socket: web.WebSocketResponse, codec: Codec, gate: Gate) -> None:
        super().__init__(codec.sink(socket), gate)
        self.socket = socket
        self.codec = codec
        self.account: str | None = None
        """None until it has said who it is."""

    @contextlib.asynccontextmanager
    async def pumping(self) -> AsyncIterator[None]:
        """What waits is sent meanwhile."""
        pump = asyncio.create_task(self.pump())
        try:
            yield
        finally:
            pump.cancel()

    def answer(self, message: object) -> None:
        """To its own words."""
        self.put(self.codec.encode(message))

    def read(self, data: str | bytes) -> dict[str, object] | None:
        """None for what is no message."""
        try:
            message = self.codec.decode(data.encode() if isinstance(data, str) else data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return message if isinstance(message, dict) else None


class TradingClient(Client):
    listens = False


class DataClient(Client):
    def __init__(self, socket: web.WebSocketResponse, codec: Codec, gate: Gate, feed: str) -> None:
        super().__init__(socket, codec, gate)
        self.feed = feed
        self.symbols: dict[str, set[str]] = {channel: set() for channel in CHANNELS}

    def wants(self, channel: str, symbol: str) -> bool:
        return not self.symbols[channel].isdisjoint((symbol, "*"))


class Describe(Protocol):
    def __call__(self, stamp: Stamp, /) -> Json: ...


class Hub:
    """Listens to the exchange."""

    def __init__(self, exchange: Exchange, replacements: Replacements) -> None:
        self._exchange = exchange
        self._replacements = replacements
        self._best: dict[str, tuple[object, ...]] = {}
        self._bar_of: dict[str, int] = {}
        self.trading: set[TradingClient] = set()
        self.data: set[DataClient] = set()
        self.sent = 0

    async def disconnect(self) -> int:
        """Closes every stream; how many there were."""
        clients: list[Client] = [*self.trading, *self.data]
        closing = (client.socket.close(code=WSCloseCode.GOING_AWAY) for client in clients)
        await asyncio.gather(*closing, return_exceptions=True)
        return len(clients)

    # From the exchange

    def on_reports(self, reports: Sequence[Report]) -> None:
        for report in reports:
            if isinstance(report.event, Accept):
                self._replacements.add(report.order)
        for report in reports:
            clients = [
                client
                for client in self.trading
                if client.listens and client.account == report.order.account
            ]
            update = self._update_of(report) if clients else None
            if update is not None:
                data = encode_json({"stream": "trade_updates", "data": update})
                for client in clients:
                    client.send(data, private=True)
                    self.sent += 1

    def _update_of(self, report: Report) -> Json | None:
        """None for what Alpaca has no event for."""
        order, fill = report.order, report.fill
        match report.event:
            case Accept():
                event = "new"
            case Fill():
                event = "partial_fill" if order.is_open else "fill"
            case Cancel() | Expire():
                event = status_of(order)
            case _:
                return None
        held = self._exchange.ledger.position(order.account, order.symbol).quantity
        return render.trade_update(
            event,
            order,
            self._replacements,
            at_ns=report.event.at_ns,
            fill=fill,
            position_qty=held if fill is not None else None,
        )

    def on_deposit(self, deposit: Deposit) -> None:
        """Alpaca streams none."""

    def on_session(self, symbol: str, state: MarketState) -> None:
        """A day's orders end with it; those for extended hours as well, which are not played."""
        if state is not MarketState.CLOSED:
            return
        for orders in self._exchange.ledger.open.values():
            for order in [order for order in orders.values() if order.symbol == symbol]:
                if note_of(order).time_in_force == "day":
                    self._exchange.cancel(order, DAY_ENDED, reason="day_ended")

    def on_book(self, symbol: str) -> None:
        if not self.data:
            return
        market = self._exchange.markets[symbol]
        bids, asks = market.book.bids, market.book.asks
        best = (
            bids.best,
            asks.best,
            None if bids.best is None else bids.total(bids.best),
            None if asks.best is None else asks.total(asks.best),
        )
        if self._best.get(symbol) != best:
            self._best[symbol] = best
            now_ns = self._exchange.now_ns()
            self._tell("quotes", "q", symbol, lambda s: market_data.quote(market, now_ns, s))

    def on_trade(self, trade: PublicTrade) -> None:
        self._tell("trades", "t", trade.symbol, lambda stamp: market_data.trade(trade, stamp))

    def _tell(self, channel: str, kind: str, symbol: str, describe: Describe) -> None:
        encoded: dict[int, bytes] = {}
        for client in self.data:
            if client.account is None or not client.wants(channel, symbol):
                continue
            codec = client.codec
            if id(codec) not in encoded:
                message = {"T": kind, "S": symbol, **describe(codec.stamp)}
                encoded[id(codec)] = codec.encode([message])
            client.send(encoded[id(codec)])
            self.sent += 1

    # Bars

    async def run(self) -> None:
        """Tells each minute's bars when it has ended, until cancelled."""
        told = self._exchange.now_ns() // MINUTE_NS
        while True:
            await asyncio.sleep(_EVERY_S)
            minute = self._exchange.now_ns() // MINUTE_NS
            if minute > told:
                told = minute
                self._tell_bars(before_ns=minute * MINUTE_NS)

    def _tell_bars(self, before_ns: int) -> None:
        for symbol, market in self._exchange.markets.items():
            ended = [bar for bar in market.tape.bars(MINUTE_NS) if bar.open_ns < before_ns]
            if ended and self._bar_of.get(symbol) != ended[-1].open_ns:
                last = ended[-1]
                self._bar_of[symbol] = last.open_ns
                self._tell(
                    "bars", "b", symbol, lambda stamp, last=last: market_data.bar(last, stamp)
                )
