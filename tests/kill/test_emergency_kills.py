"""SIGKILL to any process at any moment of an emergency stop; then one more press. Judged by the
venues' own orders.

`OPENBELL_KILLS=200 pytest tests/kill/test_emergency_kills.py -s` tries 200 of them; the seed of a
failure is in its message, and `OPENBELL_SEED` repeats it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
from tests.kill.small_desk import SmallDesk, small_desk

from openbell.domain.scopes import DESK
from openbell.kill.marker import clear_marker
from openbell.state.latch import Latches

ROUNDS = int(os.environ.get("OPENBELL_KILLS", "4"))
SEED = int(os.environ.get("OPENBELL_SEED", str(random.SystemRandom().randrange(1 << 32))))


@pytest.mark.timeout(120 + 60 * ROUNDS)
async def test_killed_anywhere_one_more_press_ends_at_verified_zero(tmp_path: Path) -> None:
    print(f"seed {SEED}, {ROUNDS} rounds", flush=True)
    chance = random.Random(SEED)
    began_s = time.monotonic()
    struck: dict[str, int] = {}
    async with small_desk(
        tmp_path / "desk", ("mt5", "oanda"), engines=("engine", "second"), rate=20
    ) as desk:
        for number in range(ROUNDS):
            said = f"seed {SEED}, round {number}"
            victims = await _round(desk, chance, said)
            for name in victims:
                struck[name] = struck.get(name, 0) + 1
            if number % 10 == 9:
                took_s = time.monotonic() - began_s
                print(f"round {number + 1}: {struck}, {took_s:.0f} s", flush=True)
    print(f"{ROUNDS} rounds, seed {SEED}, struck {struck}", flush=True)


async def _round(desk: SmallDesk, chance: random.Random, said: str) -> list[str]:
    _open_again(desk)
    desk.rest(chance.randrange(20))
    await desk.start("engine", "helper", *(["second"] if chance.random() < 0.3 else []))
    await desk.until_sending("engine")
    presses = [await desk.begin()]
    if chance.random() < 0.4:
        await asyncio.sleep(chance.uniform(0, 0.5))
        presses.append(await desk.begin())
    victims = []
    for _ in range(chance.choice((1, 1, 2))):
        # Half of them at the moments that matter, which are a small part of its life.
        if chance.random() < 0.5:
            step = chance.choice(("latched", "frozen", "venue", "checkpoint", "processes"))
            await _until_step(desk, step, presses)
            await asyncio.sleep(chance.uniform(0, 0.03))
        else:
            await asyncio.sleep(chance.uniform(0, 1.5))
        victims.append(_strike(desk, presses, chance))
    for process in presses:
        pressed = await desk.end(process)
        assert pressed.status in (0, -9), f"{said}: {pressed}"
        if pressed.status == 0:
            assert pressed.statement["result"] == "verified", f"{said}: {pressed}"
            assert desk.own_open() == [], f"{said}: verified, and open at the venue"

    last = await desk.press()
    assert last.status == 0, f"{said}: {last}"
    assert last.statement["result"] == "verified", f"{said}: {last}"
    assert desk.own_open() == [], f"{said}: open at the venue"
    assert desk.alive() == {}, f"{said}: processes are left"
    sent = sum(len(here.sim.exchange.ledger.orders) for here in desk.houses.values())
    await asyncio.sleep(0.1)
    now = sum(len(here.sim.exchange.ledger.orders) for here in desk.houses.values())
    assert now == sent, f"{said}: an order came after the stop"
    assert DESK in Latches(desk.layout).scopes(), f"{said}: the latch is gone"
    return victims


def _open_again(desk: SmallDesk) -> None:
    """As a person would, by `openbell up` and `kill-switch deactivate`."""
    clear_marker(desk.layout)
    latches = Latches(desk.layout)
    latches.release(latches.read(opened=False))
    for name in ("engine", "second", "helper"):
        log = desk.layout.service_log(name)
        if log.exists():
            log.write_text("")
    for run in desk.runs.values():
        run.process.close()
    desk.runs.clear()
    desk.pressing.clear()


async def _until_step(
    desk: SmallDesk, step: str, presses: list[asyncio.subprocess.Process]
) -> None:
    """The step, or the end of whoever was to reach it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        events = desk.events()
        if step in events and "ended" not in events:
            return
        if all(process.returncode is not None for process in presses):
            return
        await asyncio.sleep(0.005)


def _strike(
    desk: SmallDesk, presses: list[asyncio.subprocess.Process], chance: random.Random
) -> str:
    """SIGKILL to one process; the carriers are half of all."""
    at_work = [process for process in presses if process.returncode is None]
    if at_work and chance.random() < 0.6:
        # Not by `kill()`, which may take its exit status away from the loop.
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(at_work).pid, signal.SIGKILL)
        return "carrier"
    alive = desk.alive()
    if not alive:
        return "nobody"
    name = chance.choice(sorted(alive))
    for pid in alive[name]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return name
