"""One task for all that must be done at its time: it sleeps until the next thing is due."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol


class DueWork(Protocol):
    """Somebody who has things to do at certain times."""

    def due_in_s(self) -> float | None:
        """Seconds until the next thing is due, 0 or less where it is; None: there is nothing."""
        ...

    async def run_due(self) -> None:
        """Does what is due, and nothing that is not."""
        ...


class Timer:
    """Whoever makes something due earlier than it was calls `wake`."""

    def __init__(self, work: Sequence[DueWork]) -> None:
        self._work = work
        self._wake = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            await self.run_due()
            waits_s = [s for work in self._work if (s := work.due_in_s()) is not None]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(waits_s)) if waits_s else None):
                    await self._wake.wait()

    async def run_due(self) -> None:
        for work in self._work:
            if (wait_s := work.due_in_s()) is not None and wait_s <= 0:
                await work.run_due()
