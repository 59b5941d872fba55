"""Guard and controller watch each other: whichever is killed or hangs comes back, and the desk goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from openbell.controller.guard_process import start_guard

SEED = random.randrange(1 << 32)


def actions(desk: Any) -> list[str]:
    return [record["action"] for record in desk.audit()]


def test_the_guard_is_started_before_any_service_and_ended_after_all_for_good(
    make_guarded: Any,
) -> None:
    desk = make_guarded("binance")
    desk.open()
    pid = desk.guard_pid()
    record = desk.layout.records / "idle.json"
    started_ns = int(record.read_text().split('"started_ns":')[1].split(",")[0])
    since = desk.layout.guard_record.read_text().split('"since_ns":')[1].split(",")[0].strip("}")
    assert int(since) < started_ns
    seen = desk.status()["guard"]
    assert (seen["state"], seen["pid"], seen["restarts"]) == ("running", pid, 0)
    last = desk.run("close")[-1]
    assert last["result"]["dead_man"]["disarmed"] is True
    assert desk.processes[-1].wait(30) == 0
    assert desk.running("openbell.guard") == [] == desk.running("openbell.controller")
    assert not desk.layout.guard_socket.exists() and not desk.layout.beats_socket.exists()
    steps = [step["name"] for step in last["result"]["steps"]]
    assert steps.index("stop_services") < steps.index("disarm") < steps.index("stop_venues")
    found = actions(desk)
    assert found.index("guard.ended") > found.index("desk.closed")
    with pytest.raises(TimeoutError):  # neither comes back
        desk.until_within(
            3, lambda: bool(desk.running("openbell.controller") + desk.running("openbell.guard"))
        )


def test_a_desk_without_venues_has_no_guard(make_guarded: Any) -> None:
    desk = make_guarded()
    desk.start()
    assert desk.run("open")[-1]["event"] == "done"
    assert desk.status()["guard"] is None
    assert desk.running("openbell.guard") == []


def test_a_killed_guard_is_an_alert_and_is_back_and_so_is_one_that_hangs(
    make_guarded: Any,
) -> None:
    desk = make_guarded("binance")
    desk.open()
    pid = desk.guard_pid()
    os.kill(pid, signal.SIGKILL)
    second = desk.other_than(pid, "guard")
    desk.until(lambda: desk.status()["guard"]["state"] == "running", "the controller hears it")
    assert desk.status()["guard"]["restarts"] == 1
    assert "guard.lost" in actions(desk) and "guard.hung" not in actions(desk)
    log = desk.layout.controller_log.read_text()
    assert any('"alert":true' in line and "the guard is gone" in line for line in log.splitlines())

    os.kill(second, signal.SIGSTOP)
    assert desk.other_than(second, "guard")
    desk.until(lambda: second not in desk.running("openbell.guard"), "the hung one is gone")
    assert "guard.hung" in actions(desk)


def test_the_loss_of_either_is_told_within_five_seconds(make_guarded: Any) -> None:
    """RTS 6 Art. 16(5). From the kill to the line that carries the alert."""
    desk = make_guarded("binance")
    desk.open()
    for of, log, event in (
        ("guard", desk.layout.controller_log, "the guard is gone: it is started again"),
        ("controller", desk.layout.guard_log, "controller gone"),
    ):
        pid = desk.guard_pid() if of == "guard" else desk.controller_pid()
        killed_s = time.time()
        os.kill(pid, signal.SIGKILL)
        found: list[dict[str, Any]] = []

        def told(log: Any = log, event: str = event, found: list[Any] = found) -> bool:
            lines = [json.loads(each) for each in log.read_text().splitlines() if each[:1] == "{"]
            found[:] = [each for each in lines if each["event"] == event]
            return bool(found)

        desk.until(told, f"the loss of the {of} is told")
        assert found[0]["alert"] is True
        told_at = datetime.fromisoformat(found[0]["ts"][:26]).replace(tzinfo=UTC)
        assert told_at.timestamp() - killed_s < 5.0
        desk.other_than(pid, of)


def test_a_killed_controller_is_started_again_and_takes_the_services_over(
    make_guarded: Any,
) -> None:
    """Though by then nobody can read any more that the desk is open: that is an alert, and trades nothing."""
    desk = make_guarded("binance")
    desk.open()
    before = desk.pids()
    pid = desk.controller_pid()
    desk.kill()
    after = desk.other_than(pid, "controller")
    assert desk.pids() == before
    assert desk.status()["controller"]["pid"] == after
    desk.until(lambda: desk.status()["guard"]["state"] == "running", "the guard is heard")
    assert desk.guard()["controller"]["restarts"] == 1
    assert '"alert":true' in desk.guard_log()

    desk.layout.target.write_bytes(b'{"tar')
    desk.until(lambda: "target unreadable" in desk.guard_log(), "the guard says so")
    os.kill(after, signal.SIGKILL)
    assert desk.other_than(after, "controller")
    assert desk.pids() == before
    assert desk.status()["state"] != "trading"
    assert "target unreadable" in desk.layout.controller_log.read_text()


def test_a_hung_controller_is_killed_for_certain_before_another_one_starts(
    make_guarded: Any,
) -> None:
    desk = make_guarded("binance")
    desk.open()
    before = desk.pids()
    hung = desk.processes[-1]
    hung.send_signal(signal.SIGSTOP)
    assert hung.wait(30) == -signal.SIGKILL
    assert desk.other_than(hung.pid, "controller")
    assert desk.pids() == before
    assert len(desk.running("openbell.controller")) == 1


def test_a_controller_that_hung_before_its_guard_was_killed_is_found(make_guarded: Any) -> None:
    """Nobody told the new guard of it: the kernel says who listens on the controller's socket."""
    desk = make_guarded("binance")
    desk.open()
    hung = desk.processes[-1]
    guard = desk.guard_pid()
    hung.send_signal(signal.SIGSTOP)
    os.kill(guard, signal.SIGKILL)
    start_guard(desk.layout, desk.environ)
    assert hung.wait(30) == -signal.SIGKILL
    assert desk.other_than(hung.pid, "controller")


