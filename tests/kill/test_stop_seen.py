"""What others tell of an emergency stop: of the one that holds the desk, and of no other."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openbell.cli.commands.status import emergency_lines
from openbell.config.layout import DeskLayout
from openbell.kill import stop_seen
from openbell.kill.emergency_statement import EmergencyStatement, LatchSet
from openbell.kill.marker import set_marker
from openbell.kill.statement import Result, VenueStatement
from openbell.kill.stop_seen import CourseNews, CourseWatch, has_stopped
from openbell.kill.unproven_stop import emergency_document
from openbell.runtime.processes import system_processes
from openbell.state.lock import FileLock


class Desk:
    """Its courses, as carriers write them."""

    def __init__(self, folder: Path) -> None:
        self.layout = DeskLayout.for_desk(folder, {})
        self.layout.make()
        self.layout.emergency.mkdir(parents=True, exist_ok=True)

    def hold(self) -> None:
        assert set_marker(self.layout, "a drill", "ann") == ""

    def begin(self, name: str, pid: int, scope: str = "desk") -> None:
        facts = system_processes().facts(pid)
        start = facts.start if facts is not None else 1
        request = {"scopes": [scope], "actor": "ann", "reason": "a drill"}
        self.write(name, {"event": "begun", "pid": pid, "start": start, "request": request})

    def end(
        self, name: str, result: Result = "verified", *, scope: str = "desk", ago_s: float = 0.0
    ) -> None:
        began = datetime.now(UTC) - timedelta(seconds=ago_s + 1.0)
        stated = EmergencyStatement(
            course=name, reason="a drill", actor="ann", scopes=(scope,), flatten=False,
            account_wide=False, began=began.isoformat(), took_s=1.0, carrier_pid=1,
            latch=LatchSet(set=True, durable=True),
            venues=(VenueStatement(venue="v", result=result, by_hand="call them"),),
        )  # fmt: skip
        self.write(name, {"event": "ended", "statement": stated.to_wire()})

    def write(self, name: str, event: dict[str, Any]) -> None:
        with (self.layout.emergency / f"{name}.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(event) + b"\n")

    def stated(self) -> str | None:
        """The course of which the statement is shown."""
        document = emergency_document(self.layout)
        assert document is not None
        return None if document["statement"] is None else str(document["statement"]["course"])

    def text(self) -> str:
        return "\n".join(emergency_lines(emergency_document(self.layout)))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def carrier() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_stop_that_died_is_not_told_with_the_word_of_one_of_weeks_ago(desk: Desk) -> None:
    """`status` said VERIFIED, and to open the desk again."""
    desk.begin("001", _dead_pid())
    desk.end("001", ago_s=86_400 * 20)
    desk.hold()
    assert desk.stated() is None, "it was killed before it began its course"
    desk.begin("002", _dead_pid())
    assert desk.stated() is None
    assert not has_stopped(desk.layout, "v")
    assert "it has no end: press again" in desk.text()
    assert "VERIFIED" not in desk.text()
    desk.begin("003", _dead_pid())
    desk.end("003")
    assert desk.stated() == "003"
    assert has_stopped(desk.layout, "v")
    assert "VERIFIED (v: verified)" in desk.text()


def test_nor_with_that_of_a_later_stop_of_one_venue(desk: Desk) -> None:
    desk.hold()
    desk.begin("001", _dead_pid())
    desk.begin("002", _dead_pid(), "venue:v")
    desk.end("002", scope="venue:v")
    assert desk.stated() is None
    assert not has_stopped(desk.layout, "v")


def test_nor_where_the_newest_does_not_say_what_it_was_to_stop(desk: Desk) -> None:
    desk.hold()
    desk.begin("001", _dead_pid())
    desk.end("001")
    desk.write("002", {"event": "latched"})  # its first line was torn
    assert desk.stated() is None


def test_a_later_stop_of_one_venue_takes_nothing_from_what_the_desks_own_stated(desk: Desk) -> None:
    desk.hold()
    desk.begin("001", _dead_pid())
    desk.end("001")
    desk.begin("002", _dead_pid(), "venue:v")
    assert desk.stated() == "001"
    assert not has_stopped(desk.layout, "v"), "somebody pressed after it"


@pytest.mark.parametrize("result", ["unknown", "residual"])
def test_what_proved_no_zero_says_what_is_left_to_do(desk: Desk, result: Result) -> None:
    """All that was advised was to open the desk again."""
    desk.hold()
    desk.begin("001", _dead_pid())
    desk.end("001", result)
    text = desk.text()
    assert f"{result.upper()} (v: {result})" in text
    assert "BY HAND: v: call them" in text
    assert "`openbell emergency-stop` presses again" in text
    assert "with what may be left" in text


def test_each_course_begins_once_and_ends_with_its_own_result(
    desk: Desk, carrier: subprocess.Popen[bytes]
) -> None:
    """The marker and the lock were followed: in the gap between them the end of the stop before was
    recorded as this one's, and its own never."""
    desk.begin("001", _dead_pid())
    desk.end("001")
    watch = CourseWatch(desk.layout)
    desk.hold()
    assert watch.look(0.0) == [], "the carrier has not begun yet"
    desk.begin("002", carrier.pid)
    assert _told(watch.look(0.1)) == [("002", "begun", None)]
    assert watch.look(0.2) == []
    desk.end("002", "unknown")
    assert _told(watch.look(0.3)) == [("002", "ended", "unknown")]
    desk.begin("003", carrier.pid, "venue:v")
    desk.end("003", "residual", scope="venue:v")
    assert _told(watch.look(0.4)) == [("003", "begun", None), ("003", "ended", "residual")]
    assert watch.look(0.5) == []


