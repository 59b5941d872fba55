"""What desk.toml says of an exchange's calendar: its sessions on its own clock, and its holidays.

Holidays are data of the desk file: a table of dates is a few lines a year, and a calendar library brings
pandas along, a second of every pre-flight and a hundred megabytes. docs/how-to/open-and-close.md shows
how to print them from one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from openbell.config.base import Model
from openbell.config.hours import OpenHours

_HOLIDAY = re.compile(r"(\d{4}-\d\d-\d\d)(?: (\d\d):(\d\d)-(\d\d):(\d\d))?")

_AHEAD_DAYS = 15
"""No exchange is closed for longer; its calendar is, where holidays are listed by mistake."""


@dataclass(frozen=True, slots=True)
class Holiday:
    """A day on which the week's sessions do not hold."""

    day: date
    """On the exchange's clock: the one on which a session would open."""
    opens_min: int | None = None
    """Minutes after midnight; None: closed all day."""
    lasts_min: int = 0

    @classmethod
    def parse(cls, text: str) -> Holiday:
        """`2026-12-25`, or `2026-11-27 09:30-13:00` for a short day. Raises ValueError."""
        found = _HOLIDAY.fullmatch(text)
        if found is None:
            raise ValueError(
                f'"{text}": write a date, "2026-12-25", or a short day, "2026-11-27 09:30-13:00"'
            )
        try:
            day = date.fromisoformat(found[1])
        except ValueError as error:
            raise ValueError(
                f'"{text}" is no day ({error}): write year, month and day, "2026-12-25"'
            ) from None
        if found[2] is None:
            return cls(day)
        hours = [int(each) for each in found.groups()[1:]]
        if hours[0] > 23 or hours[2] > 24 or max(hours[1], hours[3]) > 59:
            raise ValueError(f'"{text}" names no time of a day')
        opens, closes = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
        if closes <= opens:
            raise ValueError(f'"{text}" ends before it begins')
        return cls(day, opens, closes - opens)

    def holds(self, at: datetime) -> bool:
        """Whether the short session is under way. `at`: on the exchange's clock."""
        if self.opens_min is None or at.date() != self.day:
            return False
        return 0 <= at.hour * 60 + at.minute - self.opens_min < self.lasts_min


def _is_open_hours(text: str) -> str:
    OpenHours.parse(text)
    return text


def _is_on_the_exchanges_clock(text: str) -> str:
    OpenHours.parse(text, "on the exchange's clock (`timezone`)")
    return text


def _is_holiday(text: str) -> str:
    Holiday.parse(text)
    return text


def _say_one_thing_of_a_day(texts: tuple[str, ...]) -> tuple[str, ...]:
    """A short day may have two sessions; it is no holiday besides, and is not written twice."""
    by_day: dict[date, list[str]] = {}
    for text in texts:
        by_day.setdefault(Holiday.parse(text).day, []).append(text)
    for day, said in by_day.items():
        closed = any(Holiday.parse(text).opens_min is None for text in said)
        if len(said) > 1 and (closed or len(set(said)) < len(said)):
            listed = ", ".join(f'"{text}"' for text in said)
            raise ValueError(f"{day} is listed more than once: {listed}: keep what is so")
    return texts


def _is_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f'there is no time zone "{name}" on this machine') from error
    return name


Session = Annotated[str, AfterValidator(_is_open_hours)]
"""`mon-fri 14:30-21:00`, in UTC"""


class Calendar(Model):
    """`[calendars.NAME]`: when an exchange is open; venues name it by `calendar`."""

    timezone: Annotated[str, AfterValidator(_is_zone)] = "UTC"
    """The exchange's clock, by which sessions and holidays are written: `"America/New_York"`. So they
    need no change in spring and autumn."""
    sessions: Annotated[
        tuple[Annotated[str, AfterValidator(_is_on_the_exchanges_clock)], ...], Field(min_length=1)
    ]
    """Of a week: `["mon-fri 09:30-16:00"]`."""
    holidays: Annotated[
        tuple[Annotated[str, AfterValidator(_is_holiday)], ...],
        AfterValidator(_say_one_thing_of_a_day),
    ] = ()
    """Days on which they do not hold: `"2026-12-25"`, or `"2026-11-27 09:30-13:00"` for a short day."""

    def session_at(self, wall_ns: int) -> str:
        """The session that is under way, as the file writes it; empty where none is."""
        at = datetime.fromtimestamp(wall_ns / 1e9, UTC).astimezone(ZoneInfo(self.timezone))
        holidays = [Holiday.parse(text) for text in self.holidays]
        for text, short in zip(self.holidays, holidays, strict=True):
            if short.holds(at):
                return text
        closed = {each.day for each in holidays}
        for text in self.sessions:
            since_min = OpenHours.parse(text).open_for_min(at)
            if since_min is not None and (at - timedelta(minutes=since_min)).date() not in closed:
                return text
        return ""

    def opens_next_ns(self, wall_ns: int) -> int | None:
        """When the next session begins, on the wall clock; None: none does within two weeks."""
        zone = ZoneInfo(self.timezone)
        now = datetime.fromtimestamp(wall_ns / 1e9, UTC)
        today = now.astimezone(zone)
        short = {each.day: each for text in self.holidays if (each := Holiday.parse(text))}
        hours = [OpenHours.parse(text) for text in self.sessions]
        begins: list[datetime] = []
        for day in (today.date() + timedelta(days=ahead) for ahead in range(_AHEAD_DAYS)):
            if day in short:
                opens = [short[day].opens_min]
            else:
                opens = [each.opens_min for each in hours if day.weekday() in each.days]
            # On the exchange's clock, which two days a year has an hour more or less.
            midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
            begins += [
                midnight.replace(hour=each // 60, minute=each % 60)
                for each in opens
                if each is not None
            ]
        later = [each.astimezone(UTC) for each in begins if each.astimezone(UTC) > now]
        return int(min(later).timestamp()) * 1_000_000_000 if later else None

    def holiday_at(self, wall_ns: int) -> str:
        """Today's, as the file writes it; empty where it is none."""
        today = (
            datetime.fromtimestamp(wall_ns / 1e9, UTC).astimezone(ZoneInfo(self.timezone)).date()
        )
        return next((text for text in self.holidays if Holiday.parse(text).day == today), "")

    def ran_out(self, wall_ns: int) -> date | None:
        """The last holiday that is listed, where that is over: this year's are missing."""
        days = [Holiday.parse(text).day for text in self.holidays]
        today = (
            datetime.fromtimestamp(wall_ns / 1e9, UTC).astimezone(ZoneInfo(self.timezone)).date()
        )
        return max(days) if days and max(days) < today else None
