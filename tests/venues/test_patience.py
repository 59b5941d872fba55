"""What a venue puts off is asked again, a few times and not for ever."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from openbell.venues.patience import NONE, REPEATS, Patience
from openbell.venues.port import VenueThrottledError


@dataclass
class Venue:
    refusals: int
    retry_after_s: float = 0.0
    asked: int = 0

    async def query(self) -> str:
        self.asked += 1
        if self.asked <= self.refusals:
            raise VenueThrottledError("not now", retry_after_s=self.retry_after_s)
        return "answer"


async def test_an_answer_that_was_put_off_is_had_later_and_each_wait_is_told() -> None:
    said: list[str] = []
    venue = Venue(refusals=REPEATS)
    assert await Patience(5.0, said.append).ask(venue.query) == "answer"
    assert said == ["not now: asked again in 0.05 s"] * REPEATS


@pytest.mark.parametrize(
    ("patience", "venue", "asked"),
    [
        (Patience(5.0), Venue(refusals=99), REPEATS + 1),
        (Patience(5.0), Venue(refusals=1, retry_after_s=60.0), 1),
        (NONE, Venue(refusals=1), 1),
    ],
)
async def test_patience_ends(patience: Patience, venue: Venue, asked: int) -> None:
    with pytest.raises(VenueThrottledError):
        await patience.ask(venue.query)
    assert venue.asked == asked
