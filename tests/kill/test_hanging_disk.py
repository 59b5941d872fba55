"""A disk that answers nothing costs a stop the latch, the course and the checkpoint, and no order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.harness.frozen_disk import own_disk
from tests.kill.small_desk import PATIENCE_S, Pressed, SmallDesk, plain_environment, small_desk

from openbell.config.layout import DeskLayout
from openbell.domain.scopes import DESK
from openbell.kill.aside import within
from openbell.kill.course import NEWS_S, Course, Following
from openbell.kill.own_processes import OwnProcesses
from openbell.kill.patient_lock import DiskHangsError, PatientLock
from openbell.runtime.records import Records
from openbell.state.latch import Latches

WITHOUT_A_DISK = """
import os, sys, time
state, make = sys.argv.pop(1), os.mkdir
me, parent = os.getpid(), os.getppid()
def forked():
    global me, parent
    me, parent = os.getpid(), me
os.register_at_fork(after_in_child=forked)
def hang():
    while os.getppid() == parent:  # an orphan's is whatever takes orphans here
        time.sleep(0.1)
    os._exit(1)  # whoever pressed has ended
def opened(path, flags, *more, open=os.open, **named):
    if str(path).startswith(state) and flags & (os.O_CREAT | os.O_APPEND):
        hang()
    return open(path, flags, *more, **named)
def made(path, *more, **named):
    if str(path).startswith(state):
        hang()
    return make(path, *more, **named)
os.open, os.mkdir, os.fsync = opened, made, lambda _fd: hang()
from openbell.kill.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


