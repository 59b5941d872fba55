"""The kill rule `heartbeat_lost`, judged by the guard from the engine's beats: real processes.

A wall clock that jumps by an hour is no silence, and hides none.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from tests.harness.guarded_desk import GuardedDesk
from tests.harness.wall_clock import WallClock

from openbell.controller.guard_process import start_guard
from openbell.kill.marker import clear_marker
from openbell.state.latch import Latches

RULE = '[kill_switch.rules.heartbeat_lost]\nafter = "2s"\n'


def scopes(desk: Any) -> list[tuple[str, str]]:
    return [(each["scope"], each["by"]) for each in desk.get("kill-switch")[1]["latches"]]


def rule(desk: Any) -> str:
    (row,) = desk.get("kill-switch")[1]["rules"]
    return str(row["state"])


async def test_a_hung_engine_latches_the_desk_and_one_that_leaves_does_not(
    make_guarded: Any, tmp_path: Path
) -> None:
    desk = make_guarded("binance", services=RULE)
    clock = WallClock(tmp_path / "clock")
    desk.environ |= clock.environment
    desk.open()
    assert scopes(desk) == []
    assert rule(desk) == "not_judged"  # none was heard yet
    engine = desk.engine()
    desk.until(lambda: rule(desk) == "armed", "its beats are heard")
    engine.send_signal(signal.SIGTERM)
    engine.wait()
    desk.until(lambda: rule(desk) == "not_judged", "it left on purpose")
    engine = desk.engine(epoch=2)
    desk.until(lambda: rule(desk) == "armed", "another one is heard")
    for hours in (1, -1):
        clock.set_ahead(hours * 3600)
        with pytest.raises(TimeoutError):
            desk.until_within(1.5, lambda: bool(scopes(desk)))
        assert rule(desk) == "armed"
    engine.send_signal(signal.SIGSTOP)
    clock.set_ahead(-7200)
    desk.until(lambda: bool(scopes(desk)), "the latch")
    assert scopes(desk) == [("desk", "rule:heartbeat_lost")]
    desk.until(
        lambda: any(each["actor"] == "rule:heartbeat_lost" for each in desk.audit()),
        "it is in the audit log",
    )
    assert rule(desk) == "triggered"


async def test_an_engine_that_an_emergency_stop_ended_is_no_lost_heartbeat_and_one_that_dies_later_is(
    make_guarded: Any,
) -> None:
    """A stop ended the engine on purpose; twenty seconds later the rule set a latch of its own, which a
    person had to release as well, and for a minute the dead-man's switch was said to run out."""
    desk: GuardedDesk = make_guarded(
        "binance", services=RULE, timeout="10m", guard="restart_controller = false"
    )
    desk.layout.make()
    desk.layout.target.write_text('{"target": "trading"}')  # or a guard by itself ends as idle
    start_guard(desk.layout, desk.environ)
    desk.until(lambda: desk.guard_pid() is not None, "the guard answers")
    desk.until_warm()
    engine = desk.engine()
    desk.until_switch("binance", "watching")
    await desk.rest("binance", 1)
    stated = desk.ask_guard("emergency_stop", reason="a drill", actor="ann")["statement"]
    assert stated["result"] == "verified"
    engine.kill()  # as the stop does with an engine that is a service of the desk
    row = desk.until_switch("binance", "idle")
    assert "emergency stop" in row["why"] and row["fired"] is None

    def silent(more_s: float) -> None:
        """For longer than the rule allows, and some looks."""
        until_s = desk.guard()["engine"]["silent_s"] + more_s
        desk.until(lambda: desk.guard()["engine"]["silent_s"] > until_s, "it stays silent")

    silent(4)
    assert clear_marker(desk.layout)  # by `openbell up`; the engine comes later
    silent(1)
    assert latched_by(desk) == ["ann"]
    assert desk.switch("binance")["state"] == "idle"
    assert "dead man fires" not in desk.guard_log()

    another = desk.engine(epoch=2)
    desk.until_switch("binance", "watching")
    another.kill()
    desk.until(lambda: "rule:heartbeat_lost" in latched_by(desk), "a real loss latches")
    assert desk.switch("binance")["state"] == "running_out"


def latched_by(desk: GuardedDesk) -> list[str]:
    return sorted(latch.halt.who for latch in Latches(desk.layout).read())
