"""What holds a desk while it is stopped, where the freeze alone does not: a service that cannot be frozen,
one that is started meanwhile. Judged by the venue's own orders, or by whether `quiet` is ever set."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.kill.small_desk import PATIENCE_S, is_alive, small_desk

from openbell.config.layout import DeskLayout
from openbell.kill import held_registers, holding, process_end
from openbell.kill.emergency import carry_out
from openbell.kill.emergency_statement import EndedService, FrozenService
from openbell.kill.ending import OUTLIVED
from openbell.kill.equipment import LoadedAlone
from openbell.kill.holding import Holding
from openbell.kill.live_orders import RegisterOnDisk
from openbell.kill.own_processes import OwnProcesses, OwnService
from openbell.kill.process_end import ProcessEnd
from openbell.kill.request import EmergencyRequest
from openbell.state.live_orders import HeldRegister

WHY = "it cannot be frozen"


async def test_what_cannot_be_frozen_is_killed_at_once_and_the_venues_are_believed_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not look at the latch. It was killed only once the venues were verified, which they never
    were while it sent; and had it paused, its next order came after that."""
    async with small_desk(tmp_path / "desk", obeys=False, rate=100) as desk:
        await desk.start("engine")
        await desk.until_sending()
        await desk.until(lambda: len(desk.own_open()) > 5, "orders rest")
        pid = desk.runs["engine"].process.pid
        monkeypatch.setattr(holding, "freeze", lambda _own: (_loose("engine", pid),))
        alive_at: list[bool] = []

        def tell(event: Mapping[str, Any]) -> None:
            if event.get("what") == "verified":
                alive_at.append(is_alive(pid))

        request = EmergencyRequest(timeout_s=30)
        stated = await carry_out(desk.layout, request, LoadedAlone(desk.layout), tell)
        assert stated.result == "verified", stated
        assert alive_at == [False]
        assert desk.own_open() == []
        assert [(each.service, each.result) for each in stated.ended] == [("engine", "killed")]
        assert f"engine is not frozen: {WHY}" in stated.problems


async def test_what_was_started_after_the_freeze_is_killed_and_the_venues_are_asked_once_more(
    tmp_path: Path,
) -> None:
    """A controller that had not seen the marker yet. Its orders came to a venue that was verified, and
    the statement stayed as it was."""
    async with small_desk(
        tmp_path / "desk", ("mt5", "oanda"), engines=("engine", "second"), obeys=False
    ) as desk:
        first, slow = desk.houses.values()
        await slow.suffer({"kind": "status_503_unknown", "kinds": ["open_orders"]})
        starting: list[asyncio.Task[None]] = []

        async def start_late() -> None:
            await desk.start("second")
            await desk.until_sending("second")
            await desk.until(lambda: len(first.open()) > 3, "orders rest where all was proven")
            slow.sim.faults.clear()

        def tell(event: Mapping[str, Any]) -> None:
            if event.get("what") == "verified" and not starting:
                starting.append(asyncio.create_task(start_late()))

        request = EmergencyRequest(timeout_s=PATIENCE_S)
        stated = await carry_out(desk.layout, request, LoadedAlone(desk.layout), tell)
        await asyncio.gather(*starting)
        assert stated.result == "verified", stated
        assert desk.own_open() == []
        assert "started while the stop was under way, killed since: second" in stated.problems
        assert [each.venue for each in stated.venues] == list(desk.houses)
        assert desk.alive() == {}


def _loose(name: str, *pids: int) -> FrozenService:
    return FrozenService(service=name, result="not_frozen", pids=pids, how="signal", why=WHY)


@pytest.mark.parametrize(
    ("role", "latched", "why", "is_quiet"),
    [
        ("engine", True, "pid 1 cannot be signalled", True),
        ("engine", False, "pid 1 cannot be signalled", False),
        ("other", True, "pid 1 cannot be signalled", False),
        ("", True, "pid 1 cannot be signalled", False),
        ("other", False, OUTLIVED, True),
        ("other", True, "", True),
    ],
)
async def test_what_can_be_neither_frozen_nor_killed_is_quiet_only_where_the_latch_holds_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    latched: bool,
    why: str,
    is_quiet: bool,
) -> None:
    """`why` as the kill left it; empty: it is gone."""
    layout = _layout(tmp_path, latched=latched)
    service = OwnService("x", role, True, (), None, None)
    own = OwnProcesses(layout)
    monkeypatch.setattr(own, "look", lambda: {"x": service})
    monkeypatch.setattr(holding, "freeze", lambda _own: (_loose("x"),))

    async def kill(*_: object) -> list[EndedService]:
        result = "left" if why else "killed"
        return [EndedService(service="x", result=result, why=why)]  # type: ignore[arg-type]

    monkeypatch.setattr(holding, "kill_frozen", kill)
    assert await _comes_to_be_quiet(layout, own) == is_quiet


