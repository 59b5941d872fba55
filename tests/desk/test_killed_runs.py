"""Openings, restarts of every kind and closings that are killed, one desk for all of them: at random moments,
`OPENBELL_KILLS=100` says how often, and openings and closings in each of their steps, with
`OPENBELL_EVERY_STEP=1`; restarts at every point of theirs: test_killed_restarts.py.

Of a closing that is killed inside a step there is one among the tests of the paper desk, at every run.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable
from typing import get_args

import pytest
from tests.harness.killed_restarts import Victims, restart_killed
from tests.harness.killed_runs import close_killed, in_step, open_killed, steps_of
from tests.harness.paper_desk import PaperDesk

KILLS = int(os.environ.get("OPENBELL_KILLS", "0"))
SEED = int(os.environ.get("OPENBELL_SEED", random.randrange(1 << 30)))
OPEN = {"NEW", "PARTIALLY_FILLED"}
RESTARTS_S = {"restart": 16.0, "quick-restart": 14.0, "rolling-restart": 20.0}
"""How long each takes, about: the moment to kill is somewhere in that."""


@pytest.mark.skipif(not KILLS, reason="OPENBELL_KILLS says how many")
@pytest.mark.timeout(180 * max(KILLS, 1) + 300)
def test_a_desk_whose_runs_are_killed_at_random_moments_trades_and_leaves_nothing(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    print(f"OPENBELL_SEED={SEED}")
    chance = random.Random(SEED)
    number = 0

    def next_pause_s(what: str, longest_s: float) -> float:
        nonlocal number
        number += 1
        pause_s = chance.uniform(0, longest_s)
        print(f"{number} of {KILLS}: {what}, {pause_s:.2f} s after its begin", flush=True)
        return pause_s

    while number < KILLS:
        open_killed(paper_desk, _later(next_pause_s("opening", 8)), chance)
        trade(paper_desk, await_that)
        for procedure, longest_s in chance.sample(sorted(RESTARTS_S.items()), 2):
            there = _later(next_pause_s(procedure, longest_s))
            restart_killed(paper_desk, procedure, there, chance.choice(get_args(Victims)))
        close_killed(paper_desk, _later(next_pause_s("closing", 6)), chance)


@pytest.mark.skipif(
    "OPENBELL_EVERY_STEP" not in os.environ, reason="OPENBELL_EVERY_STEP asks for it"
)
@pytest.mark.timeout(7200)
def test_a_desk_whose_runs_are_killed_in_each_step_trades_and_leaves_nothing(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    print(f"OPENBELL_SEED={SEED}")
    chance = random.Random(SEED)
    for opening, closing in itertools.zip_longest(steps_of("open"), steps_of("close")):
        opening = opening or chance.choice(steps_of("open"))
        closing = closing or chance.choice(steps_of("close"))
        print(f"opening, in {opening}", flush=True)
        open_killed(paper_desk, in_step(paper_desk, "open", opening), chance)
        trade(paper_desk, await_that)
        print(f"closing, in {closing}", flush=True)
        close_killed(paper_desk, in_step(paper_desk, "close", closing), chance)


def _later(pause_s: float) -> Callable[[], bool]:
    """So long after it is first asked."""
    until: list[float] = []

    def there() -> bool:
        if not until:
            until.append(time.monotonic() + pause_s)
        return time.monotonic() >= until[0]

    return there


def trade(desk: PaperDesk, await_that: Callable[..., None]) -> None:
    since = len(desk.venue_truth("fills"))

    def live() -> bool:
        open_now = any(order["status"] in OPEN for order in desk.venue_truth("orders"))
        return len(desk.venue_truth("fills")) > since and open_now

    await_that(live, "a fill and an open order at the venue", timeout_s=150)
