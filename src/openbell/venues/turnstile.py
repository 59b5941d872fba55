"""New connections to a venue that counts them by address: one pace for all processes of a machine.

An engine, the guard, market data and whoever closes the desk connect for themselves, and know
nothing of each other; together they must not open more connections in a second than the venue lets
one address open. So each new connection takes one of as many *slots*, and keeps it for the venue's
window.

A slot is the name of a socket in Linux's abstract namespace. That is no file, so a disk that is full or
hangs does not matter; it is held by at most one process; and it is free at the moment at which that
process ends, however it ends. (A command that ends sooner than the window thereby lets another in too
soon; it opened one or two connections.) A process that is stopped in the middle keeps its slots, and
others wait for no more than `WAIT_MAX_S`: the guard must come through, and a refused connection is the
lesser evil.
Elsewhere than on Linux nothing is waited for, and each process keeps the pace for itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import socket
import sys
from collections import deque

from openbell.http_library import aiohttp

WAIT_MAX_S = 3.0
"""Less than a request's time-out, so that there is time left for the request itself."""
LOOK_EVERY_S = (0.02, 0.06)
"""At random between these: who waits in step would take turns in step."""


class Turnstile:
    """Before each new connection, a stream's too: no more than `slots` in a window."""

    def __init__(self, shared_as: str, slots: int, window_s: float) -> None:
        """`shared_as`: the same in all processes whose connections are counted together; empty
        where there are no others."""
        self._own_s: deque[float] = deque(maxlen=slots)
        """When this process' last connections were begun: its own pace holds without others."""
        # Of one user: the name of another's would only be a way to keep each other waiting.
        told = f"{os.getuid()} {shared_as}"
        name = hashlib.sha256(told.encode()).hexdigest()[:32]
        self._names = [
            f"\0openbell-connects-{name}-{slot}" for slot in range(slots if shared_as else 0)
        ]
        self._window_s = window_s

    def trace(self) -> aiohttp.TraceConfig:
        """For a session, whose new connections then take their turn."""
        trace = aiohttp.TraceConfig()

        async def await_turn(*_: object) -> None:
            await self.take()

        trace.on_connection_create_start.append(await_turn)
        return trace

    async def take(self) -> None:
        """Returns when a connection may be opened."""
        if self._names and sys.platform == "linux":
            await self._take_slot()
        now_s, own = asyncio.get_running_loop().time(), self._own_s
        turn_s = max(now_s, own[0] + self._window_s) if len(own) == own.maxlen else now_s
        own.append(turn_s)
        await asyncio.sleep(turn_s - now_s)

    async def _take_slot(self) -> None:
        loop = asyncio.get_running_loop()
        give_up_at_s = loop.time() + WAIT_MAX_S
        while True:
            if self._took_one() or loop.time() > give_up_at_s:
                return
            await asyncio.sleep(random.uniform(*LOOK_EVERY_S))  # noqa: S311 - no secret

    def _took_one(self) -> bool:
        for name in self._names:
            held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                held.bind(name)
            except OSError:
                held.close()
                continue
            asyncio.get_running_loop().call_later(self._window_s, held.close)
            return True
        return False
