"""Order events of the USD-M venue, over its private stream.

The stream is opened by a listen key, which anybody who has it may read by; it lives for 60 minutes
after it was made or last kept alive. It counts as up when the socket is open: the venue confirms
nothing on it. A key that cannot be kept alive ends the stream, and the next one begins with another
key, so that a stream of a dead key, which is silent for ever, is not taken for a quiet one.

Source: "User Data Streams" of the USD-M futures API: keys are to be kept alive about every 30
minutes; the private path is that of "Important WebSocket Change Notice".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from openbell.http_library import aiohttp
from openbell.venues.binance.stream import BACKOFF, ENDS, HEARTBEAT_S
from openbell.venues.binance.usdm_events import AlgoUpdate, OrderUpdate, UserEvent
from openbell.venues.binance.wire import SymbolOf
from openbell.venues.port import (
    OrderReport,
    StreamEvent,
    StreamUp,
    VenueError,
    VenueRefusedError,
)
from openbell.venues.pushing import (
    Connection,
    LostError,
    content,
    pushed_stream,
    read,
    subscribed,
)
from openbell.venues.transport import Transport, WebSocket

KEEP_ALIVE_EVERY_S = 1800.0
KEEP_ALIVE_RETRY_S = 60.0
"""After one that was not answered; the key lives for half an hour more."""
KEEP_ALIVE_TRIES = 10


class PrivateStream:
    """Opens the stream, again and again."""

    def __init__(
        self,
        *,
        transport: Transport,
        url: str,
        make_key: Callable[[], Awaitable[str]],
        keep_key: Callable[[], Awaitable[None]],
        symbol_of: SymbolOf,
        timeout_s: float,
    ) -> None:
        """`make_key` and `keep_key` raise VenueError."""
        self._transport = transport
        self._url = url
        self._make_key = make_key
        self._keep_key = keep_key
        self._symbol_of = symbol_of
        self._timeout_s = timeout_s
        self._keep_at_s = 0.0
        self._failures = 0

    def events(self) -> AsyncIterator[StreamEvent]:
        """For ever: see `pushed_stream`."""
        return pushed_stream(self._connected, BACKOFF)

    async def _connected(self) -> Connection:
        key = await self._new_key()
        async with subscribed(
            self._transport,
            f"{self._url}?listenKey={key}",
            _unconfirmed,
            heartbeat_s=HEARTBEAT_S,
            timeout_s=self._timeout_s,
        ) as (socket, _):
            yield StreamUp()
            while True:
                report = self._report_in(read(content(await self._receive(socket)), UserEvent))
                if report is not None:
                    yield report

    async def _new_key(self) -> str:
        try:
            async with asyncio.timeout(self._timeout_s):
                key = await self._make_key()
        except VenueError as error:
            raise LostError(f"no listen key: {error.message}") from error
        except TimeoutError:
            raise LostError(f"no listen key within {self._timeout_s:g} s") from None
        self._keep_at_s = asyncio.get_running_loop().time() + KEEP_ALIVE_EVERY_S
        self._failures = 0
        return key

    async def _receive(self, socket: WebSocket) -> aiohttp.WSMessage:
        """The next message; keeps the key alive meanwhile. Raises LostError where it cannot."""
        loop = asyncio.get_running_loop()
        receiving = asyncio.ensure_future(socket.receive())
        try:
            while True:
                due_s = self._keep_at_s - loop.time()
                await asyncio.wait([receiving], timeout=max(0.0, due_s))
                if receiving.done():
                    return receiving.result()
                await self._keep_alive()
        finally:
            receiving.cancel()

    async def _keep_alive(self) -> None:
        wait_s = KEEP_ALIVE_EVERY_S
        try:
            await self._keep_key()
            self._failures = 0
        except VenueError as error:
            self._failures += 1
            if isinstance(error, VenueRefusedError) or self._failures >= KEEP_ALIVE_TRIES:
                raise LostError(f"the listen key cannot be kept alive: {error.message}") from error
            wait_s = KEEP_ALIVE_RETRY_S
        self._keep_at_s = asyncio.get_running_loop().time() + wait_s

    def _report_in(self, event: UserEvent) -> OrderReport | None:
        if event.e in ENDS:
            raise LostError(f"ended by the venue ({event.e})")
        try:
            if event.e == "ORDER_TRADE_UPDATE":
                return read(event.o, OrderUpdate).to_port(self._symbol_of)
            if event.e == "ALGO_UPDATE":
                return read(event.o, AlgoUpdate).to_port(self._symbol_of, event.T)
        except KeyError:
            pass  # the account's, in a symbol that the desk does not trade
        return None


async def _unconfirmed(_: WebSocket) -> None:
    """The venue says nothing until there is an event."""