@pytest.mark.parametrize("latched", [True, False])
async def test_a_freeze_that_fails_is_never_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, latched: bool
) -> None:
    def fails(_own: OwnProcesses) -> None:
        raise OSError

    monkeypatch.setattr(holding, "freeze", fails)
    layout = _layout(tmp_path, latched=latched)
    assert not await _comes_to_be_quiet(layout, OwnProcesses(layout))


async def test_a_disk_that_answers_nothing_for_what_is_mapped_holds_up_no_freeze_and_makes_it_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The freeze was not told before it had opened them: a stop that was alone never cancelled."""
    let_go, done = threading.Event(), threading.Event()
    reading, writing = os.pipe()
    os.close(writing)

    def hangs(_pids: object) -> Iterator[HeldRegister]:
        yield HeldRegister("x.orders", reading)
        let_go.wait(PATIENCE_S)
        done.set()

    monkeypatch.setattr(held_registers, "held_registers", hangs)
    monkeypatch.setattr(holding, "REGISTERS_S", 0.05)
    frozen = (FrozenService(service="x", result="frozen", pids=(1,), how="signal"),)
    monkeypatch.setattr(holding, "freeze", lambda _own: frozen)
    layout = _layout(tmp_path, latched=False)
    held = Holding(layout, EmergencyRequest(), OwnProcesses(layout), [])
    try:
        await held.begin()
        await held.settled()
        assert held.frozen == frozen and held.quiet.is_set()
        register = RegisterOnDisk(layout.live_orders, held.registers)
        assert "does not answer" in (await register.read()).live.damage
    finally:
        let_go.set()
        held.close()
    async with asyncio.timeout(PATIENCE_S):
        while _is_open(reading):  # what came too late is closed by whoever waited for it
            await asyncio.sleep(0.005)
    assert done.is_set()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("fails", ["the kill", "the last look"])
async def test_a_step_that_fails_at_the_end_is_never_left_out_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """It was a line among the problems, and the exit status said that all was done."""
    layout = _layout(tmp_path, latched=True)
    own, problems = OwnProcesses(layout), list[str]()
    held = Holding(layout, EmergencyRequest(), own, problems)
    held.frozen = (FrozenService(service="x", result="frozen", pids=(1,), how="signal"),)
    ending = ProcessEnd(own, held, problems)

    async def kill(*_: object) -> list[EndedService]:
        if fails == "the kill":
            raise OSError
        return [EndedService(service="x", result="killed")]

    def look() -> dict[str, OwnService]:
        if fails == "the last look":
            raise OSError
        return {}

    async def others() -> list[EndedService]:
        return []

    monkeypatch.setattr(process_end, "kill_frozen", kill)
    monkeypatch.setattr(own, "look", look)
    (gone,) = await ending.end(asyncio.create_task(others()))
    assert (gone.service, gone.result) == ("x", "left" if fails == "the kill" else "killed")
    assert bool(ending.doubt) == (fails == "the last look")
    assert problems


def _layout(folder: Path, *, latched: bool) -> DeskLayout:
    layout = DeskLayout.for_desk(folder, {})
    layout.make()
    if not latched:
        layout.latches.rmdir()
        layout.latches.write_text("")
        layout.latch.mkdir()
    return layout


async def _comes_to_be_quiet(layout: DeskLayout, own: OwnProcesses) -> bool:
    """Where it says that nothing keeps the engines from sending, nothing ever sets it."""
    problems: list[str] = []
    held = Holding(layout, EmergencyRequest(), own, problems)
    await held.begin()
    await held.settled()
    if any("keeps the engines from sending" in each for each in problems):
        await asyncio.sleep(2 * holding.OBEYED_S)
        assert not held.quiet.is_set()
        return False
    async with asyncio.timeout(PATIENCE_S):
        await held.quiet.wait()
    return True
