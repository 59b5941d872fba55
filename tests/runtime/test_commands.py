"""A command is run to the end of its process, whatever it leaves in the background."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from openbell.runtime import commands
from openbell.runtime.commands import LINES_KEPT, Ran, run_command

LONG_S = 300.0
"""What a command that ended is never to wait for."""


async def run(folder: Path, script: str, timeout_s: float = LONG_S) -> Ran:
    return await run_command(
        ["sh", "-c", script], cwd=folder, environment=dict(os.environ), timeout_s=timeout_s
    )


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


def left(folder: Path) -> int:
    return int((folder / "left").read_text())


BECOMES = "until grep -q {name} /proc/$!/cmdline; do sleep 0.01; done"
"""What was forked has become the program that it is named by."""


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left with the output is not waited for, so that no test waits."""
    monkeypatch.setattr(commands, "FINISHES_S", 0.0)


@pytest.mark.usefixtures("soon")
async def test_what_it_left_with_its_output_is_ended_and_named_and_it_is_not_late(
    tmp_path: Path,
) -> None:
    """It was told as late, after the whole of its time, though it had done what it was to do."""
    began = time.monotonic()
    ran = await run(
        tmp_path, f"sleep 600 & echo $! > left; {BECOMES.format(name='sleep')}; echo done; exit 3"
    )
    assert time.monotonic() - began < LONG_S, "its own end counts"
    assert (ran.status, ran.why, ran.lines) == (3, "", ("done",))
    assert ran.left_behind == f"left behind, and ended: sleep (pid {left(tmp_path)})"
    assert ran.told == f"done; {ran.left_behind}" and ran.as_dict()["left_behind"]
    await until(lambda: not lives(left(tmp_path)), "it was ended")


async def test_what_it_left_with_its_output_is_let_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`report | mail`: the mail was killed half a second after the report had ended."""
    monkeypatch.setattr(commands, "FINISHES_S", 60.0)
    later = "(until test -e ended; do sleep 0.01; done; sleep 1; echo mailed; touch mailed) &"
    ran = await run(tmp_path, f"{later} echo report; touch ended")
    assert (ran.status, ran.lines, ran.left_behind) == (0, ("report", "mailed"), "")
    assert (tmp_path / "mailed").exists()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(("asked", "said"), [("touch asked; exit", True), ("", False)])
async def test_it_is_asked_to_end_before_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, said: bool
) -> None:
    """One that heeds no SIGTERM (`''`) is killed."""
    monkeypatch.setattr(commands, "_TERM_S", 60.0 if said else 0.2)
    trap = f"trap '{asked}' TERM; echo $$ > left; touch there; while :; do sleep 0.05; done"
    ran = await run(
        tmp_path,
        f'sh -c "{trap}" & until test -e there; do sleep 0.01; done'.replace("$$", "\\$\\$"),
    )
    assert ran.status == 0 and ran.left_behind.startswith("left behind, and ended: ")
    await until(lambda: not lives(left(tmp_path)), "it was ended")
    assert (tmp_path / "asked").exists() is said


async def test_it_is_waited_for_within_the_commands_own_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "FINISHES_S", 2 * LONG_S)
    waits: list[float] = []

    async def let_finish(_pid: int, _command: Any, for_s: float) -> str:
        waits.append(for_s)
        return ""

    monkeypatch.setattr(commands, "_let_finish", let_finish)
    ran = await run(tmp_path, "sleep 600 & echo done")
    assert (ran.status, ran.lines) == (0, ("done",)) and "left behind, and ended" in ran.left_behind
    assert all(0 < for_s < LONG_S for for_s in waits) and len(waits) == 1


async def test_output_that_ends_late_was_left_with_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine its end is read later than that of the process: it was told that somebody in another
    session holds it."""
    is_read, asked = commands._Command.is_read, 0

    async def late(self: Any, *_: Any) -> bool:
        nonlocal asked
        asked += 1
        return asked > 2 and await is_read(self, 60)

    monkeypatch.setattr(commands._Command, "is_read", late)
    ran = await run(tmp_path, "exit 7")
    assert (ran.status, ran.left_behind, asked) == (7, "", 3)


@pytest.mark.usefixtures("soon")
async def test_what_a_background_process_printed_before_is_kept(tmp_path: Path) -> None:
    early = "(echo early; touch said; sleep 600) &"
    ran = await run(tmp_path, f"{early} until test -e said; do sleep 0.01; done")
    assert (ran.status, ran.lines) == (0, ("early",))
    assert "left behind, and ended: s" in ran.left_behind


@pytest.mark.usefixtures("soon")
async def test_what_left_its_session_with_the_output_is_told_and_left_alone(
    tmp_path: Path,
) -> None:
    try:
        apart = "setsid sh -c 'echo $$ > left; touch there; exec sleep 600' &"
        ran = await run(tmp_path, f"{apart} until test -e there; do sleep 0.01; done")
        assert ran.status == 0 and "in another session" in ran.left_behind
        assert lives(left(tmp_path))
    finally:
        os.kill(left(tmp_path), signal.SIGKILL)


async def test_one_that_is_broken_off_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    """What a shell with job control starts is in a group of its own, which was left."""
    running = asyncio.create_task(run(tmp_path, "set -m; sleep 600 & echo $! > left; wait"))
    path = tmp_path / "left"
    await until(lambda: path.exists() and path.read_text().endswith("\n"), "it is in the middle")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not lives(left(tmp_path)), "what it started was ended with it")


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9)])
async def test_its_status_is_told_and_nothing_left_behind(
    tmp_path: Path, script: str, status: int
) -> None:
    ran = await run(tmp_path, script)
    assert (ran.status, ran.left_behind) == (status, "")


async def test_of_much_output_the_end_is_kept(tmp_path: Path) -> None:
    ran = await run(tmp_path, "seq 1 200000")
    assert (ran.status, len(ran.lines), ran.lines[-1]) == (0, LINES_KEPT, "200000")


async def test_one_that_cannot_be_run_says_so(tmp_path: Path) -> None:
    ran = await run_command(["/no/such"], cwd=tmp_path, environment={}, timeout_s=5)
    assert ran.status is None and "cannot be run" in ran.why
