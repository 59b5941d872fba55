"""Procedures by name, their runs and records, and people in the middle of them; a real controller."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.harness.controller_process import TWO

from openbell.cli.commands.status import status_text
from openbell.kill.marker import set_marker
from openbell.state.lock import FileLock

PEOPLE = """
[approvals]
expire_after = "{expire_after}"
[approvals.people]
ann = ["operator", "risk"]
joe = ["operator"]
kim = ["operator"]
bob = ["risk"]
"""


def own(procedure: str, name: str, place: str, command: str, verify: str, more: str = "") -> str:
    """A step of the desk's own, as shell text."""
    return (
        f'[[procedures.{procedure}.extra]]\nname = "{name}"\n{place}\n'
        f"command = ['sh', '-c', '{command}']\nverify = ['sh', '-c', '{verify}']\n{more}\n"
    )


HOLD = "touch held; until test -e go; do sleep 0.02; done; touch held-done"
HELD = own("open", "hold", 'after = "start_services"', HOLD, "test -e held-done", 'timeout = "60s"')

SLOW = """
[services.slow]
command = ["sleep", "86400"]
ready = { kind = "exec", command = ["test", "-e", "go"], timeout = "120s" }
"""


def by(who: str) -> dict[str, str]:
    return {"X-Openbell-Actor": who}


def begin(desk: Any, procedure: str, who: str = "ann", **parameters: Any) -> str:
    body = {"parameters": parameters, "reason": "trying"}
    status, answer = desk.post(f"procedures/{procedure}/run", body, headers=by(who))
    assert status == 202, answer
    return str(answer["run"])


def events(desk: Any, run: str) -> list[dict[str, Any]]:
    status, told = desk.get(f"runs/{run}/events")
    assert status == 200, told
    return list(told)


def report(desk: Any, run: str) -> dict[str, Any]:
    try:
        status, document = desk.get(f"runs/{run}/report")
    except OSError:  # the desk is closed, and its controller has left meanwhile
        desk.start()
        status, document = desk.get(f"runs/{run}/report")
    assert status == 200, document
    return dict(document)


def running(desk: Any) -> dict[str, bool]:
    return {row["name"]: row["state"] == "ready" for row in desk.status()["services"]}


def test_what_there_is_is_told_as_this_desk_wants_it(make_desk: Any) -> None:
    desk = make_desk(TWO + HELD + '[procedures.open.steps.start_services]\ntimeout = "77s"\n')
    desk.start()
    names = [each["name"] for each in desk.get("procedures")[1]["procedures"]]
    assert names == ["open", "close", "restart", "quick-restart", "rolling-restart"]
    steps = {each["name"]: each for each in desk.get("procedures/open")[1]["steps"]}
    assert steps["start_services"]["timeout"].startswith("1m17s")
    assert steps["hold"]["of_the_desk"] and not steps["start_services"]["of_the_desk"]
    assert desk.get("procedures/opne")[0] == 404
    planned = desk.post("procedures/open/plan")[1]["steps"]
    assert [each["name"] for each in planned] == [
        "preflight", "start_services", "hold", "begin_trading",
    ]  # fmt: skip
    assert not (desk.folder / "held").exists(), "a plan does nothing"
    status, refused = desk.post("procedures/open/plan", {"parameters": {"flaten": 1}})
    assert (status, refused["error"]) == (422, "usage")


def test_a_run_is_in_the_history_with_a_record_that_holds(desk: Any) -> None:
    run = begin(desk, "open")
    assert events(desk, run)[-1]["outcome"] == "trading"
    (row,) = desk.get("runs")[1]["runs"]
    assert (row["run"], row["who"], row["why"], row["state"]) == (run, "ann", "trying", "done")
    desk.until(lambda: report(desk, run)["chain"]["head_is_in_audit_log"], "its head is kept")
    told = report(desk, run)
    assert told["chain"]["whole"] is True and told["version"] == told["version_now"]
    looked, step = told["steps"][:2]
    assert looked["name"] == "preflight" and looked["outcome"] == "done"
    found = {each["name"]: each["found"] for each in looked["after"]["checks"]}
    assert found["credentials"] == "ok"
    assert found["backups"] == found["market_hours"] == found["network"] == "not_configured"
    assert step["plan"] == ["start base", "start top once base is ready"]
    assert step["before"]["views"]["base"]["state"] == "stopped"
    assert step["after"]["services"][0]["outcome"] == "ready"
    assert [each["action"] for each in told["events"]] == ["run.begun", "run.ended"]
    for form in ("md", "html"):
        status, text = desk.get(f"runs/{run}/report?format={form}")
        assert status == 200 and "start base" in text


