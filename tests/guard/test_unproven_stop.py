"""The guard goes on with a stop that ended without proof, until there is one or a latch of it is released."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.kill.house import KEY, OTHER_DESK, SECRET, House, house
from tests.kill.small_desk import PATIENCE_S, SmallDesk, small_desk

from openbell.cli.commands.status import emergency_lines
from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.config.models import LoadedDesk
from openbell.controller import guard_keeper
from openbell.controller.guard_keeper import GuardKeeper
from openbell.domain.scopes import DESK
from openbell.guard import unproven_stop
from openbell.guard.unproven_stop import OTHERS_REST, UnprovenStop
from openbell.guard.warm_venue import WarmVenue
from openbell.kill.course import Course
from openbell.kill.emergency_statement import EmergencyStatement, LatchSet
from openbell.kill.guard_client import GuardGoneError, ask_guard
from openbell.kill.latching import latch_now
from openbell.kill.marker import clear_marker, set_marker
from openbell.kill.request import EmergencyRequest
from openbell.kill.statement import Result, VenueStatement
from openbell.kill.unproven_stop import (
    Debt,
    Debts,
    LeftOpen,
    emergency_document,
    left_open,
    note_went_on,
    owed_of,
    read_went_on,
)
from openbell.procedures.uncontrolled import status_without_controller
from openbell.runtime.host import Host
from openbell.runtime.plan import build_specs
from openbell.runtime.run import spawn_run
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


@contextlib.contextmanager
def _guard_of(desk: SmallDesk) -> Iterator[subprocess.Popen[bytes]]:
    desk.layout.target.write_text('{"target": "trading"}')  # or the guard ends as idle
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENBELL_")}
    command = [
        sys.executable, "-m", "openbell.guard", "--desk", str(desk.folder), "--foreground",
    ]  # fmt: skip
    with subprocess.Popen(command, env=environ) as process:
        try:
            yield process
        finally:
            process.kill()


async def _is_warm(desk: SmallDesk) -> None:
    await _until(lambda told: bool(told.get("venues")) and told["venues"][0]["warm"], desk.layout)


class _Keeper(GuardKeeper):
    """The controller's, as it ends the guard; `noted`: what it puts into the audit log."""

    def __init__(self, desk: SmallDesk, guard: subprocess.Popen[bytes]) -> None:
        self.noted: list[tuple[str, object]] = []
        super().__init__(
            SimpleNamespace(  # type: ignore[arg-type]
                layout=desk.layout,
                desk=load_desk(desk.folder),
                renewals=0,
                auditor=SimpleNamespace(
                    note=lambda action, *_, **more: self.noted.append((action, more["why"]))
                ),
            )
        )
        self._pid = guard.pid


async def test_orders_that_a_hanging_venue_kept_are_withdrawn_by_the_guard_once_it_answers(
    tmp_path: Path,
) -> None:
    """They rested, and it was unknown, until somebody pressed again; and a desk that was closed meanwhile
    took the guard with it: nobody went on with them. No dead man's switch is asked here."""
    async with small_desk(tmp_path / "desk", more=MORE, venue_more='dead_man = "off"\n') as desk:
        desk.rest(3)
        (here,) = desk.houses.values()
        with _guard_of(desk) as process:
            await _is_warm(desk)
            await here.suffer({"kind": "hang", "hold_s": 600})
            pressed = await desk.press("--timeout", "2")
            assert pressed.status == 7, pressed
            assert pressed.venue("mt5-0")["result"] == "unknown"
            assert len(desk.own_open()) == 3
            keeper = _Keeper(desk, process)
            # At once: the guard itself may not have looked since.
            assert not await keeper.end("the desk is closed", if_idle=True)
            assert keeper.noted == [("guard.stays", "it goes on with stop 001 at mt5-0")]
            told = await _until(lambda told: bool(told.get("going_on")), desk.layout)
            assert told["going_on"].keys() == {"mt5-0"}
            here.sim.faults.clear()
            await desk.until(lambda: desk.own_open() == [], "the guard withdraws them")
            await _until(lambda told: told.get("going_on") == {}, desk.layout)
            await desk.until(
                lambda: [each["result"] for each in _acts(desk.layout)] == ["begun", "verified"],
                "it is recorded",
            )
            assert await keeper.end("the desk is closed", if_idle=True), "nothing is left to it"
            assert keeper.noted[-1] == ("guard.ended", "the desk is closed")
            assert process.wait(PATIENCE_S) == 0
        document = emergency_document(desk.layout)
        assert document is not None and document["statement"]["result"] == "unknown"
        assert document["went_on"]["venues"]["mt5-0"]["result"] == "verified"
        assert any("by the guard: mt5-0: verified" in line for line in emergency_lines(document))
        # Whoever presses again is told what is so, and that is proven anew.
        assert (await desk.press("--alone")).status == 0


