"""A closing whose controller is killed once it withdraws orders goes on under the one that the guard starts:
once, beside nobody, and not where it was cut off again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

from tests.harness.guarded_desk import GuardedDesk

HELD = """
[[procedures.close.extra]]
name = "hold"
after = "cancel_orders"
command = ["sh", "-c", "until test -e go; do sleep 0.05; done; touch held-done"]
verify = ["test", "-e", "held-done"]
timeout = "300s"
repeat = true
[channels.ops]
command = ["sh", "-c", "cat >> told; echo >> told"]
"""


def run_row(desk: GuardedDesk, key: str) -> dict[str, Any]:
    """Of `status`; empty while no controller answers."""
    try:
        return dict(desk.status()[key] or {})
    except (OSError, AssertionError):
        return {}


def kill_controller(desk: GuardedDesk) -> None:
    pid = desk.controller_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    desk.other_than(pid, "controller")


def goes_on(desk: GuardedDesk, run: str) -> bool:
    now = run_row(desk, "run")
    return (now.get("id"), now.get("actor"), now.get("step")) == (run, "by-itself", "hold")


def test_a_closing_that_has_begun_to_cancel_goes_on_by_itself_once(make_guarded: Any) -> None:
    desk: GuardedDesk = make_guarded("binance", services=HELD)
    desk.open()
    idle = desk.pids()["idle"]
    asked = {"flatten": "keep", "force": True, "reason": "end of day"}
    run = desk.post("close", asked, headers={"X-Openbell-Actor": "ann"})[1]["run"]
    desk.until(lambda: run_row(desk, "run").get("step") == "hold", "orders were withdrawn")

    kill_controller(desk)
    desk.until(lambda: goes_on(desk, run), "it goes on by itself")
    status, refused = desk.post(f"runs/{run}/resume", headers={"X-Openbell-Actor": "bob"})
    assert (status, refused["error"]) == (409, "conflict"), "never beside a person's own"
    told = desk.folder / "told"
    desk.until(lambda: told.exists() and "GOES ON BY ITSELF" in told.read_text(), "it is announced")
    assert f"{run}, begun by ann" in told.read_text()

    kill_controller(desk)
    desk.until(lambda: run_row(desk, "interrupted_run").get("id") == run, "it is found again")
    waits = run_row(desk, "interrupted_run")["waits_because"]
    assert waits == "it went on by itself before, and was cut off again"
    assert desk.pids()["idle"] == idle, "nothing is stopped while it waits"

    assert desk.post(f"runs/{run}/resume", headers={"X-Openbell-Actor": "bob"})[0] == 202
    desk.until(lambda: run_row(desk, "run").get("step") == "hold", "a person has gone on with it")
    kill_controller(desk)
    desk.until(lambda: goes_on(desk, run), "after a person's word it goes on by itself again")
    command = subprocess.Popen(
        [sys.executable, "-m", "openbell", "--desk", str(desk.folder), "down", "--yes", "--json"],
        env=desk.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert command.stderr is not None
        line = command.stderr.readline()
        assert f"{run} goes on by itself" in line, line
        (desk.folder / "go").touch()
        out, _ = command.communicate(timeout=120)
    finally:
        command.kill()
        command.wait()
    document = json.loads(out.splitlines()[-1])
    assert document["run"] == run, "what is typed again follows it, and begins nothing"
    if desk.controller_pid() is None:
        desk.start()
    report = desk.get(f"runs/{run}/report")[1]
    by = [each["actor"] for each in report["events"] if each["action"] == "run.resumed"]
    assert by == ["by-itself", "bob", "by-itself"]
    forced = [
        each["detail"]["parameters"]["force"]
        for each in report["events"]
        if each["action"] == "run.resumed"
    ]
    assert forced == [False, False, False], "nobody insists by himself"
