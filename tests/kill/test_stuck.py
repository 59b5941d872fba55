"""Who carries out a stop and stands still is told from one that is slow, and ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openbell.kill.stuck import (
    BEAT_S,
    DISK_S,
    LOOP_CPU_S,
    SILENT_S,
    STOPPED_S,
    NotKilledError,
    Pulse,
    Sign,
    Watch,
    kill_for_certain,
    lock_holder,
    read_sign,
)
from openbell.runtime.processes import system_processes
from openbell.state.lock import FileLock

PATIENCE_S = 60.0
HOLD = """
import asyncio, sys, threading
from pathlib import Path
from openbell.kill.progress import Progress
from openbell.state.lock import FileLock
FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
asyncio.run(Progress().watch()) if sys.argv[2] == "beats" else threading.Event().wait()
"""


def _looks(seconds: float, every_s: float = 0.1, **sign: object) -> Iterator[Sign]:
    fields: dict[str, object] = {
        "stopped": False, "at_rest": True, "on_no_disk": True, "rests": 1, "cpu_s": 0.0,
    }  # fmt: skip
    for number in range(round(seconds / every_s) + 1):
        made = {**fields, **sign, "at_s": number * every_s}
        for name, value in made.items():
            made[name] = value(number * every_s) if callable(value) else value
        yield Sign(**made)  # type: ignore[arg-type]


def _verdicts(signs: Iterator[Sign]) -> list[str]:
    pulse = Pulse()
    return [pulse.take(sign) for sign in signs]


def test_one_that_is_stopped_or_never_wakes_is_stuck_and_not_before_its_time() -> None:
    for long_s, said, sign in (
        (STOPPED_S, "stopped", {"stopped": True, "rests": lambda at_s: int(at_s * 10)}),
        (SILENT_S, "not moved", {}),
        (DISK_S, "not moved", {"on_no_disk": False}),
    ):
        verdicts = _verdicts(_looks(long_s - 0.2, **sign))
        assert set(verdicts) == {""}
        assert said in _verdicts(_looks(long_s + 0.1, **sign))[-1]


def test_one_that_wakes_at_each_beat_is_never_stuck() -> None:
    signs = _looks(60, rests=lambda at_s: int(at_s / BEAT_S))
    assert set(_verdicts(signs)) == {""}


def test_one_that_waits_for_the_processor_is_never_stuck_however_loaded_the_machine() -> None:
    """Runnable in each look, and not given one rest: it cannot have woken from any."""
    assert set(_verdicts(_looks(600, at_rest=False))) == {""}


def test_one_that_was_at_rest_in_two_looks_of_a_follower_that_stood_still_itself_is_not_stuck() -> (
    None
):
    assert set(_verdicts(_looks(20, every_s=10))) == {""}


def test_one_that_runs_without_a_pause_is_stuck_by_its_own_processor_time() -> None:
    busy = {"at_rest": False, "cpu_s": lambda at_s: at_s / 4}
    assert set(_verdicts(_looks(LOOP_CPU_S * 4, **busy))) == {""}
    assert "without one pause" in _verdicts(_looks(LOOP_CPU_S * 4 + 1, **busy))[-1]


def test_what_it_computes_before_its_course_is_there_is_not_held_against_it() -> None:
    """It loads its adapters, on a machine as slow as may be."""
    pulse = Pulse()
    signs = list(_looks(LOOP_CPU_S * 3, at_rest=False, cpu_s=lambda at_s: at_s))
    half = len(signs) // 2
    assert {pulse.take(sign, begun=False) for sign in signs[:half]} == {""}
    verdicts = [pulse.take(sign) for sign in signs[half:]]
    assert verdicts[0] == "" and "without one pause" in verdicts[-1]


def test_a_system_that_tells_of_no_rests_shows_only_what_is_stopped() -> None:
    assert set(_verdicts(_looks(60, rests=None, cpu_s=lambda at_s: at_s))) == {""}
    assert "stopped" in _verdicts(_looks(60, rests=None, stopped=True))[-1]


@contextlib.contextmanager
def holding(lock: Path, how: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock), how], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


async def _until_stuck(watch: Watch) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (stuck := watch.look(time.monotonic(), None)) is not None:
            watch.end(stuck, None)  # on a busy machine it may be seen to end later
            return stuck.why
        await asyncio.sleep(0.02)
    raise AssertionError("it was not found to stand still")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")
@pytest.mark.parametrize("how", ["beats", "hangs"])
async def test_the_holder_of_the_lock_that_stands_still_is_found_and_has_ended(
    tmp_path: Path, how: str
) -> None:
    lock = tmp_path / "emergency.lock"
    with holding(lock, how) as process:
        assert lock_holder(lock) == process.pid
        if how == "beats":
            process.send_signal(signal.SIGSTOP)
        assert ("stopped" if how == "beats" else "moved") in await _until_stuck(Watch(lock))
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
        FileLock(lock).acquire().release()


async def test_a_live_holder_that_only_waits_is_left_alone(tmp_path: Path) -> None:
    lock = tmp_path / "emergency.lock"
    with holding(lock, "beats") as process:
        watch = Watch(lock)
        until_s = time.monotonic() + SILENT_S * 1.5
        while time.monotonic() < until_s:
            assert watch.look(time.monotonic(), None) is None
            await asyncio.sleep(0.02)
        assert process.poll() is None


def test_this_very_process_is_never_found_stuck(tmp_path: Path) -> None:
    lock = tmp_path / "emergency.lock"
    own = system_processes().facts(os.getpid())
    assert own is not None
    with FileLock(lock):
        assert Watch(lock).holder((own.pid, own.start)) is None


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_who_is_not_the_one_that_is_meant_is_not_killed(sleeper: subprocess.Popen[bytes]) -> None:
    """As where the holder gave its lock back meanwhile, or its pid means another process by now."""
    assert kill_for_certain(sleeper.pid, lambda: False)
    assert sleeper.poll() is None
    assert read_sign(sleeper.pid, 0.0) is not None


def test_without_the_kernels_word_only_who_began_the_course_and_started_then_is_meant(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    facts = system_processes().facts(sleeper.pid)
    assert facts is not None
    watch = Watch(tmp_path / "no.lock")
    assert watch.holder((facts.pid, facts.start)) == (facts.pid, facts.start)
    assert watch.holder((facts.pid, facts.start - 1)) is None
    assert watch.holder(None) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")
def test_who_began_a_course_is_not_meant_where_the_kernel_says_that_nobody_holds_the_lock(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    """It gave the lock back, and lives on: a guard, which was killed for standing still."""
    facts = system_processes().facts(sleeper.pid)
    assert facts is not None
    lock = FileLock(tmp_path / "emergency.lock").acquire()
    lock.release()
    with FileLock(tmp_path / "other.lock"):  # so that the kernel names the device
        assert Watch(lock.path).holder((facts.pid, facts.start)) is None


def test_one_that_cannot_be_killed_is_told_apart_from_one_that_has_ended(
    monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(signal, "pidfd_send_signal", forbidden)
    with pytest.raises(NotKilledError, match="not permitted"):
        kill_for_certain(sleeper.pid, lambda: True)
