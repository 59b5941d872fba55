"""Of stops that go on beside one that cannot be waited for at most one closes positions."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openbell.config.layout import DeskLayout
from openbell.domain.scopes import Scope, ScopeKind
from openbell.kill.course import is_held, under_way
from openbell.kill.emergency import carry_out
from openbell.kill.emergency_statement import EmergencyStatement, LatchSet
from openbell.kill.equipment import LoadedAlone
from openbell.kill.flatten_turn import FlattenTurn
from openbell.kill.joining import Joining
from openbell.kill.request import EmergencyRequest
from openbell.kill.stuck import NotKilledError, Stuck, Watch
from openbell.runtime.processes import system_processes
from openbell.state.lock import FileLock

FLATTEN = EmergencyRequest(flatten=True)
HOLD = """
import sys, threading
from pathlib import Path
from typing import Any
from openbell.state.lock import FileLock
FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
threading.Event().wait()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    made = DeskLayout.for_desk(tmp_path, {})
    made.make()
    return made


@pytest.fixture
def carrier(layout: DeskLayout) -> Iterator[tuple[int, int]]:
    """Pid and start time of a process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(layout.emergency_lock)], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"held\n"
            facts = system_processes().facts(process.pid)
            assert facts is not None
            yield facts.pid, facts.start
        finally:
            process.kill()


def _begun(layout: DeskLayout, who: tuple[int, int], request: EmergencyRequest) -> None:
    layout.emergency.mkdir(exist_ok=True)
    event = {"event": "begun", "pid": who[0], "start": who[1], "request": request.to_wire()}
    (layout.emergency / "001.jsonl").write_text(json.dumps(event) + "\n")


async def _both(layout: DeskLayout) -> list[Joining]:
    """Two presses that close positions, each of which went on without its turn."""
    presses = [Joining(layout, FLATTEN, [], lambda _: None) for _ in range(2)]
    async with asyncio.timeout(60):
        assert await asyncio.gather(*(each.joined() for each in presses)) == [None, None]
    return presses


def _assert_one_closes(presses: list[Joining]) -> None:
    assert sorted(each.request.flatten for each in presses) == [False, True]
    for each in presses:
        assert bool(each.not_closed) != each.request.flatten
        each.give_back()


@linux
async def test_of_two_that_cannot_wait_for_one_that_the_kernel_keeps_one_closes_positions(
    layout: DeskLayout, carrier: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs uninterruptibly: killed, and not ended. Both went on beside it, and both sold."""
    monkeypatch.setattr(Watch, "look", lambda *_: Stuck(*carrier, "it has not moved for 10 s"))
    monkeypatch.setattr(Watch, "end", lambda *_: False)
    _assert_one_closes(await _both(layout))


@linux
async def test_of_two_that_go_on_beside_a_narrower_one_one_closes_positions(
    layout: DeskLayout, carrier: tuple[int, int]
) -> None:
    _begun(layout, carrier, EmergencyRequest(scopes=(Scope(ScopeKind.VENUE, "kraken"),)))
    _assert_one_closes(await _both(layout))


@linux
async def test_one_that_goes_on_beside_another_is_under_way_once_that_one_has_ended(
    layout: DeskLayout, carrier: tuple[int, int]
) -> None:
    """`status` said that it has no end, and the desk could be opened, while it cancelled."""
    _begun(layout, carrier, EmergencyRequest(scopes=(Scope(ScopeKind.VENUE, "kraken"),)))
    press = Joining(layout, EmergencyRequest(), [], lambda _: None)
    async with asyncio.timeout(60):
        assert await press.joined() is None
        os.kill(carrier[0], signal.SIGKILL)
        while is_held(layout.emergency_lock):
            await asyncio.sleep(0.01)
        while not under_way(layout):
            await asyncio.sleep(0.01)
    await press.leave(ended=True)
    assert not under_way(layout)


async def test_beside_one_that_may_go_on_and_closes_positions_nobody_else_does(
    layout: DeskLayout, carrier: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_killed(*_: object) -> bool:
        raise NotKilledError("not permitted")

    monkeypatch.setattr(Watch, "look", lambda *_: Stuck(*carrier, "it is stopped"))
    monkeypatch.setattr(Watch, "end", not_killed)
    for press in await _both(layout):
        assert not press.request.flatten
        assert f"process {carrier[0]}" in press.not_closed
        press.give_back()


async def test_whoever_takes_the_lock_while_one_beside_it_closes_positions_closes_none(
    layout: DeskLayout,
) -> None:
    beside = FlattenTurn(layout)
    assert await beside.take() == ""
    late = Joining(layout, FLATTEN, [], lambda _: None)
    assert await late.joined() is None
    assert not late.request.flatten and late.not_closed
    late.give_back()
    beside.give_back()
    last = Joining(layout, FLATTEN, [], lambda _: None)
    assert await last.joined() is None
    assert last.request == FLATTEN and not last.not_closed
    last.give_back()


async def test_without_flatten_the_second_lock_is_left_alone(
    layout: DeskLayout, carrier: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "look", lambda *_: Stuck(*carrier, "it has not moved for 10 s"))
    monkeypatch.setattr(Watch, "end", lambda *_: False)
    request = msgspec.structs.replace(FLATTEN, flatten=False)
    press = Joining(layout, request, [], lambda _: None)
    with FileLock(layout.emergency_flatten_lock):
        assert await press.joined() is None
    assert not press.not_closed
    press.give_back()


async def test_a_statement_of_another_version_is_no_statement_and_the_stop_is_done_again(
    layout: DeskLayout, carrier: tuple[int, int]
) -> None:
    """It ended the second press with a traceback."""
    _begun(layout, carrier, EmergencyRequest())
    problems: list[str] = []
    heard: list[str] = []

    def hear(event: Mapping[str, Any]) -> None:
        heard.append(event["event"])
        if event["event"] == "begun":
            with (layout.emergency / "001.jsonl").open("a") as file:
                file.write(json.dumps({"event": "ended", "statement": {"verdict": "fine"}}) + "\n")
        elif event["event"] == "ended":
            os.kill(carrier[0], signal.SIGKILL)

    joining = Joining(layout, EmergencyRequest(), problems, hear)
    async with asyncio.timeout(60):
        assert await joining.joined() is None, "it is ours to carry out"
    joining.give_back()
    assert heard == ["begun", "ended"]
    assert any("001 cannot be read" in problem for problem in problems)


async def test_what_a_press_saw_while_it_waited_stands_in_the_statement_that_it_joins(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had ended the carrier before; a third press was first at the lock that was free then."""
    theirs = EmergencyStatement(
        course="002", reason="", actor="bob", scopes=("desk",), flatten=False, account_wide=False,
        began="2026-03-02T08:00:00+00:00", took_s=0.1, carrier_pid=1,
        latch=LatchSet(set=True, durable=True), joined=True, problems=("theirs",),
    )  # fmt: skip

    async def joined(self: Joining) -> EmergencyStatement:
        self.problems.append("process 7 stands still: it was killed")
        return theirs

    monkeypatch.setattr(Joining, "joined", joined)
    stated = await carry_out(layout, EmergencyRequest(), LoadedAlone(layout), lambda _: None)
    assert stated.course == "002" and stated.joined
    assert stated.problems[0] == "theirs"
    assert "process 7 stands still: it was killed" in stated.problems
