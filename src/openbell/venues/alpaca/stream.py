"""Alpaca's `trade_updates`: our orders' events, pushed.

One WebSocket, one message that says who we are and one that says what we listen to. It counts as
up when the venue has confirmed that it is `trade_updates` that is listened to, and not when the
socket is open. Whatever ends it, or makes what came over it unreadable, is told as StreamDown before
a new connection is tried: events may be missing from then on, and Alpaca does not send them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import msgspec

from openbell.venues.alpaca.wire import SymbolOf, TradeUpdate
from openbell.venues.credentials import Credentials
from openbell.venues.port import OrderReport, StreamDown, StreamEvent, StreamUp
from openbell.venues.transport import NotSentError, Transport, WebSocket

STREAM = "trade_updates"
PING_AFTER_S = 10.0
"""Of silence; half of it more without a pong and the peer counts as dead. Ours: Alpaca states no
interval, and its own client pings every 10 s."""
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
"""Ours; Alpaca's client goes from 1 s to 30 s."""
SETTLED_AFTER_S = 30.0
"""A connection that lived so long starts the back-off anew; one that flaps does not."""

T = TypeVar("T")


class _LostError(Exception):
    """The stream cannot go on; the text says why, without secrets."""


class _Message(msgspec.Struct, frozen=True):
    stream: str
    data: msgspec.Raw


class _Authorization(msgspec.Struct, frozen=True):
    status: str


class _Listening(msgspec.Struct, frozen=True):
    streams: list[str]


@dataclass(frozen=True)
class TradeUpdates:
    """Opens the stream, again and again."""

    transport: Transport
    url: str
    credentials: Credentials
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
                    socket = await self._listen()
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
                why = f"not listening within {self.timeout_s:g} s"
            if why != told:
                told = why
                yield StreamDown(why=why)
            if up_since_s is not None and loop.time() - up_since_s >= SETTLED_AFTER_S:
                waits = _backoff()
            await asyncio.sleep(next(waits))

    async def _listen(self) -> WebSocket:
        """A socket on which the venue has confirmed what it will send."""
        try:
            socket = await self.transport.open_websocket(self.url, heartbeat_s=PING_AFTER_S)
        except NotSentError as error:
            raise _LostError(str(error)) from error
        try:
            await socket.send_str(
                _request(
                    "authenticate",
                    key_id=self.credentials.key,
                    secret_key=self.credentials.secret,
                )
            )
            told = _read(_decode(await socket.receive()).data, _Authorization)
            if told.status != "authorized":
                raise _LostError(self.clean(f"authentication refused: {told.status}"))
            await socket.send_str(_request("listen", streams=[STREAM]))
            while (message := _decode(await socket.receive())).stream != "listening":
                if message.stream == "authorization":
                    raise _LostError("listening refused")
            if STREAM not in _read(message.data, _Listening).streams:
                raise _LostError(f"{STREAM} is not available")
        except BaseException as error:
            await socket.close()
            if isinstance(error, aiohttp.ClientError | ConnectionError):
                raise _LostError(f"connection lost ({type(error).__name__})") from error
            raise
        return socket

    def _report_in(self, message: _Message) -> OrderReport | None:
        if message.stream != STREAM:
            return None
        update = _read(message.data, TradeUpdate)
        try:
            return update.to_port(self.symbol_of)
        except KeyError:
            return None  # the account's, in a symbol that the desk does not trade
        except ValueError as error:
            raise _LostError(f"an unreadable TradeUpdate: {error}") from error


def _request(action: str, **data: object) -> str:
    return msgspec.json.encode({"action": action, "data": data}).decode()


def _decode(message: aiohttp.WSMessage) -> _Message:
    """Alpaca sends JSON in binary frames here, and in text ones elsewhere."""
    if message.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
        reason = f"code {message.data}" if message.type is aiohttp.WSMsgType.CLOSE else "no close"
        raise _LostError(f"connection closed ({reason})")
    return _read(message.data, _Message)


def _read(data: bytes | str | msgspec.Raw, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # What it said is lost, so it is a gap like any other.
        raise _LostError(f"an unreadable {shape.__name__.strip('_')}: {error}") from error


def _backoff() -> Iterator[float]:
    wait_s = BACKOFF_FIRST_S
    while True:
        yield wait_s
        wait_s = min(wait_s * 2, BACKOFF_MAX_S)
