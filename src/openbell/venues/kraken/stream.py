"""Kraken's executions channel: our orders' events, pushed.

One WebSocket to `/v2`, one subscription, one token for each connection. It counts as up when the
subscription was confirmed. An order's terms are told once, when it is new or in the snapshot at the
start; later events name little more than its identifier, so what was told is kept here. Messages
are numbered: one that is missing, one that cannot be read, one of an order that was never told,
and five seconds in which not even a heartbeat comes, all end the connection, and StreamDown says
why before a new one is tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import msgspec

from openbell.domain.orders import OrdStatus
from openbell.venues.kraken.executions import Execution, order_in, report_of
from openbell.venues.kraken.wire import SymbolOf
from openbell.venues.port import (
    OrderReport,
    StreamDown,
    StreamEvent,
    StreamUp,
    VenueError,
    VenueOrder,
)
from openbell.venues.transport import NotSentError, Transport, WebSocket

HEARTBEAT_S = 10.0
"""Of the WebSocket itself: a ping after so much silence."""
SILENCE_MAX_S = 5.0
"""Kraken sends a heartbeat about every second to whoever subscribed (docs.kraken.com, "Spot
WebSocket v2: heartbeat")."""
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 15.0
"""Each attempt takes a token, which counts on the call counter; and about 150 connections in ten
minutes make Kraken's front refuse an address."""
SETTLED_AFTER_S = 30.0
"""A connection that lived so long starts the back-off anew; one that flaps does not."""

T = TypeVar("T")


class _LostError(Exception):
    """The stream cannot go on; the text says why, without secrets."""


class _Message(msgspec.Struct, frozen=True):
    """An answer (`method`, `success`) or something of a channel."""

    method: str = ""
    success: bool | None = None
    error: str = ""
    channel: str = ""
    type: str = ""
    sequence: int | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Told:
    """Orders as the channel told them, until they end."""

    def __init__(self, symbol_of: SymbolOf) -> None:
        self._symbol_of = symbol_of
        self._orders: dict[str, VenueOrder] = {}
        self._strangers: set[str] = set()
        """Orders in symbols that the desk does not trade."""

    def take(self, execution: Execution) -> OrderReport | None:
        """Raises ValueError for an event of an order of which too little is known."""
        key = execution.order_id
        if key in self._strangers:
            return None
        try:
            order = order_in(execution, self._orders.get(key), self._symbol_of)
        except KeyError:
            self._strangers.add(key)
            return None
        if order.status.is_final:
            self._orders.pop(key, None)
        else:
            self._orders[key] = order
        # Until it is live it is nothing that rests, fills or can be cancelled.
        if order.status is OrdStatus.PENDING_NEW:
            return None
        return report_of(execution, order)


@dataclass(frozen=True)
class Executions:
    """Opens the channel, again and again."""

    transport: Transport
    url: str
    token: Callable[[], Awaitable[str]]
    """A fresh one, asked for at each connection. Raises VenueError."""
    symbol_of: SymbolOf
    timeout_s: float
    clean: Callable[[str], str]

    async def events(self) -> AsyncIterator[StreamEvent]:
        """For ever. StreamDown is repeated while connecting fails for another reason than before."""
        loop = asyncio.get_running_loop()
        waits = _backoff()
        told = ""
        while True:
            up_since_s: float | None = None
            try:
                async with asyncio.timeout(self.timeout_s):
                    socket = await self._subscribe(await self.token())
                try:
                    up_since_s = loop.time()
                    told = ""
                    yield StreamUp()
                    async for report in self._reports(socket):
                        yield report
                finally:
                    await socket.close()
            except _LostError as lost:
                why = str(lost)
            except VenueError as error:
                why = f"no token: {error.message}"
            except TimeoutError:
                why = f"not subscribed within {self.timeout_s:g} s"
            if why != told:
                told = why
                yield StreamDown(why=why)
            if up_since_s is not None and loop.time() - up_since_s >= SETTLED_AFTER_S:
                waits = _backoff()
            await asyncio.sleep(next(waits))

    async def _subscribe(self, token: str) -> WebSocket:
        """A socket whose subscription was confirmed."""
        try:
            socket = await self.transport.open_websocket(self.url, heartbeat_s=HEARTBEAT_S)
        except NotSentError as error:
            raise _LostError(str(error)) from error
        try:
            await socket.send_str(_subscription(token))
            while True:
                message = _decode(await socket.receive())
                if message.method != "subscribe":
                    continue
                if not message.success:
                    raise _LostError(self.clean(f"subscription refused: {message.error}"))
                return socket
        except BaseException as error:
            await socket.close()
            if isinstance(error, aiohttp.ClientError | ConnectionError):
                raise _LostError(f"connection lost ({type(error).__name__})") from error
            raise

    async def _reports(self, socket: WebSocket) -> AsyncIterator[OrderReport]:
        told = _Told(self.symbol_of)
        last: int | None = None
        while True:
            message = _decode(await _next(socket))
            if message.channel != "executions":
                continue
            if message.sequence is not None:
                if last is not None and message.sequence <= last:
                    continue  # told before
                if last is not None and message.sequence != last + 1:
                    raise _LostError(f"{message.sequence - last - 1} messages are missing")
                last = message.sequence
            for execution in _read(message.data, list[Execution]):
                try:
                    report = told.take(execution)
                except ValueError as error:
                    raise _LostError(f"an event that tells too little: {error}") from error
                # A snapshot repeats what asking tells, and is not news.
                if report is not None and message.type == "update":
                    yield report


def _subscription(token: str) -> str:
    params = {"channel": "executions", "token": token, "snap_orders": True, "snap_trades": False}
    return msgspec.json.encode({"method": "subscribe", "params": params, "req_id": 1}).decode()


async def _next(socket: WebSocket) -> aiohttp.WSMessage:
    try:
        return await socket.receive(timeout=SILENCE_MAX_S)
    except TimeoutError:
        raise _LostError(f"nothing heard for {SILENCE_MAX_S:g} s") from None


def _decode(message: aiohttp.WSMessage) -> _Message:
    if message.type is not aiohttp.WSMsgType.TEXT:
        reason = f"code {message.data}" if message.type is aiohttp.WSMsgType.CLOSE else "no close"
        raise _LostError(f"connection closed ({reason})")
    return _read(message.data, _Message)


def _read(data: str | msgspec.Raw, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        # What it said is lost, so it is a gap like any other.
        raise _LostError(f"an unreadable message: {error}") from error


def _backoff() -> Iterator[float]:
    wait_s = BACKOFF_FIRST_S
    while True:
        yield wait_s
        wait_s = min(wait_s * 2, BACKOFF_MAX_S)
