"""A time on the desk's clock is the next such moment, whatever the clock does that night."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from openbell.domain.closing_time import moment_of

NEW_YORK = ZoneInfo("America/New_York")
NOW = datetime(2026, 1, 30, 15, 0, tzinfo=NEW_YORK)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("15:45", datetime(2026, 1, 30, 20, 45, tzinfo=UTC)),
        ("15:00:30", datetime(2026, 1, 30, 20, 0, 30, tzinfo=UTC)),
        ("15:00", datetime(2026, 1, 31, 20, 0, tzinfo=UTC)),
        ("9:30", datetime(2026, 1, 31, 14, 30, tzinfo=UTC)),
        ("2026-01-31T15:45", datetime(2026, 1, 31, 20, 45, tzinfo=UTC)),
        ("2026-01-31T15:45+00:00", datetime(2026, 1, 31, 15, 45, tzinfo=UTC)),
    ],
)
def test_a_time_is_the_next_such_moment(text: str, at: datetime) -> None:
    assert moment_of(text, NOW) == at


def test_the_next_day_may_have_23_hours() -> None:
    """Clocks went forward on 8 March 2026 at 2:00."""
    now = datetime(2026, 3, 7, 16, 0, tzinfo=NEW_YORK)
    assert moment_of("15:45", now) == datetime(2026, 3, 8, 19, 45, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("soon", "is no time"),
        ("25:00", "is no time"),
        ("15:60", "is no time"),
        ("2026-01-30T14:59", "is over"),
        ("2026-02-09T15:00", "more than 7 days ahead"),
    ],
)
def test_what_is_no_moment_ahead_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        moment_of(text, NOW)
