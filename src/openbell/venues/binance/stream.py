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
from typing import Any, TypeVar

import aiohttp
import msgspec

from openbell.venues.binance.events import ExecutionReport
from openbell.venues.binance.wire import SymbolOf
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

ENDS = {"eventStreamTerminated", "serverShutdown", "listenKeyExpired"}


class LostError(Exception):
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


class OrderStream:
    """Opens a stream of order events, again and again. A subclass says how, and reads messages."""

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    async def events(self) -> AsyncIterator[StreamEvent]:
        """For ever. StreamDown is repeated while connecting fails for another reason than before."""
        loop = asyncio.get_running_loop()
        waits = _backoff()
        told = ""
        while True:
            up_since_s: float | None = None
            try:
                async with asyncio.timeout(self._timeout_s):
                    socket = await self._open()
                try:
                    up_since_s = loop.time()
                    told = ""
                    yield StreamUp()
                    while True:
                        report = self._report_in(text_of(await self._receive(socket)))
                        if report is not None:
                            yield report
                finally:
                    await socket.close()
            except LostError as lost:
                why = str(lost)
            except TimeoutError:
                why = f"not subscribed within {self._timeout_s:g} s"
            if why != told:
                told = why
                yield StreamDown(why=why)
            if up_since_s is not None and loop.time() - up_since_s >= SETTLED_AFTER_S:
                waits = _backoff()
            await asyncio.sleep(next(waits))

    async def _open(self) -> WebSocket:
        """A socket over which events will come. Raises LostError."""
        raise NotImplementedError

    async def _receive(self, socket: WebSocket) -> aiohttp.WSMessage:
        """The next message. Raises LostError where the stream cannot go on. Never TimeoutError."""
        return await socket.receive()

    def _report_in(self, text: str) -> OrderReport | None:
        """Raises LostError."""
        raise NotImplementedError


class UserDataStream(OrderStream):
    """Of spot: one request on a socket to the WebSocket API."""

    def __init__(
        self,
        *,
        transport: Transport,
        url: str,
        subscription: Callable[[], dict[str, str | int]],
        symbol_of: SymbolOf,
        timeout_s: float,
        clean: Callable[[str], str],
    ) -> None:
        """`subscription`: the signed parameters; called at each connection, since they carry the
        time."""
        super().__init__(timeout_s=timeout_s)
        self._transport = transport
        self._url = url
        self._subscription = subscription
        self._symbol_of = symbol_of
        self._clean = clean

    async def _open(self) -> WebSocket:
        """A socket whose subscription was confirmed."""
        socket = await opened(self._transport, self._url)
        try:
            await socket.send_str(_request(self._subscription()))
            while True:
                message = read(text_of(await socket.receive()), _Message)
                if message.id is None:
                    continue
                if message.status != 200:
                    refusal = message.error or {}
                    text = f"{refusal.get('code', message.status)} {refusal.get('msg', '')}"
                    raise LostError(self._clean(f"subscription refused: {text}"))
                return socket
        except BaseException as error:
            await socket.close()
            if isinstance(error, aiohttp.ClientError | ConnectionError):
                raise LostError(f"connection lost ({type(error).__name__})") from error
            raise

    def _report_in(self, text: str) -> OrderReport | None:
        message = read(text, _Message)
        if not bytes(message.event):
            return None
        kind = read(message.event, _Kind).e
        if kind in ENDS:
            raise LostError(f"ended by the venue ({kind})")
        if kind != "executionReport":
            return None
        try:
            return read(message.event, ExecutionReport).to_port(self._symbol_of)
        except KeyError:
            return None  # the account's, in a symbol that the desk does not trade


def _request(params: dict[str, str | int]) -> str:
    request = {"id": 1, "method": "userDataStream.subscribe.signature", "params": params}
    return msgspec.json.encode(request).decode()


async def opened(transport: Transport, url: str) -> WebSocket:
    """Raises LostError."""
    try:
        return await transport.open_websocket(url, heartbeat_s=HEARTBEAT_S)
    except NotSentError as error:
        raise LostError(str(error)) from error


def text_of(message: aiohttp.WSMessage) -> str:
    """Raises LostError for what is no text: the end of the connection."""
    if message.type is not aiohttp.WSMsgType.TEXT:
        reason = f"code {message.data}" if message.type is aiohttp.WSMsgType.CLOSE else "no close"
        raise LostError(f"connection closed ({reason})")
    return str(message.data)


def read(data: str | msgspec.Raw, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        # What it said is lost, so it is a gap like any other.
        raise LostError(f"an unreadable {shape.__name__.strip('_')}: {error}") from error


def _backoff() -> Iterator[float]:
    wait_s = BACKOFF_FIRST_S
    while True:
        yield wait_s
        wait_s = min(wait_s * 2, BACKOFF_MAX_S)
