"""An emergency stop of an engine whose last order has no answer, judged by the venue's own record."""

from __future__ import annotations

import asyncio
import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from tests.harness.engine_desk import EngineDesk, engine_desk

from openbell_sim.testing import KEY, SECRET

TIMEOUT = "20s"
"""Within which Binance takes a request, and the adapter waits for its answer."""
HELD_S = 6.0
"""How long the venue keeps the order before it takes it: longer than a stop takes to load and to see
two empty lists."""


async def test_an_order_that_lands_long_after_the_stop_began_is_waited_for_and_cancelled(
    folder: Path,
) -> None:
    """The order hangs on its way; the engine is killed before it has an answer. Two
    empty lists, however far apart by what answered orders took, were called verified zero; then the
    order landed and rested."""
    async with engine_desk(folder, relayed=False, timeout=TIMEOUT) as desk, asyncio.timeout(180):
        await desk.start()
        price = ((await desk.touch()).bid_px * Decimal("0.98")).quantize(Decimal("0.01"))
        answered = await desk.send("i1", price=price)
        assert answered.taken, answered
        await desk.until_listed(1)
        await _hang(desk)
        reply = await desk.send("i2", price=price)
        assert reply.taken, reply
        await _until_held(desk)
        await desk.kill()

        stated = await _press(desk)

        orders = {each["cl_ord_id"]: each for each in await desk.truth("orders")}
        assert set(orders) == {answered.cl_ord_id, reply.cl_ord_id}, "it has landed"
        assert {each["status"] for each in orders.values()} == {"CANCELED"}
        (venue,) = stated["venues"]
        assert (venue["result"], venue["in_doubt"], venue["not_seen"]) == ("verified", [], "")


async def _hang(desk: EngineDesk, hold_s: float = HELD_S) -> None:
    fault = {"kind": "hang", "hold_s": hold_s, "kinds": ["submit"]}
    url = f"{desk.sim.url}/sim/v1/control/faults"
    async with desk._session.post(url, json={"faults": [fault]}) as response:
        assert response.status == 201, await response.text()


async def _until_held(desk: EngineDesk) -> None:
    """The venue has the request, and sits on it."""
    while True:
        async with desk._session.get(f"{desk.sim.url}/sim/v1/control/faults") as response:
            if any(each["hits"] for each in (await response.json())["faults"]):
                return
        await asyncio.sleep(0.02)


async def _press(desk: EngineDesk, *arguments: str, status: int = 0) -> dict[str, Any]:
    """By a process of its own, with no controller and no guard."""
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openbell.kill", "--desk", str(desk.layout.desk), "--events",
        "--reason", "test", *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 26,
        env={
            **os.environ,
            "OPENBELL_STATE": str(desk.layout.state),
            "OPENBELL_VENUE_BINANCE_KEY": KEY,
            "OPENBELL_VENUE_BINANCE_SECRET": SECRET,
        },
    )  # fmt: skip
    output, errors = await command.communicate()
    assert command.returncode == status, (output[-3000:].decode(), errors.decode())
    (done,) = [
        each for each in map(msgspec.json.decode, output.splitlines()) if each["event"] == "done"
    ]
    stated: dict[str, Any] = done["statement"]
    return stated
