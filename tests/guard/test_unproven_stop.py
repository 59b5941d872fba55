"""The guard goes on with a stop that ended without proof, until there is one or a latch of it is released."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kill.small_desk import PATIENCE_S, small_desk

from openbell.cli.commands.status import emergency_lines
from openbell.config.layout import DeskLayout
from openbell.domain.scopes import DESK
from openbell.kill.course import Course
from openbell.kill.emergency_statement import EmergencyStatement, LatchSet
from openbell.kill.guard_client import GuardGoneError, ask_guard
from openbell.kill.latching import latch_now
from openbell.kill.marker import set_marker
from openbell.kill.request import EmergencyRequest
from openbell.kill.statement import Result, VenueStatement
from openbell.kill.unproven_stop import (
    Debts,
    Owed,
    emergency_document,
    note_went_on,
    owed_of,
    read_went_on,
)
from openbell.state.latch import Latches

MORE = "[guard]\nrestart_controller = false\n"


async def _guard_says(layout: DeskLayout) -> dict[str, Any]:
    """Empty: nothing yet."""
    with contextlib.suppress(GuardGoneError):
        async for answer in ask_guard(layout, {"do": "status"}, first_within_s=5.0):
            return answer
    return {}


async def _until(condition: Callable[[dict[str, Any]], bool], layout: DeskLayout) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while not ((told := await _guard_says(layout)) and condition(told)):
            await asyncio.sleep(0.05)
    return told


async def test_orders_that_a_hanging_venue_kept_are_withdrawn_by_the_guard_once_it_answers(
    tmp_path: Path,
) -> None:
    """They rested, and it was unknown, until somebody pressed again. No dead man's switch is asked here."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENBELL_")}
    async with small_desk(tmp_path / "desk", more=MORE, venue_more='dead_man = "off"\n') as desk:
        desk.layout.target.write_text('{"target": "trading"}')  # or the guard ends as idle
        desk.rest(3)
        (here,) = desk.houses.values()
        command = [
            sys.executable,
            "-m",
            "openbell.guard",
            "--desk",
            str(desk.folder),
            "--foreground",
        ]
        with subprocess.Popen(command, env=environ) as process:
            try:
                await _until(
                    lambda told: bool(told.get("venues")) and told["venues"][0]["warm"], desk.layout
                )
                await here.suffer({"kind": "hang", "hold_s": 600})
                pressed = await desk.press("--timeout", "2")
                assert pressed.status == 7, pressed
                assert pressed.venue("mt5-0")["result"] == "unknown"
                assert len(desk.own_open()) == 3
                told = await _until(lambda told: bool(told.get("going_on")), desk.layout)
                assert told["going_on"].keys() == {"mt5-0"}
                here.sim.faults.clear()
                await desk.until(lambda: desk.own_open() == [], "the guard withdraws them")
                await _until(lambda told: told.get("going_on") == {}, desk.layout)
            finally:
                process.kill()
        document = emergency_document(desk.layout)
        assert document is not None and document["statement"]["result"] == "unknown"
        assert document["went_on"]["venues"]["mt5-0"]["result"] == "verified"
        assert any("by the guard: mt5-0: verified" in line for line in emergency_lines(document))
        # Whoever presses again is told what is so, and that is proven anew.
        assert (await desk.press("--alone")).status == 0


# What is owed.


def _stated(
    results: dict[str, Result], *ids: str, scopes: tuple[str, ...] = ("desk",), course: str = "001"
) -> EmergencyStatement:
    return EmergencyStatement(
        course=course, reason="", actor="", scopes=scopes, flatten=True, account_wide=False,
        began="2026-01-01T00:00:00+00:00", took_s=1.0, carrier_pid=1,
        latch=LatchSet(set=True, durable=True, ids=ids),
        venues=tuple(VenueStatement(venue=name, result=each) for name, each in results.items()),
    )  # fmt: skip


