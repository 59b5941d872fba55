"""One WebSocket client: messages wait in its outbox until it reads them."""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import WSCloseCode, WSMsgType, web

_MOST_WAITING = 10_000
"""A client that lets so many messages wait is disconnected rather than fed stale ones."""


class Client:
    def __init__(self, socket: web.WebSocketResponse, *, combined: bool = False) -> None:
        self.socket = socket
        self.combined = combined
        """Whether messages are wrapped as `{"stream": ..., "data": ...}`."""
        self.streams: set[str] = set()
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self.overrun = False

    def send(self, data: bytes, stream: bytes = b"") -> None:
        if stream and self.combined:
            data = b'{"stream":"' + stream + b'","data":' + data + b"}"
        if len(self._waiting) >= _MOST_WAITING:
            self.overrun = True
        else:
            self._waiting.append(data)
        self._wake.set()

    async def pump(self) -> None:
        """Sends what waits, until cancelled or the client is gone."""
        try:
            while not self.socket.closed:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting and not self.overrun:
                    await self.socket.send_frame(self._waiting.popleft(), WSMsgType.TEXT)
                if self.overrun:
                    await self.socket.close(
                        code=WSCloseCode.POLICY_VIOLATION, message=b"Too many messages waiting."
                    )
        except ConnectionError:
            return  # The reading side sees the end of the connection and cleans up.
