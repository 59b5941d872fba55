"""Plays market sources into the exchange when their time has come."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence

from openbell_sim.market.events import MarketEvent
from openbell_sim.market.source import MarketSource

_TICK_S = 0.01
"""Events are played in batches this far apart. Waking up for each single one would cost more than
playing it."""
_BATCH_NS = 5_000_000
"""After so long in one batch others get their turn: a driver that fell behind, or one that plays
as fast as it can."""


class Driver:
    """`speed` 2 plays twice as fast as the sources' own time, infinity as fast as it can."""

    def __init__(
        self,
        sources: Sequence[MarketSource],
        play: Callable[[MarketEvent], None],
        *,
        speed: float = 1.0,
    ) -> None:
        self._play = play
        self._speed = speed
        self._feeds: list[tuple[Iterator[tuple[int, MarketEvent]], tuple[int, MarketEvent]]] = []
        for source in sources:
            feed = source.events()
            if (first := next(feed, None)) is not None:
                self._feeds.append((feed, first))
        self.played = 0
        self.lag_s = 0.0
        """How far behind its time the last batch was played."""

    async def run(self) -> None:
        """Until cancelled, or until every source has ended."""
        started = time.monotonic_ns()
        while self._feeds:
            now = time.monotonic_ns()
            due = math.inf if math.isinf(self._speed) else (now - started) * self._speed
            self._play_due(due, until=now + _BATCH_NS)
            if not self._feeds:
                return
            ahead_ns = min(head[0] for _, head in self._feeds) - due
            self.lag_s = 0.0 if math.isinf(due) else max(0.0, -ahead_ns / 1e9 / self._speed)
            await asyncio.sleep(0 if ahead_ns < 0 else max(_TICK_S, ahead_ns / 1e9 / self._speed))

    def prime(self) -> None:
        """Plays what happens at the very beginning, so that there is a market from the start."""
        self._play_due(0, until=math.inf)

    def _play_due(self, due_ns: float, *, until: float) -> None:
        """Events of the sources' time up to `due_ns`; stops at `until` of the monotonic clock."""
        while self._feeds and time.monotonic_ns() < until:
            index = min(range(len(self._feeds)), key=lambda i: self._feeds[i][1][0])
            feed, (at_ns, event) = self._feeds[index]
            if at_ns > due_ns:
                return
            self._play(event)
            self.played += 1
            following = next(feed, None)
            if following is None:
                del self._feeds[index]
            else:
                self._feeds[index] = (feed, following)
