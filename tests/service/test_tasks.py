"""Background tasks and their end."""

from __future__ import annotations

import asyncio

import pytest

from openbell.service import tasks
from openbell.service.tasks import Tasks


async def test_a_task_that_takes_its_cancellation_for_something_else_is_ended_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`asyncio.wait_for` on Python 3.11 gives its result where the awaited event ends in the same
    moment as the task is cancelled, and the loop around it goes on. A service that was told to
    stop then hung until it was killed; where its controller had died too, for ever."""
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_S", 0.01)
    taken_for_else = 0

    async def body() -> None:
        nonlocal taken_for_else
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                taken_for_else += 1
                if taken_for_else == 3:
                    raise

    running = Tasks()
    running.add(body, "deaf")
    running.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await running.cancel()
    assert taken_for_else == 3


async def test_an_orderly_end_is_not_cut_short() -> None:
    ended = False

    async def body() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            ended = True

    running = Tasks()
    running.add(body, "orderly")
    running.start()
    await asyncio.sleep(0)
    await running.cancel()
    assert ended