def test_what_a_plan_shows_is_what_is_done_where_nothing_changes_meanwhile(desk: Any) -> None:
    def planned(procedure: str) -> dict[str, list[str]]:
        document = desk.post(f"procedures/{procedure}/plan")[1]
        return {each["name"]: each["actions"] for each in document["steps"]}

    for procedure in ("open", "close"):
        foreseen = planned(procedure)
        assert planned(procedure) == foreseen, "a plan changes nothing"
        run = begin(desk, procedure)
        assert events(desk, run)[-1]["event"] == "done"
        # Only the run has no number before it is begun: its archive of the logs is called after it.
        done = {
            each["name"]: [action.replace(f"/{run}-", "/plan-") for action in each["plan"]]
            for each in report(desk, run)["steps"]
        }
        assert done == foreseen, procedure
    assert any("stop base" in action for action in foreseen["stop_services"])


def test_what_speaks_against_opening_ends_it_before_anything_is_started(make_desk: Any) -> None:
    room = '[preflight]\ndisk_free = "9000000G"\ndisk_free_warn = "9000000G"\n'
    desk = make_desk(TWO + room)
    desk.start()
    run = begin(desk, "open")
    last = events(desk, run)[-1]
    assert (last["event"], last["result"]["failed_at"]) == ("failed", "preflight")
    assert "make room" in last["message"] and "nothing was started" in last["message"]
    assert last["result"]["begun"] is False
    told = desk.status()
    assert (told["state"], told["not_opened"]["run"]) == ("offline", run), "it is what it was"
    assert run in told["why"] and "preflight" in told["why"]
    (advice,) = [each for each in told["recommendations"] if each["subject"] == run]
    assert "make room" in advice["text"] and "openbell up" in advice["action"]
    assert not any(each["severity"] == "critical" for each in told["recommendations"])
    assert running(desk) == {"base": False, "top": False}
    (looked,) = report(desk, run)["steps"]
    assert {each["name"]: each["found"] for each in looked["after"]["checks"]}["disk"] == "failed"
    file = desk.folder / "desk.toml"
    file.write_text(file.read_text() + '[procedures.open.steps.preflight]\non_failure = "warn"\n')
    last = events(desk, begin(desk, "open"))[-1]
    assert last["event"] == "done" and running(desk) == {"base": True, "top": True}
    assert desk.status()["not_opened"] is None
    file.write_text(file.read_text().replace(room, ""))
    assert events(desk, begin(desk, "open"))[-1]["outcome"] == "already_open"


def test_a_desk_whose_opening_was_refused_has_nothing_to_be_closed(make_desk: Any) -> None:
    """Before, it was meant to be open from the first moment of a refused opening: a guard was started,
    `status` listed every service as missing, and closing asked venues that nobody had started."""
    venue = (
        '[venues.sim]\nadapter = "binance"\nenvironment = "simulated"\n'
        'url = "http://127.0.0.1:9"\nsymbols = ["BTC/USDT"]\n'
    )
    desk = make_desk(
        TWO + '[preflight]\ndisk_free = "9000000G"\ndisk_free_warn = "9000000G"\n' + venue
    )

    def openbell(*arguments: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "openbell", "--desk", str(desk.folder), "--json", *arguments],
            env=desk.environ, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    status, refused = openbell("up")
    assert (status, refused["opened"], refused["begun"]) == (1, False, False)
    assert not desk.layout.controller_socket.exists(), "the controller that `up` started is gone"
    assert not desk.layout.guard_record.exists(), "and there was never a guard"
    status, told = openbell("status")
    assert (status, told["state"], told["not_opened"]["step"]) == (0, "offline", "preflight")
    assert "make room" in told["recommendations"][0]["text"]
    status, closed = openbell("down", "--yes")
    assert status == 3 and "before anything was started" in closed["message"]

    desk.start()
    assert events(desk, begin(desk, "open"))[-1]["event"] == "failed"
    assert desk.status()["guard"]["state"] == "off"
    assert openbell("down", "--yes")[0] == 3
    desk.until(lambda: not desk.layout.controller_socket.exists(), "an idle controller is ended")


NOTHING_SENT = """
[services.store]
command = ["sh", "-c", "test -e ../works && exec sleep 86400"]
cwd = "state"
role = "other"
phase = "infrastructure"
ready = { kind = "exec", command = ["test", "-e", "{desk}/works"] }
restart = { policy = "never" }
[services.looker]
command = ["sleep", "86400"]
role = "monitoring"
[services.sender]
command = ["sleep", "86400"]
depends_on = ["store"]
[venues.sim]
adapter = "binance"
environment = "simulated"
url = "http://127.0.0.1:9"
symbols = ["BTC/USDT"]
"""


