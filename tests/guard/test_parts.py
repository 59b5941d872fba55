"""A part of the guard that fails, and what a guard hands on to the one that comes after."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.domain.dead_man import EngineIs, Mode
from openbell.guard import guard as guard_module
from openbell.guard import record as record_module
from openbell.guard.guard import ALERTS, Guard
from openbell.guard.main import Earlier, _earlier
from openbell.guard.record import GuardRecord, own_record, write_record
from openbell.kill.beats import ACTIVE, CLOSING, STOPPED, Beat

DESK = """
[desk]
name = "d"
[services.one]
command = ["true"]
"""
VENUES = "".join(
    f'[venues.{name}]\nadapter = "kraken"\nurl = "http://127.0.0.1:1"\nsymbols = ["BTC/USD"]\n'
    for name in ("one", "two")
)


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    (tmp_path / "desk.toml").write_text(DESK)
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    loaded = load_desk(tmp_path)
    return Guard(layout, loaded, None, own_record(False), watching=False, on_end=lambda: None)


async def test_a_part_that_failed_is_a_problem_until_it_goes_on(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "WELL_AGAIN_S", 0.1)
    runs = []

    async def part() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise OSError
        await asyncio.Event().wait()

    lasting = asyncio.create_task(guard._lasting("it", part))
    await asyncio.sleep(0)
    assert guard.document()["problem"] == "it failed: OSError"
    async with asyncio.timeout(20):
        while guard.document()["problem"]:
            await asyncio.sleep(0.02)
    assert len(runs) == 2
    lasting.cancel()


async def test_a_stop_that_stood_still_in_it_is_a_problem_and_an_alert(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refused every stop from then on, and no status said so."""
    told = asyncio.Queue[dict[str, object]]()
    guard._watchers.add(told)
    guard.stopping._stand_still("the venues has not ended for 70 s")
    assert "one stood still (the venues has not ended for 70 s)" in guard.document()["problem"]
    assert told.get_nowait()["event"] == "stop_stands_still" and "stop_stands_still" in ALERTS
    assert guard.document()["stands_still"] == "the venues has not ended for 70 s"
    assert "no controller is there to replace it" in guard.document()["problem"]
    monkeypatch.setattr(type(guard.controller), "is_well", True)
    assert "the controller replaces it" in guard.document()["problem"]


async def test_a_guard_begins_with_the_mode_of_the_one_before_it(guard: Guard) -> None:
    assert _earlier(guard.layout) == (Earlier(), "")
    async for _ in guard.handlers()["hold"]({}, None):
        pass
    assert _earlier(guard.layout) == (Earlier(mode=Mode.HOLD), "")
    async for told in guard.handlers()["disarm"]({}, None):
        assert told["disarmed"]
    assert _earlier(guard.layout) == (Earlier(mode=Mode.OFF), "")
    record = own_record(True, Mode.OFF)
    after = Guard(guard.layout, guard.loaded, None, record, watching=True, on_end=lambda: None)
    assert after.mode is Mode.OFF
    async for _ in after.handlers()["open"]({}, None):
        pass
    assert _earlier(guard.layout) == (Earlier(engine_heard=True), "")
    write_record(guard.layout.guard_record, msgspec.structs.replace(record, boot_id="another"))
    assert _earlier(guard.layout) == (Earlier(), "")


async def test_one_that_comes_after_waits_no_longer_for_an_engine_that_is_to_be_back(
    guard: Guard,
) -> None:
    """It knew of no engine, and what that had left rested for ever."""
    now_s = time.monotonic()
    for stage in (ACTIVE, STOPPED):
        guard.hear(Beat(sender="engine", pid=1, epoch=1, stage=stage), now_s)
    await guard._keeper.kept(20)
    assert not guard.leaves_nothing
    earlier, _ = _earlier(guard.layout)
    assert earlier == Earlier(left_s=now_s)
    record = own_record(False, left_s=now_s - 40)
    after = Guard(guard.layout, guard.loaded, None, record, watching=False, on_end=lambda: None)
    assert after.engine.state is EngineIs.LEFT and 40 <= after.engine.away_s < 40 + 20
    async for _ in guard.handlers()["disarm"]({}, None):
        pass
    assert _earlier(guard.layout)[0] == Earlier(mode=Mode.OFF), "what a closing keeps has no end"
    assert guard.engine.state is EngineIs.LEFT
    async for _ in guard.handlers()["open"]({}, None):
        pass
    assert guard.engine.state is EngineIs.UNHEARD and _earlier(guard.layout)[0] == Earlier()


