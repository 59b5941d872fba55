"""One stream's client: messages wait in its outbox until it reads them.

Faces give messages to `send`; what becomes of one on its way (lost, doubled, late, out of order) is
for the gate to decide, which faults may replace.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from aiohttp import WSCloseCode, WSMsgType, web

_MOST_WAITING = 10_000
"""A client that lets so many messages wait is disconnected rather than fed stale ones."""


class Sink(Protocol):
    """Where messages go: a WebSocket, a chunked HTTP reply."""

    @property
    def closed(self) -> bool: ...
    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when the client is gone."""

    async def close(self, reason: str) -> None: ...


class SocketSink:
    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket

    @property
    def closed(self) -> bool:
        return self.socket.closed

    async def write(self, data: bytes) -> None:
        await self.socket.send_frame(data, WSMsgType.TEXT)

    async def close(self, reason: str) -> None:
        code = WSCloseCode.POLICY_VIOLATION if reason else WSCloseCode.GOING_AWAY
        await self.socket.close(code=code, message=reason.encode())


Gate = Callable[["Outbox", bytes, bool], None]
"""`(outbox, message, private)`: calls `outbox.put` now, later, twice or never."""


def straight(outbox: Outbox, data: bytes, private: bool) -> None:
    """The gate of a venue without faults."""
    outbox.put(data)


class Outbox:
    def __init__(self, sink: Sink, gate: Gate = straight) -> None:
        self.sink = sink
        self._gate = gate
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self.overrun = False

    def send(self, data: bytes, *, private: bool = False) -> None:
        """An event of the venue. `private`: of an account, not of the market."""
        self._gate(self, data, private)

    def put(self, data: bytes) -> None:
        """Past the gate: for answers to the client's own words (a subscription confirmed)."""
        if len(self._waiting) >= _MOST_WAITING:
            self.overrun = True
        else:
            self._waiting.append(data)
        self._wake.set()

    async def pump(self) -> None:
        """Sends what waits, until cancelled or the client is gone."""
        try:
            while not self.sink.closed:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting and not self.overrun:
                    await self.sink.write(self._waiting.popleft())
                if self.overrun:
                    await self.sink.close("Too many messages waiting.")
        except ConnectionError:
            return  # The reading side sees the end of the connection and cleans up.
