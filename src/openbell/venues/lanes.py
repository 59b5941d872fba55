"""How many requests are under way at once at a venue that limits new connections.

A burst of requests would open a connection each, and those beyond the limit would be refused or
wait for their turn, while connections that are open already stand idle. So a request takes a lane:
there are as many lanes as connections may be open. Where all are taken, it waits for one to become
free, or for the moment when the venue lets another connection be opened, whichever comes first.
"""

from __future__ import annotations

import asyncio


class Lanes:
    """`take` before a request, `release` after it."""

    def __init__(self, per_window: int, window_s: float, most: int) -> None:
        """`per_window` lanes from the start, and as many more in each window that needs them, up
        to `most`."""
        self.count = per_window
        self._window_s = window_s
        self._every_s = window_s / per_window
        self._most = most
        self._free = asyncio.Semaphore(per_window)
        self._next_s = 0.0
        """When another lane may be opened, by the event loop's clock."""

    async def take(self) -> None:
        loop = asyncio.get_running_loop()
        if self._next_s < loop.time():
            # The lanes there are may have been opened just now.
            self._next_s = loop.time() + self._window_s
        while True:
            grows = self.count < self._most
            try:
                async with asyncio.timeout_at(self._next_s if grows else None):
                    await self._free.acquire()
                return
            except TimeoutError:
                if self.count < self._most and loop.time() >= self._next_s:
                    self.count += 1
                    self._next_s = loop.time() + self._every_s
                    return

    def release(self) -> None:
        self._free.release()
