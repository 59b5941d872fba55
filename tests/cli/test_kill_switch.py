"""The kill switch from the command line where no controller runs: the files alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openbell.config.layout import DeskLayout
from openbell.state.latch import Latches
from openbell.state.lock import FileLock

DESK = """
[desk]
name = "alone"
[venues.binance]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
[services.base]
command = ["sleep", "1"]
"""
APPROVALS = '[approvals]\nneeded_for = ["kill-switch-deactivate"]\n'


class Alone:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout = DeskLayout.for_desk(folder, {})
        (folder / "desk.toml").write_text(DESK)

    def call(self, *arguments: str, expect: int = 0, who: str = "alice") -> Any:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENBELL_")}
        done = subprocess.run(
            [sys.executable, "-m", "openbell", "--desk", str(self.folder), "--json", *arguments],
            env={**environ, "OPENBELL_ACTOR": who},
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == expect, done.stdout + done.stderr
        assert len(done.stdout.splitlines()) == 1, done.stdout
        return json.loads(done.stdout)

    def kill_switch(self, *arguments: str, expect: int = 0, who: str = "alice") -> Any:
        return self.call("kill-switch", *arguments, expect=expect, who=who)

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.layout.kill_switch_log.read_text().splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Alone:
    return Alone(tmp_path)


def test_a_desk_that_was_never_opened_is_not_latched_and_can_be(desk: Alone) -> None:
    assert desk.kill_switch("status")["active"] is False
    document = desk.kill_switch("activate", "--reason", "fat finger")
    assert (document["activated"], document["controller"], document["durable"]) == (
        True,
        False,
        True,
    )
    assert document["recorded"] is True
    assert Latches(desk.layout).on_desk()
    shown = desk.kill_switch("status")
    assert (shown["desk"], shown["latches"][0]["by"]) == (True, "alice")
    status = desk.call("status")
    assert (status["state"], status["latch"]["reason"]) == ("emergency", "fat finger")
    plan = desk.call("up", "--plan")
    assert "kill switch is latched" in plan["steps"][-1]["title"]
    assert "alice" in plan["steps"][-1]["reason"]
    assert [(each["actor"], each["action"]) for each in desk.log()] == [
        ("alice", "kill_switch.activate")
    ]
    assert desk.call("audit", "verify")["records"] == 1


def test_each_setting_has_its_own_reason_and_a_release_takes_all_it_showed(desk: Alone) -> None:
    desk.kill_switch("activate", "--reason", "one")
    desk.kill_switch("activate", "--reason", "two", "--scope", "desk", "--scope", "venue:binance")
    reasons = [(each["scope"], each["reason"]) for each in desk.kill_switch("status")["latches"]]
    assert sorted(reasons) == [("desk", "one"), ("desk", "two"), ("venue:binance", "two")]
    document = desk.kill_switch("deactivate", "--reason", "checked", "--yes")
    assert (document["deactivated"], document["still"]) == (True, ["venue:binance"])
    assert document["halted"] is True
    assert desk.layout.halt.exists()
    assert desk.log()[-1]["action"] == "kill_switch.deactivate"
    assert desk.call("audit", "verify")["records"] == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("deactivate", "--yes"),
        ("deactivate", "--reason", " ", "--yes"),
        ("deactivate", "--reason", "r"),
        ("deactivate", "--reason", "r", "--yes", "--scope", "venue:binance"),
        ("activate", "--scope", "venue:binanse"),
        ("activate", "--scope", "nonsense"),
    ],
)
def test_wrong_use_changes_nothing(desk: Alone, arguments: tuple[str, ...]) -> None:
    desk.kill_switch("activate")
    before = desk.kill_switch("status")
    assert desk.kill_switch(*arguments, expect=2)["error"] == "usage"
    assert desk.kill_switch("status") == before


def test_where_an_approval_is_needed_nobody_releases_without_a_controller(desk: Alone) -> None:
    (desk.folder / "desk.toml").write_text(DESK + APPROVALS)
    desk.kill_switch("activate")
    refused = desk.kill_switch("deactivate", "--reason", "r", "--yes", expect=6)
    assert "second person" in refused["message"]
    desk.kill_switch("approve", "abc", "--reason", "r", "--yes", expect=3)
    assert desk.kill_switch("status")["active"] is True


def test_a_broken_desk_file_stops_no_activation_and_every_release(desk: Alone) -> None:
    (desk.folder / "desk.toml").write_text("[desk\n")
    desk.kill_switch("activate")
    desk.kill_switch("activate", "--scope", "venue:binance")
    assert desk.kill_switch("deactivate", "--reason", "r", "--yes", expect=4)["error"] == "config"
    assert desk.kill_switch("status")["scopes"] == ["desk", "venue:binance"]


def test_a_release_does_not_cross_a_controller_that_is_starting(desk: Alone) -> None:
    desk.kill_switch("activate")
    with FileLock(desk.layout.controller_lock):
        refused = desk.kill_switch("deactivate", "--reason", "r", "--yes", expect=5)
    assert refused["error"] == "conflict"
    assert desk.kill_switch("status")["active"] is True


def test_a_release_that_cannot_be_recorded_is_not_done_and_a_kill_is(desk: Alone) -> None:
    desk.kill_switch("activate")
    desk.layout.audit_log.write_text("broken\n")
    desk.kill_switch("deactivate", "--reason", "r", "--yes", expect=8)
    assert desk.kill_switch("status")["active"] is True
    assert desk.kill_switch("activate")["recorded"] is True
    assert len(desk.kill_switch("status")["latches"]) == 2
