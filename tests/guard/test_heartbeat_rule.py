"""The kill rule `heartbeat_lost`, judged by the guard from the engine's beats: real processes."""

from __future__ import annotations

import signal
from typing import Any

RULE = '[kill_switch.rules.heartbeat_lost]\nafter = "2s"\n'


def scopes(desk: Any) -> list[tuple[str, str]]:
    return [(each["scope"], each["by"]) for each in desk.get("kill-switch")[1]["latches"]]


def rule(desk: Any) -> str:
    (row,) = desk.get("kill-switch")[1]["rules"]
    return str(row["state"])


async def test_a_hung_engine_latches_the_desk_and_one_that_leaves_does_not(
    make_guarded: Any,
) -> None:
    desk = make_guarded("binance", services=RULE)
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
    engine.send_signal(signal.SIGSTOP)
    desk.until(lambda: bool(scopes(desk)), "the latch")
    assert scopes(desk) == [("desk", "rule:heartbeat_lost")]
    desk.until(
        lambda: any(each["actor"] == "rule:heartbeat_lost" for each in desk.audit()),
        "it is in the audit log",
    )
    assert rule(desk) == "triggered"
