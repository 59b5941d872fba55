"""Restarts that are killed at every point of every step, one desk for all of one kind: what
`OPENBELL_EVERY_STEP=1` asks for. `OPENBELL_SEED` repeats what was tried, in its order; `OPENBELL_POINTS` ends
after so many.

The same on a desk of small services, a point of each, is in tests/controller/test_killed_restarts.py and
runs always.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from tests.harness.killed_restarts import COMMANDS, Victims, restart_killed
from tests.harness.paper_desk import PaperDesk, copy_paper_desk, end_everything
from tests.harness.run_points import AFTER, INSIDE, RunPoints

SEED = int(os.environ.get("OPENBELL_SEED", random.randrange(1 << 30)))
POINTS = int(os.environ.get("OPENBELL_POINTS", "100000"))


@pytest.fixture
def points(tmp_path: Path) -> RunPoints:
    return RunPoints(tmp_path / "points")


@pytest.fixture
def desk(tmp_path: Path, points: RunPoints) -> Iterator[PaperDesk]:
    made = copy_paper_desk(tmp_path / "desk")
    made = replace(made, environ=points.environ(made.environ))
    yield made
    end_everything(made)


@pytest.mark.skipif(
    "OPENBELL_EVERY_STEP" not in os.environ, reason="OPENBELL_EVERY_STEP asks for it"
)
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("procedure", COMMANDS)
def test_a_restart_that_is_killed_at_any_point_ends_as_one_that_was_not(
    desk: PaperDesk, points: RunPoints, procedure: str
) -> None:
    print(f"OPENBELL_SEED={SEED}")
    chance = random.Random(SEED)
    assert desk.run("up").document["outcome"] == "trading"
    planned = desk.run("procedure", "plan", procedure).document
    names = [step["name"] for step in planned["steps"]]
    tried = [
        (step, chance.choice(INSIDE) if inside else AFTER, victims)
        for step, inside, victims in itertools.product(names, (True, False), get_args(Victims))
    ]
    chance.shuffle(tried)
    for number, (step, point, victims) in enumerate(tried[:POINTS], start=1):
        print(f"{number} of {len(tried)}: {procedure}, {step}, {point}: {victims}", flush=True)
        points.stop_at(step, point)
        restart_killed(desk, procedure, lambda: points.is_there, victims, points.go_on)
    closed = desk.run("down", "--yes")
    assert closed.document["verified"], closed.document
    assert desk.own_processes() == []
