"""A guard in which a stop stood still is replaced by the controller, by itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from openbell.config.layout import DeskLayout
from openbell.controller import standing_guard
from openbell.controller.standing_guard import StandingGuard, _look, _state_of
from openbell.kill.course import Course
from openbell.kill.emergency_statement import EmergencyStatement, LatchSet
from openbell.kill.request import EmergencyRequest
from openbell.kill.statement import VenueStatement
from openbell.state.latch import Latches

HANGS = """
import sys
if "openbell.guard" in sys.orig_argv:
    import pathlib, threading
    import openbell.kill.holding as holding
    import openbell.kill.progress as progress
    freeze = holding.freeze
    def hang(*args, **more):
        if pathlib.Path(__file__).with_name("hang").exists():
            threading.Event().wait()
        return freeze(*args, **more)
    holding.freeze = hang
    progress.DISK_S = 1.0
if "openbell.controller" in sys.orig_argv:
    import openbell.domain.standing_guard as domain
    domain.QUIET_S = 1.0
"""
"""In the guard the thread that freezes never returns while there is a file `hang`; both are less patient
than they are, as nothing here is slow but the machine."""
HOLDS = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); \
print(flush=True); sys.stdin.read()"


@contextlib.contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    """As by somebody who carries out an emergency stop."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


async def test_it_is_replaced_once_nobody_is_harmed_and_the_next_one_takes_everything_over(
    make_guarded: Any, tmp_path: Path
) -> None:
    """It refused every stop from then on, until a person saw to it and ended it."""
    desk = make_guarded("kraken", "binance")
    code = tmp_path / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(HANGS)
    (code / "hang").touch()
    desk.environ["PYTHONPATH"] = str(code)
    desk.open()
    engine = desk.engine()
    for venue in ("kraken", "binance"):
        desk.until_switch(venue, "armed" if venue == "kraken" else "watching")
        await desk.rest(venue, 1)
    stood = desk.guard_pid()

    answer = _press(desk)
    assert "stands still: latch and freeze" in answer["error"]
    assert _press(desk)["code"] == "refused"
    # Somebody has taken it over, and carries it out, without an end at one venue.
    with held_by_another(desk.layout.emergency_lock):
        desk.until(lambda: not desk.guard()["at_work"], "it has let go of it")
        (code / "hang").unlink()
        time.sleep(4)  # more than the quiet that it would take
        assert desk.guard_pid() == stood, "that stop would be harmed"
        assert "the controller replaces it" in desk.status()["guard"]["why"]
        await _end_unproven(desk.layout, "binance")
    new = desk.other_than(stood, "guard")
    desk.until(lambda: not _lives(stood), "the other one has ended")
    desk.until_warm()

    # It goes on with what the stop has left, which is not proven while something lives that may send, and
    # with the dead-man's switches.
    os.kill(desk.pids()["idle"], signal.SIGKILL)
    desk.until(lambda: ("emergency.went_on", "verified") in _acts(desk), "the stop is proven")
    for venue in ("kraken", "binance"):
        assert desk.resting(venue) == 0
        desk.until_switch(venue, "armed" if venue == "kraken" else "watching")
    assert _latched(desk)
    await desk.rest("binance", 1)
    engine.kill()
    desk.until(lambda: desk.resting("binance") == 0, "its switch has fired")

    acts = [each["action"] for each in desk.audit()]
    assert acts.count("guard.replaced") == 1 and "guard.lost" not in acts, "one alert, and no other"
    assert acts.count("emergency.stood_still") == 1
    assert desk.guard_pid() == new
    assert _press(desk)["statement"]["result"] == "verified"


async def _end_unproven(layout: DeskLayout, venue: str) -> None:
    course = await Course.begin(layout.emergency, lambda _: None)
    stated = EmergencyStatement(
        course=course.name, reason="a drill", actor="ann", scopes=("desk",), flatten=False,
        account_wide=False, began=datetime.now(UTC).isoformat(), took_s=1.0, carrier_pid=1,
        latch=LatchSet(set=True, durable=True, ids=tuple(each.id for each in Latches(layout).read())),
        venues=(VenueStatement(venue=venue, result="unknown"),),
    )  # fmt: skip
    course.add("ended", statement=stated.to_wire())
    await course.close(20)


def _press(desk: Any) -> dict[str, Any]:
    """In the guard, as a command does; its last word."""
    wish = EmergencyRequest().to_wire()
    del wish["timeout_s"]  # as it is where nothing is said
    answer: dict[str, Any] = desk.ask_guard("emergency_stop", timeout_s=120.0, **wish)
    return answer


def _acts(desk: Any) -> set[tuple[str, object]]:
    return {(each["action"], each.get("detail", {}).get("result")) for each in desk.audit()}


def _latched(desk: Any) -> bool:
    return bool(desk.get("kill-switch")[1]["latches"])


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Its parts.


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    made = DeskLayout.for_desk(tmp_path, {})
    made.make()
    return made


def test_a_stop_of_another_process_is_seen_and_the_guards_own_is_not_taken_for_one(
    layout: DeskLayout,
) -> None:
    for path in (layout.emergency_lock, layout.emergency_beside_lock):
        assert not _look(layout, os.getpid())
        with held_by_another(path):
            assert _look(layout, os.getpid())
        assert not _look(layout, os.getpid())
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert not _look(layout, os.getpid()), "one that it does not let go of"
            assert _look(layout, os.getpid() + 1)
    assert not list(layout.state.glob("*.probe*")), "nothing is left lying"


async def test_while_the_disk_does_not_answer_nothing_is_known_and_one_look_waits_for_it(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    answers = threading.Event()

    def hang(*_: object) -> bool:
        looks.append(1)
        answers.wait(60)
        return False

    monkeypatch.setattr(standing_guard, "_look", hang)
    monkeypatch.setattr(standing_guard, "DISK_S", 0.05)
    watch = StandingGuard()
    assert [await watch._elsewhere(layout, 1) for _ in range(3)] == [None, None, None]
    assert len(looks) == 1
    answers.set()
    monkeypatch.setattr(standing_guard, "DISK_S", 20.0)
    assert await watch._elsewhere(layout, 1) is False


async def test_a_disk_that_takes_nothing_is_one_that_does_not_answer(layout: DeskLayout) -> None:
    layout.guard_record.with_suffix(".probe").mkdir()
    assert await StandingGuard()._elsewhere(layout, 1) is None


async def test_one_in_which_none_stood_still_is_not_looked_at(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_guard, "_look", lambda *_: pytest.fail("the disk was asked"))
    assert not await StandingGuard().is_to_go(layout, {"stands_still": ""}, 1)
    assert not await StandingGuard().is_to_go(layout, {"stands_still": "it"}, None)


def test_a_thread_that_waits_for_a_disk_is_told_from_one_that_does_not(tmp_path: Path) -> None:
    for state in "DSR":
        (tmp_path / "stat").write_text(f"4711 (D) S (x) D) {state} 1 4711 4711 0 -1\n")
        assert _state_of(tmp_path) == state
    assert _state_of(tmp_path / "ended") == ""
