"""Nonces that grow, in requests that arrive in the order of their nonces.

Kraken takes a request only if its nonce is greater than every one it has seen from that key, and
refuses it unread otherwise (`EAPI:Invalid nonce`). Three things break that:

- *A restart.* Nonces are the wall clock in nanoseconds, so a new process goes on above the old one,
  and processes that share a key keep out of each other's way as far as their clocks agree.
- *A clock that was set back.* Where request after request is refused, the nonces get a lead that
  grows eightfold with each refusal, up to years; so a desk whose clock was ahead yesterday can
  cancel today.
- *Requests that overtake each other* on their way over several connections. So a request is signed
  only when the one before it was answered, or has been on its way for `GRACE_S`. What changes
  something never waits for a query: a query that is overtaken is refused, and asked again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

GRACE_S = 0.25
"""Ours: a request that left so long ago has arrived, or never will."""
LEAD_FIRST_NS = 1_000_000_000
LEAD_GROWTH = 8
LEAD_MAX_NS = 3 * 365 * 86_400 * 1_000_000_000
ATTEMPTS = 10
"""Of a query: enough to reach the longest lead."""


class Nonces:
    """Strictly growing within the process, whatever the clock does."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._last = 0
        self._lead_ns = 0
        self._refused_in_a_row = 0

    def next(self) -> int:
        self._last = max(self._last + 1, self._clock_ns() + self._lead_ns)
        return self._last

    def refused(self) -> None:
        """A single refusal is a request that was overtaken; the next one in a row is a clock."""
        self._refused_in_a_row += 1
        if self._refused_in_a_row > 1:
            longer_ns = max(LEAD_FIRST_NS, self._lead_ns * LEAD_GROWTH)
            self._lead_ns = min(longer_ns, LEAD_MAX_NS)

    def taken(self) -> None:
        self._refused_in_a_row = 0


class _Turn:
    """One request's place in the line."""

    def __init__(self) -> None:
        self._left = asyncio.Event()
        self._answered = asyncio.Event()
        self._left_at_s = 0.0

    def leave(self) -> None:
        self._left_at_s = time.monotonic()
        self._left.set()

    def answered(self) -> None:
        self._answered.set()
        self._left.set()

    async def gone(self) -> None:
        """Returns when it was answered, or left long enough ago."""
        await self._left.wait()
        rest_s = self._left_at_s + GRACE_S - time.monotonic()
        if rest_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(rest_s):
                    await self._answered.wait()


class Line:
    """Where requests with nonces wait for their turn, within one process.

        async with line.effect():
            ...  # sign and send

    Effects keep their order among themselves and wait for no query.
    """

    def __init__(self) -> None:
        self._effect: _Turn | None = None
        self._query: _Turn | None = None

    @asynccontextmanager
    async def effect(self) -> AsyncIterator[None]:
        turn, before = _Turn(), self._effect
        self._effect = turn
        try:
            if before is not None:
                await before.gone()
            turn.leave()
            yield
        finally:
            turn.answered()

    @asynccontextmanager
    async def query(self) -> AsyncIterator[None]:
        turn, before = _Turn(), self._query
        self._query = turn
        try:
            if before is not None:
                await before.gone()
            if self._effect is not None:
                await self._effect.gone()
            turn.leave()
            yield
        finally:
            turn.answered()
