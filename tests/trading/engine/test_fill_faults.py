"""Fills that come twice, in the wrong order, or in the middle of a cancel, to an engine process: its books
are the venue's all the same."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from tests.harness.engine_desk import WAIT_S, EngineDesk, engine_desk

from openbell.domain.orders import OrdType, Side

PLAN = {
    "seed": 7,
    "faults": [
        {"kind": "duplicate_events", "probability": 0.5},
        {"kind": "reordered_events", "by": 1, "within_s": 0.2},
        {"kind": "fill_during_cancel", "part": 1, "count": 2},
        {"kind": "fill_during_cancel", "part": 0.5, "count": 2},
    ],
}


async def test_fills_told_twice_out_of_order_and_in_the_middle_of_cancels_are_booked_once(
    folder: Path,
) -> None:
    async with engine_desk(folder) as desk, asyncio.timeout(2 * WAIT_S):
        await desk.start()
        await _suffer(desk)
        far = ((await desk.touch()).bid_px * Decimal("0.97")).quantize(Decimal("0.01"))
        resting = [await desk.send(f"r{n}", price=far) for n in range(6)]
        assert all(reply.taken for reply in resting)
        for number in range(12):
            side = Side.SELL if number % 3 == 2 else Side.BUY
            assert (await desk.send(f"m{number}", side=side, ord_type=OrdType.MARKET)).taken
        await desk.until_listed(6)
        while len((await desk.get("/v1/orders"))["orders"]) > 6:
            await asyncio.sleep(0.05)  # a market order is open until its fill is told
        await desk.post("/v1/halt", reason="test")
        cancelled = await desk.post("/v1/cancel")
        assert cancelled["asked"] == cancelled["final"] == 6, cancelled

        held = await desk.until_agreed("BTC/USDT")
        fills = [each for each in await desk.truth("fills") if each["symbol"] == "BTCUSDT"]
        bought = sum(Decimal(each["qty"]) * (1 if each["side"] == "BUY" else -1) for each in fills)
        assert bought == Decimal("0.04") + Decimal("0.03"), "12 market orders, and 3 of 6 cancelled"
        assert held == bought - sum(
            Decimal(each["fee"]) for each in fills if each["fee_currency"] == "BTC"
        )
        await desk.until_state("in_doubt", 0)
        report = await desk.post("/v1/reconcile")
        assert report["ok"], report
        assert all(each > 0 for each in await _hits(desk)), "each fault has struck"


async def _suffer(desk: EngineDesk) -> None:
    url = f"{desk.sim.url}/sim/v1/control/faults"
    async with desk._session.post(url, json=PLAN) as response:
        assert response.status in (200, 201), await response.text()


async def _hits(desk: EngineDesk) -> list[int]:
    async with desk._session.get(f"{desk.sim.url}/sim/v1/control/faults") as response:
        return [each["hits"] for each in (await response.json())["faults"]]
