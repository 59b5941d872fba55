"""Restarts of a desk of small services, whose controller is killed at one point of each, inside a step or
after it, and gone on with: the services are as after a restart that nobody killed, by the process table.

`OPENBELL_EVERY_STEP=1` takes every point of every step; `OPENBELL_SEED` repeats a choice. Of a desk that
trades, judged by its venue: tests/desk/test_killed_restarts.py.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.harness.controller_process import TWO_WEB
from tests.harness.run_points import AFTER, INSIDE, RunPoints

SEED = int(os.environ.get("OPENBELL_SEED", random.randrange(1 << 30)))
EVERY = "OPENBELL_EVERY_STEP" in os.environ
DESK = f"""{TWO_WEB}[rolling]
watch_for = "100ms"
"""
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "restart": ("restart", {}),
    "quick-restart": ("restart", {"quick": True}),
    "rolling-restart": ("rolling-restart", {}),
}


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def services_that_live(desk: Any) -> int:
    """By their mark, whatever the desk says: each runs once."""
    mark = f"{desk.layout.desk_id}:"
    found = 0
    for process in psutil.process_iter():
        try:
            if process.environ().get("OPENBELL_MARK", "").startswith(mark):
                found += process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
    return found


def settled(desk: Any) -> bool:
    """Nothing is under way, cut off, or between its two halves, and the desk is open."""
    told = desk.status()
    nothing = not (told["run"] or told["interrupted_run"] or told["restart"])
    return bool(nothing and told["state"] == "trading" and all(desk.pids().values()))


@pytest.mark.timeout(7200 if EVERY else 300)
@pytest.mark.parametrize("procedure", BODIES)
def test_a_restart_whose_controller_is_killed_anywhere_ends_as_one_that_was_not(
    make_desk: Any, tmp_path: Path, procedure: str
) -> None:
    print(f"OPENBELL_SEED={SEED}")
    chance = random.Random(f"{SEED} {procedure}")
    points = RunPoints(tmp_path / "points")
    desk = make_desk(DESK)
    desk = replace(desk, environ=points.environ(desk.environ))
    try:
        desk.start()
        assert desk.run("open")[-1]["outcome"] == "trading"
        path, body = BODIES[procedure]
        planned = desk.post(f"procedures/{procedure}/plan")[1]["steps"]
        every = [(step["name"], point) for step in planned for point in (*INSIDE, AFTER)]
        for step, point in every if EVERY else [chance.choice(every)]:
            print(f"{procedure}, {step}, {point}", flush=True)
            before = desk.pids()
            points.stop_at(step, point)
            assert desk.post(path, body)[0] == 202
            # A step that a plan leaves out is never acted in: then nobody is killed, and it just ends.
            desk.until(lambda: points.is_there or settled(desk), "the moment to kill")
            if points.is_there:
                desk.kill()
                points.go_on()
                desk.start()
                interrupted = desk.status()["interrupted_run"] or desk.status()["restart"]
                assert interrupted, "it is found, and told"
                status, again = desk.post(path, body)
                assert (status, again["resumed"]) == (202, True), again
            points.go_on()
            desk.until(lambda: settled(desk), "it has ended")
            after = desk.pids()
            assert not set(before.values()) & set(after.values()), (step, point, before, after)
            assert not any(map(lives, before.values())), "what was replaced is gone"
            assert services_that_live(desk) == len(after), "each service once"
    finally:
        desk.end()
