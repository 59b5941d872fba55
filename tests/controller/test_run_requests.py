"""Requests for runs: a stop that comes between one and its beginning, and a run that breaks off."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from openbell.cli.main import openbell
from openbell.config.layout import DeskLayout
from openbell.config.procedures import ExtraStep, ProcedureSettings
from openbell.controller import close_desk, conduct, open_desk
from openbell.controller.close_desk import CloseWishes, Closings
from openbell.controller.conduct import Conductor
from openbell.controller.emergency import Emergency
from openbell.controller.journal import DeskDatabase, RunJournal
from openbell.controller.leftovers import told_in_the_way
from openbell.controller.open_desk import Openings
from openbell.controller.opening_parts import OpeningParts, OpenWishes
from openbell.controller.run_board import RunBoard
from openbell.domain.desk_state import DeskCommand, DeskTarget
from openbell.errors import ConflictError, StorageError
from openbell.kill.marker import is_begun, set_marker
from openbell.kill.pressed import pressed
from openbell.procedures.begin_trading import BeginTrading
from openbell.procedures.ports import EarlierEffect
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.runtime.left_commands import noted
from openbell.runtime.members import Mark
from openbell.runtime.processes import MARK_VARIABLE, system_processes
from openbell.runtime.spec import AdoptionReport, Orphan
from openbell.state.lock import FileLock
from openbell.state.new_run import NewRun

ONE = """
[services.base]
command = ["sleep", "86400"]
"""


async def press(layout: DeskLayout) -> None:
    """What a stop of the whole desk that is over has left; the marker of an earlier one stays as it was."""
    set_marker(layout, "enough", "ann")
    layout.emergency.mkdir(exist_ok=True)
    number = len(list(layout.emergency.iterdir())) + 1
    (layout.emergency / f"{number:03d}.jsonl").write_text('{"event": "ended"}\n')


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Any]:
    """As much of a controlled desk as a request for a run asks, over a real database."""
    layout = DeskLayout(desk=tmp_path, state=tmp_path / "state")
    layout.make()

    async def done(*_: Any, **__: Any) -> None:
        pass

    database = DeskDatabase(layout.database)
    commanded: list[object] = []
    yield SimpleNamespace(
        layout=layout,
        database=database,
        board=RunBoard(),
        interrupted=None,
        roles=SimpleNamespace(engine=None),
        states={},
        adoption=SimpleNamespace(orphans=()),
        targets=SimpleNamespace(
            now=DeskTarget.OFFLINE, latched=False, latch_note="", commanded=commanded,
            command=lambda word, *_, **__: commanded.append(word),
            let_trade=lambda: commanded.append("let trade"),
            hold_back=lambda: commanded.append("hold back"),
        ),
        desk=SimpleNamespace(file=SimpleNamespace(
            desk=SimpleNamespace(name="small"), services={}, procedures={},
            closing=SimpleNamespace(
                flatten="keep", orders="keep", timeout=60.0, wait_for_orders=1.0,
                conservative_wait=1.0,
            ),
        )),
        auditor=SimpleNamespace(record=done, try_record=done, note=lambda *_, **__: None),
        refuse_locked=lambda _: None,
        require_known=lambda _: None,
        reload_desk_file=done,
    )  # fmt: skip
    database.close()


def in_the_gap(desk: Any, act: Callable[[], Awaitable[None]]) -> None:
    """`act` is done after the first look of the request, and before the run is begun."""

    async def audited(*_: Any, **__: Any) -> None:
        await act()

    desk.auditor.record = desk.auditor.try_record = audited


@pytest.fixture
def no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of no steps, of which it is known whether it was begun."""
    monkeypatch.setattr(Conductor, "carry_out", _not_reached)
    monkeypatch.setattr(OpeningParts, "steps", lambda *_: ((), None, None))
    monkeypatch.setattr(Closings, "_closing", lambda *_: None)
    monkeypatch.setattr(Closings, "_steps", lambda *_: ())