def test_a_carrier_that_is_killed_ends_its_course_without_a_result(
    desk: Desk, carrier: subprocess.Popen[bytes]
) -> None:
    watch = CourseWatch(desk.layout)
    desk.hold()
    desk.begin("001", carrier.pid)
    assert _told(watch.look(0.0)) == [("001", "begun", None)]
    carrier.kill()
    carrier.wait()
    assert _told(watch.look(0.1)) == [("001", "ended", None)]
    assert watch.look(0.2) == []


def test_a_course_that_was_made_and_not_begun_is_lost_once_nobody_has_the_turn(desk: Desk) -> None:
    watch = CourseWatch(desk.layout)
    (desk.layout.emergency / "001.jsonl").touch()
    lock = FileLock(desk.layout.emergency_lock)
    lock.acquire()
    assert watch.look(0.0) == []
    assert watch.look(1 + stop_seen.LOST_S) == []
    lock.release()
    now_s = 2 + stop_seen.LOST_S
    assert watch.look(now_s) == []
    now_s += 1 + stop_seen.LOST_S
    assert _told(watch.look(now_s)) == [("001", "begun", None), ("001", "ended", None)]
    assert watch.look(now_s + 1) == []
    desk.begin("001", os.getpid())
    desk.end("001")
    assert _told(watch.look(now_s + 2)) == [("001", "ended", "verified")], "it came after all"


def test_a_stop_that_its_carrier_left_is_over_while_the_carrier_lives(
    desk: Desk, carrier: subprocess.Popen[bytes]
) -> None:
    """Ten seconds after the next one had verified everything it was told as one without an end."""
    watch = CourseWatch(desk.layout)
    desk.hold()
    desk.begin("001", carrier.pid)
    desk.write("001", {"event": "left", "why": "the venues has not ended for 70 s"})
    desk.begin("002", os.getpid())
    desk.end("002")
    begun, left, *second = watch.look(0.0)
    assert _told([begun, left]) == [("001", "begun", None), ("001", "ended", None)]
    assert left.left == "the venues has not ended for 70 s"
    assert _told(second) == [("002", "begun", None), ("002", "ended", "verified")]
    assert watch.look(1.0) == watch.look(2 + stop_seen.LOST_S) == []
    assert CourseWatch(desk.layout).look(0.0)[-1].name == "002"


def test_a_clock_that_is_set_back_makes_no_earlier_stop_the_desks_own(desk: Desk) -> None:
    """It was VERIFIED by the word of the one before, which had ended after the marker, by that clock."""
    desk.begin("001", _dead_pid())
    desk.end("001", ago_s=-3600)
    desk.hold()
    assert desk.stated() is None
    assert not has_stopped(desk.layout, "v")
    desk.begin("002", _dead_pid())
    desk.end("002", ago_s=3600)
    assert desk.stated() == "002"
    assert has_stopped(desk.layout, "v")


def test_a_watch_that_begins_late_tells_the_last_of_a_desk_that_is_held_and_what_goes_on(
    desk: Desk, carrier: subprocess.Popen[bytes]
) -> None:
    desk.begin("001", _dead_pid())
    desk.end("001")
    assert CourseWatch(desk.layout).look(0.0) == []
    desk.hold()
    watch = CourseWatch(desk.layout)
    assert _told(watch.look(0.0)) == [("001", "begun", None), ("001", "ended", "verified")]
    desk.begin("002", carrier.pid)
    assert _told(CourseWatch(desk.layout).look(0.0)) == [("002", "begun", None)]


def _told(news: list[CourseNews]) -> list[tuple[str, str, str | None]]:
    return [
        (
            each.name,
            "ended" if each.ended else "begun",
            None if each.statement is None else str(each.statement["result"]),
        )
        for each in news
    ]