async def test_an_engine_that_a_closing_has_stopped_is_waited_for_once_that_is_broken_off(
    guard: Guard,
) -> None:
    guard.hear(Beat(sender="engine", pid=1, epoch=1), time.monotonic())
    async for _ in guard.handlers()["hold"]({}, None):
        pass
    guard.hear(Beat(sender="engine", pid=1, epoch=1, stage=STOPPED), time.monotonic())
    guard.engine.left_s -= 1000
    async for _ in guard.handlers()["open"]({}, None):
        pass
    assert guard.engine.state is EngineIs.LEFT and guard.engine.away_s < 500
    assert _earlier(guard.layout)[0].left_s == guard.engine.left_s


async def test_one_that_comes_after_leaves_to_run_out_what_a_closing_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knew that it was to disarm, and of no exception: what was to withdraw the orders was off."""
    (tmp_path / "desk.toml").write_text(DESK + VENUES)
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    loaded = load_desk(tmp_path)
    before = Guard(layout, loaded, None, own_record(True), watching=True, on_end=lambda: None)
    monkeypatch.setattr(guard_module, "DISARM_S_MAX", 0.0)  # nobody is there to disarm
    async for _ in before.handlers()["disarm"]({"but": ["one"]}, None):
        pass
    earlier, _ = _earlier(layout)
    assert earlier == Earlier(mode=Mode.OFF, left=("one",))
    record = own_record(False, earlier.mode, earlier.left)
    after = Guard(layout, loaded, None, record, watching=False, on_end=lambda: None)
    assert {name: each.left_to_run_out for name, each in after.switches.items()} == {
        "one": True,
        "two": False,
    }
    async for _ in after.handlers()["open"]({}, None):
        pass
    assert _earlier(layout) == (Earlier(), "")


async def test_a_disk_that_hangs_holds_up_no_answer_and_gets_the_newest_record_when_it_is_back(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Mode] = []
    is_back = threading.Event()

    def hang(_path: Path, record: GuardRecord) -> None:
        is_back.wait(60)
        written.append(record.mode)

    monkeypatch.setattr(record_module, "write_record", hang)
    monkeypatch.setattr(guard_module, "RECORD_S", 0.05)
    told: list[str] = []
    monkeypatch.setattr(guard, "tell", lambda event, **_: told.append(event))
    for wish in ("hold", "open", "disarm"):
        async for _ in guard.handlers()[wish]({}, None):
            pass
    assert guard.mode is Mode.OFF
    assert written == []
    assert told.count("record_not_written") == 3
    is_back.set()
    await guard._keeper.kept(20)
    assert written == [Mode.HOLD, Mode.OFF]


async def test_what_it_holds_it_holds_for_as_long_as_the_closing_is_heard(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the request itself and by each beat that says so; a controller's other beats say nothing of it."""
    monkeypatch.setattr(type(guard.controller), "is_well", True)
    now_s = 1000.0
    guard.closing._clock_s = lambda: now_s
    guard.closing._heard_s = 0.0
    assert not guard.closing.is_well
    monkeypatch.setattr(guard_module.time, "monotonic", lambda: now_s)
    async for _ in guard.handlers()["hold"]({}, None):
        pass
    assert guard.closing.is_well
    now_s += 60
    guard.hear(Beat(sender="controller", pid=1), now_s)
    assert not guard.closing.is_well and guard.closing.silent_s == 60
    guard.hear(Beat(sender="controller", pid=1, stage=CLOSING), now_s)
    assert guard.closing.is_well
    monkeypatch.setattr(type(guard.controller), "is_well", False)
    assert not guard.closing.is_well, "its controller is gone"


async def test_a_guard_of_a_closed_desk_ends_once_no_stop_needs_it_any_more(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop that it has just ended without proof is not gone on with yet, and one whose venue is not
    connected is not tried: both looked as if nothing were left to do."""
    answers, ended = ["it goes on with stop 001 at v", "it goes on with stop 001 at v", ""], []

    async def why_needed() -> str:
        assert not ended
        return answers.pop(0)

    monkeypatch.setattr(guard, "_why_needed", why_needed)
    monkeypatch.setattr(guard, "_beat_every_s", 0.01)
    quick = SimpleNamespace(guard=SimpleNamespace(controller_silent_after=0.005))
    monkeypatch.setattr(guard, "loaded", SimpleNamespace(file=quick))
    monkeypatch.setattr(guard, "_on_end", lambda: ended.append(answers == []))
    await guard._end_when_idle()
    assert ended == [True]