def test_a_controller_told_to_end_comes_back_unless_it_was_told_to_leave(
    make_guarded: Any,
) -> None:
    desk = make_guarded("binance")
    desk.open()
    first = desk.processes[-1]
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 0
    second = desk.other_than(first.pid, "controller")
    assert desk.post("exit", {"detach": True})[0] == 200
    desk.until(lambda: second not in desk.running("openbell.controller"), "it has left")
    with pytest.raises(TimeoutError):  # longer than any silence that counts
        desk.until_within(3, lambda: bool(desk.running("openbell.controller")))
    desk.start()
    assert desk.status()["guard"]["state"] == "running"


def test_a_desk_may_ask_for_no_restart_of_its_controller(make_guarded: Any) -> None:
    desk = make_guarded("binance", guard="restart_controller = false")
    desk.open()
    desk.kill()
    with pytest.raises(TimeoutError):
        desk.until_within(3, lambda: bool(desk.running("openbell.controller")))
    assert desk.guard_pid() is not None


def test_a_guard_of_a_closed_desk_ends_by_itself(make_guarded: Any) -> None:
    """Its controller was killed after the closing and before it ended the guard."""
    desk = make_guarded("binance")
    desk.open()
    closing = desk.post("close")[1]["run"]
    desk.until(lambda: desk.get(f"runs/{closing}")[1]["state"] == "done", "closed")
    desk.kill()
    desk.until(lambda: desk.running("openbell.guard") == [], "the guard has ended")
    assert desk.running("openbell.controller") == []


def test_a_second_guard_is_refused_and_names_the_first(make_guarded: Any) -> None:
    desk = make_guarded("binance")
    desk.open()
    second = subprocess.run(
        [sys.executable, "-m", "openbell.guard", "--desk", str(desk.folder), "--foreground"],
        env=desk.environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert second.returncode == 5
    assert f"process {desk.guard_pid()}" in second.stderr


def test_broken_files_of_a_dead_guard_are_in_nobodys_way(make_guarded: Any) -> None:
    """One kind of file after the other: each guard leaves whole ones, and so the desk can be closed."""
    desk = make_guarded("binance")
    desk.open()
    for broken in ("guard_record", "guard_lock", "guard_socket"):
        pid = desk.guard_pid()
        path = getattr(desk.layout, broken)
        if not path.is_socket():
            path.write_bytes(b"\xff{nonsense\0")
        os.kill(pid, signal.SIGKILL)
        other = desk.other_than(pid, "guard")
        desk.until(lambda: desk.status()["guard"]["state"] == "running", "the controller hears it")
        assert desk.running("openbell.guard") == [other], broken
        if not path.is_socket():
            assert b"nonsense" not in path.read_bytes(), broken
    desk.run("close")
    assert desk.processes[-1].wait(30) == 0


def test_a_hung_guard_whose_files_are_broken_is_killed_all_the_same(make_guarded: Any) -> None:
    desk = make_guarded("binance")
    desk.open()
    pid = desk.guard_pid()
    desk.kill()  # another controller finds it hanging
    os.kill(pid, signal.SIGSTOP)
    desk.layout.guard_record.write_text("{")
    desk.layout.guard_socket.unlink()
    desk.start()
    assert desk.other_than(pid, "guard")
    assert pid not in desk.running("openbell.guard")


def test_whatever_is_killed_or_stopped_at_random_both_are_back(make_guarded: Any) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    desk = make_guarded("binance")
    desk.open()
    services = desk.pids()
    for _ in range(4):
        victim = dice.choice(["openbell.guard", "openbell.controller"])
        sent = dice.choice([signal.SIGKILL, signal.SIGSTOP])
        for pid in desk.running(victim):
            os.kill(pid, sent)
        time.sleep(dice.uniform(0, 0.5))  # the next one strikes at any moment
        desk.until(
            lambda: bool(desk.guard_pid()) and bool(desk.controller_pid()), f"both after {sent!r}"
        )
        desk.until(
            lambda: (desk.status()["guard"] or {}).get("state") == "running", "they hear each other"
        )
    assert desk.pids() == services
    assert len(desk.running("openbell.guard")) == len(desk.running("openbell.controller")) == 1