def test_a_desk_of_which_nothing_that_can_send_was_started_is_closed_without_its_venues(
    make_desk: Any,
) -> None:
    """An opening that fails past its pre-flight leaves a desk whose venue may be out of reach: `down` asked
    it for a minute and a half, and ended with "not verified". Once something that can send an order was
    started, whatever became of it, that is right, and is what it still does."""
    desk = make_desk(NOTHING_SENT)
    desk.start()
    assert events(desk, begin(desk, "open"))[-1]["event"] == "failed"
    assert running(desk) == {"store": False, "looker": True, "sender": False}
    told = desk.status()
    assert told["state"] != "offline" and told["nothing_sent"]["since"] == ""
    (note,) = [each for each in told["recommendations"] if "closed at once" in each["text"]]
    assert "openbell down" in note["action"]
    pids = [pid for pid in desk.pids().values() if pid]
    desk.kill()  # the next controller knows it from the disk
    desk.start()
    run = begin(desk, "close")
    last = events(desk, run)[-1]
    assert (last["event"], last["outcome"]) == ("done", "verified"), last
    said = last["result"]
    assert (said["asked"], said["remaining_orders"]) == ("none", None), (
        "nobody claims to have asked"
    )
    assert "nothing that can send an order was started" in said["summary"]
    assert not any(map(lives, pids))
    desk.until(lambda: not desk.answers(), "a closed desk's controller leaves")

    (desk.folder / "works").touch()
    desk.start()
    events(desk, begin(desk, "open"))
    assert running(desk)["sender"] and desk.status()["nothing_sent"] is None
    assert desk.post("services/stop", {"services": ["sender"], "force": True})[0] == 200
    assert desk.status()["nothing_sent"] is None, "it was started, whatever became of it"
    plan = desk.get("plan/close")[1]
    (cancel,) = [step for step in plan["steps"] if step["name"] == "cancel_orders"]
    assert not cancel["skipped"], "the venue is asked"


def test_a_second_procedure_is_told_which_run_is_under_way(make_desk: Any) -> None:
    desk = make_desk(TWO + HELD)
    desk.start()
    run = begin(desk, "open")
    desk.until((desk.folder / "held").exists, "it is in the middle of a step")
    status, refused = desk.post("procedures/close/run")
    assert (status, refused["error"], refused["run"], refused["actor"]) == (
        409,
        "conflict",
        run,
        "ann",
    )
    (desk.folder / "go").touch()
    assert events(desk, run)[-1]["event"] == "done"


def test_while_an_emergency_stop_is_under_way_no_procedure_begins(desk: Any) -> None:
    desk.run("open")
    assert set_marker(desk.layout, "odd fills", "eve") == ""
    with FileLock(desk.layout.emergency_lock):
        desk.until(
            lambda: "emergency.held" in [each["action"] for each in desk.audit()], "it is seen"
        )
        for path in ("open", "close", "restart", "rolling-restart"):
            status, refused = desk.post(path, {})
            assert (status, refused["error"]) == (409, "conflict"), path
            assert "an emergency stop is under way" in refused["message"], path
        for path in ("plan/open", "plan/rolling-restart"):
            assert desk.get(path)[0] == 409, path
    assert desk.run("close")[-1]["outcome"] == "verified", "it is over"


SLOW_TO_LOAD = """
import pathlib, sys, time
from openbell.controller import hosting
from openbell.controller.main import main
load = hosting.Hosted._load_server
def late(hosted):
    while not pathlib.Path(sys.argv[1], "load").exists():
        time.sleep(0.02)
    return load(hosted)
hosting.Hosted._load_server = late
sys.exit(main(["--desk", sys.argv[1], "--open", "{}", "--actor", "ann"]))
"""


