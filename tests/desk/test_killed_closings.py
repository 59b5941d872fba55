"""Closings killed at random moments, one desk for all of them: `OPENBELL_KILLS=100` says how many.

Of a closing that is killed inside a step there is one among the tests of the paper desk, at every run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest
from tests.harness.killed_closing import close_killed
from tests.harness.paper_desk import PaperDesk

KILLS = int(os.environ.get("OPENBELL_KILLS", "0"))
SEED = int(os.environ.get("OPENBELL_SEED", random.randrange(1 << 30)))
OPEN = {"NEW", "PARTIALLY_FILLED"}


@pytest.mark.skipif(not KILLS, reason="OPENBELL_KILLS says how many")
@pytest.mark.timeout(90 * max(KILLS, 1) + 300)
def test_closings_that_are_killed_at_random_moments_leave_nothing(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    print(f"OPENBELL_SEED={SEED}")
    chance = random.Random(SEED)
    for number in range(KILLS):
        trade(paper_desk, await_that)
        pause_s = chance.uniform(0, 6)
        print(f"{number + 1} of {KILLS}: {pause_s:.2f} s after its begin")
        close_killed(paper_desk, _later(pause_s), chance)


def _later(pause_s: float) -> Callable[[], bool]:
    """So long after it is first asked."""
    until: list[float] = []

    def there() -> bool:
        if not until:
            until.append(time.monotonic() + pause_s)
        return time.monotonic() >= until[0]

    return there


def trade(desk: PaperDesk, await_that: Callable[..., None]) -> None:
    assert desk.run("up").document["outcome"] == "trading"
    since = len(desk.venue_truth("fills"))

    def live() -> bool:
        open_now = any(order["status"] in OPEN for order in desk.venue_truth("orders"))
        return len(desk.venue_truth("fills")) > since and open_now

    await_that(live, "a fill and an open order at the venue", timeout_s=150)
