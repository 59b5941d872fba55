"""SIGKILL or SIGSTOP to any process of the desk at any moment of an emergency stop: to whoever carries it
out, guard, controller, engines, helpers; then one more press. Judged by the venues' own orders.

What was stopped is continued once that press has ended: a carrier that wakes so late changes nothing.

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
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.harness.controller_process import ControllerProcess
from tests.kill.small_desk import SmallDesk, small_desk

from openbell.domain.scopes import DESK
from openbell.kill.course import courses
from openbell.kill.marker import is_begun
from openbell.state.latch import Latches

ROUNDS = int(os.environ.get("OPENBELL_KILLS", "4"))
SEED = int(os.environ.get("OPENBELL_SEED", str(random.SystemRandom().randrange(1 << 32))))

GUARD, CONTROLLER = "openbell.guard", "openbell.controller"
STEPS = ("latched", "frozen", "venue", "checkpoint", "processes")
WATCH = """
[guard]
controller_silent_after = "10s"
guard_silent_after = "10s"
"""
"""More than a busy machine may keep either from its beats: nobody but this test is to kill them."""
OPENINGS_MAX = 3
OUTSIDE = "outside"
"""The service of role `venue`, which an emergency stop leaves."""


@pytest.mark.timeout(180 + 60 * ROUNDS)
async def test_killed_anywhere_one_more_press_ends_at_verified_zero(tmp_path: Path) -> None:
    print(f"seed {SEED}, {ROUNDS} rounds", flush=True)
    began_s = time.monotonic()
    async with small_desk(
        tmp_path / "desk", ("mt5", "oanda"), engines=("engine", "second"), rate=20, more=WATCH
    ) as desk:
        whole = WholeDesk(desk, random.Random(SEED))
        try:
            for number in range(ROUNDS):
                await whole.round(f"seed {SEED}, round {number}")
                if number % 10 == 9:
                    took_s = time.monotonic() - began_s
                    print(f"round {number + 1}: {whole.told()}, {took_s:.0f} s", flush=True)
        finally:
            await whole.end()
    print(f"{ROUNDS} rounds, seed {SEED}: {whole.told()}", flush=True)


@dataclass
class WholeDesk:
    """The small desk with a controller and its guard, opened by them in each round."""

    desk: SmallDesk
    chance: random.Random
    struck: Counter[str] = field(default_factory=Counter)
    carried: Counter[str] = field(default_factory=Counter)
    stops: int = 0
    """How many courses there were when the last round ended."""
    stopped: set[int] = field(default_factory=set)
    """Processes that a SIGSTOP of this round keeps."""
    unguarded: int = 0
    """Rounds without a guard from the start."""
    run: str = ""
    """The last opening."""

    def __post_init__(self) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENBELL_")}
        self.controller = ControllerProcess(self.desk.folder, self.desk.port, environ)

    async def round(self, said: str) -> None:
        desk, chance = self.desk, self.chance
        await self.open()
        desk.rest(chance.randrange(20))
        desk.pressing.clear()
        presses = [await desk.begin()]
        if chance.random() < 0.4:
            await asyncio.sleep(chance.uniform(0, 0.5))
            presses.append(await desk.begin())
        for _ in range(chance.choice((1, 1, 2, 3))):
            # Half of them at the moments that matter, which are a small part of its life.
            if chance.random() < 0.5:
                await self._until_step(chance.choice(STEPS), presses)
                await asyncio.sleep(chance.uniform(0, 0.03))
            else:
                await asyncio.sleep(chance.uniform(0, 1.5))
            self.struck[self._strike(presses)] += 1
        if not self.stopped:
            await self._judge(presses, said)
        last = await desk.press()
        assert last.status == 0, f"{said}: {last}"
        assert last.statement["result"] == "verified", f"{said}: {last}"
        assert desk.own_open() == [], f"{said}: open at the venue"
        assert self._services() == {}, f"{said}: processes are left"
        if self.stopped:
            self._continue()
            await self._judge(presses, said)
        sent = self._sent()
        self.carried["guard" if not last.heard("alone") else "the press itself"] += 1
        # Longer than the first back-offs of a controller: nobody starts a service again.
        await asyncio.sleep(0.3)
        assert self._sent() == sent, f"{said}: an order came after the stop"
        assert self._services() == {}, f"{said}: something was started after the stop"
        assert DESK in Latches(desk.layout).scopes(), f"{said}: the latch is gone"
        assert is_begun(desk.layout), f"{said}: nothing holds the services"
        self.stops = len(courses(desk.layout.emergency))

    async def _judge(self, presses: list[asyncio.subprocess.Process], said: str) -> None:
        for process in presses:
            pressed = await self.desk.end(process)
            assert pressed.status in (0, -9), f"{said}: {pressed}"
            if pressed.status == 0:
                assert pressed.statement["result"] == "verified", f"{said}: {pressed}"
                assert self.desk.own_open() == [], f"{said}: verified, and open at the venue"

    def _continue(self) -> None:
        for pid in self.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.stopped.clear()

    async def open(self) -> None:
        """As a person does by `openbell up`, again where it failed, and `kill-switch deactivate`; both
        of controller and guard may be gone."""
        controller = self.controller
        if not await asyncio.to_thread(controller.answers):
            controller.launch()  # or the guard was first: then this one leaves by itself
            await asyncio.to_thread(controller.until, controller.answers, "a controller answers")
        stops = len(courses(self.desk.layout.emergency))
        assert stops == self.stops, "a stop was begun after the last one had ended"
        for attempt in range(OPENINGS_MAX):
            await asyncio.to_thread(controller.until, self._opens, "it begins to open the desk")
            last = (await asyncio.to_thread(controller.get, f"runs/{self.run}/events"))[1][-1]
            if last["event"] == "done":
                break
            print(f"opening {attempt + 1} of this round failed: {last}", flush=True)
        assert last["event"] == "done", f"{last}"
        # After five starts within a minute the controller lets the guard rest, and says so.
        self.unguarded += "WITHOUT A GUARD" in last["message"]
        if DESK in Latches(self.desk.layout).scopes():
            path, wish = "kill-switch/deactivate", {"reason": "the next round"}
            status, answer = await asyncio.to_thread(controller.post, path, wish)
            assert status == 200, answer
        before = self._sent()
        await self.desk.until(lambda: self._sent() > before, "the engines send")

    def _opens(self) -> bool:
        """False: of the stop that has ended the last line is still being kept, so wait, as it says."""
        status, answer = self.controller.post("open", {"safe_mode": True})
        if status == 409 and "under way" in answer["message"]:
            return False
        assert status == 202, answer
        self.run = answer["run"]
        return True

    def told(self) -> str:
        return (
            f"killed {dict(self.struck)}; the last press by {dict(self.carried)}; "
            f"{self.unguarded} rounds without a guard from the start"
        )

    async def end(self) -> None:
        self._continue()
        await asyncio.to_thread(self.controller.end)

    async def _until_step(self, step: str, presses: list[asyncio.subprocess.Process]) -> None:
        """The step, or the end of whoever was to reach it."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            events = self.desk.events()
            if step in events and "ended" not in events:
                return
            if all(process.returncode is not None for process in presses):
                return
            await asyncio.sleep(0.005)

    def _strike(self, presses: list[asyncio.subprocess.Process]) -> str:
        """SIGKILL or SIGSTOP to one process of the desk, or to one that presses."""
        at_work = [process.pid for process in presses if process.returncode is None]
        victims = {
            "press": at_work,
            "guard": _running(GUARD, self.desk.folder),
            "controller": _running(CONTROLLER, self.desk.folder),
        }
        services = self._services()
        if services:
            name = self.chance.choice(sorted(services))
            victims[name] = list(services[name])
        there = [name for name, pids in victims.items() if pids]
        if not there:
            return "nobody"
        name = self.chance.choice(there)
        pids = victims[name]
        number = signal.SIGSTOP if self.chance.random() < 0.3 else signal.SIGKILL
        # One of two presses; of a service all of it. Not by `kill()`, which may take a press's exit
        # status away from the loop.
        for pid in [self.chance.choice(pids)] if name == "press" else pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                if number is signal.SIGSTOP:
                    self.stopped.add(pid)
        return name if number is signal.SIGKILL else f"{name} stopped"

    def _services(self) -> dict[str, tuple[int, ...]]:
        return {name: pids for name, pids in self.desk.alive().items() if name != OUTSIDE}

    def _sent(self) -> int:
        return sum(len(here.sim.exchange.ledger.orders) for here in self.desk.houses.values())


def _running(module: str, folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command: list[Any] = process.cmdline()
            if module in command and str(folder) in command:
                found.append(process.pid)
    return found
