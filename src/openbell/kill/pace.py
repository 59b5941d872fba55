"""When the next request may leave: inside the venue's budget, and never before the time it named.

A request sent during a ban does not cancel; it lengthens the ban. So after a 429 or 418 everything
waits, even where the adapter would hold a request back by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

MARGIN = 1.05
"""Windows are taken so much longer: requests that left a second apart may arrive closer."""
RESERVE = 0.2
"""Share of the budget that the desk is taken to have used in the second before the stop: a burst that
fills what is left of it is refused as a whole second's work."""


class Pace:
    """Requests of one venue; `now_s` is the running event loop's clock unless given."""

    def __init__(
        self,
        per_s: float | None,
        burst: int | None = None,
        now_s: Callable[[], float] | None = None,
    ) -> None:
        """`per_s`: requests in a second, None for any number. At a rate of 50 so many leave in any
        second, the first of them at once, which is how the venues count. `burst`: so many leave at
        once, in any time in which `per_s` comes to that; what the desk has used of it before is
        then for the adapter to know (`Capabilities.cancel_burst`)."""
        self._now_s = now_s or asyncio.get_running_loop().time
        most = max(1, burst or int(per_s)) if per_s else None
        self._window_s = MARGIN * most / per_s if most and per_s else 0.0
        self._sent_s: deque[float] | None = None
        if most:
            used = 0 if burst else int(most * RESERVE)
            self._sent_s = deque([self._now_s()] * used, maxlen=most)
        self._shut_until_s = float("-inf")

    def shut(self, seconds: float) -> None:
        """The venue takes nothing for so long."""
        self._shut_until_s = max(self._shut_until_s, self._now_s() + seconds)

    @property
    def shut_for_s(self) -> float:
        return max(0.0, self._shut_until_s - self._now_s())

    async def turn(self) -> None:
        """Returns when a request may leave, and counts it."""
        while (wait_s := self._wait_s()) > 0:  # noqa: ASYNC110 # it is time that is waited for
            await asyncio.sleep(wait_s)
        if self._sent_s is not None:
            self._sent_s.append(self._now_s())

    def _wait_s(self) -> float:
        wait_s = self.shut_for_s
        sent_s = self._sent_s
        if sent_s and len(sent_s) == sent_s.maxlen:
            wait_s = max(wait_s, sent_s[0] + self._window_s - self._now_s())
        return wait_s


class Backoff:
    """Pauses that double, until something moved."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def moved(self) -> None:
        self._next_s = self._first_s

    async def pause(self) -> None:
        pause_s, self._next_s = self._next_s, min(self._longest_s, 2 * self._next_s)
        await asyncio.sleep(pause_s)