def _acts(layout: DeskLayout) -> list[dict[str, Any]]:
    """Of going on, in the kill switch's own log."""
    lines = (
        layout.kill_switch_log.read_text().splitlines() if layout.kill_switch_log.exists() else []
    )
    told = [msgspec.json.decode(line, type=dict[str, Any]) for line in lines]
    return [each for each in told if each["action"] == "emergency.went_on"]


async def test_a_guard_that_carries_out_a_stop_is_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who closed a desk, or restarted it, beside a stop that took longer than a guard has to end, had it
    killed in the middle: of a stop of one venue nobody but the guard knows."""
    monkeypatch.setattr(guard_keeper, "KILL_S", 0.2)
    async with small_desk(tmp_path / "desk", more=MORE, venue_more='dead_man = "off"\n') as desk:
        desk.rest(3)
        (here,) = desk.houses.values()
        with _guard_of(desk) as process:
            await _is_warm(desk)
            await here.suffer({"kind": "hang", "hold_s": 600})
            stop = await desk.begin("--timeout", "600", "--scope", "venue:mt5-0")
            await _until(lambda told: told["stopping"], desk.layout)
            keeper = _Keeper(desk, process)
            assert not await keeper.end("the desk is closed", if_idle=True)
            assert not await keeper.end("the desk is restarted")
            assert keeper.noted == [
                ("guard.stays", "it carries out an emergency stop"),
                ("guard.stays", "it carries out an emergency stop, and ends after it"),
            ]
            here.sim.faults.clear()
            pressed = await desk.end(stop)
            assert (pressed.status, pressed.statement["carrier_pid"]) == (0, process.pid), pressed
            assert desk.own_open() == []
            assert process.wait(PATIENCE_S) == 0, "it was told to end"


# What is owed.

DESK_FILE = """[desk]
name = "small"
[venues.a]
adapter = "mt5"
url = "http://127.0.0.1:9"
symbols = ["EUR/USD", "USD/JPY"]
key_env = "THE_KEY"
secret_env = "THE_SECRET"
[venues.b]
adapter = "mt5"
url = "http://127.0.0.1:9"
symbols = ["EUR/USD"]
key_env = "THE_KEY"
secret_env = "THE_SECRET"
[services.helper]
command = ["sleep", "600"]
"""
BEGAN = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def desk(tmp_path: Path) -> LoadedDesk:
    (tmp_path / "desk.toml").write_text(DESK_FILE)
    return load_desk(tmp_path)


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    made = DeskLayout.for_desk(tmp_path, {})
    made.make()
    return made


def _stated(
    results: dict[str, Result],
    *ids: str,
    scopes: tuple[str, ...] = ("desk",),
    course: str = "001",
    account_wide: bool = False,
) -> EmergencyStatement:
    return EmergencyStatement(
        course=course, reason="", actor="", scopes=scopes, flatten=True, account_wide=account_wide,
        began=BEGAN, took_s=1.0, carrier_pid=1,
        latch=LatchSet(set=True, durable=True, ids=ids),
        venues=tuple(VenueStatement(venue=name, result=each) for name, each in results.items()),
    )  # fmt: skip


def _owed(*newest_first: EmergencyStatement, desk: LoadedDesk, latched: str) -> dict[Any, Any]:
    """Symbols by course and venue."""
    found = owed_of(newest_first, desk, set(latched), ())
    return {(debt.course, debt.venue): debt.symbols for debt in found}


def test_only_what_is_not_proven_is_owed_and_only_while_it_is_latched(desk: LoadedDesk) -> None:
    stated = _stated({"a": "verified", "b": "residual", "gone": "unknown"}, "1", "2")
    assert _owed(stated, desk=desk, latched="123") == {("001", "b"): (None,)}
    assert not _owed(stated, desk=desk, latched="13"), "a person released one of them"
    unknown = _stated({"b": "unknown"})
    assert not _owed(unknown, desk=desk, latched="123"), "it is not known which"
    strange = _stated({"b": "unknown"}, "1", scopes=("galaxy:far",))
    assert not _owed(strange, desk=desk, latched="1"), "it is not known what it was to stop"


def test_of_symbols_only_their_orders_are_withdrawn_at_each_venue_by_itself(
    desk: LoadedDesk,
) -> None:
    """One venue that was to be stopped as a whole made all of every other one go."""
    stated = _stated(
        {"a": "unknown", "b": "unknown"}, "1", scopes=("symbol:EUR/USD", "symbol:USD/JPY")
    )
    assert _owed(stated, desk=desk, latched="1") == {
        ("001", "a"): ("EUR/USD", "USD/JPY"),
        ("001", "b"): ("EUR/USD",),
    }
    mixed = _stated({"a": "unknown", "b": "unknown"}, "1", scopes=("symbol:USD/JPY", "venue:b"))
    assert _owed(mixed, desk=desk, latched="1") == {
        ("001", "a"): ("USD/JPY",),
        ("001", "b"): (None,),
    }


def test_a_later_stop_replaces_an_earlier_one_only_where_it_covers_it(desk: LoadedDesk) -> None:
    """A stop of one venue, verified, wiped out what the stop of the desk had left open at another."""
    whole = _stated({"a": "unknown", "b": "unknown"}, "1")
    of_b = _stated({"b": "verified"}, "2", scopes=("venue:b",), course="002")
    assert _owed(of_b, whole, desk=desk, latched="12") == {("001", "a"): (None,)}
    of_symbol = _stated({"a": "verified"}, "3", scopes=("symbol:EUR/USD",), course="003")
    assert _owed(of_symbol, of_b, whole, desk=desk, latched="123") == {("001", "a"): (None,)}
    of_a = _stated({"a": "residual"}, "4", scopes=("venue:a",), course="004")
    assert _owed(of_a, of_symbol, whole, desk=desk, latched="134") == {
        ("004", "a"): (None,),
        ("001", "b"): (None,),
    }
    assert _owed(of_a, whole, desk=desk, latched="1") == {("001", "b"): (None,)}, "released there"


async def _left(
    layout: DeskLayout,
    ids: tuple[str, ...],
    results: dict[str, Result] | None = None,
    **fields: Any,
) -> str:
    """A stop as it leaves its course."""
    course = await Course.begin(layout.emergency, lambda _: None)
    results = results or {"a": "unknown", "b": "verified"}
    stated = _stated(results, *ids, course=course.name, **fields)
    stated = msgspec.structs.replace(stated, began=datetime.now(UTC).isoformat())
    course.add("ended", statement=stated.to_wire())
    await course.close(PATIENCE_S)
    return course.name


def _names(owed: tuple[Debt, ...]) -> list[tuple[str, str]]:
    return [(debt.course, debt.venue) for debt in owed]


async def test_what_was_proven_since_is_owed_no_more_and_belongs_to_that_stop_alone(
    layout: DeskLayout, desk: LoadedDesk
) -> None:
    ids = latch_now(layout, EmergencyRequest())
    set_marker(layout, "a drill", "ann")
    name = await _left(layout, ids)
    debts = Debts(layout, desk)
    (debt,) = debts.owed()
    assert (debt.course, debt.venue, debt.whole_desk) == (name, "a", True)
    note_went_on(layout, debt, VenueStatement(venue="a", result="residual"))
    assert debts.owed() == (debt,)
    note_went_on(layout, debt, VenueStatement(venue="a", result="verified"))
    assert debts.owed() == ()
    document = emergency_document(layout)
    assert document is not None and document["went_on"]["tries"] == {"a": 2}

    later = await _left(layout, ids)
    assert _names(debts.owed()) == [(later, "a")], "of the later one nothing is proven"
    document = emergency_document(layout)
    assert document is not None and document["went_on"] is None


async def test_what_a_stop_has_left_is_told_after_its_marker_until_it_is_proven_or_released(
    layout: DeskLayout, desk: LoadedDesk
) -> None:
    """`openbell up` takes the marker away, and with it went all that `status` said of orders at rest."""

    def told() -> list[tuple[str, str]]:
        advice = status_without_controller(desk, layout)["recommendations"]
        return [(each["subject"], each["text"]) for each in advice if "came to" in each["text"]]

    set_marker(layout, "a drill", "ann")
    name = await _left(layout, latch_now(layout, EmergencyRequest()), {"a": "residual"})
    clear_marker(layout)
    assert emergency_document(layout) is None
    assert left_open(layout, desk) == (LeftOpen(name, "a", "residual", ""),)
    ((subject, text),) = told()
    assert subject == "a" and f"emergency stop {name} came to residual" in text
    (debt,) = Debts(layout, desk).owed()
    hung = VenueStatement(venue="a", result="unknown", why="it does not answer")
    note_went_on(layout, debt, hung)
    assert left_open(layout, desk) == (LeftOpen(name, "a", "unknown", "it does not answer"),)
    note_went_on(layout, debt, VenueStatement(venue="a", result="verified"))
    assert (left_open(layout, desk), told()) == ((), [])

    await _left(layout, latch_now(layout, EmergencyRequest()), {"a": "unknown"})
    assert left_open(layout, desk)
    latches = Latches(layout)
    latches.release(latches.read())
    assert (left_open(layout, desk), told()) == ((), []), "a person said so"


async def test_what_was_proven_of_a_course_whose_number_came_again_is_not_of_this_one(
    layout: DeskLayout, desk: LoadedDesk
) -> None:
    """As where the state was put back to before that stop."""
    ids = latch_now(layout, EmergencyRequest())
    set_marker(layout, "a drill", "ann")
    name = await _left(layout, ids)
    (debt,) = Debts(layout, desk).owed()
    note_went_on(layout, debt, VenueStatement(venue="a", result="verified"))
    (layout.emergency / f"{name}.jsonl").unlink()
    assert await _left(layout, ids) == name
    assert _names(Debts(layout, desk).owed()) == [(name, "a")]
    document = emergency_document(layout)
    assert document is not None and document["went_on"] is None


async def test_a_narrower_stop_that_came_after_leaves_the_rest_owed(
    layout: DeskLayout, desk: LoadedDesk
) -> None:
    whole = await _left(layout, latch_now(layout, EmergencyRequest()), {"a": "unknown"})
    part = latch_now(layout, EmergencyRequest.from_wire({"scopes": ["venue:b"]}))
    await _left(layout, part, {"b": "verified"}, scopes=("venue:b",))
    assert _names(Debts(layout, desk).owed()) == [(whole, "a")]


async def test_a_person_who_releases_the_latch_ends_it(
    layout: DeskLayout, desk: LoadedDesk
) -> None:
    await _left(layout, latch_now(layout, EmergencyRequest()))
    debts = Debts(layout, desk)
    assert debts.owed()
    latches = Latches(layout)
    latches.release(latches.read())
    assert debts.owed() == ()
    latch_now(layout, EmergencyRequest())  # and one that is set anew is another
    assert debts.owed() == ()
    assert DESK in latches.scopes()


async def test_a_course_is_read_once_and_again_only_when_one_has_grown(
    layout: DeskLayout, desk: LoadedDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard looks every two seconds, and a stop of a large desk tells thousands of lines."""
    ids = latch_now(layout, EmergencyRequest())
    first = await _left(layout, ids)
    debts = Debts(layout, desk)
    assert _names(debts.owed()) == [(first, "a")]
    with monkeypatch.context() as patched:
        patched.setattr(
            "openbell.kill.unproven_stop.statement_in", lambda *_: pytest.fail("read again")
        )
        assert _names(debts.owed()) == [(first, "a")]
    second = await _left(layout, ids)
    assert _names(debts.owed()) == [(second, "a")]


