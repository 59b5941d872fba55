"""A closing that stopped everything and proved nothing: the desk is not taken for closed by anybody, and
what is left can be proven by the same command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openbell.state.pending_restart import PendingRestart, keep_restart, read_restart

DESK = """
[services.top]
command = ["sleep", "86400"]
[channels.ops]
command = ["sh", "-c", 'echo "$OPENBELL_EVENT $OPENBELL_RUN" >> {desk}/told']
events = ["cut_off"]
[[procedures.close.extra]]
name = "wire"
after = "halt_strategies"
command = ["true"]
verify = ["test", "-e", "{desk}/wired"]
"""


def command(desk: Any, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "openbell", "--desk", str(desk.folder), "--json", *arguments],
        env=desk.environ, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    try:
        return done.returncode, json.loads(done.stdout)
    except json.JSONDecodeError:
        pytest.fail(f"{arguments}: {done.stdout!r} {done.stderr!r}")


def test_it_is_told_as_such_asked_again_and_opened_by_no_restart(make_desk: Any) -> None:
    desk = make_desk(DESK)
    desk.start()
    assert desk.run("open")[-1]["event"] == "done"
    last = desk.run("close")[-1]
    assert last["outcome"] == "not_verified", last
    assert desk.processes[-1].wait(60) == 0, "nothing runs that it could control"

    status, told = command(desk, "status")
    assert (status, told["state"]) == (0, "offline")
    assert "closed, not proven: close-2" in told["why"] and "wire" in told["why"]
    assert told["not_proven"]["run"] == "close-2"
    status, told = command(desk, "health")
    assert (status, told["verdict"], told["not_proven"]["run"]) == (2, "unhealthy", "close-2")
    assert told["reasons"][0].startswith("closed, not proven: close-2")
    for asked in (("down", "--plan"), ("positions",)):
        status, told = command(desk, *asked)
        assert (status, told["not_proven"]["run"]) == (3, "close-2")
        assert "closed, not proven: close-2" in told["message"]
        assert "openbell down asks the venues again" in told["hint"]

    # As a controller leaves it that is killed before it has forgotten the restart of that closing.
    path = Path(desk.folder, "state", "restart.json")
    keep_restart(path, PendingRestart(quick=False, who="ann", reason="new code"))
    desk.start()
    status, refused = desk.post("restart")
    assert status == 403 and "close-2" in refused["message"], refused
    assert read_restart(path) is None and desk.status()["state"] == "offline"
    assert desk.status()["not_proven"]["run"] == "close-2"
    health = desk.get("health")[1]
    assert (health["verdict"], health["not_proven"]["run"]) == ("unhealthy", "close-2")
    told = [row["text"] for row in desk.status()["recommendations"] if "not proven" in row["text"]]
    assert len(told) == 1, "once"
    desk.kill()

    # Not `the desk is closed`, with 3, which a script takes for what it wanted.
    status, told = command(desk, "down", "--yes")
    assert (status, told["verified"]) == (7, False), told
    (desk.folder / "wired").touch()
    status, told = command(desk, "down", "--yes")
    assert (status, told["verified"]) == (0, True), told
    status, told = command(desk, "status")
    assert (told["why"], told["not_proven"]) == ("closed", None)
    assert command(desk, "health")[0] == 3
    status, told = command(desk, "positions")
    assert (status, told["hint"]) == (3, "open it with `openbell up`")
    status, told = command(desk, "down", "--yes")
    assert (status, told["error"]) == (3, "not_running")


def test_a_run_that_was_cut_off_is_an_alert_and_told_to_people(make_desk: Any) -> None:
    held = DESK.replace('command = ["true"]', 'command = ["sh", "-c", "sleep 86400"]')
    desk = make_desk(held.replace('name = "wire"', 'name = "wire"\ntimeout = "300s"'))
    desk.start()
    assert desk.run("open")[-1]["event"] == "done"
    status, begun = desk.post("close")
    assert status == 202, begun
    desk.until(lambda: (desk.status()["run"] or {}).get("step") == "wire", "it is in its own step")
    desk.kill()
    desk.start()
    told = desk.folder / "told"
    desk.until(lambda: told.exists() and told.read_text() == "cut_off close-2\n", "people are told")
    log = desk.layout.controller_log.read_text()  # is written on: its last line may not be whole
    lines = [json.loads(line) for line in log[: log.rfind("\n") + 1].splitlines()]
    (alert,) = [line for line in lines if "an earlier run was cut off" in str(line)]
    assert alert["alert"] is True, alert
