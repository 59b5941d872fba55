"""Binance's user data stream: our orders' events, pushed.

One WebSocket to the WebSocket API, and one request on it: `userDataStream.subscribe.signature`.
It counts as up when that request was answered with 200, and not when the socket is open: a socket
that is open and not subscribed is silent for ever. Whatever ends it, or makes what came over it
unreadable, is told as StreamDown before a new connection is tried, because events may be missing
from then on.

ccxt.pro has this stream as well and is not used: it merges the events of an order into one entry
and keeps its fills in another cache, so what changed with which fill is lost where two events come
between two reads; and it subscribes anew inside a call, without saying that it was away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import msgspec

from openbell.venues.binance.wire import ExecutionReport, SymbolOf
from openbell.venues.port import OrderReport, StreamDown, StreamEvent, StreamUp
from openbell.venues.transport import NotSentError, Transport, WebSocket

HEARTBEAT_S = 10.0
"""Ping after so much silence; after half of it more without a pong the peer counts as dead. Binance
itself pings every 20 s."""
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 15.0
"""Well inside Binance's 300 connections per 5 minutes and address."""
SETTLED_AFTER_S = 30.0
"""A connection that lived so long starts the back-off anew; one that flaps does not."""

T = TypeVar("T")

_ENDS = {"eventStreamTerminated", "serverShutdown", "listenKeyExpired"}


class _LostError(Exception):
    """The stream cannot go on; the text says why, without secrets."""


class _Message(msgspec.Struct, frozen=True):
    """An answer (`id`, `status`) or an event."""

    id: int | str | None = None
    status: int | None = None
    error: dict[str, Any] | None = None
    event: msgspec.Raw = msgspec.Raw()
    """Empty in an answer."""


class _Kind(msgspec.Struct, frozen=True):
    e: str = ""


@dataclass(frozen=True)
class UserDataStream:
    """Opens the stream, again and again."""

    transport: Transport
    url: str
    subscription: Callable[[], dict[str, str | int]]
    """The signed parameters; called at each connection, since they carry the time."""
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
                    socket = await self._subscribe()
                try:
                    up_since_s = loop.time()
                    told = ""
                    yield StreamUp()
                    while True:
                        report = self._report_in(_decode(await socket.receive()))
                        if report is not None:
                            yield report
                finally:
                    await socket.close()
            except _LostError as lost:
                why = str(lost)
            except TimeoutError:
                why = f"not subscribed within {self.timeout_s:g} s"
            if why != told:
                told = why
                yield StreamDown(why=why)
            if up_since_s is not None and loop.time() - up_since_s >= SETTLED_AFTER_S:
                waits = _backoff()
            await asyncio.sleep(next(waits))

    async def _subscribe(self) -> WebSocket:
        """A socket whose subscription was confirmed."""
        try:
            socket = await self.transport.open_websocket(self.url, heartbeat_s=HEARTBEAT_S)
        except NotSentError as error:
            raise _LostError(str(error)) from error
        try:
            await socket.send_str(_request(self.subscription()))
            while True:
                message = _decode(await socket.receive())
                if message.id is None:
                    continue
                if message.status != 200:
                    refusal = message.error or {}
                    text = f"{refusal.get('code', message.status)} {refusal.get('msg', '')}"
                    raise _LostError(self.clean(f"subscription refused: {text}"))
                return socket
        except BaseException as error:
            await socket.close()
            if isinstance(error, aiohttp.ClientError | ConnectionError):
                raise _LostError(f"connection lost ({type(error).__name__})") from error
            raise

    def _report_in(self, message: _Message) -> OrderReport | None:
        if not bytes(message.event):
            return None
        kind = _read(message.event, _Kind).e
        if kind in _ENDS:
            raise _LostError(f"ended by the venue ({kind})")
        if kind != "executionReport":
            return None
        try:
            return _read(message.event, ExecutionReport).to_port(self.symbol_of)
        except KeyError:
            return None  # the account's, in a symbol that the desk does not trade


def _request(params: dict[str, str | int]) -> str:
    request = {"id": 1, "method": "userDataStream.subscribe.signature", "params": params}
    return msgspec.json.encode(request).decode()


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
        raise _LostError(f"an unreadable {shape.__name__.strip('_')}: {error}") from error


def _backoff() -> Iterator[float]:
    wait_s = BACKOFF_FIRST_S
    while True:
        yield wait_s
        wait_s = min(wait_s * 2, BACKOFF_MAX_S)