def test_a_file_that_is_torn_says_nothing(layout: DeskLayout) -> None:
    assert read_went_on(layout) == ()
    layout.emergency_went_on.write_bytes(msgspec.json.encode([{"course": 7}]))
    assert read_went_on(layout) == ()


async def test_the_controller_has_what_the_guard_goes_on_with_in_the_audit_log() -> None:
    audited: list[tuple[str, str, str]] = []

    def note(action: str, target: str, *, course: str, result: str) -> None:
        audited.append((action, target, f"{course} {result}"))

    desk: Any = SimpleNamespace(renewals=0, auditor=SimpleNamespace(note=note))
    keeper = GuardKeeper(desk)
    for event in ("stop_gone_on", "stop_proven"):
        line = msgspec.json.encode({"event": event, "venue": "a", "course": "001"})
        await keeper._hear(line, 1, said_hello=True)
    assert audited == [
        ("emergency.went_on", "a", "001 begun"),
        ("emergency.went_on", "a", "001 verified"),
    ]


# What is done about it, at one venue.


@dataclass
class _Switch:
    is_to_cancel: bool = False


class _Stops:
    def __init__(self) -> None:
        self.under_way = False
        self.begins: Callable[[], None] = lambda: None


@dataclass
class _Going:
    """A guard's part of it, with a desk of one venue `a`."""

    here: House
    layout: DeskLayout
    part: UnprovenStop
    switch: _Switch
    stops: _Stops
    told: list[str]
    looks: list[int]

    def rest(self, count: int, desk: str | None = None) -> None:
        self.here.rest(count, desk=desk or self.layout.desk_id)

    @property
    def open(self) -> int:
        return len(self.here.open())

    async def until(self, condition: Callable[[], object], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"not in time: {what}; {self.part.document()}"
            await asyncio.sleep(0.02)

    def found(self) -> list[VenueStatement]:
        return [each.venues["a"] for each in read_went_on(self.layout)]

    async def hangs(self) -> None:
        """A try that is under way at a venue that answers nothing."""
        await self.here.suffer({"kind": "hang", "hold_s": 600})
        self.rest(2)
        await _left(self.layout, latch_now(self.layout, EmergencyRequest()), {"a": "unknown"})
        await self.until(lambda: "going on" in self.part.document().get("a", ""), "it tries")

    async def is_left_alone(self) -> None:
        """By looks each of which would have begun another try."""
        self.here.sim.faults.clear()
        seen = len(self.looks)
        await self.until(lambda: len(self.looks) > seen + 10, "it looks again")
        assert self.open == 2


@pytest.fixture
async def going(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[_Going]:
    """Parameters are added to the venue's table. A try lasts ten minutes, if nothing breaks it off."""
    monkeypatch.setattr(unproven_stop, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(unproven_stop, "LOOK_TRYING_S", 0.05)
    monkeypatch.setattr(unproven_stop, "RETRY_FIRST_S", 0.01)
    owed, looks = Debts.owed, list[int]()

    def counted(debts: Debts) -> tuple[Debt, ...]:
        looks.append(1)
        return owed(debts)

    monkeypatch.setattr(Debts, "owed", counted)
    async with house("mt5") as here:
        options = ", ".join(f'{k} = "{v}"' for k, v in here.kind.options.items())
        (tmp_path / "desk.toml").write_text(
            f'[desk]\nname = "small"\n[guard]\ncancel_timeout = "10m"\n'
            f'[venues.a]\nadapter = "mt5"\nurl = "{here.sim.url}"\n'
            f'symbols = ["EUR/USD", "USD/JPY"]\nkey_env = "THE_KEY"\nsecret_env = "THE_SECRET"\n'
            f'timeout = "3s"\noptions = {{ {options} }}\n{getattr(request, "param", "")}'
            '[services.sender]\ncommand = ["sleep", "600"]\nvenues = ["a"]\n'
        )
        layout = DeskLayout.for_desk(tmp_path, {})
        layout.make()
        loaded = load_desk(tmp_path)
        told: list[str] = []

        def tell(event: str, **_facts: object) -> None:
            told.append(event)

        warm = WarmVenue("a", loaded.file.venues["a"], (KEY, SECRET), tell)
        warm.venue = here.venue
        switch, stops = _Switch(), _Stops()
        part = UnprovenStop(layout, loaded, {"a": warm}, {"a": switch}, stops, tell)
        running = asyncio.create_task(part.run())
        try:
            yield _Going(here, layout, part, switch, stops, told, looks)
        finally:
            running.cancel()
            (ended,) = await asyncio.gather(running, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError), ended


@pytest.mark.parametrize(
    ("going", "account_wide"), [("exclusive = true\n", False), ("", True)], indirect=["going"]
)
async def test_others_orders_are_left_to_a_person(going: _Going, account_wide: bool) -> None:
    """On one press of `--account-wide` the guard went on to cancel them, for hours."""
    going.rest(2)
    going.rest(3, OTHER_DESK)
    ids = latch_now(going.layout, EmergencyRequest())
    await _left(going.layout, ids, {"a": "unknown"}, account_wide=account_wide)
    await going.until(lambda: going.found(), "it is found out")
    assert going.open == 3
    (found,) = going.found()
    assert (found.result, found.why, len(found.orders)) == ("residual", OTHERS_REST, 3)
    assert not any(order.own for order in found.orders)
    for order in going.here.open():
        going.here.sim.exchange.cancel(order)
    await going.until(lambda: going.found()[0].result == "verified", "they are gone")
    await going.until(lambda: going.told == ["stop_gone_on", "stop_proven"], "it is told")
    await going.until(lambda: len(_acts(going.layout)) == 2, "it is recorded")


async def test_what_a_try_has_proven_is_told_though_it_is_owed_no_more_by_then(
    going: _Going, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(layout: DeskLayout, debt: Debt, stated: VenueStatement) -> None:
        note_went_on(layout, debt, stated)
        seen, deadline_s = len(going.looks), time.monotonic() + PATIENCE_S
        while len(going.looks) < seen + 3 and time.monotonic() < deadline_s:
            time.sleep(0.01)

    monkeypatch.setattr(unproven_stop, "note_went_on", slowly)
    monkeypatch.setattr(unproven_stop, "DISK_S", PATIENCE_S)
    await _left(going.layout, latch_now(going.layout, EmergencyRequest()), {"a": "unknown"})
    await going.until(lambda: "stop_proven" in going.told, "it is told")
    await going.until(lambda: len(_acts(going.layout)) == 2, "it is recorded")


async def test_a_latch_that_is_released_in_the_middle_of_a_try_breaks_it_off(
    going: _Going,
) -> None:
    """It was looked at between two tries only: what an engine sent after the release was cancelled."""
    await going.hangs()
    latches = Latches(going.layout)
    latches.release(latches.read())
    await going.until(lambda: going.part.document() == {}, "it is broken off")
    await going.is_left_alone()


async def test_a_stop_in_this_guard_has_the_venue_for_itself(going: _Going) -> None:
    await going.hangs()
    going.stops.under_way = True
    going.stops.begins()
    assert "a stop is carried out" in going.part.document()["a"], "at once"
    await going.until(lambda: going.part.document() == {}, "nothing is tried meanwhile")
    await going.is_left_alone()
    going.stops.under_way = False
    await going.until(lambda: going.open == 0, "it is gone on with after that")


async def test_a_dead_mans_switch_that_withdraws_the_orders_itself_is_left_alone(
    going: _Going,
) -> None:
    await going.hangs()
    going.switch.is_to_cancel = True
    left = "left to its dead-man's switch"
    await going.until(lambda: left in going.part.document()["a"], "it is broken off")
    await going.is_left_alone()


async def test_what_a_disk_says_too_late_is_asked_anew(
    going: _Going, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hung for minutes, and what it says then was so before: the latch may be released by now."""
    owed, hangs, looks = Debts.owed, threading.Event(), 0

    def late(debts: Debts) -> tuple[Debt, ...]:
        nonlocal looks
        told = owed(debts)
        looks += bool(told)
        if looks == 1:
            hangs.wait(PATIENCE_S)
            return told
        return ()

    # Before there is anything to see: a look that is under way as it is left would act on it.
    monkeypatch.setattr(unproven_stop, "DISK_S", 0.2)
    monkeypatch.setattr(Debts, "owed", late)
    going.rest(2)
    await _left(going.layout, latch_now(going.layout, EmergencyRequest()), {"a": "unknown"})
    await going.until(lambda: looks == 1, "it looks")
    await asyncio.sleep(2 * unproven_stop.DISK_S)
    hangs.set()
    await going.until(lambda: looks > 2, "it looks again")
    assert going.told == [] and going.open == 2


async def test_nothing_is_proven_while_something_lives_that_the_stop_was_to_end(
    going: _Going, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two empty lists said verified, while a service that could not be killed held keys and sent on."""
    monkeypatch.setattr(going.part, "_cancel_timeout_s", 2.0)
    specs = build_specs(load_desk(going.layout.desk), going.layout, dict(os.environ), {})
    run = spawn_run(Host.of(going.layout, lambda _: None), specs["sender"], time.time_ns(), 0, ())
    try:
        run.settle()
        going.rest(2)
        await _left(going.layout, latch_now(going.layout, EmergencyRequest()), {"a": "unknown"})
        await going.until(lambda: going.open == 0, "they are cancelled all the same")
        alive = "alive, and may send: sender"
        await going.until(
            lambda: any(alive in found.why for found in going.found()), "it is found out"
        )
        assert going.found()[0].result == "unknown"
        assert "stop_proven" not in going.told
        os.kill(run.process.pid, signal.SIGKILL)
        await going.until(lambda: going.found()[0].result == "verified", "nothing sends any more")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.process.pid, signal.SIGKILL)
        await asyncio.wait([run.process.exit], timeout=PATIENCE_S)
        run.process.close()
