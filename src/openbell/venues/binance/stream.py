"""Binance's user data stream: our orders' events, pushed.

One WebSocket to the WebSocket API, and one request on it: `userDataStream.subscribe.signature`.
It counts as up when that request was answered with 200, and not when the socket is open: a socket
that is open and not subscribed is silent for ever.

ccxt.pro has this stream as well and is not used: it merges the events of an order into one entry
and keeps its fills in another cache, so what changed with which fill is lost where two events come
between two reads; and it subscribes anew inside a call, without saying that it was away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from openbell.venues.binance.events import ExecutionReport
from openbell.venues.binance.wire import SymbolOf
from openbell.venues.port import OrderReport, StreamEvent, StreamUp
from openbell.venues.pushing import (
    Backoff,
    Connection,
    LostError,
    content,
    pushed_stream,
    read,
    subscribed,
)
from openbell.venues.transport import Transport, WebSocket

HEARTBEAT_S = 10.0
"""Ping after so much silence; after half of it more without a pong the peer counts as dead. Binance
itself pings every 20 s."""
BACKOFF = Backoff(first_s=0.25, max_s=15.0)
"""Well inside Binance's 300 connections per 5 minutes and address."""

ENDS = {"eventStreamTerminated", "serverShutdown", "listenKeyExpired"}


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

    def events(self) -> AsyncIterator[StreamEvent]:
        """For ever: see `pushed_stream`."""
        return pushed_stream(self._connected, BACKOFF)

    async def _connected(self) -> Connection:
        async with subscribed(
            self.transport,
            self.url,
            self._subscribe,
            heartbeat_s=HEARTBEAT_S,
            timeout_s=self.timeout_s,
        ) as (socket, _):
            yield StreamUp()
            while True:
                report = self._report_in(await _next(socket))
                if report is not None:
                    yield report

    async def _subscribe(self, socket: WebSocket) -> None:
        """Returns when the subscription was confirmed."""
        await socket.send_str(_request(self.subscription()))
        while (message := await _next(socket)).id is None:
            pass
        if message.status != 200:
            refusal = message.error or {}
            text = f"{refusal.get('code', message.status)} {refusal.get('msg', '')}"
            raise LostError(self.clean(f"subscription refused: {text}"))

    def _report_in(self, message: _Message) -> OrderReport | None:
        if not bytes(message.event):
            return None
        kind = read(message.event, _Kind).e
        if kind in ENDS:
            raise LostError(f"ended by the venue ({kind})")
        if kind != "executionReport":
            return None
        try:
            return read(message.event, ExecutionReport).to_port(self.symbol_of)
        except KeyError:
            return None  # the account's, in a symbol that the desk does not trade


def _request(params: dict[str, str | int]) -> str:
    request = {"id": 1, "method": "userDataStream.subscribe.signature", "params": params}
    return msgspec.json.encode(request).decode()


async def _next(socket: WebSocket) -> _Message:
    return read(content(await socket.receive()), _Message)