def test_a_stop_breaks_off_a_run_whose_controller_is_still_loading_its_api(make_desk: Any) -> None:
    """A run that a controller begins at once went on beside it: stops were looked for once the API was there,
    and one that had come before counted as known."""
    desk = make_desk(TWO + HELD)
    desk.processes.append(
        subprocess.Popen(
            [sys.executable, "-c", SLOW_TO_LOAD, str(desk.folder)],
            env=desk.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    )
    desk.until((desk.folder / "held").exists, "its run is in the middle of a step")
    assert set_marker(desk.layout, "odd fills", "eve") == ""
    desk.until(lambda: "emergency.held" in [each["action"] for each in desk.audit()], "it is seen")
    (desk.folder / "load").touch()
    desk.until(desk.answers, "the controller answers")
    (run,) = desk.get("runs")[1]["runs"]
    last = events(desk, run["run"])[-1]
    assert (last["event"], last["outcome"]) == ("failed", "broken_off")
    assert "an emergency stop by eve: odd fills" in last["message"]


def test_a_run_that_is_cancelled_ends_after_its_step(make_desk: Any) -> None:
    desk = make_desk(TWO + HELD)
    desk.start()
    run = begin(desk, "open")
    desk.until((desk.folder / "held").exists, "it is in the middle of a step")
    status, answer = desk.post(f"runs/{run}/cancel", {"reason": "wrong day"}, headers=by("joe"))
    assert (status, answer["after_step"]) == (200, "hold")
    (desk.folder / "go").touch()
    last = events(desk, run)[-1]
    assert (last["event"], last["outcome"]) == ("failed", "cancelled")
    outcomes = {each["name"]: each["outcome"] for each in last["result"]["steps"]}
    assert outcomes == {
        "preflight": "done", "start_services": "done", "hold": "done", "begin_trading": "skipped",
    }  # fmt: skip
    assert desk.get("runs")[1]["runs"][0]["state"] == "cancelled"
    assert desk.post(f"runs/{run}/cancel")[0] == 409, "it is over"
    assert running(desk) == {"base": True, "top": True}, "what runs was left running"
    assert desk.status()["state"] == "safe", "it had not come to trading"


def test_a_step_of_the_desks_own_that_fails_ends_the_opening_where_the_desk_says_so(
    make_desk: Any,
) -> None:
    place = 'before = "start_services"'
    desk = make_desk(
        TWO + own("open", "gate", place, "true", "echo closed; false", 'on_failure = "abort"')
    )
    desk.start()
    last = events(desk, begin(desk, "open"))[-1]
    assert (last["event"], last["outcome"]) == ("failed", "failed")
    assert "gate: not so: closed" in last["message"]
    assert running(desk) == {"base": False, "top": False}


# --- people ----------------------------------------------------------------------------------------


def waiting(desk: Any, run: str) -> dict[str, Any]:
    desk.until(lambda: desk.get(f"runs/{run}/requests")[1]["requests"], "it waits for people")
    (request,) = desk.get(f"runs/{run}/requests")[1]["requests"]
    return dict(request)


def approve(
    desk: Any, request: dict[str, Any], who: str, reason: str = "looked"
) -> tuple[int, Any]:
    body = {"step": request["step"], "digest": request["digest"], "reason": reason}
    answer: tuple[int, Any] = desk.post(f"runs/{request['run']}/approve", body, headers=by(who))
    return answer


def test_a_step_waits_for_two_people_across_a_killed_controller(make_desk: Any) -> None:
    """Begun by ann; approved by bob before the controller is killed, by joe after it."""
    settings = '[procedures.open.steps.start_services]\napprovals = ["risk", "operator"]\n'
    desk = make_desk(TWO + PEOPLE.format(expire_after="15m") + settings)
    desk.start()
    run = begin(desk, "open", "ann")
    request = waiting(desk, run)
    assert (request["step"], request["roles"]) == ("start_services", ["risk", "operator"])
    assert request["parameters"]["safe_mode"] is False, "who approves sees what is asked for"
    for who, why in (("Ann", "asked for it"), ("sam", "no role")):
        status, refused = approve(desk, request, who)
        assert status == 403 and why in refused["message"]
    status, refused = approve(desk, {**request, "digest": "0" * 64}, "bob")
    assert status == 403 and "another act" in refused["message"]
    status, refused = approve(desk, request, "bob", reason=" ")
    assert status == 422 and "needs a reason" in refused["message"]
    unsaid = {"step": request["step"], "digest": request["digest"]}
    status, refused = desk.post(f"runs/{run}/approve", unsaid, headers=by("bob"))
    assert status == 422 and "reason" in refused["message"]
    assert approve(desk, request, "bob")[1]["complete"] is False
    assert approve(desk, request, "bob")[0] == 403, "each person once"
    desk.kill()
    desk.start()
    assert desk.status()["interrupted_run"]["id"] == run
    again = waiting(desk, run)
    assert (again["digest"], again["approved_by"]) == (request["digest"], ["bob"])
    assert approve(desk, again, "ann")[0] == 403
    assert approve(desk, again, "joe")[1]["complete"] is True
    assert running(desk) == {"base": False, "top": False}
    assert desk.post(f"runs/{run}/resume", headers=by("ann"))[0] == 202
    assert events(desk, run)[-1]["outcome"] == "trading"
    approved = [each for each in report(desk, run)["events"] if each["action"] == "step.approved"]
    assert [each["actor"] for each in approved] == ["bob", "joe"]
    kept = [each["actor"] for each in desk.audit() if each["action"] == "run.step_approved"]
    assert kept == ["bob", "joe"]


def test_what_was_approved_stays_so_whoever_goes_on_with_the_run_and_approves_no_more_of_it(
    make_desk: Any,
) -> None:
    """Before, whoever went on with a run could approve the step that had waited when its controller was
    killed: the request on the disk knew only who had begun it."""
    settings = '[procedures.close.steps.checkpoint]\napprovals = ["risk", "operator"]\n'
    desk = make_desk(TWO + PEOPLE.format(expire_after="15m") + settings)
    desk.start()
    desk.run("open")
    run = desk.post("close", {"reason": "abc"}, headers=by("ann"))[1]["run"]
    request = waiting(desk, run)
    assert approve(desk, request, "bob")[1]["complete"] is False
    desk.kill()
    desk.start()
    assert desk.post("close", {"reason": ""}, headers=by("ann"))[1]["run"] == run
    again = waiting(desk, run)
    assert (again["digest"], again["approved_by"]) == (request["digest"], ["bob"])
    desk.kill()
    desk.start()
    assert desk.post("close", {"reason": ""}, headers=by("joe"))[1]["run"] == run
    again = waiting(desk, run)
    assert (again["requesters"], again["approved_by"]) == (["ann", "joe"], ["bob"])
    assert approve(desk, again, "joe")[0] == 403
    desk.kill()
    desk.start()
    status, refused = approve(desk, waiting(desk, run), "joe")
    assert status == 403 and "asked for it" in refused["message"], "nor under another controller"
    assert desk.post("close", {"reason": ""}, headers=by("ann"))[1]["run"] == run
    assert approve(desk, waiting(desk, run), "kim")[1]["complete"] is True
    desk.processes[-1].wait(60)
    told = report(desk, run)
    assert told["parameters"]["timeout_s"] > 0, "what it was begun with, all of it"
    again = [each["detail"] for each in told["events"] if each["action"] == "run.resumed"]
    assert [each["parameters"] for each in again] == [told["parameters"]] * 3, "and gone on with"


def test_nothing_trades_before_what_must_be_approved_whatever_becomes_of_the_controller(
    make_desk: Any,
) -> None:
    """The engine asks for its permit by itself: what is asked for must not be trading yet."""
    settings = '[procedures.open.steps.begin_trading]\napprovals = ["risk"]\n'
    desk = make_desk(TWO + PEOPLE.format(expire_after="15m") + settings)
    desk.start()
    run = begin(desk, "open")
    request = waiting(desk, run)
    assert running(desk) == {"base": True, "top": True}
    assert desk.status()["state"] == "safe"
    desk.kill()
    desk.start()
    assert desk.status()["state"] == "safe"
    assert approve(desk, waiting(desk, run), "bob")[0] == 200
    assert desk.status()["state"] == "safe", "approved, and not gone on with"
    assert desk.post(f"runs/{run}/resume", headers=by("ann"))[0] == 202
    assert events(desk, run)[-1]["event"] == "done"
    assert desk.status()["state"] == "trading" and request["step"] == "begin_trading"
    begin(desk, "open")
    assert desk.status()["state"] == "trading", "opening again stops nothing"


def test_a_step_that_fails_before_trading_keeps_the_desk_from_it(make_desk: Any) -> None:
    gate = own(
        "open", "gate", 'after = "start_services"', "true", "test -e good", 'on_failure = "abort"'
    )
    desk = make_desk(TWO + gate)
    desk.start()
    last = events(desk, begin(desk, "open"))[-1]
    assert last["event"] == "failed" and "the desk does not trade" in last["message"]
    assert (running(desk), desk.status()["state"]) == ({"base": True, "top": True}, "safe")
    (desk.folder / "good").touch()
    assert events(desk, begin(desk, "open"))[-1]["event"] == "done"
    assert desk.status()["state"] == "trading"


def test_without_its_approval_a_step_does_not_begin(make_desk: Any) -> None:
    settings = '[procedures.open.steps.start_services]\napprovals = ["risk"]\n'
    desk = make_desk(TWO + PEOPLE.format(expire_after="500ms") + settings)
    desk.start()
    last = events(desk, begin(desk, "open"))[-1]
    assert last["event"] == "failed" and "not approved in time" in last["message"]
    assert running(desk) == {"base": False, "top": False}


def test_a_run_that_waits_for_approval_can_be_cancelled(make_desk: Any) -> None:
    """And says for what it waits, until when and of whom; a step with nothing to do waits for nobody."""
    settings = '[procedures.open.steps.start_services]\napprovals = ["risk"]\n'
    settings += '[procedures.close.steps.flatten]\napprovals = ["risk"]\n'
    desk = make_desk(TWO + PEOPLE.format(expire_after="15m") + settings)
    desk.start()
    (planned,) = [
        row for row in desk.get("plan/open")[1]["steps"] if row["name"] == "start_services"
    ]
    assert planned["approvals"] == ["risk"]
    run = begin(desk, "open")
    request = waiting(desk, run)
    assert request["may_approve"] == ["bob"], "ann asked for it"
    status, refused = approve(desk, request, "ann")
    assert status == 403 and refused["hint"].startswith("bob may, until "), refused
    shown = desk.status()
    assert shown["run"]["waiting"]["step"] == "start_services", shown["run"]
    text = status_text(shown)
    assert f"at start_services ({run})" in text
    assert f"for approvals (risk) of bob; openbell procedure approve {run}" in text
    assert desk.post(f"runs/{run}/cancel")[0] == 200
    told = events(desk, run)
    (asked,) = [each["message"] for each in told if each["event"] == "waiting"]
    assert " UTC for an approval (risk), which bob may give: " in asked, asked
    assert told[-1]["outcome"] == "cancelled"
    assert running(desk) == {"base": False, "top": False}
    closing = desk.post("close", {"reason": "abc"}, headers=by("ann"))[1]["run"]
    last = events(desk, closing)[-1]
    assert last["event"] == "done", "nothing is held: nobody had to approve that"
    (before, *_) = last["result"]["checklists"]
    (approved,) = [each for each in before["checks"] if each["name"] == "approved"]
    assert approved["found"] == "ok" and "flatten: none was needed" in approved["detail"], approved


@pytest.mark.parametrize("word", [True, False])
def test_a_step_that_failed_asks_whether_the_run_goes_on(make_desk: Any, word: bool) -> None:
    place = 'before = "start_services"'
    asks = own("open", "odd", place, "true", "false", 'on_failure = "ask"')
    desk = make_desk(TWO + PEOPLE.format(expire_after="15m" if word else "500ms") + asks)
    desk.start()
    run = begin(desk, "open")
    if word:
        request = waiting(desk, run)
        assert request["kind"] == "go_on"
        assert approve(desk, request, "ann", reason="")[0] == 422, "a decision has a reason too"
        assert approve(desk, request, "ann")[0] == 200, "a decision, which the requester may make"
    last = events(desk, run)[-1]
    assert (last["event"] == "done") is word
    assert running(desk) == {"base": word, "top": word}
    assert "odd is failed" in last["message"] if word else "odd" in last["message"]


def test_a_release_that_waits_for_approval_outlives_the_controller(make_desk: Any) -> None:
    people = PEOPLE.format(expire_after="15m")
    acts = '[approvals]\nneeded_for = ["kill-switch-deactivate"]'
    needed = people.replace("[approvals]", acts, 1)
    desk = make_desk(TWO + needed)
    desk.start()
    assert desk.post("kill-switch/activate", {"reason": "odd"}, headers=by("eve"))[0] == 200
    asked = desk.post("kill-switch/deactivate", {"reason": "fine"}, headers=by("joe"))
    assert asked[0] == 202
    desk.kill()
    desk.start()
    (request,) = desk.get("kill-switch")[1]["requests"]
    assert request == asked[1]["request"]
    body = {"request": request["id"], "digest": request["digest"], "reason": "looked"}
    assert desk.post("kill-switch/approve", body, headers=by("joe"))[0] == 403
    assert desk.post("kill-switch/approve", body, headers=by("bob"))[0] == 200
    desk.kill()
    desk.start()
    status, refused = desk.post("kill-switch/approve", body, headers=by("bob"))
    assert status == 403 and "approved already" in refused["message"], "it counts once"


# --- cut off ---------------------------------------------------------------------------------------

STEPS = (
    own(
        "open",
        "first",
        'before = "start_services"',
        "echo x >> first",
        "test -e first",
        "repeat = true",
    )
    + own(
        "open", "last", 'after = "begin_trading"', "echo x >> last", "test -e last", "repeat = true"
    )
    + own(
        "close",
        "early",
        'before = "cancel_orders"',
        "echo x >> early",
        "test -e early",
        "repeat = true",
    )
    + own(
        "close",
        "late",
        'after = "stop_services"',
        "echo x >> late",
        "test -e late",
        "repeat = true",
    )
)
KILLS = int(os.environ.get("OPENBELL_KILLS", "0"))
"""So many more runs, each cut off at a random moment, of opening and closing."""
SEED = int(os.environ.get("OPENBELL_SEED", random.randrange(2**32)))


def goes_on_to_its_end(desk: Any, run: str) -> dict[str, Any]:
    """The run's report, after the new controller went on with it, unless it had ended."""
    desk.start()
    interrupted = desk.status()["interrupted_run"]
    if interrupted is not None:
        assert interrupted["id"] == run
        status, answer = desk.post(f"runs/{run}/resume")
        assert status == 202, answer
        assert answer["resumed"] and answer["run"] == run and answer["changed"] == ""
        told = events(desk, run)
        assert told[0]["event"] == "resumed", "it is announced"
        assert told[-1]["event"] == "done", told[-1]
    return report(desk, run)


def cut_off(desk: Any, procedure: str, ready: Any) -> dict[str, Any]:
    """The report of a run that was killed once `ready(run)`, and gone on with."""
    run = begin(desk, procedure)
    ready(run)
    desk.kill()
    told = goes_on_to_its_end(desk, run)
    assert told["chain"]["whole"] is True, told["chain"]
    assert told["outcome"] == "done"
    return told


def started(desk: Any, count: int) -> Any:
    """So many steps have begun, or the run is over."""

    def wait(run: str) -> None:
        def seen() -> bool:
            try:
                document = report(desk, run)
            except OSError:  # a closed desk's controller has left
                return desk.processes[-1].poll() is not None
            return len(document["steps"]) >= count or document["finished"] is not None

        desk.until(seen, f"{count} steps of {run} have begun")

    return wait


def lives(pid: int) -> bool:
    """One that ended after its controller was killed may be left unreaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_opened_as_uninterrupted(desk: Any) -> None:
    assert running(desk) == {"base": True, "top": True}
    assert desk.status()["state"] == "trading"
    assert [row["restarts"] for row in desk.status()["services"]] == [0, 0]
    for name in ("first", "last"):
        assert (desk.folder / name).read_text() == "x\n", f"{name} took effect once"


def is_closed_as_uninterrupted(desk: Any) -> None:
    for name in ("early", "late"):
        assert (desk.folder / name).read_text() == "x\n", f"{name} took effect once"


@pytest.mark.parametrize(("opening", "closing"), [(2, 2), (3, 3), (4, 9), (5, 12)])
def test_an_opening_and_a_closing_that_are_killed_in_any_step_end_as_if_they_had_not(
    make_desk: Any, opening: int, closing: int
) -> None:
    desk = make_desk(TWO + STEPS)
    desk.start()
    told = cut_off(desk, "open", started(desk, opening))
    assert [each["name"] for each in told["steps"] if each["outcome"] is not None][-4:] == [
        "first", "start_services", "begin_trading", "last",
    ]  # fmt: skip
    is_opened_as_uninterrupted(desk)
    pids = desk.pids()
    cut_off(desk, "close", started(desk, closing))
    is_closed_as_uninterrupted(desk)
    assert not any(map(lives, pids.values())), "nothing is left"


@pytest.mark.skipif(not KILLS, reason="OPENBELL_KILLS says how many")
@pytest.mark.timeout(60 * max(KILLS, 1) + 60)
def test_runs_that_are_killed_at_random_moments_end_as_if_they_had_not(make_desk: Any) -> None:
    print(f"OPENBELL_SEED={SEED}")
    chance = random.Random(SEED)
    for _ in range(KILLS):
        desk = make_desk(TWO + STEPS)
        desk.start()
        cut_off(desk, "open", lambda _run: time.sleep(chance.uniform(0, 0.6)))
        is_opened_as_uninterrupted(desk)
        cut_off(desk, "close", lambda _run: time.sleep(chance.uniform(0, 0.8)))
        is_closed_as_uninterrupted(desk)
        desk.end()


@pytest.mark.parametrize("gone_on_with", ["resume", "open"])
def test_what_an_opening_insisted_on_holds_when_it_is_gone_on_with(
    make_desk: Any, gone_on_with: str
) -> None:
    desk = make_desk(TWO + HELD)
    desk.start()
    run = desk.post("open", {"force": True})[1]["run"]
    desk.until((desk.folder / "held").exists, "it is in the middle of a step")
    desk.kill()
    (desk.folder / "go").touch()
    desk.start()
    plan, planned = desk.get(f"runs/{run}/resume/plan")[1], desk.get("plan/open")[1]
    assert [row["name"] for row in plan["steps"]] == [row["name"] for row in planned["steps"]]
    assert plan["procedure"] == "open" and "hold" in [row["name"] for row in plan["steps"]]
    path = "open" if gone_on_with == "open" else f"runs/{run}/resume"
    assert desk.post(path)[1]["resumed"]
    assert events(desk, run)[-1]["event"] == "done"
    told = report(desk, run)
    looked = [step["before"]["force"] for step in told["steps"] if step["name"] == "preflight"]
    assert (told["parameters"]["force"], looked) == (True, [True, True])


def test_a_procedure_that_was_changed_between_is_told(make_desk: Any) -> None:
    desk = make_desk(TWO + HELD)
    desk.start()
    run = begin(desk, "open")
    desk.until((desk.folder / "held").exists, "it is in the middle of a step")
    desk.kill()
    file = desk.folder / "desk.toml"
    file.write_text(file.read_text().replace('name = "hold"', 'name = "keep"'))
    desk.start()
    status, answer = desk.post(f"runs/{run}/resume")
    assert status == 202, answer
    assert answer["changed"] == "steps that are gone: hold; steps that are new: keep"
    (desk.folder / "go").touch()
    told = events(desk, run)
    assert "has changed since" in told[0]["message"] and told[-1]["event"] == "done"


def test_what_the_desk_file_says_otherwise_of_a_step_since_is_told(make_desk: Any) -> None:
    """Time-out, policy and approvals, of the procedure's own steps and of the desk's. Before, a run whose
    policy had been loosened meanwhile went on without a word."""
    desk = make_desk(TWO + HELD)
    desk.start()
    run = begin(desk, "open")
    desk.until((desk.folder / "held").exists, "it is in the middle of a step")
    desk.kill()
    file = desk.folder / "desk.toml"
    text = file.read_text().replace('timeout = "60s"', 'timeout = "90s"\non_failure = "force"')
    file.write_text(
        f'{text}\n[procedures.open.steps.preflight]\non_failure = "warn"\n'
        '[procedures.open.steps.start_core]\ntimeout = "45s"\n'
    )
    desk.start()
    changed = (
        "preflight: on failure abort then, warn now; "
        "start_core: time-out as other settings make it then, 45s now; "
        "hold: time-out 60s then, 90s now, on failure warn then, force now"
    )
    status, answer = desk.post(f"runs/{run}/resume")
    assert (status, answer["changed"]) == (202, changed)
    (desk.folder / "go").touch()
    told = events(desk, run)
    assert changed in told[0]["message"] and told[-1]["event"] == "done"
    resumed = [each for each in report(desk, run)["events"] if each["action"] == "run.resumed"]
    assert [each["detail"]["changed"] for each in resumed] == [changed]


@pytest.mark.parametrize("holds_back", [True, False])
def test_a_run_that_was_cut_off_can_be_cancelled(make_desk: Any, holds_back: bool) -> None:
    """With nothing more to be seen the desk may trade from the second step on: an engine would get
    its permit as soon as it is ready, though nobody opens the desk any more."""
    desk = make_desk(TWO + (HELD if holds_back else SLOW))
    desk.start()
    run = begin(desk, "open")
    if holds_back:
        desk.until((desk.folder / "held").exists, "it is in the middle of a step")
    else:
        started(desk, 2)(run)  # the first one looks, and holds trading back itself
    desk.kill()
    asked = json.loads((desk.folder / "state" / "target.json").read_bytes())
    assert (asked["target"], asked["held_back"]) == ("trading", holds_back)
    desk.start()
    status, answer = desk.post(f"runs/{run}/cancel", {"reason": "not today"}, headers=by("joe"))
    assert (status, answer["after_step"]) == (200, "")
    assert "does not trade until it is opened again" in answer["left"]
    assert desk.status()["interrupted_run"] is None
    assert desk.status()["state"] == "safe", "it had not come to trading"
    desk.until(lambda: report(desk, run)["chain"]["head_is_in_audit_log"], "its head is kept")
    told = report(desk, run)
    assert (told["state"], told["chain"]["whole"]) == ("cancelled", True)
    assert desk.post(f"runs/{run}/resume")[0] == 409
    (desk.folder / "go").touch()


def test_the_command_line_tells_of_runs_without_a_controller(make_desk: Any) -> None:
    desk = make_desk(TWO)
    desk.start()
    desk.run("open")
    run = desk.post("close")[1]["run"]
    events(desk, run)
    desk.until(lambda: not desk.answers(), "a closed desk's controller leaves")

    def openbell(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "openbell", "--desk", str(desk.folder), "procedure", *arguments],
            env=desk.environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    status, out = openbell("history", "--json")
    assert status == 0
    assert [(each["run"], each["state"]) for each in json.loads(out)["runs"]] == [
        (run, "done"), ("open-1", "done"),
    ]  # fmt: skip
    status, out = openbell("report", run, "--json")
    told = json.loads(out)
    assert (status, told["chain"]["whole"]) == (0, True)
    names = {Path(each["path"]).name: each["now"] for each in told["evidence_files"]}
    assert names[f"{run}.json"] == names[f"{run}-logs.tar.gz"] == "unchanged"
    assert len(names) == 3, "statement, checkpoint and the archive of the logs"
    assert openbell("report", "close-99")[0] == 2
    assert openbell("show", "close")[0] == 0
    statement = desk.layout.statements / f"{run}.json"
    statement.write_text(statement.read_text().replace("true", "false"))
    status, out = openbell("report", run, "--json")
    assert status == 8 and '"changed"' in out
