"""The kill rule `heartbeat_lost`, judged by the guard from the engine's beats: real processes.

A wall clock that jumps by an hour is no silence, and hides none.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from tests.harness.wall_clock import WallClock

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
