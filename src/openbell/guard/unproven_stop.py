"""Goes on with an emergency stop that ended without proof, whoever carried it out: a venue that hung then
may answer now, and orders rest there. Cancels what the stop was to cancel, and asks, until it is proven, with
longer and longer pauses; a person who releases a latch of that stop ends it.

The dead-man's switch of a venue comes first: while it cancels there itself, nothing is sent beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from openbell.config.guard import Guard as GuardSettings
from openbell.config.layout import DeskLayout
from openbell.errors import StorageError
from openbell.guard.warm_venue import WarmVenue
from openbell.kill.aside import aside
from openbell.kill.latencies import read_latencies
from openbell.kill.live_orders import RegisterOnDisk
from openbell.kill.plan import Scope
from openbell.kill.statement import VenueStatement, together
from openbell.kill.stop_venues import Visit, stop_venues
from openbell.kill.unproven_stop import Debts, Owed, note_went_on
from openbell.kill.venue import SETTLE_S_MIN

LOOK_EVERY_S = 2.0
RETRY_FIRST_S, RETRY_MAX_S = 2.0, 60.0
"""Pauses at one venue, doubled each time: it may be down for hours, and each try takes its budget."""
DISK_S = 2.0

_log = logging.getLogger(__name__)


class Switch(Protocol):
    @property
    def is_to_cancel(self) -> bool:
        """The dead-man's switch withdraws orders here itself."""
        ...


class UnprovenStop:
    def __init__(
        self,
        layout: DeskLayout,
        venues: Mapping[str, WarmVenue],
        switches: Mapping[str, Switch],
        settings: GuardSettings,
        tell: Callable[..., None],
    ) -> None:
        self._layout = layout
        self._debts = Debts(layout)
        self._venues = venues
        self._switches = switches
        self._cancel_timeout_s = settings.cancel_timeout
        self._tell = tell
        self._next: dict[tuple[str, str], tuple[float, float]] = {}
        """By course and venue: not before, and the pause after that."""
        self._at_work: dict[str, str] = {}
        """By venue: what is tried now, or what came of it."""
        self._looking: asyncio.Task[Owed | None] | None = None

    def document(self) -> dict[str, str]:
        """By venue that is gone on with."""
        return dict(self._at_work)

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            wanted = await self._look()
            if wanted is None:
                self._next.clear()
                self._at_work.clear()
                continue
            names = [name for name in wanted.venues if self._is_due(wanted, name)]
            await asyncio.gather(*(self._venue(wanted, name) for name in names))

    async def _look(self) -> Owed | None:
        """One look at a time, on a disk that may hang."""
        if self._looking is None:
            self._looking = asyncio.create_task(aside(self._debts.owed))
        await asyncio.wait([self._looking], timeout=DISK_S)
        if not self._looking.done():
            return None
        looking, self._looking = self._looking, None
        return looking.result()

    def _is_due(self, wanted: Owed, name: str) -> bool:
        held = self._venues.get(name)
        if held is None or held.venue is None or self._switches[name].is_to_cancel:
            return False
        if wanted.symbols and not set(wanted.symbols) & set(held.config.symbols):
            return False
        not_before_s, _ = self._next.get((wanted.course, name), (0.0, 0.0))
        return asyncio.get_running_loop().time() >= not_before_s

    async def _venue(self, wanted: Owed, name: str) -> None:
        self._at_work[name] = f"going on with stop {wanted.course}"
        stated = await self._stopped(wanted, name)
        now_s = asyncio.get_running_loop().time()
        _, pause_s = self._next.get((wanted.course, name), (0.0, RETRY_FIRST_S))
        self._next[wanted.course, name] = now_s + pause_s, min(RETRY_MAX_S, 2 * pause_s)
        why = f": {stated.why}" if stated.why else ""
        again = "" if stated.result == "verified" else f"; again in {pause_s:g} s"
        self._at_work[name] = f"{stated.result}{why}{again}"
        with contextlib.suppress(TimeoutError, StorageError):  # it is found out once more
            await aside(lambda: note_went_on(self._layout, wanted.course, stated), DISK_S)
        if stated.result == "verified":
            self._tell("stop_proven", venue=name, course=wanted.course)

    async def _stopped(self, wanted: Owed, name: str) -> VenueStatement:
        held = self._venues[name]
        assert held.venue is not None
        latencies = await read_latencies(self._layout.order_latency, DISK_S)
        visit = Visit(
            name=name,
            config=held.config,
            venue=held.venue,
            warm=held.warm,
            settle_s=max(latencies.of(name), SETTLE_S_MIN),
        )
        register = RegisterOnDisk(self._layout.live_orders)
        parts: list[VenueStatement] = []
        for symbol in wanted.symbols or (None,):
            if symbol is not None and symbol not in held.config.symbols:
                continue
            parts += await stop_venues(
                [visit],
                desk_id=self._layout.desk_id,
                timeout_s=max(self._cancel_timeout_s, 2 * visit.settle_s),
                scope=Scope(symbol=symbol, account_wide=wanted.account_wide),
                register=register,
            )
        return together(parts)