def _not_reached(_self: Any, run: Any, body: Any) -> None:
    body.close()
    raise AssertionError(f"{run.id} was begun")


async def outcomes(desk: Any) -> list[str | None]:
    return [each.outcome for each in await desk.database.newest_of("open", 10)] + [
        each.outcome for each in await desk.database.newest_of("close", 10)
    ]


@pytest.mark.usefixtures("no_steps")
@pytest.mark.parametrize("earlier", [False, True], ids=["first", "second"])
async def test_an_opening_is_not_begun_after_a_stop_that_it_was_not_asked_for(
    desk: Any, earlier: bool
) -> None:
    """A stop that was over before the opening took its place was taken back by it, and services came
    up that somebody had just ended; that it was pressed a second time made no difference."""
    if earlier:
        await press(desk.layout)
    in_the_gap(desk, lambda: press(desk.layout))
    runs = Conductor(desk)
    emergency = Emergency(desk, runs)
    openings = Openings(desk, runs, SimpleNamespace(), emergency, _nothing)  # type: ignore[arg-type]
    with pytest.raises(ConflictError, match="pressed meanwhile"):
        await openings.open(OpenWishes(), "joe")
    assert await outcomes(desk) == ["broken off: an emergency stop was pressed meanwhile"]
    assert is_begun(desk.layout)
    await desk.board.reserve("open", "joe")  # the place is free again


@pytest.mark.usefixtures("no_steps")
async def test_an_opening_knows_of_the_stops_that_whoever_asks_for_it_knew_of(desk: Any) -> None:
    """It took those for known that there were when the controller came to it: seconds after the command
    was typed, where that had to start one."""
    await press(desk.layout)
    before = pressed(desk.layout)
    wanted = json.dumps({"safe_mode": True, "before": before.to_wire()})
    wishes = msgspec.json.decode(wanted, type=OpenWishes)
    assert wishes.before == before, "as a controller that is started reads it"
    await press(desk.layout)
    runs = Conductor(desk)
    emergency = Emergency(desk, runs)
    openings = Openings(desk, runs, SimpleNamespace(), emergency, _nothing)  # type: ignore[arg-type]
    with pytest.raises(ConflictError, match="pressed meanwhile"):
        await openings.open(wishes, "joe")
    assert await outcomes(desk) == [], "nothing was done for it"
    assert is_begun(desk.layout)
    await desk.board.reserve("open", "joe")  # the place is free again