async def _press_without_a_disk(desk: SmallDesk) -> Pressed:
    """Whatever would make or keep something in the state folder never returns."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WITHOUT_A_DISK, str(desk.layout.state),
        "--desk", str(desk.folder), "--events",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=1 << 26,
        env=plain_environment(),
    )  # fmt: skip
    desk.pressing.append(process)
    return await desk.end(process)


def _assert_stopped_and_not_kept(desk: SmallDesk, pressed: Pressed) -> None:
    assert pressed.status == 9, pressed
    assert pressed.venue("mt5-0")["result"] == "verified"
    assert desk.own_open() == []
    latch = pressed.statement["latch"]
    assert not latch["durable"] and "the disk does not answer" in latch["problems"][0]
    assert "the disk" in pressed.statement["checkpoint"]["problem"]
    assert [each for each in pressed.statement["problems"] if "course" in each]
    assert desk.alive() == {}


async def test_where_nothing_can_be_kept_the_desk_is_stopped_and_it_is_told(
    tmp_path: Path,
) -> None:
    async with small_desk(tmp_path / "desk") as desk:
        desk.rest(3)
        await desk.start("engine", "helper")
        await desk.until_sending("engine")
        _assert_stopped_and_not_kept(desk, await _press_without_a_disk(desk))


async def test_on_a_disk_that_hangs_in_the_kernel_the_stop_ends_before_the_disk_does(
    tmp_path: Path,
) -> None:
    """It waited in the kernel for the file of its own lock, and cancelled nothing until the disk was back."""
    with own_disk(tmp_path) as disk:
        async with small_desk(disk.folder / "desk") as desk:
            desk.rest(3)
            await desk.start("engine", "helper")
            await desk.until_sending("engine")
            disk.freeze()
            try:
                _assert_stopped_and_not_kept(desk, await desk.press())
            finally:
                disk.thaw()
            # The process that was to set the latch has hung all the while, and goes on now.
            await desk.until(lambda: DESK in Latches(desk.layout).scopes(), "the latch is kept")
            again = await desk.press()
            assert again.status == 0, again
            assert again.statement["latch"]["durable"]


# Its parts.


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    made = DeskLayout.for_desk(tmp_path, {})
    made.make()
    return made


def _hangs(until: Callable[[], bool]) -> Callable[..., object]:
    def hang(*_: object, **__: object) -> object:
        deadline = time.monotonic() + PATIENCE_S
        while not until() and time.monotonic() < deadline:
            time.sleep(0.01)
        raise OSError(5, "Input/output error")

    return hang


async def test_a_lock_whose_file_does_not_open_is_not_taken_and_not_anothers(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = False
    monkeypatch.setattr("openbell.kill.patient_lock.open_lock_file", _hangs(lambda: over))
    lock = PatientLock(layout.emergency_lock)
    with pytest.raises(DiskHangsError):
        await lock.take()
    assert not lock.held
    over = True


async def test_a_lock_is_held_by_one_until_it_is_given_back(layout: DeskLayout) -> None:
    one, other = PatientLock(layout.emergency_lock), PatientLock(layout.emergency_lock)
    assert await one.take() and await one.take()
    assert not await other.take()
    one.give_back()
    assert await other.take()
    other.give_back()


async def test_a_course_on_a_disk_that_hangs_only_tells(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = False
    monkeypatch.setattr("openbell.kill.course._made", _hangs(lambda: over))
    heard: list[str] = []
    course = await Course.begin(layout.emergency, lambda event: heard.append(event["event"]))
    over = True
    course.add("begun")
    await course.close()
    assert heard == ["begun"] and course.name == "" and "does not answer" in course.problem


async def test_whoever_follows_hears_nothing_of_a_disk_that_hangs_and_goes_on(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = False
    monkeypatch.setattr("openbell.kill.course.courses", _hangs(lambda: over))
    following = Following(layout.emergency)
    began_s = time.monotonic()
    assert await following.news() == []
    assert await following.news() == [], "the disk is asked by one thread, however often"
    assert time.monotonic() - began_s >= NEWS_S
    over = True


def test_processes_are_found_by_their_mark_where_records_cannot_be_read(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = False
    monkeypatch.setattr(Records, "read_all", _hangs(lambda: over))
    own = OwnProcesses(layout)
    mark = {"OPENBELL_MARK": f"{layout.desk_id}:helper:1"}
    with subprocess.Popen(["sleep", "600"], env={**plain_environment(), **mark}) as process:
        try:
            assert own.look()["helper"].pids == (process.pid,)
            assert own.unread, "others may run"
            over = True
            monkeypatch.setattr(Records, "read_all", lambda _: pytest.fail("it is asked again"))
            assert own.look()["helper"].pids == (process.pid,)
        finally:
            process.kill()


def test_what_is_waited_for_so_long_and_no_longer() -> None:
    assert within(lambda: 7, PATIENCE_S) == 7
    with pytest.raises(ZeroDivisionError):
        within(lambda: 1 / 0, PATIENCE_S)
    with pytest.raises(TimeoutError):
        within(lambda: time.sleep(1), 0.01)


def test_a_press_that_waits_for_no_disk_ends_as_its_child_says(tmp_path: Path) -> None:
    """In a process of its own: what stands in front never returns."""
    code = (
        "import os; from openbell.kill.front import leave, stand_in_front; me = os.getpid();"
        "stand_in_front(); assert os.getppid() == me; leave(7)"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 7
    killed = code.replace("leave(7)", "os.kill(os.getpid(), 9)")
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", killed]) == 247


LEFT_BY_A_PERSON = """
import asyncio, ctypes.util, os, sys
ctypes.util.find_library = lambda _: sys.exit("a file of libc is looked for: by processes, and on a disk")
from openbell.kill import front, press
async def pressed(*_, **__):
    print(os.getpid(), flush=True)
    await asyncio.Event().wait()
front.latch_apart, press.press = lambda _, request: (request, False), pressed
from openbell.cli.main import main
main()
"""


def test_a_stop_with_a_front_that_is_left_ends_as_one_without(tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_text('[desk]\nname = "small"\n')
    with subprocess.Popen(
        [sys.executable, "-c", LEFT_BY_A_PERSON, "--desk", str(tmp_path), "emergency-stop", "--yes"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=plain_environment(),
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None and process.stderr is not None
            stopping = int(process.stdout.readline())
            assert stopping != process.pid, "it has a front"
            os.kill(stopping, signal.SIGINT)
            assert b"the stop goes on" in process.stderr.readline()
            os.kill(stopping, signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130
        finally:
            process.kill()
