"""A whole desk is closed and, once that is proven, opened again; whoever dies in between, it is gone on
with and nothing is done twice. With a venue's own word: tests/desk/test_whole_restart.py."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from tests.harness.controller_process import ONE_WEB

from openbell.cli.commands.status import restart_lines
from openbell.state.database import open_database
from openbell.state.new_run import NewRun
from openbell.state.pending_restart import PendingRestart, keep_restart, read_restart
from openbell.state.runs import RunStore

DESK = """
[services.base]
command = {web}
port = {p1}
ready = { kind = "http", path = "/" }
critical = true
[services.gate]
command = ["sleep", "86400"]
ready = { kind = "exec", command = ["test", "-e", "{desk}/go"], timeout = "300s" }
[services.stubborn]
command = ["sh", "-c", "trap : TERM; while :; do sleep 0.1; done"]
stop = { timeout = "300s" }
"""
BY_ANN = {"X-Openbell-Actor": "ann"}


def pending(desk: Any) -> PendingRestart | None:
    return read_restart(Path(desk.folder, "state", "restart.json"))


def kinds(desk: Any) -> list[str]:
    return [row["run"] for row in desk.get("runs")[1]["runs"]]


def test_a_restart_that_is_killed_twice_ends_as_one_that_was_not(make_desk: Any) -> None:
    """In its closing, and in its opening: each run is gone on with, and there is one of each."""
    desk = make_desk(DESK)
    go = desk.folder / "go"
    go.touch()
    desk.start()
    assert desk.run("open")[-1]["outcome"] == "trading"
    before = desk.pids()
    go.unlink()

    status, begun = desk.post("restart", {"quick": True, "reason": "a leak"}, headers=BY_ANN)
    assert (status, begun["run"], begun["resumed"]) == (202, "close-2", False), begun
    assert desk.post("restart")[0] == 409, "one at a time"
    desk.until(lambda: desk.status()["run"]["step"] == "stop_services", "services are stopped")
    desk.kill()
    desk.start()
    assert desk.status()["interrupted_run"]["id"] == "close-2"
    shown = desk.status()["restart"]
    assert (shown["quick"], shown["by"]) == (True, "ann"), shown
    assert any("quick restart by ann" in line for line in restart_lines(shown))
    assert pending(desk).quick and pending(desk).who == "ann"
    plan = desk.get("plan/restart")[1]
    assert (plan["procedure"], plan["goes_on"]["run"]) == ("quick-restart", "close-2"), plan[
        "goes_on"
    ]
    names = [row["name"] for row in plan["steps"]]
    assert "announce" not in names and names[-1] == "begin_trading", "as it was asked for then"
    assert desk.get("runs/close-2/resume/plan") == (200, plan), "resumed, it opens the desk again"
    closing = desk.get("plan/close")[1]["goes_on_with"]["told"]
    assert closing.endswith("it was half of a restart, and the desk is NOT opened again"), closing
    status, again = desk.post("runs/close-2/resume")
    assert (status, again["run"], again["resumed"]) == (202, "close-2", True), again
    # Not before it is being stopped: it would be started again, as after any crash.
    desk.until(lambda: desk.status()["run"]["step"] == "stop_services", "services are stopped")
    desk.until(
        lambda: any(
            row["name"] == "stubborn" and row["state"] == "stopping"
            for row in desk.status()["services"]
        ),
        "the last one is asked to stop",
    )
    os.kill(before["stubborn"], signal.SIGKILL)

    desk.until(
        lambda: (desk.status()["run"] or {}).get("procedure") == "open", "it is opened again"
    )
    assert pending(desk) is None, "its opening is in the record"
    assert desk.status()["restart"] is None
    assert desk.get("restart/close-2")[1]["opening"] == "open-3"
    desk.until(lambda: desk.pids()["gate"] is not None, "the gate is started")
    started = desk.pids()["gate"]
    desk.kill()
    desk.start()
    plan = desk.get("plan/restart")[1]
    assert (plan["procedure"], plan["goes_on"]["run"]) == ("quick-restart", "open-3"), plan[
        "goes_on"
    ]
    assert plan["steps"][0]["name"] == "preflight", "its closing is done"
    resumed = desk.get("runs/open-3/resume/plan")[1]
    assert (resumed["procedure"], resumed["goes_on"]) == ("quick-restart", plan["goes_on"])
    status, again = desk.post("restart")
    assert (again["run"], again["resumed"], again["of"]) == ("open-3", True, "close-2"), again
    go.touch()
    last = desk.get("runs/open-3/events")[1][-1]
    # Where the controller has seen it ready before it was asked to go on, nothing was left to do.
    assert last["event"] == "done" and last["outcome"] in ("trading", "already_open"), last
    assert desk.status()["state"] == "trading"

    after = desk.pids()
    assert not set(before.values()) & set(after.values()), "every service is a new process"
    assert after["gate"] == started, "what runs is left as it is"
    assert kinds(desk) == ["open-3", "close-2", "open-1"]
    of_the_quick = desk.get("runs?procedure=quick-restart")[1]["runs"]
    assert [row["run"] for row in of_the_quick] == ["open-3", "close-2"]
    assert desk.get("runs?procedure=restart")[1]["runs"] == []
    closing, opening = (desk.get(f"runs/{run}/report")[1] for run in ("close-2", "open-3"))
    assert closing["parameters"]["restart"] == "quick" and "a leak" in closing["why"]
    assert opening["parameters"]["restart_of"] == "close-2"
    assert closing["chain"]["whole"] and opening["chain"]["whole"]
    done = [step["name"] for step in closing["steps"]]
    assert not {"announce", "lock", "afterwards"} & set(done), "nobody is told of a quick one"


def kinds_at_rest(desk: Any) -> list[str]:
    database = open_database(desk.layout.database, read_only=True)
    try:
        return [f"{each.kind}-{each.run}" for each in RunStore(database).list()]
    finally:
        database.close()


def refused_opening(desk: Any) -> None:
    """In the record of a desk without a controller."""
    database = open_database(desk.layout.database)
    try:
        store = RunStore(database)
        run = store.begin(NewRun(kind="open", who="ann", why="restart", params={}))
        store.finish(run, "broken off: a stop")
    finally:
        database.close()


def test_killed_between_its_runs_it_is_gone_on_with_unless_something_else_was_done(
    make_desk: Any,
) -> None:
    desk = make_desk(ONE_WEB)
    desk.start()
    desk.run("open")
    desk.run("close")
    desk.processes[-1].wait(60)
    path = desk.folder / "state" / "restart.json"
    left = PendingRestart(quick=False, who="ann", reason="patches")
    keep_restart(path, left)
    desk.start()
    plan = desk.get("plan/restart")[1]
    assert (plan["goes_on"]["by"], plan["steps"][0]["name"]) == ("ann", "preflight"), plan[
        "goes_on"
    ]
    status, begun = desk.post("restart")
    assert status == 202, begun
    assert (begun["of"], begun["resumed"]) == ("close-2", True), begun
    assert desk.get(f"runs/{begun['run']}/events")[1][-1]["outcome"] == "trading"
    assert pending(desk) is None

    keep_restart(path, left)
    last = desk.run("close")[-1]
    assert last["outcome"] == "verified" and pending(desk) is None, "a closing is no restart"
    desk.processes[-1].wait(60)
    # Its opening was refused after it had begun, as by an emergency stop: it is a run, and the newest.
    closing = kinds_at_rest(desk)[0]
    refused_opening(desk)
    keep_restart(path, left)
    desk.start()
    assert desk.get("plan/restart")[0] == 409, "nothing says which closing was its own"
    keep_restart(path, msgspec.structs.replace(left, closing=closing, stopped="a stop"))
    status, plan = desk.get("plan/restart")
    assert (status, plan["goes_on"]["closing"]) == (200, closing), plan
    status, begun = desk.post("restart")
    assert (status, begun["of"]) == (202, closing), begun
    assert desk.get(f"runs/{begun['run']}/events")[1][-1]["outcome"] == "trading"

    assert desk.run("close")[-1]["outcome"] == "verified"
    desk.processes[-1].wait(60)
    keep_restart(path, left)
    desk.start()
    assert desk.run("open")[-1]["outcome"] == "trading"
    assert pending(desk) is None, "opened by hand, there is nothing to go on with"


HELD = """
[[procedures.close.extra]]
name = "hold"
before = "halt_strategies"
command = ["sh", "-c", "touch held; until test -e go; do sleep 0.02; done"]
verify = ["test", "-e", "go"]
timeout = "300s"
"""


def test_of_two_at_once_one_is_begun_and_where_it_was_cut_off_it_can_be_cancelled(
    make_desk: Any,
) -> None:
    """Before, the second one took the file of the first one away, so that a controller which was killed
    left a closing and no restart; and a restart that was cancelled was shown as under way for good."""
    desk = make_desk(ONE_WEB + HELD)
    desk.start()
    desk.run("open")
    with ThreadPoolExecutor(2) as both:
        answers = list(both.map(lambda _: desk.post("restart", {"reason": "patches"}), range(2)))
    assert sorted(status for status, _ in answers) == [202, 409], answers
    desk.until((desk.folder / "held").exists, "it is in its closing")
    assert pending(desk).reason == "patches"
    desk.kill()
    desk.start()
    assert desk.status()["restart"]["reason"] == "patches"
    run = desk.status()["interrupted_run"]["id"]
    assert desk.post(f"runs/{run}/cancel")[0] == 200
    assert (desk.status()["restart"], pending(desk)) == (None, None)
    (desk.folder / "go").touch()


def test_a_desk_that_could_not_be_opened_again_is_not_closed(make_desk: Any) -> None:
    desk = make_desk(ONE_WEB)
    desk.start()
    status, refused = desk.post("restart")
    assert (status, refused["error"]) == (409, "not_running"), refused
    desk.run("open")
    before = desk.pids()

    desk.post("lock", {"reason": "audit"}, headers=BY_ANN)
    status, refused = desk.post("restart", {"quick": True})
    assert status == 403 and "locked by ann" in refused["message"]
    assert "locked by ann" in desk.get("plan/restart")[1]["refused"][0]
    desk.post("unlock")

    file = desk.folder / "desk.toml"
    was = file.read_text()
    file.write_text(f'{was}\n[dependencies.ledger]\nkind = "command"\ncommand = ["false"]\n')
    desk.kill()
    desk.start()
    status, refused = desk.post("restart")
    assert status == 403 and "ledger" in refused["message"], refused
    plan = desk.get("plan/restart")[1]
    assert plan["procedure"] == "restart" and "ledger" in plan["refused"][0]
    assert desk.pids() == before and desk.status()["state"] == "trading"
    assert pending(desk) is None

    file.write_text(was)
    desk.kill()
    desk.start()
    plan = desk.get("plan/restart")[1]
    planned = [row["name"] for row in plan["steps"] if not row["skipped"]]
    assert plan["refused"] == [] and planned[-1] == "begin_trading"
    assert plan["goes_on"] is None and "the controller stays" in plan["notes"][0]
    assert "flatten" in [row["name"] for row in plan["steps"]], "it says what becomes of positions"
    assert (
        "start base" in next(r for r in plan["steps"] if r["name"] == "start_services")["actions"]
    )
    status, begun = desk.post("restart")
    closed = desk.get(f"runs/{begun['run']}/events")[1][-1]
    assert (closed["event"], closed["outcome"]) == ("done", "verified"), closed
    desk.until(lambda: desk.get(f"restart/{begun['run']}")[1]["opening"], "it is opened again")
    opening = desk.get(f"restart/{begun['run']}")[1]["opening"]
    assert desk.get(f"runs/{opening}/events")[1][-1]["outcome"] == "trading"
    done = [row["name"] for row in desk.get(f"runs/{begun['run']}/report")[1]["steps"]]
    assert done[0] == "lock" and done[-1] == "afterwards"