def test_up_takes_no_stop_back_that_was_pressed_after_it_was_typed(
    make_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its controller started, a stop began and ended: its marker was taken away, and services came
    up. The command asks a controller that has refused it once more, and is not let in by that either."""
    made = make_desk(ONE)
    spawn = subprocess.Popen

    def pressed_first(*arguments: Any, **more: Any) -> Any:
        asyncio.run(press(made.layout))
        process = spawn(*arguments, **more)
        made.processes.append(process)
        return process

    monkeypatch.setattr("openbell.cli.daemon.subprocess", SimpleNamespace(
        Popen=pressed_first, DEVNULL=subprocess.DEVNULL
    ))  # fmt: skip
    done = CliRunner(env={"OPENBELL_ACTOR": "ann", "OPENBELL_STATE": None}).invoke(
        openbell, ["--desk", str(made.folder), "up"]
    )
    assert done.exit_code == ConflictError.exit_code, done.output
    assert "pressed meanwhile" in done.output
    assert is_begun(made.layout)
    assert [row["state"] for row in made.status()["services"]] == ["stopped"]


@pytest.mark.usefixtures("no_steps")
async def test_a_closing_does_not_begin_beside_a_stop_that_came_in_between(desk: Any) -> None:
    """It was looked for at the request alone: from there to its beginning nothing broke it off."""
    held = FileLock(desk.layout.emergency_lock)

    async def begin() -> None:
        set_marker(desk.layout, "enough", "ann")
        held.acquire()

    in_the_gap(desk, begin)
    closings = Closings(desk, Conductor(desk), SimpleNamespace(), lambda _: None)  # type: ignore[arg-type]
    try:
        with pytest.raises(ConflictError, match="under way"):
            await closings.close(CloseWishes(reason="evening"), "joe")
    finally:
        held.release()
    assert desk.targets.commanded == [], "what the desk is asked to be is left to the stop"
    assert await outcomes(desk) == ["broken off: an emergency stop is under way"]


async def test_only_the_stop_that_was_known_is_taken_back(desk: Any) -> None:
    await press(desk.layout)
    before = pressed(desk.layout)
    emergency = Emergency(desk, Conductor(desk))
    in_the_gap(desk, lambda: press(desk.layout))  # while its end is written down
    with pytest.raises(ConflictError, match="pressed meanwhile"):
        await emergency.clear("joe", before)
    assert is_begun(desk.layout)
    in_the_gap(desk, lambda: _nothing(""))
    await emergency.clear("joe", pressed(desk.layout))
    assert not is_begun(desk.layout)
    assert not os.path.lexists(desk.layout.emergency_marker)


@dataclass
class Trades:
    """The step with which a desk comes to trading."""

    name: str = BeginTrading.name
    title: str = "Trade"
    timeout_s: float = 60.0
    on_failure: OnFailure = OnFailure.WARN
    verdict: None = None

    def held(self) -> str:
        return ""

    async def observe(self) -> None:
        pass

    def plan(self, facts: None) -> Plan[str]:
        return Plan(("trade",))

    async def act(self, plan: Plan[str], say: Say) -> None:
        pass

    async def verify(self, say: Say) -> Verification:
        return Verification(Outcome.DONE, "it trades")


@pytest.mark.parametrize("traded", [False, True], ids=["opened", "opened again"])
@pytest.mark.parametrize("breaks", ["step_done", "finish"])
async def test_an_opening_that_breaks_off_on_its_journal_holds_the_desk_back(
    desk: Any, monkeypatch: pytest.MonkeyPatch, breaks: str, traded: bool
) -> None:
    """Trading was let before its step, and taken back only by an opening that came to its own end: this
    one was told as failed, and the engine got its permit all the same."""
    step = Trades()
    starting = SimpleNamespace(end=lambda: _nothing(""), outcomes={})
    monkeypatch.setattr(OpeningParts, "steps", lambda *_, **__: ((step,), starting, step))
    monkeypatch.setattr(open_desk, "tell_people", _told_nobody)
    monkeypatch.setattr(open_desk, "opening_end", lambda _: SimpleNamespace(opened=True))

    async def full(*_: Any, **__: Any) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(RunJournal, breaks, full)
    if traded:
        desk.targets.now = DeskTarget.TRADING
    desk.supervisor = SimpleNamespace(views=lambda: ())
    desk.targets.held_back = False
    desk.left_out = lambda: ()
    desk.release_lock_of = lambda *_: None
    runs = Conductor(desk)
    openings = Openings(desk, runs, SimpleNamespace(), Emergency(desk, runs), _nothing)  # type: ignore[arg-type]
    begun = await openings.open(OpenWishes(), "joe")
    events = [event async for event in desk.board.find(begun["run"]).follow(0)]
    assert (events[-1]["event"], events[-1]["outcome"]) == ("failed", "broken_off")
    assert "the disk is full" in events[-1]["message"]
    wanted = [DeskCommand.OPEN, "let trade", *([] if traded else ["hold back"])]
    assert desk.targets.commanded == wanted


@pytest.mark.parametrize("under_way", ["close", "open"])
async def test_the_plan_of_a_closing_that_is_gone_on_with_knows_what_was_done(
    desk: Any, monkeypatch: pytest.MonkeyPatch, under_way: str
) -> None:
    """It was planned as if the run had done nothing: commands run again and orders cancelled that going
    on with it leaves alone. Of an opening that is given up for it nothing is done yet."""
    number = await desk.database.begin(NewRun(kind=under_way, who="ann", why="evening", params={}))
    record = RunJournal(desk.database, number)
    await record.step_started("halt_strategies", 1)
    await record.step_done("halt_strategies", 1, "done", {"kept": ["ob1"]})
    await record.intend("wire", "run wire.sh")
    await record.settle("wire", EarlierEffect.DONE)
    desk.interrupted = SimpleNamespace(
        id=f"{under_way}-{number}", procedure=under_way, number=number, step="halt_strategies",
        actor="ann", why="evening", parameters={},
    )  # fmt: skip
    seen: list[Any] = []

    def closing(_self: Any, _run: str, _wishes: Any, earlier: Any, effects: Any) -> None:
        seen.extend((earlier, effects))

    monkeypatch.setattr(Closings, "_closing", closing)

    def steps(_self: Any, _closing: Any, own: Any) -> tuple[()]:
        seen.append(own)
        return ()

    monkeypatch.setattr(Closings, "_steps", steps)
    closings = Closings(desk, Conductor(desk), SimpleNamespace(), lambda _: None)  # type: ignore[arg-type]
    await closings.plan_close(CloseWishes())
    earlier, effects, own = seen
    assert own is effects, "of commands of the desk's own too"
    goes_on = under_way == "close"
    assert list(earlier) == (["halt_strategies"] if goes_on else [])
    known = EarlierEffect.DONE if goes_on else EarlierEffect.NONE
    assert await effects.earlier("wire") is known
    with pytest.raises(AssertionError, match="nothing about"):
        await effects.intend("wire", "run wire.sh")


async def test_a_run_ends_what_a_killed_controller_left_at_work_before_it_does_anything(
    desk: Any,
) -> None:
    command = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with noted(desk.layout.commands, "wire", "close-7") as spawned:
            spawned(command.pid)
            (note,) = desk.layout.commands.glob("wire-*.json")
            note.rename(note.with_name("kept.json"))  # as its controller left it
        runs, ended = Conductor(desk), []
        run = runs.admit("close", 7, "joe", {})

        async def work() -> None:
            ended.append(command.poll())
            run.emit({"event": "done"})

        runs.carry_out(run, work())
        async with asyncio.timeout(60):
            events = [event async for event in run.follow(0)]
    finally:
        command.kill()
        command.wait()
    assert ended == [-signal.SIGKILL], "before, and not beside it"
    assert [event["event"] for event in events] == ["alert", "done"]
    assert events[0]["rule"] == "left_command"
    assert str(events[0]["message"]).endswith("was ended")


async def test_a_disk_that_does_not_say_what_was_left_keeps_no_run_from_its_work(desk: Any) -> None:
    """It was broken off as a defect before its first step, so that a failing disk kept a desk open."""
    desk.layout.commands.write_text("no folder")
    runs = Conductor(desk)
    run = runs.admit("close", 7, "joe", {})

    async def work() -> None:
        run.emit({"event": "done"})

    runs.carry_out(run, work())
    async with asyncio.timeout(60):
        events = [event async for event in run.follow(0)]
    assert [event["event"] for event in events] == ["alert", "done"]
    assert events[0]["rule"] == "left_command" and "is not known" in str(events[0]["message"])


async def test_a_disk_that_does_not_answer_is_not_waited_for(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(conduct, "end_left_commands", lambda _: answers.wait())
    monkeypatch.setattr(conduct, "LOOK_S", 0.05)
    monkeypatch.setattr(conduct, "KILL_S", 0.0)
    runs = Conductor(desk)
    run = runs.admit("close", 7, "joe", {})

    async def work() -> None:
        run.emit({"event": "done"})

    try:
        runs.carry_out(run, work())
        async with asyncio.timeout(60):
            events = [event async for event in run.follow(0)]
    finally:
        answers.set()
    assert str(events[0]["message"]).endswith("the disk does not answer")


@pytest.mark.usefixtures("no_steps")
async def test_an_opening_ends_what_was_left_at_work_and_is_not_refused_for_it(desk: Any) -> None:
    """One that is given a secret carries the desk's mark, and was in the way: `--force` was asked for,
    before the run that would have ended it."""
    command = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with noted(desk.layout.commands, "wire", "close-7") as spawned:
            spawned(command.pid)
            (note,) = desk.layout.commands.glob("wire-*.json")
            note.rename(note.with_name("kept.json"))
        start = system_processes().facts(command.pid).start  # type: ignore[union-attr]
        orphan = Orphan("step wire", command.pid, "marker", "sleep 600", True, start)
        desk.desk.file.services = {}
        desk.adoption = AdoptionReport((), (), (orphan,), 0.0)
        assert await told_in_the_way(desk, force=False) == []
        runs = Conductor(desk)
        openings = Openings(desk, runs, SimpleNamespace(), Emergency(desk, runs), _nothing)  # type: ignore[arg-type]
        with pytest.raises(AssertionError, match="open-1 was begun"):
            await openings.open(OpenWishes(), "joe")
        assert command.wait() == -signal.SIGKILL
    finally:
        command.kill()
        command.wait()


def test_a_closing_hears_of_its_own_commands_that_may_send(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it ends as proven by what the venues had said before."""
    extra = ExtraStep(name="pay", command=("true",), verify=("true",), after="stop_services")
    desk.desk.file.procedures = {"close": ProcedureSettings(extra=(extra,))}
    desk.secrets = SimpleNamespace(as_environment=dict)
    desk.redactor = SimpleNamespace(redact=str)
    monkeypatch.setattr(close_desk, "closing_steps", lambda _: ())
    closings = Closings(desk, Conductor(desk), SimpleNamespace(), lambda _: None)  # type: ignore[arg-type]
    told: list[str] = []
    closing: Any = SimpleNamespace(
        run="close-1", wishes=SimpleNamespace(reason=""), may_send=lambda: told.append("told")
    )
    (pay,) = closings._steps(closing)
    pay.may_send()  # type: ignore[attr-defined]
    assert told == ["told"]


def test_a_closing_does_not_take_what_somebody_plans_by_for_something_left(desk: Any) -> None:
    """A plan that was made during the last look left the desk not proven; one that is given a secret
    carries the desk's mark too."""
    desk.desk.folder = desk.layout.desk
    desk.desk.file.venues, desk.desk.file.closing.checkpoint_elsewhere = {}, ()
    for name in ("supervisor", "voices", "clerk", "channels", "nothing_sent"):
        setattr(desk, name, None)
    closings = Closings(desk, Conductor(desk), SimpleNamespace(), lambda _: None)  # type: ignore[arg-type]
    closing = closings._closing("close-1", SimpleNamespace(), {})  # type: ignore[arg-type]
    mark = str(Mark.of_step(desk.layout.desk_id, "wire"))
    look = subprocess.Popen(
        ["sleep", "600"], env={**os.environ, MARK_VARIABLE: mark}, start_new_session=True
    )
    try:
        with noted(desk.layout.commands, "wire", "plan", plan=True) as spawned:
            spawned(look.pid)
            assert closing.marked() == closing.at_work() == {}
        assert closing.marked() == {look.pid: "step wire"}, "nobody awaits it any more"
        with noted(desk.layout.commands, "wire", "close-7") as spawned:
            spawned(look.pid)
            assert closing.at_work() == {look.pid: "the command of step wire of close-7"}
        desk.layout.commands.rmdir()
        desk.layout.commands.write_text("no folder")
        assert closing.marked() == {look.pid: "step wire"}, "what is not known is left"
        with pytest.raises(OSError, match="Not a directory"):
            closing.at_work()
    finally:
        look.kill()
        look.wait()


async def _told_nobody(*_: Any) -> tuple[()]:
    return ()


async def _nothing(_actor: str) -> None:
    pass
