"""Whose course somebody follows who came second."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec

from openbell.kill.course import Following


def _write(folder: Path, name: str, *events: dict[str, object]) -> None:
    with (folder / f"{name}.jsonl").open("ab") as file:
        file.writelines(msgspec.json.encode(event) + b"\n" for event in events)


def _dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def _begun(pid: int) -> dict[str, object]:
    return {"event": "begun", "pid": pid}


async def test_the_course_of_a_killed_carrier_is_not_taken_for_that_of_whoever_holds_the_lock_now(
    tmp_path: Path,
) -> None:
    _write(tmp_path, "001", _begun(_dead_pid()), {"event": "frozen"})
    following = Following(tmp_path)
    assert await following.news() == []
    assert following.name == ""
    _write(tmp_path, "002")  # made, and not begun yet
    assert await following.news() == []
    begun, frozen = _begun(os.getpid()), {"event": "frozen"}
    _write(tmp_path, "002", begun)
    assert await following.news() == [begun]
    _write(tmp_path, "002", frozen)
    assert await following.news() == [frozen]
    assert await following.news() == []
    assert following.name == "002"


async def test_who_takes_over_from_the_one_that_was_followed_is_followed_next(
    tmp_path: Path,
) -> None:
    carrier = subprocess.Popen(["sleep", "600"])
    try:
        _write(tmp_path, "001", first := _begun(carrier.pid))
        following = Following(tmp_path)
        assert await following.news() == [first]
    finally:
        carrier.kill()
        carrier.wait()
    last = {"event": "frozen"}
    _write(tmp_path, "001", last)
    assert await following.news() == [last]  # its last words
    assert following.name == "001"
    _write(tmp_path, "002", second := _begun(os.getpid()))
    assert await following.news() == [second]
    assert following.name == "002"


async def test_a_course_that_had_ended_is_not_followed(tmp_path: Path) -> None:
    _write(tmp_path, "001", _begun(os.getpid()), {"event": "ended", "statement": {"course": "001"}})
    assert await Following(tmp_path).news() == []
