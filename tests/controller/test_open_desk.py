"""A desk that is open: what is asked of it, what it bears, and what its controller does when it is killed.

Its tests share one desk and controller. Each is given it open, trading and as its first desk file has it,
whatever the one before did with it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from tests.controller.conftest import small_desks
from tests.harness.controller_process import TWO_WEB, ControllerProcess

from openbell.config.loader import load_desk
from openbell.procedures.uncontrolled import status_without_controller

READY = {"base": "ready", "top": "ready"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControllerProcess, str]]:
    """The desk, and what its file says."""
    with small_desks(tmp_path_factory.mktemp("open")) as make:
        made = make(TWO_WEB)
        yield made, (made.folder / "desk.toml").read_text()


@pytest.fixture
def desk(shared: tuple[ControllerProcess, str]) -> ControllerProcess:
    made, text = shared
    (made.folder / "desk.toml").write_text(text)
    if not (made.processes and made.processes[-1].poll() is None and made.answers()):
        made.end()
        made.start()
    assert made.run("open")[-1]["event"] == "done"
    if made.status()["state"] != "trading":
        assert made.post("resume")[0] == 200
    made.until(lambda: states(made) == READY, "both services are ready")
    assert made.status()["state"] == "trading"
    return made


def states(desk: Any) -> dict[str, str]:
    return {row["name"]: row["state"] for row in desk.status()["services"]}


def counts(desk: Any) -> dict[str, int]:
    """How often each service was restarted."""
    return {row["name"]: row["restarts"] for row in desk.status()["services"]}


def test_opening_twice_is_harmless(desk: Any) -> None:
    before = desk.pids()
    last = desk.run("open")[-1]
    assert (last["event"], last["outcome"]) == ("done", "already_open")
    assert desk.pids() == before


def test_a_second_controller_is_refused_and_names_the_first(desk: Any) -> None:
    second = desk.launch()
    assert second.wait(30) == 5
    message = second.stderr.read().decode()
    second.stderr.close()
    desk.processes.remove(second)
    assert f"process {desk.status()['controller']['pid']}" in message


def test_a_killed_controller_loses_no_service(desk: Any) -> None:
    before, restarts = desk.pids(), counts(desk)
    desk.kill()
    assert all(psutil.pid_exists(pid) for pid in before.values())
    unwatched = status_without_controller(load_desk(desk.folder), desk.layout)
    assert unwatched["state"] == "unwatched"
    assert "nobody watches" in unwatched["why"]
    desk.start()
    after = desk.status()
    assert desk.pids() == before
    assert {row["state"] for row in after["services"]} == {"ready"}
    assert counts(desk) == restarts
    assert after["state"] == "trading"
    assert sorted(after["controller"]["adopted"]) == ["base", "top"]


def test_a_controller_that_is_told_to_end_lets_services_go_on(desk: Any) -> None:
    before = desk.pids()
    process = desk.processes[-1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not desk.layout.controller_socket.exists()
    desk.start()
    assert desk.pids() == before


def test_a_halt_outlives_the_controller(desk: Any) -> None:
    status, answer = desk.post(
        "halt", {"reason": "fat finger"}, headers={"X-Openbell-Actor": "eve"}
    )
    assert (status, answer["halted"], answer["verified"]) == (200, True, True)
    desk.kill()
    desk.start()
    seen = desk.status()
    assert seen["state"] == "halted" and "fat finger" in seen["why"]
    assert (seen["halt"]["active"], seen["halt"]["by"]) == (True, "eve")
    last = desk.run("open")[-1]
    assert last["event"] == "done" and "halt" in last["message"]
    assert desk.status()["state"] == "halted"
    assert desk.post("resume")[0] == 200
    assert desk.status()["state"] == "trading"
    assert not desk.layout.halt.exists()


def test_resume_says_what_blocks_it(desk: Any) -> None:
    desk.post("halt")
    desk.post("services/stop", {"services": ["base"], "force": True})
    status, refused = desk.post("resume")
    assert status == 403 and any("base" in blocker for blocker in refused["blockers"])
    assert desk.status()["state"] == "halted"


def test_left_over_processes_are_named_and_ended_only_by_force(desk: Any) -> None:
    """The record of a running service is lost; its marker still tells whose it is."""
    desk.run("open")
    left = desk.pids()["top"]
    desk.kill()
    for record in desk.layout.records.glob("top*"):
        record.unlink()
    desk.start()
    status, refused = desk.post("open")
    assert (status, refused["error"]) == (403, "refused")
    assert [(row["service"], row["pid"], row["ours"]) for row in refused["orphans"]] == [
        ("top", left, True)
    ]
    assert psutil.pid_exists(left)
    (told,) = desk.get("plan/open")[1]["refused"]
    assert str(left) in told and "up --force" in told, "a plan says so as well"
    assert desk.get("plan/open?force=true")[1]["refused"] == []
    last = desk.run("open", {"force": True})[-1]
    assert last["event"] == "done"
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE


def test_a_crash_is_restarted_counted_and_audited(desk: Any) -> None:
    pid, restarts = desk.pids()["base"], counts(desk)

    def told() -> int:
        return [each["action"] for each in desk.audit()].count("service.crashed")

    before = told()
    os.kill(pid, signal.SIGKILL)
    desk.until(
        lambda: desk.pids()["base"] not in (None, pid) and states(desk)["base"] == "ready", "back"
    )
    assert counts(desk) == {**restarts, "base": restarts["base"] + 1}
    desk.until(lambda: told() == before + 1, "audited")


def test_services_are_started_stopped_and_restarted_by_name(desk: Any) -> None:
    status, refused = desk.post("services/stop", {"services": ["base"]})
    assert (status, refused["dependents"]) == (403, ["top"])
    assert refused["message"] == "top depends on base and runs"
    _, stopped = desk.post("services/stop", {"services": ["top", "base"]})
    assert [row["service"] for row in stopped["results"]] == ["top", "base"]
    assert stopped["results"][0]["rungs"]
    assert states(desk) == {"base": "stopped", "top": "stopped"}
    _, started = desk.post("services/start", {"services": ["top"]})
    assert [row["service"] for row in started["results"]] == ["base", "top"]
    before = desk.pids()
    _, restarted = desk.post("services/restart", {"services": ["base"]})
    assert [row["ok"] for row in restarted["results"]] == [True]
    after = desk.pids()
    assert after["base"] != before["base"] and after["top"] == before["top"]
    _, reloaded = desk.post("services/reload", {"services": ["top"]})
    assert reloaded["results"][0]["outcome"] == "signalled"


def test_a_changed_desk_file_shows_as_drift_and_counts_from_the_next_start(desk: Any) -> None:
    file = desk.folder / "desk.toml"
    file.write_text(file.read_text().replace("86400", "86399"))
    desk.run("open")
    row = next(row for row in desk.status()["services"] if row["name"] == "top")
    assert row["drifted"] and row["state"] == "ready"
    desk.post("services/restart", {"services": ["top"]})
    row = next(row for row in desk.status()["services"] if row["name"] == "top")
    assert not row["drifted"]


def test_a_running_service_cannot_be_dropped_from_the_desk_file(desk: Any) -> None:
    """It would run on with nobody watching, and be in no status."""
    desk.run("open")
    file = desk.folder / "desk.toml"
    whole = file.read_text()
    file.write_text(whole[: whole.index("[services.top]")])
    status, refused = desk.post("open")
    assert status == 409
    assert refused["services"] == ["top"]
    assert "top" in desk.pids()
    desk.post("services/stop", {"services": ["top"]})
    assert desk.run("open")[-1]["event"] == "done"
    assert "top" not in desk.pids()


def test_checkpoints_are_saved_and_listed(desk: Any) -> None:
    before = desk.get("checkpoints")[1]["checkpoints"]
    status, saved = desk.post("checkpoints", {"level": "quick"})
    assert (status, saved["level"], saved["verified"]) == (200, "quick", True)
    listed = [each for each in desk.get("checkpoints")[1]["checkpoints"] if each not in before]
    assert [(each["path"], each["valid"]) for each in listed] == [(saved["path"], True)]


def test_safe_mode_is_no_way_to_stop_a_trading_desk(desk: Any) -> None:
    for status, refused in (
        desk.post("open", {"safe_mode": True}),
        desk.get("plan/open?safe_mode=true"),
    ):
        assert (status, refused["error"]) == (403, "refused")
        assert "openbell halt" in refused["hint"]
    assert desk.status()["state"] == "trading"
    desk.post("halt", {"reason": "x"})
    assert desk.run("open", {"safe_mode": True})[-1]["event"] == "done"


def test_what_was_taken_over_is_told_once(desk: Any) -> None:
    pid, before = desk.pids()["top"], counts(desk)
    os.kill(pid, signal.SIGKILL)
    desk.until(
        lambda: desk.pids()["top"] not in (None, pid) and states(desk)["top"] == "ready", "back"
    )
    desk.kill()
    desk.start()
    desk.until(lambda: states(desk) == {"base": "ready", "top": "ready"}, "both are proven well")
    assert desk.run("open")[-1]["message"] == (
        "already open: the desk is trading: the desk has no engine: nothing is sent by itself; "
        "2 services were taken over as they ran, none of them restarted since"
    )
    assert "taken over" not in desk.run("open")[-1]["message"]
    expected = {**before, "top": before["top"] + 1}
    assert counts(desk) == expected, "they outlive the controller that counted"


def test_events_can_be_read_again_from_any_number(desk: Any) -> None:
    desk.post("services/stop", {"services": ["top"]})
    run = desk.post("open")[1]["run"]
    events = desk.get(f"runs/{run}/events")[1]
    assert (events[-1]["event"], desk.status()["run"]) == ("done", None)
    for after in range(len(events) + 1):
        again = desk.get(f"runs/{run}/events?after={after}")[1]
        assert again == events[after:]
        assert desk.get(f"runs/{run}/events?after={after}&follow=false")[1] == events[after:]
    assert desk.get(f"runs/{run}")[1]["state"] == "done"
    desk.kill()
    desk.start()
    recorded = desk.get(f"runs/{run}")[1]
    assert (recorded["state"], recorded["procedure"]) == ("done", "open")
