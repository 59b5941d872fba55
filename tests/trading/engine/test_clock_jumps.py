"""The wall clock jumps by an hour under an engine that trades: permits, time-outs and the venue's time
stamps go by the monotonic clock. A real engine process; judged by the venue."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from tests.harness.engine_desk import EngineDesk, engine_desk
from tests.harness.wall_clock import WallClock

HOUR_S = 3600.0


async def test_orders_and_cancels_go_on_and_a_permit_lives_no_longer(folder: Path) -> None:
    clock = WallClock(folder / "clock")
    # A look at the venue that a busy machine holds up for a second is no look that failed.
    async with engine_desk(folder, timeout="5s") as desk, asyncio.timeout(240):
        desk.clock = clock
        await desk.start()
        for number, jump_s in enumerate((HOUR_S, -HOUR_S, 0.0)):
            clock.set_ahead(jump_s)
            shown_ns = (await desk.get("/v1/snapshot"))["taken_ns"]
            assert abs(shown_ns - clock.now_ns()) < 60e9, "it does see the jump"
            resting = await _order(desk, f"rests{number}")
            await desk.until_listed(1)
            assert (await desk.cancel(f"c{number}", resting)).taken
            await desk.until_listed(0)
        # The controller is gone, and at the same moment the clock says that the permit, which
        # lives for a second, has an hour and more to live.
        desk.controller_answers = False
        clock.set_ahead(-HOUR_S)
        state = await desk.until_state("trading", False)
        assert state["permit"]["held"] is False
        before = len(await desk.truth("orders"))
        reply = await desk.send("late", price=await _price(desk))
        assert (reply.taken, reply.code) == (False, "no_permit")
        # One that jumps ahead takes nothing from a permit that is renewed.
        desk.controller_answers = True
        await desk.until_state("trading", True)
        assert len(await desk.truth("orders")) == before
        clock.set_ahead(HOUR_S)
        await _order(desk, "again")
        assert (await desk.get("/v1/state"))["permit"]["held"] is True


async def _order(desk: EngineDesk, intent_id: str) -> object:
    """Taken, once quotes of the new time have come: those of another hour hold an order back."""
    number = 0
    while True:
        number += 1
        reply = await desk.send(f"{intent_id}-{number}", price=await _price(desk))
        if reply.taken:
            return reply.cl_ord_id
        assert reply.code == "stale_quote", reply
        await asyncio.sleep(0.05)


async def _price(desk: EngineDesk) -> Decimal:
    quote = await desk.touch()
    assert quote.bid_px is not None
    return (quote.bid_px * Decimal("0.98")).quantize(Decimal("0.01"))
