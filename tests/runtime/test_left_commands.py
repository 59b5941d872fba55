"""A command that its killed controller left at work is found and ended, and never run beside itself."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from openbell.runtime.commands import run_command
from openbell.runtime.left_commands import (
    LeftCommand,
    commands_at_work,
    end_left_commands,
    left_commands,
    noted,
)

CONTROLLER = """
import asyncio, os, sys
from pathlib import Path
from openbell.runtime.commands import run_command
from openbell.runtime.left_commands import noted

async def main():
    folder = Path(sys.argv[1])
    with noted(folder / "notes", "wire", "close-7") as spawned:
        await run_command(
            ["sh", "-c", "sleep 600 & echo $! > child; echo $$ > leader; wait"],
            cwd=folder, environment=dict(os.environ), timeout_s=900, spawned=spawned,
        )

asyncio.run(main())
"""


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_it_is_found_with_what_it_started_and_ended(tmp_path: Path) -> None:
    """kill -9 of the controller in the middle of a transfer: the transfer went on, unseen, beside the
    run that was gone on with, and beside its own repetition."""
    controller = subprocess.Popen([sys.executable, "-c", CONTROLLER, str(tmp_path)])
    notes = tmp_path / "notes"
    try:
        await until(lambda: len(left_commands(notes)) == 1, "it is noted")
        leader = tmp_path / "leader"
        await until(lambda: leader.exists() and leader.read_text().endswith("\n"), "it runs")
    finally:
        controller.kill()
        controller.wait()
    pids = {int((tmp_path / name).read_text()) for name in ("leader", "child")}
    ((note, living),) = left_commands(notes).items()
    assert (note.step, note.run) == ("wire", "close-7")
    assert {facts.pid for facts in living} == pids
    assert await asyncio.to_thread(end_left_commands, notes) == {note: True}
    assert not any(map(lives, pids))
    assert left_commands(notes) == {}
    assert await asyncio.to_thread(end_left_commands, notes) == {}, "nothing is left to be ended"


async def test_a_command_that_has_ended_leaves_no_note_and_what_it_left_is_its_own_affair(
    tmp_path: Path,
) -> None:
    notes = tmp_path / "notes"
    with noted(notes, "tunnel", "open-1") as spawned:
        ran = await run_command(
            ["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"],
            cwd=tmp_path, environment=dict(os.environ), timeout_s=60, spawned=spawned,
        )  # fmt: skip
    background = int(ran.lines[0])
    try:
        assert ran.status == 0 and left_commands(notes) == {}
        assert await asyncio.to_thread(end_left_commands, notes) == {}
        assert lives(background)
    finally:
        os.kill(background, signal.SIGKILL)


@pytest.mark.parametrize("other", ["start", "boot"])
async def test_another_process_under_its_number_is_left_alone(tmp_path: Path, other: str) -> None:
    """Numbers are given again: what is not the process that was noted is nobody of ours."""
    notes = tmp_path / "notes"
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with noted(notes, "wire", "close-7") as spawned:
            spawned(stranger.pid)
            (path,) = notes.glob("wire-*.json")
            note = msgspec.json.decode(path.read_bytes(), type=LeftCommand)
            assert list(left_commands(notes)) == [note]
            changed = (
                msgspec.structs.replace(note, start=note.start - 1)
                if other == "start"
                else msgspec.structs.replace(note, boot_id="another")
            )
            path.write_bytes(msgspec.json.encode(changed))
            assert left_commands(notes) == {}
            assert await asyncio.to_thread(end_left_commands, notes) == {}
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_note_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    command = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with noted(notes, "wire", "close-7") as spawned:
            spawned(command.pid)
            (notes / "cut.json").write_bytes(b'{"step": ')
            assert [note.step for note in left_commands(notes)] == ["wire"]
    finally:
        command.kill()
        command.wait()


def test_two_notes_of_one_step_hide_nothing_of_each_other(tmp_path: Path) -> None:
    """A plan is made beside a run: its note replaced that of the run's command, and was then taken away,
    so that the controller was killed and nobody found the command."""
    notes = tmp_path / "notes"
    command = subprocess.Popen(["sleep", "600"], start_new_session=True)
    look = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with noted(notes, "wire", "close-7") as spawned:
            spawned(command.pid)
            with noted(notes, "wire", "plan", plan=True) as planned:
                planned(look.pid)
                assert {note.pid for note in left_commands(notes)} == {command.pid}
            assert {note.pid for note in left_commands(notes)} == {command.pid}
        assert left_commands(notes) == {}
    finally:
        for each in (command, look):
            each.kill()
            each.wait()


async def test_what_somebody_plans_by_is_left_once_nobody_awaits_it(tmp_path: Path) -> None:
    """A run that began during a plan killed its verification, and said that it had been left."""
    notes = tmp_path / "notes"
    look = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with noted(notes, "wire", "plan", plan=True) as spawned:
            spawned(look.pid)
            assert commands_at_work(notes).of_plans == {look.pid}
            assert await asyncio.to_thread(end_left_commands, notes) == {}
            assert look.poll() is None
            (path,) = notes.glob("*.json")
            note = msgspec.json.decode(path.read_bytes(), type=LeftCommand)
            gone = msgspec.structs.replace(note, by_start=note.by_start - 1)
            path.write_bytes(msgspec.json.encode(gone))
            assert commands_at_work(notes).of_plans == frozenset()
            assert await asyncio.to_thread(end_left_commands, notes) == {gone: True}
    finally:
        look.kill()
        look.wait()


def test_notes_that_cannot_be_listed_are_not_taken_for_none(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    assert left_commands(notes) == {}, "nothing was ever noted"
    notes.write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        left_commands(notes)
