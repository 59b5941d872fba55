"""An engine without a standby that is stopped under load for longer than its permit, and then continued:
nothing of it reaches the venue, which is asked itself."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.harness.engine_desk import EngineDesk, engine_desk

from openbell.errors import StorageError
from openbell.state.journal import Journal

TTL_S = 1.0
"""Of the permits that this desk's controller grants."""


async def test_it_sends_nothing_on_a_permit_that_ran_out_nor_under_an_epoch_that_is_over(
    folder: Path,
) -> None:
    async with engine_desk(folder) as desk, asyncio.timeout(170):
        await desk.start()
        load = Load(desk)
        try:
            await load.until_more_orders(20)

            # Whoever grants permits is gone as well, so the engine has none when it wakes.
            os.kill(desk.pid, signal.SIGSTOP)
            desk.controller_answers = False
            seen = await _settled(desk)
            os.kill(desk.pid, signal.SIGCONT)
            await load.until_more_refusals(50)
            assert len(await desk.truth("orders")) == seen, "sent on a permit that had run out"

            desk.controller_answers = True
            await load.until_more_orders(20)

            # Somebody else has taken over, and permits are granted: only the epoch is over.
            os.kill(desk.pid, signal.SIGSTOP)
            other = await _take_over(desk)
            try:
                seen = await _settled(desk)
                os.kill(desk.pid, signal.SIGCONT)
                await desk.wait()  # it finds out, and ends
                assert len(await desk.truth("orders")) == seen, "sent under an epoch that was over"
            finally:
                await other.close()
        finally:
            await load.stop()


async def _settled(desk: EngineDesk) -> int:
    """Orders at the venue once what had left before the stop has arrived, and the permit is over."""
    orders = -1
    while orders != (now := len(await desk.truth("orders"))):
        orders = now
        await asyncio.sleep(TTL_S * 1.5)
    return orders


async def _take_over(desk: EngineDesk) -> Journal:
    """As another engine does. One that was stopped in the middle of a commit holds the database."""
    while True:
        try:
            return await Journal.take_over(desk.layout.database, "another engine")
        except StorageError:
            os.kill(desk.pid, signal.SIGCONT)
            await asyncio.sleep(0.05)
            os.kill(desk.pid, signal.SIGSTOP)


class Load:
    """Intents, eight at a time, each once the one before was answered."""

    def __init__(self, desk: EngineDesk) -> None:
        self.refused = 0
        self._desk = desk
        self._numbers = itertools.count()
        self._tasks = [asyncio.create_task(self._fire()) for _ in range(8)]

    async def until_more_orders(self, count: int) -> None:
        wanted = len(await self._desk.truth("orders")) + count
        await self._until(lambda orders: len(orders) >= wanted)

    async def until_more_refusals(self, count: int) -> None:
        wanted = self.refused + count
        await self._until(lambda _: self.refused >= wanted)

    async def _until(self, condition: Any) -> None:
        while not condition(await self._desk.truth("orders")):
            assert not any(task.done() for task in self._tasks), self._desk.log()
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _fire(self) -> None:
        touch = await self._desk.touch()
        price = (touch.bid_px * Decimal("0.98")).quantize(Decimal("0.01"))
        while True:
            number = next(self._numbers)
            reply = await self._desk.send(f"l{number}", price=price)
            self.refused += not reply.taken
