"""Emergency stops of Openbell's own engine, which keeps a register of live orders: whatever is killed,
stopped or removed on the way. Judged by the venue's own record of its orders.

`OPENBELL_KILLS=200 pytest tests/kill/test_real_engine.py -s` tries 200 of them; the seed of a failure is in
its message, and `OPENBELL_SEED` repeats it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kill.real_engine import WAIT_S, RealEngine, Strategy, ended, real_engine

from openbell.config.models import Venue as VenueConfig
from openbell.kill.live_orders import RegisterOnDisk
from openbell.kill.stop_venues import Visit, stop_venues
from openbell.runtime.processes import this_boot
from openbell.state.live_orders import Sent, index_of, read_live_orders
from openbell.venues.credentials import Credentials
from openbell.venues.registry import open_venue
from openbell_sim.testing import KEY, SECRET

ROUNDS = int(os.environ.get("OPENBELL_KILLS", "2"))
SEED = int(os.environ.get("OPENBELL_SEED", str(random.SystemRandom().randrange(1 << 32))))
PERMIT_S = 1.0
"""What the harness gives: so long an engine may send without another."""
HELD_S = 4.0
"""How long the venue sits on an order: longer than a stop takes to load and to see two empty lists."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for socket addresses."""
    made = Path(tempfile.mkdtemp(prefix="ob-"))
    yield made
    shutil.rmtree(made)


@pytest.mark.timeout(660)
async def test_a_register_that_was_removed_is_read_from_the_engine_and_missed_once_that_is_gone(
    folder: Path,
) -> None:
    """The stop took the desk for one whose engine keeps none, and called zero verified while an order hung
    on its way; it landed and rested."""
    async with real_engine(folder, timeout="20s") as desk, asyncio.timeout(600):
        await desk.start()
        registers = desk.layout.live_orders
        price = await desk.far_price()
        await _hang_one(desk, "first", price=price)
        # Against the engine, which makes it anew within a second.
        desk.signal(signal.SIGSTOP)
        shutil.rmtree(registers)
        index_of(registers).unlink()
        assert await desk.truth("orders") == [], "it is still on its way as the button is pressed"
        stated = await desk.press()
        (venue,) = stated["venues"]
        assert (venue["result"], venue["not_seen"]) == ("verified", ""), stated
        (order,) = await desk.truth("orders")
        assert order["status"] == "CANCELED", "it has landed, and was waited for"

        desk.release()
        await desk.no_faults()
        await desk.start()
        reply = await desk.send("second", price=price)
        assert reply.taken, reply
        await desk.until_listed(1)
        await desk.kill()
        shutil.rmtree(registers)
        stated = await desk.press(status=7)
        (venue,) = stated["venues"]
        assert venue["result"] == "unknown"
        assert "register of live orders is damaged" in venue["why"]
        assert venue["by_hand"]
        assert await desk.resting() == [], "what is listed is cancelled all the same"


async def _hang_one(desk: RealEngine, name: str, **order: object) -> None:
    await desk.fault(kind="hang", hold_s=HELD_S, kinds=["submit"], count=1)
    reply = await desk.send(name, **order)
    assert reply.taken, reply
    async with asyncio.timeout(WAIT_S):
        while not await desk.hits():
            await asyncio.sleep(0.02)


@pytest.mark.timeout(660)
async def test_after_a_dead_mans_cancel_a_hung_engine_sends_no_order_that_still_waited_for_leave(
    folder: Path,
) -> None:
    """It waits for its turn at the venue as the engine hangs; the guard cancels what rests, waits for none
    that cannot have left, and notes nothing of it. The engine goes on when its permit has run out: the
    order ends unsent, and only then is off the register."""
    # A venue's time-out that passed while it hangs would make the order one in doubt.
    async with real_engine(folder, timeout="120s") as desk, asyncio.timeout(600):
        await desk.start()
        strategy = Strategy(desk, await desk.touch(), "a", at_once=16, pause_s=0.02)
        try:
            waiting = await _stopped_with_one_that_waits(desk)
            stopped_s = time.monotonic()
            config = VenueConfig(
                adapter="binance", url=desk.sim.url, symbols=("BTC/USDT",), timeout=20.0
            )
            venue = open_venue("binance", config, Credentials(KEY, SECRET))
            try:
                (stated,) = await stop_venues(
                    [Visit(name="binance", config=config, venue=venue)],
                    desk_id=desk.layout.desk_id,
                    timeout_s=60,
                    register=RegisterOnDisk(desk.layout.live_orders),
                )
            finally:
                await venue.close()
            assert stated.result == "verified", stated
            assert await desk.resting() == []
            assert waiting <= _named(desk), "the next stop asks for it"
            await asyncio.sleep(max(0.0, stopped_s + 2 * PERMIT_S - time.monotonic()))
            desk.signal(signal.SIGCONT)
            async with asyncio.timeout(WAIT_S):
                while waiting & _named(desk):
                    await asyncio.sleep(0.02)
            assert not waiting & {each["cl_ord_id"] for each in await desk.truth("orders")}
            await desk.press()
            assert await desk.resting() == []
        finally:
            await strategy.stop()


