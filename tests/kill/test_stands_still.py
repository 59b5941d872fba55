"""A stop that hangs while its process answers: found by its own process, and carried out by another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kill.small_desk import PATIENCE_S, WAITS_FOR_THE_GUARD, Pressed, SmallDesk, small_desk

from openbell.config.layout import DeskLayout
from openbell.kill.course import courses, left_in
from openbell.kill.emergency import carry_out
from openbell.kill.equipment import LoadedAlone
from openbell.kill.flatten_turn import FlattenTurn
from openbell.kill.guard_client import GuardGoneError, ask_guard
from openbell.kill.joining import Joining
from openbell.kill.press import press
from openbell.kill.progress import Progress, StandsStillError
from openbell.kill.request import EmergencyRequest
from openbell.kill.stop_seen import CourseWatch
from openbell.kill.stuck import BEAT_S, DISK_S

NO_CONTROLLER = "[guard]\nrestart_controller = false\n"
HANGS = """
import sys
if "openbell.guard" in sys.orig_argv:
    import threading
    import openbell.kill.holding
    openbell.kill.holding.freeze = lambda *_: threading.Event().wait()
"""
"""In the guard alone, the thread that freezes never returns."""


@contextlib.contextmanager
def guard(folder: Path, python_path: str = "") -> Iterator[subprocess.Popen[bytes]]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENBELL_")}
    with subprocess.Popen(
        [sys.executable, "-m", "openbell.guard", "--desk", str(folder), "--foreground"],
        env={**environ, "PYTHONPATH": python_path},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def _until_warm(layout: DeskLayout) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(GuardGoneError):
                async for answer in ask_guard(layout, {"do": "status"}, first_within_s=5.0):
                    if answer["venues"] and all(each["warm"] for each in answer["venues"]):
                        return
            await asyncio.sleep(0.05)


async def test_a_stop_that_hangs_in_a_guard_that_answers_is_carried_out_by_whoever_pressed(
    tmp_path: Path,
) -> None:
    """The second press joined a carrier in the same guard that would never end, and so did the first."""
    (tmp_path / "sitecustomize.py").write_text(WAITS_FOR_THE_GUARD + HANGS)
    patient = {"PYTHONPATH": str(tmp_path)}
    async with small_desk(tmp_path / "desk", more=NO_CONTROLLER) as desk:
        desk.layout.target.write_text('{"target": "trading"}')  # or the guard ends as idle
        desk.rest(3)
        await desk.start("engine", "helper")
        await desk.until_sending("engine")
        with guard(desk.folder, str(tmp_path)) as process:
            await _until_warm(desk.layout)
            first = await desk.begin(**patient)
            await desk.until(lambda: "begun" in desk.events(), "the guard has begun its course")
            pressed, joined = await asyncio.gather(desk.end(first), desk.press(**patient))
            assert pressed.status == joined.status == 0, (pressed, joined)
            assert "stands still: latch and freeze" in _alone(pressed)
            # A machine that is slow starts the second one only once the guard has told the first.
            assert any(
                f"{said}: latch and freeze" in _alone(joined)
                for said in ("stands still", "stood still")
            )
            assert desk.own_open() == []
            assert desk.alive() == {}
            assert process.poll() is None, "it holds the dead man's switches"
            assert "stood still" in await _problem(desk.layout)
            # Begun in it once more it would hang as long.
            again = await desk.press(**patient)
            assert again.status == 0 and "stood still" in _alone(again)


async def _problem(layout: DeskLayout) -> str:
    """What the guard says that keeps it from doing all that it should."""
    async for answer in ask_guard(layout, {"do": "status"}, first_within_s=PATIENCE_S):
        return str(answer["problem"])
    raise AssertionError("no answer")


def _alone(pressed: Pressed) -> str:
    """Why it went on without the guard."""
    (alone,) = pressed.heard("alone")
    return str(alone["why"])


async def _acknowledged(desk: SmallDesk, process: asyncio.subprocess.Process) -> None:
    """Reads its events until cancels are on their way."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        while line := await process.stdout.readline():
            if b'"cancelling"' in line:
                return
    raise AssertionError("it ended before it cancelled anything")


