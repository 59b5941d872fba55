"""Plays market sources into the exchange when their time has come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from openbell_sim.market.events import MarketEvent
from openbell_sim.market.source import MarketSource

_TICK_S = 0.01
"""Events are played in batches this far apart. Waking up for each single one would cost more than
playing it."""
_BATCH = 500
"""After so many events in one batch others get their turn (a driver that fell behind)."""


class Driver:
    """`speed` 2 plays twice as fast as the source's own time."""

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
            elapsed = time.monotonic_ns() - started
            due = int(elapsed * self._speed)
            self._play_due(due)
            if not self._feeds:
                return
            next_at = min(head[0] for _, head in self._feeds)
            self.lag_s = max(0.0, (due - next_at) / 1e9 / self._speed)
            await asyncio.sleep(
                max(0.0 if self.lag_s else _TICK_S, (next_at - due) / 1e9 / self._speed)
            )

    def prime(self) -> None:
        """Plays what happens at the very beginning, so that there is a market from the start."""
        self._play_due(0)

    def _play_due(self, due_ns: int) -> None:
        for _ in range(_BATCH):
            index = min(range(len(self._feeds)), key=lambda i: self._feeds[i][1][0], default=None)
            if index is None:
                return
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