def _named(desk: RealEngine) -> set[str]:
    told = read_live_orders(desk.layout.live_orders, this_boot())
    return {each.cl_ord_id for each in told.orders}


async def _stopped_with_one_that_waits(desk: RealEngine) -> set[str]:
    """Its engine is stopped while the register has orders that had no leave, and none without an answer:
    those would be waited for, rightly."""
    dice = random.Random(SEED)
    async with asyncio.timeout(WAIT_S):
        while True:
            await asyncio.sleep(dice.uniform(0.0, 0.03))
            desk.signal(signal.SIGSTOP)
            told = read_live_orders(desk.layout.live_orders, this_boot())
            waiting = {each.cl_ord_id for each in told.orders if each.sent is Sent.INTENDED}
            if waiting:
                return waiting
            desk.signal(signal.SIGCONT)


@pytest.mark.timeout(300 + 120 * ROUNDS)
async def test_killed_anywhere_a_stop_of_a_real_engine_ends_at_zero_or_does_not_say_so(
    folder: Path,
) -> None:
    print(f"seed {SEED}, {ROUNDS} rounds", flush=True)
    chance, began_s = random.Random(SEED), time.monotonic()
    struck: Counter[str] = Counter()
    async with real_engine(folder) as desk:
        for number in range(ROUNDS):
            said = f"seed {SEED}, round {number}"
            struck[await _round(desk, chance, f"{SEED}-{number}", said)] += 1
            if number % 10 == 9:
                took_s = time.monotonic() - began_s
                print(f"round {number + 1}: {dict(struck)}, {took_s:.0f} s", flush=True)
    print(f"{ROUNDS} rounds, seed {SEED}: {dict(struck)}", flush=True)


async def _round(desk: RealEngine, chance: random.Random, name: str, said: str) -> str:
    await desk.start()
    strategy = Strategy(desk, await desk.touch(), name)
    try:
        async with asyncio.timeout(WAIT_S):
            while strategy.taken < 20:
                await asyncio.sleep(0.01)
        late_s = 0.3
        if chance.random() < 0.5:
            # An order that is on its way when everything happens, or whose answer is lost.
            held: dict[str, Any] = {"kind": "hang", "hold_s": chance.uniform(0.2, 3.0)}
            lost: dict[str, Any] = {"kind": "drop_reply"}
            fault = chance.choice((held, lost))
            late_s += float(fault.get("hold_s", 0.0))
            await desk.fault(**fault, kinds=["submit"], count=chance.randrange(1, 5))
        presses = [await desk.begin()]
        if chance.random() < 0.3:
            await asyncio.sleep(chance.uniform(0, 0.5))
            presses.append(await desk.begin())
        await asyncio.sleep(chance.uniform(0, 2.5))
        victim = chance.choice(("engine", "press", "engine stopped", "register", "both"))
        lived = desk.is_alive
        _strike(desk, presses, victim, chance)
        found = []
        for process in presses:
            status, stated, told = await ended(process)
            found.append(status)
            assert status in (0, 7, -9), f"{said}, {victim}: {told}"
            if status == 0:
                assert stated["result"] == "verified", f"{said}, {victim}: {stated}"
                assert await desk.resting() == [], f"{said}, {victim}: verified, and open: {stated}"
            assert status != 7 or victim == "register", f"{said}, {victim}: {stated}"
        if victim == "register" and lived:
            assert 0 in found, f"{said}: a live engine's register is with it, or made anew: {told}"
        status, stated, told = await ended(await desk.begin())
        # Whose register was removed and whose engine is gone, of that nothing is ever proven again.
        assert status == 0 or (status == 7 and victim == "register"), f"{said}, {victim}: {told}"
        arrived = len(await desk.truth("orders"))
        assert await desk.resting() == [], f"{said}, {victim}: open at the venue: {stated}"
        await asyncio.sleep(late_s)  # as long as the venue may have sat on one
        assert len(await desk.truth("orders")) == arrived, f"{said}, {victim}: one came afterwards"
    finally:
        await strategy.stop()
    await desk.gone()
    await desk.no_faults()
    desk.release()
    return victim


def _strike(
    desk: RealEngine,
    presses: list[asyncio.subprocess.Process],
    victim: str,
    chance: random.Random,
) -> None:
    if victim == "engine stopped":
        desk.signal(signal.SIGSTOP)
    if victim in ("engine", "both"):
        desk.signal(signal.SIGKILL)
    if victim == "register":
        shutil.rmtree(desk.layout.live_orders, ignore_errors=True)
    at_work = [process.pid for process in presses if process.returncode is None]
    if victim in ("press", "both") and at_work:
        # Not by `kill()`, which may take a press's exit status away from the loop.
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(at_work), signal.SIGKILL)