def test_only_what_is_not_proven_is_owed_and_only_while_it_is_latched() -> None:
    stated = _stated({"a": "verified", "b": "residual", "c": "unknown"}, "1", "2")
    latched = frozenset(("1", "2", "3"))
    assert owed_of(stated, latched, None) == Owed("001", ("b", "c"), False)
    assert owed_of(stated, frozenset(("1", "3")), None) is None, "a person released one of them"
    assert owed_of(_stated({"b": "unknown"}), latched, None) is None, "it is not known which"
    assert owed_of(_stated({"a": "verified"}, "1"), latched, None) is None


def test_of_symbols_only_their_orders_are_withdrawn() -> None:
    scopes = ("symbol:BTC/USD", "symbol:ETH/USD")
    found = owed_of(_stated({"a": "unknown"}, "1", scopes=scopes), frozenset("1"), None)
    assert found is not None and found.symbols == ("BTC/USD", "ETH/USD")
    both = owed_of(
        _stated({"a": "unknown"}, "1", scopes=(*scopes, "venue:a")), frozenset("1"), None
    )
    assert both is not None and both.symbols == ()


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    made = DeskLayout.for_desk(tmp_path, {})
    made.make()
    return made


async def _left(layout: DeskLayout, ids: tuple[str, ...], result: Result = "unknown") -> str:
    """A stop as it leaves its course."""
    course = await Course.begin(layout.emergency, lambda _: None)
    stated = _stated({"a": result, "b": "verified"}, *ids, course=course.name)
    stated = msgspec.structs.replace(stated, began=datetime.now(UTC).isoformat())
    course.add("ended", statement=stated.to_wire())
    await course.close(PATIENCE_S)
    return course.name


async def test_what_was_proven_since_is_owed_no_more_and_belongs_to_that_stop_alone(
    layout: DeskLayout,
) -> None:
    ids = latch_now(layout, EmergencyRequest())
    set_marker(layout, "a drill", "ann")
    name = await _left(layout, ids)
    debts = Debts(layout)
    assert debts.owed() == Owed(name, ("a",), False)
    note_went_on(layout, name, VenueStatement(venue="a", result="residual"))
    assert debts.owed() == Owed(name, ("a",), False)
    note_went_on(layout, name, VenueStatement(venue="a", result="verified"))
    assert debts.owed() is None
    document = emergency_document(layout)
    assert document is not None and document["went_on"]["tries"] == {"a": 2}

    later = await _left(layout, ids)
    assert debts.owed() == Owed(later, ("a",), False), "of the later one nothing is proven"
    document = emergency_document(layout)
    assert document is not None and document["went_on"] is None


async def test_a_person_who_releases_the_latch_ends_it(layout: DeskLayout) -> None:
    await _left(layout, latch_now(layout, EmergencyRequest()))
    debts = Debts(layout)
    assert debts.owed() is not None
    latches = Latches(layout)
    latches.release(latches.read())
    assert debts.owed() is None
    latch_now(layout, EmergencyRequest())  # and one that is set anew is another
    assert debts.owed() is None
    assert DESK in latches.scopes()


async def test_a_course_is_read_once_and_again_only_when_one_has_grown(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard looks every two seconds, and a stop of a large desk tells thousands of lines."""
    ids = latch_now(layout, EmergencyRequest())
    first = await _left(layout, ids)
    debts = Debts(layout)
    assert debts.owed() == Owed(first, ("a",), False)
    with monkeypatch.context() as patched:
        patched.setattr(
            "openbell.kill.unproven_stop.last_statement", lambda _: pytest.fail("read again")
        )
        assert debts.owed() == Owed(first, ("a",), False)
    second = await _left(layout, ids)
    assert debts.owed() == Owed(second, ("a",), False)


def test_a_file_that_is_torn_says_nothing(layout: DeskLayout) -> None:
    assert read_went_on(layout) is None
    layout.emergency_went_on.write_bytes(msgspec.json.encode({"course": 7}))
    assert read_went_on(layout) is None
