"""How long orders took, as it is told for later stops: the venue's time, and not this process's."""

from __future__ import annotations

import asyncio
import time

from openbell.domain.ids import mint
from openbell.trading.engine.tracker import STALL_TICK_S, STALLED_S, SendClock

FIRST, SECOND = mint("0123abcd", 1, 1), mint("0123abcd", 1, 2)


def stand_still() -> None:
    time.sleep(2 * (STALL_TICK_S + STALLED_S))


async def test_a_send_during_which_this_process_stood_still_is_not_told() -> None:
    told: list[float] = []
    clock = SendClock(window_s=5, permit_ttl_s=10, tell=told.append)
    clock.sent(FIRST)
    await asyncio.sleep(0)
    stand_still()
    clock.answered(FIRST, known=True)  # before any tick could see it
    assert told == []
    assert clock.longest_s > STALLED_S, "that an order is not there is proven later, not sooner"
    clock.sent(SECOND)
    await asyncio.sleep(0)
    stand_still()
    await asyncio.sleep(2 * STALL_TICK_S)  # seen by a tick, well before the answer
    clock.answered(SECOND, known=True)
    assert told == []


async def test_a_send_that_waited_for_the_venue_is_told_and_no_tick_stays() -> None:
    told: list[float] = []
    clock = SendClock(window_s=5, permit_ttl_s=10, tell=told.append)
    for _ in range(20):  # a busy machine may hold up some
        clock.sent(FIRST)
        await asyncio.sleep(3 * STALL_TICK_S)
        clock.answered(FIRST, known=True)
        if told:
            break
    assert told and told[0] >= 3 * STALL_TICK_S
    async with asyncio.timeout(60):
        while clock._tick is not None:
            await asyncio.sleep(STALL_TICK_S)
