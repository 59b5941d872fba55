"""Asking again what a venue put off: for a person at a terminal, who would only do the same.

Queries and `connect` alone. An order is never sent twice: what is put off there is its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from openbell.venues.port import VenueThrottledError

T = TypeVar("T")

REPEATS = 2
SHORTEST_S = 0.05
"""Below it a wait is a rounding error, and the answer would be the same."""


@dataclass(frozen=True)
class Patience:
    """How long a throttled query is waited for. Shared by any number of queries."""

    limit_s: float
    """For the waits of one query together; one that would take longer is not begun."""
    tell: Callable[[str], None] = lambda _: None
    """Hears of each wait, in a line."""

    async def ask(self, query: Callable[[], Awaitable[T]]) -> T:
        """The answer of `query`, asked again after each wait the venue names. Raises what it
        raises: VenueThrottledError too, after `REPEATS` or where the wait is too long."""
        waited_s = 0.0
        for _ in range(REPEATS):
            try:
                return await query()
            except VenueThrottledError as error:
                wait_s = max(error.retry_after_s, SHORTEST_S)
                if waited_s + wait_s > self.limit_s:
                    raise
                self.tell(f"{error.message}: asked again in {wait_s:.2g} s")
            await asyncio.sleep(wait_s)
            waited_s += wait_s
        return await query()


NONE = Patience(0.0)
"""Whatever is put off stays so."""
