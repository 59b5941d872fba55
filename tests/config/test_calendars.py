"""An exchange's sessions are on its own clock, and its holidays are none."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from openbell.config.calendars import Calendar
from openbell.config.hours import OpenHours
from openbell.config.loader import parse_desk
from openbell.config.problems import DeskFileError

NEW_YORK = Calendar(
    timezone="America/New_York",
    sessions=("mon-fri 09:30-16:00",),
    holidays=("2026-11-26", "2026-11-27 09:30-13:00", "2026-12-25"),
)
GLOBEX = Calendar(
    timezone="America/Chicago", sessions=("sun-thu 17:00-16:00",), holidays=("2026-12-24",)
)


def at(text: str, zone: str = "America/New_York") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1e9)


@pytest.mark.parametrize(
    ("moment", "session"),
    [
        ("2026-11-25 09:29", ""),
        ("2026-11-25 09:30", "mon-fri 09:30-16:00"),
        ("2026-11-25 15:59", "mon-fri 09:30-16:00"),
        ("2026-11-25 16:00", ""),
        ("2026-11-26 12:00", ""),  # Thanksgiving
        ("2026-11-27 12:59", "2026-11-27 09:30-13:00"),
        ("2026-11-27 13:00", ""),
        ("2026-11-28 12:00", ""),  # a Saturday
        # The same hour on the exchange's clock, an hour apart on ours.
        ("2026-07-01 09:30", "mon-fri 09:30-16:00"),
        ("2026-12-01 09:30", "mon-fri 09:30-16:00"),
    ],
)
def test_a_session_is_on_the_exchanges_clock(moment: str, session: str) -> None:
    assert NEW_YORK.session_at(at(moment)) == session


def test_a_session_over_midnight_is_of_the_day_on_which_it_opens() -> None:
    """The one that would open on the eve is not held; the one that opened before goes on into it."""
    chicago = "America/Chicago"
    assert GLOBEX.session_at(at("2026-12-24 02:00", chicago)), "opened on the 23rd"
    assert GLOBEX.session_at(at("2026-12-24 17:00", chicago)) == ""
    assert GLOBEX.session_at(at("2026-12-25 02:00", chicago)) == "", "opens on no 24th"


def test_a_list_that_is_over_is_told() -> None:
    assert NEW_YORK.holiday_at(at("2026-11-27 20:00")) == "2026-11-27 09:30-13:00"
    assert NEW_YORK.holiday_at(at("2026-11-25 12:00")) == ""
    assert NEW_YORK.ran_out(at("2026-12-25 23:00")) is None
    ended = NEW_YORK.ran_out(at("2026-12-26 01:00"))
    assert ended is not None and ended.isoformat() == "2026-12-25"
    assert Calendar(sessions=("mon 10:00-11:00",)).ran_out(at("2026-12-26 01:00")) is None


@given(
    st.integers(0, 7 * 24 * 60 - 1), st.sampled_from(["mon-fri 09:30-16:00", "sun-thu 17:00-16:00"])
)
def test_without_holidays_a_calendar_is_its_sessions(minute: int, hours: str) -> None:
    moment = datetime(2026, 11, 30, tzinfo=ZoneInfo("UTC")) + timedelta(minutes=minute)
    wall_ns = int(moment.timestamp() * 1e9)
    open_now = bool(Calendar(sessions=(hours,)).session_at(wall_ns))
    assert open_now is OpenHours.parse(hours).holds(wall_ns)


@pytest.mark.parametrize(
    "holiday", ["25.12.2026", "2026-02-30", "2026-12-24 13:00-09:30", "2026-12-24 25:00-26:00"]
)
def test_what_is_no_holiday_is_refused(holiday: str) -> None:
    with pytest.raises(ValidationError):
        Calendar(sessions=("mon 10:00-11:00",), holidays=(holiday,))


def test_what_is_no_day_is_named_with_what_would_be_one() -> None:
    with pytest.raises(
        ValidationError, match=r'"2026-13-01" is no day .*: write year, month and day'
    ):
        Calendar(sessions=("mon 10:00-11:00",), holidays=("2026-13-01",))


@pytest.mark.parametrize(
    "holidays",
    [
        ("2026-11-27", "2026-11-27 09:30-13:00"),
        ("2026-12-24 10:00-12:00", "2026-12-24"),
        ("2026-12-25", "2026-12-25"),
        ("2026-12-24 10:00-12:00", "2026-12-24 10:00-12:00"),
    ],
)
def test_a_day_that_is_said_to_be_two_things_is_refused(holidays: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="is listed more than once"):
        Calendar(sessions=("mon 10:00-11:00",), holidays=holidays)


def test_a_short_day_may_have_two_sessions() -> None:
    short = Calendar(
        sessions=("mon-fri 09:00-17:00",),
        holidays=("2026-12-24 09:00-11:00", "2026-12-24 12:00-13:00"),
    )
    assert [
        bool(short.session_at(at(f"2026-12-24 {hour}", "UTC")))
        for hour in ("10:00", "11:30", "12:30")
    ] == [True, False, True]


def test_hours_are_asked_for_on_the_clock_by_which_they_are_read() -> None:
    with pytest.raises(ValidationError, match="on the exchange's clock"):
        Calendar(timezone="America/New_York", sessions=("weekdays",))
    with pytest.raises(DeskFileError, match="in UTC"):
        parse_desk(DESK.replace("{0}", 'sessions = ["weekdays"]').encode(), Path("desk.toml"))


def test_an_empty_list_is_called_one() -> None:
    with pytest.raises(DeskFileError) as refused:
        parse_desk(DESK.replace('["BTC/USD"]', "[]").replace("{0}", "").encode(), Path("desk.toml"))
    assert "venues.a.symbols: the list is empty; give at least one" in str(refused.value)


def test_a_zone_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValidationError, match="time zone"):
        Calendar(sessions=("mon 10:00-11:00",), timezone="America/Gotham")


DESK = """
[desk]
name = "x"
[calendars.nyse]
sessions = ["mon-fri 14:30-21:00"]
[venues.a]
url = "http://h:1"
symbols = ["BTC/USD"]
{0}
[services.s]
command = ["true"]
"""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('calendar = "nise"', "did you mean nyse"),
        ('calendar = "nyse"\nsessions = ["mon 10:00-11:00"]', "leave one of them out"),
    ],
)
def test_a_venue_has_one_calendar_that_there_is(line: str, told: str) -> None:
    with pytest.raises(DeskFileError) as refused:
        parse_desk(DESK.replace("{0}", line).encode(), Path("desk.toml"))
    assert told in str(refused.value) or told in refused.value.hint


@pytest.mark.parametrize(
    ("calendar", "now", "opens"),
    [
        (NEW_YORK, "2026-11-25 08:00", "2026-11-25 09:30"),
        (NEW_YORK, "2026-11-25 09:30", "2026-11-27 09:30"),  # over Thanksgiving, to the short day
        (NEW_YORK, "2026-11-27 14:00", "2026-11-30 09:30"),
        (NEW_YORK, "2026-12-24 17:00", "2026-12-28 09:30"),
        (NEW_YORK, "2026-03-06 17:00", "2026-03-09 09:30"),  # summer time begins between
    ],
)
def test_the_next_session_is_told_over_holidays_and_the_change_of_clocks(
    calendar: Calendar, now: str, opens: str
) -> None:
    assert calendar.opens_next_ns(at(now)) == at(opens)


@given(st.integers(at("2026-10-01 00:00"), at("2027-04-01 00:00")))
def test_the_next_session_is_one_and_nothing_begins_before(wall_ns: int) -> None:
    minute = 60_000_000_000
    now_ns = wall_ns // minute * minute
    for calendar in (NEW_YORK, GLOBEX):
        opens_ns = calendar.opens_next_ns(now_ns)
        assert opens_ns is not None and opens_ns > now_ns and calendar.session_at(opens_ns)
        # Every tenth minute until then: once closed, it stays so.
        states = [
            bool(calendar.session_at(at_ns)) for at_ns in range(now_ns, opens_ns, 10 * minute)
        ]
        assert states == sorted(states, reverse=True)
