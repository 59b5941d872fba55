"""The two streams: prices and transactions, one JSON object in each line.

Source: "Pricing Endpoints" and "Transaction Endpoints": a heartbeat every 5 s; of each instrument
at most one price in 250 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
from aiohttp import web

from openbell_sim.events import Deposit
from openbell_sim.exchange import Report
from openbell_sim.faces.oanda import pricing, render
from openbell_sim.faces.oanda.accounts import Accounts
from openbell_sim.faces.oanda.book import Json
from openbell_sim.faces.oanda.times import TimeFormat
from openbell_sim.outbox import Gate, Outbox
from openbell_sim.sessions import MarketState
from openbell_sim.tape import PublicTrade

HEARTBEAT_S = 5.0
PRICES_EVERY_S = 0.25


class LineSink:
    """A chunked reply that ends when nobody is interested any more."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response
        self.ended = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self.ended.is_set()

    async def write(self, data: bytes) -> None:
        await self._response.write(data + b"\n")

    async def close(self, reason: str) -> None:
        """OANDA gives no reason: the reply ends."""
        self.ended.set()


class Stream(Outbox):
    """One client. Either of prices (`symbols`) or of an account's transactions."""

    def __init__(
        self,
        sink: LineSink,
        gate: Gate,
        times: TimeFormat,
        *,
        account: str = "",
        symbols: Sequence[str] = (),
    ) -> None:
        super().__init__(sink, gate)
        self.line_sink = sink
        self.times = times
        self.account = account
        self.symbols = tuple(symbols)
        self.told = 0
        """Id of the last transaction given to it."""
        self.prices: dict[str, Json] = {}
        """By instrument, what was last given to it; but for the time."""


class Hub:
    """Listens to the exchange and feeds the streams."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._exchange = accounts.exchange
        self.streams: set[Stream] = set()
        self.sent = 0
        self.changed = asyncio.Event()
        """Something happened to an account's orders or trades."""
        self._moved: set[str] = set()

    async def serve(self, stream: Stream) -> None:
        """Until the client goes, or `disconnect`."""
        self.streams.add(stream)
        if stream.account:
            stream.told = self._accounts.book(stream.account).last_id
        for symbol in stream.symbols:
            self._send_price(stream, symbol)
        tasks = [
            asyncio.create_task(stream.pump()),
            asyncio.create_task(self._beat(stream)),
            asyncio.create_task(stream.line_sink.ended.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.streams.discard(stream)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self, stream: Stream) -> None:
        while True:
            beat: Json = {
                "type": "HEARTBEAT",
                "time": stream.times.write(self._exchange.now_ns()),
            }
            if stream.account:
                beat["lastTransactionID"] = str(self._accounts.book(stream.account).last_id)
            stream.put(orjson.dumps(beat))
            await asyncio.sleep(HEARTBEAT_S)

    async def disconnect(self) -> int:
        """Ends every stream; how many there were."""
        streams = list(self.streams)
        for stream in streams:
            await stream.line_sink.close("")
        return len(streams)

    # From the exchange

    def on_reports(self, reports: Sequence[Report]) -> None:
        self.tell()

    def on_deposit(self, deposit: Deposit) -> None:
        self.tell()

    def on_trade(self, trade: PublicTrade) -> None:
        pass  # OANDA shows no trades

    def on_session(self, symbol: str, state: MarketState) -> None:
        """Prices tell whether they can be traded on."""
        self._moved.add(symbol)

    def on_book(self, symbol: str) -> None:
        self._moved.add(symbol)

    def tell(self) -> None:
        """Gives each account's stream what it has not heard."""
        self.changed.set()
        for stream in self.streams:
            if not stream.account:
                continue
            for item in self._accounts.book(stream.account).transactions[stream.told :]:
                facts = render.transaction(item, stream.account, stream.times)
                stream.send(orjson.dumps(facts), private=True)
                stream.told = item.id
                self.sent += 1

    # Prices

    async def run_prices(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(PRICES_EVERY_S)
            moved, self._moved = self._moved, set()
            for symbol in moved:
                for stream in self.streams:
                    if symbol in stream.symbols:
                        self._send_price(stream, symbol)

    def _send_price(self, stream: Stream, symbol: str) -> None:
        """Unless it has not changed."""
        facts = pricing.price(self._exchange, self._exchange.markets[symbol], stream.times)
        told = {name: value for name, value in facts.items() if name != "time"}
        if stream.prices.get(symbol) != told:
            stream.prices[symbol] = told
            stream.send(orjson.dumps(facts))
            self.sent += 1