async def test_a_guard_that_is_stopped_in_the_middle_of_a_stop_is_killed_and_taken_over_from(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WAITS_FOR_THE_GUARD)
    async with small_desk(tmp_path / "desk", more=NO_CONTROLLER) as desk:
        desk.layout.target.write_text('{"target": "trading"}')  # or the guard ends as idle
        desk.rest(20)
        (here,) = desk.houses.values()
        with guard(desk.folder) as process:
            await _until_warm(desk.layout)
            await here.suffer(latency_ms=300)
            first = await desk.begin(PYTHONPATH=str(tmp_path))
            await _acknowledged(desk, first)
            process.send_signal(signal.SIGSTOP)
            assert desk.own_open(), "it is the middle of it"
            await here.suffer()
            second = await desk.press()
            pressed = await desk.end(first)
            assert pressed.status == second.status == 0, (pressed, second)
            assert desk.own_open() == []
            assert process.wait(PATIENCE_S) == -signal.SIGKILL
            told = [*pressed.statement["problems"], *second.statement["problems"]]
            assert any(f"process {process.pid}" in each and "stopped" in each for each in told), (
                pressed,
                second,
            )


# Its parts.


def _beats(progress: Progress, seconds: float) -> list[str]:
    return [progress.beat() for _ in range(round(seconds / BEAT_S))]


def test_a_step_hangs_only_well_after_its_own_time_and_by_beats_of_its_process() -> None:
    progress = Progress()
    with progress.step("the venues", 60.0):
        assert set(_beats(progress, 60.0 + DISK_S)) == {""}
        assert "the venues has not ended for 70 s" in progress.beat()
    assert progress.beat() == ""


def test_a_step_inside_another_is_found_by_its_own_time() -> None:
    progress = Progress()
    with progress.step("the venues", 600.0), contextlib.suppress(ValueError):
        with progress.step("the loading of kraken", 1.0):
            assert set(_beats(progress, 1.0 + DISK_S)) == {""}
            assert "kraken" in progress.beat()
            raise ValueError
    with progress.step("the checkpoint", 1.0):
        assert set(_beats(progress, 1.0 + DISK_S)) == {""}


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    made = DeskLayout.for_desk(tmp_path, {})
    made.make()
    return made


class _NeverLoaded(LoadedAlone):
    async def desk(self) -> object:  # type: ignore[override]
        return await asyncio.Event().wait()


@pytest.fixture
def fast_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which a minute of a stop takes less than a second."""
    monkeypatch.setattr("openbell.kill.progress.BEAT_S", 0.002)
    monkeypatch.setattr("openbell.kill.progress.DISK_S", 0.1)
    monkeypatch.setattr("openbell.kill.emergency.LOADED_S", 0.1)


@pytest.mark.usefixtures("fast_beats")
async def test_one_that_hangs_gives_its_turn_back_and_says_where_it_hung(
    layout: DeskLayout,
) -> None:
    told: list[str] = []
    request = EmergencyRequest(flatten=True)
    with pytest.raises(StandsStillError, match="the loading of desk"):
        await carry_out(layout, request, _NeverLoaded(layout), lambda _: None, told.append)
    assert len(told) == 1
    (name,) = courses(layout.emergency)
    assert left_in(layout.emergency, name) == told[0]
    assert CourseWatch(layout).look(0.0)[-1].left == told[0]
    joining = Joining(layout, request, [], lambda _: None)
    assert await joining.joined() is None
    assert joining.request.flatten, "nothing of it goes on"
    await joining.leave(ended=True)


async def test_while_a_task_of_it_may_go_on_nobody_else_closes_positions(
    layout: DeskLayout,
) -> None:
    hung = Joining(layout, EmergencyRequest(flatten=True), [], lambda _: None)
    assert await hung.joined() is None
    await hung.leave(ended=False)
    other = Joining(layout, EmergencyRequest(flatten=True), [], lambda _: None)
    assert await other.joined() is None
    assert not other.request.flatten and other.not_closed
    assert await FlattenTurn(layout).is_anothers()
    other.give_back()
    hung.give_back()


@pytest.mark.usefixtures("fast_beats")
async def test_a_press_whose_own_stop_hangs_is_unknown_and_says_what_to_do(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openbell.kill.press.LoadedAlone", _NeverLoaded)
    stated = await press(layout, EmergencyRequest(), lambda _: None, ask_guard=False)
    assert stated.result == "unknown" and stated.exit_status == 7
    assert "press again" in stated.by_hand and "desk.toml" in stated.problems[0]
