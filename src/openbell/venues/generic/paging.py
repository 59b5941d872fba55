"""Lists of ccxt from a time on, to their end.

ccxt's lists take `since` and a limit and say nothing of what they left out; some exchanges give the
oldest of a time first and others the newest, and some answer about so many days at once only. ccxt
knows these days where it knows that an end can be asked for (`untilDays` of its `features`): then
time is cut into windows, and a window whose list looks cut is cut in two.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from openbell.venues.generic.unified import Unified
from openbell.venues.port import VenueUnavailableError

PAGES = frozenset({20, 25, 30, 50, 100, 200, 250, 300, 500, 1000})
"""A list of just so many entries is taken for a page of a longer one."""
DAY_MS = 24 * 3600 * 1000
NARROWEST_MS = 2000
"""Windows are cut no narrower: some exchanges count time in seconds."""
AHEAD_MS = 60_000
"""How far behind the exchange's clock ours may be."""

Ask = Callable[[Callable[[Any], Awaitable[list[Unified]]]], Awaitable[list[Unified]]]


def looks_cut(count: int, most: int | None) -> bool:
    """`most`: how many a list has at most, where that is known."""
    return count in PAGES or (most is not None and count >= most)


class Pages:
    """One of ccxt's lists of one symbol."""

    def __init__(
        self,
        ask: Ask,
        method: str,
        symbol: str,
        feature: Mapping[str, Any],
        offset_param: str = "",
    ) -> None:
        """`feature` is ccxt's entry about the method; empty where there is none. `offset_param`: the
        exchange's own parameter for so many entries to be left out, where it has one."""
        self._ask = ask
        self._method = method
        self._symbol = symbol
        self._most: int | None = feature.get("limit")
        self._days: float | None = feature.get("untilDays")
        self._offset_param = offset_param

    def since(self, since_ms: int) -> AsyncIterator[Unified]:
        """Raises VenueError, also where the list cannot be read to its end. Entries may come twice."""
        if self._offset_param:
            return self._by_offset(since_ms)
        return self._onwards(since_ms) if self._days is None else self._by_windows(since_ms)

    async def _by_windows(self, since_ms: int) -> AsyncIterator[Unified]:
        assert self._days is not None
        now_ms = time.time_ns() // 1_000_000 + AHEAD_MS
        width_ms = int(self._days * DAY_MS)
        windows = [
            (start, min(start + width_ms, now_ms)) for start in range(since_ms, now_ms, width_ms)
        ]
        windows.reverse()
        while windows:
            start, end = windows.pop()
            listed = await self._list(start, {"until": end})
            if looks_cut(len(listed), self._most):
                if end - start <= NARROWEST_MS:
                    raise VenueUnavailableError(
                        f"{self._method} of {self._symbol}: more in a moment than a list holds"
                    )
                middle = (start + end) // 2
                windows += [(middle, end), (start, middle)]
                continue
            for entry in listed:
                yield entry

    async def _by_offset(self, since_ms: int) -> AsyncIterator[Unified]:
        count = 0
        while True:
            listed = await self._list(since_ms, {self._offset_param: count})
            for entry in listed:
                yield entry
            if not listed:
                return
            count += len(listed)

    async def _onwards(self, since_ms: int) -> AsyncIterator[Unified]:
        """Without an end to ask for: from the newest entry on, until nothing new comes."""
        seen: set[str] = set()
        while True:
            listed = await self._list(since_ms, {})
            new = [entry for entry in listed if entry["id"] not in seen]
            for entry in new:
                yield entry
            if not new or not looks_cut(len(listed), self._most):
                return
            seen |= {entry["id"] for entry in new}
            since_ms = max(since_ms, *(entry["timestamp"] or 0 for entry in new))

    async def _list(self, since_ms: int, params: dict[str, Any]) -> list[Unified]:
        return await self._ask(
            lambda exchange: getattr(exchange, self._method)(
                self._symbol, since_ms, self._most, params
            )
        )
