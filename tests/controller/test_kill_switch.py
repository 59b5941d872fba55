"""The kill switch over the API, with a real controller."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.controller.conftest import small_desks

SLEEPER = """
[services.base]
command = ["sleep", "86400"]
"""
VENUE = """
[venues.binance]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
"""
TWO_PEOPLE = """
[approvals]
needed_for = ["kill-switch-deactivate"]
expire_after = "{expire_after}"
[approvals.people]
alice = ["operator"]
carol = ["operator"]
bob = ["risk"]
"""


def post(desk: Any, act: str, who: str, **body: Any) -> tuple[int, Any]:
    return desk.post(f"kill-switch/{act}", body, headers={"X-Openbell-Actor": who})


def activate(desk: Any, *scopes: str, who: str = "eve", reason: str = "test") -> Any:
    status, answer = post(desk, "activate", who, scopes=scopes, reason=reason)
    assert status == 200, answer
    return answer


@pytest.fixture
def desk(make_desk: Any) -> Any:
    made = make_desk(SLEEPER + VENUE)
    made.start()
    return made


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One desk for all tests that neither break it nor kill its controller, and one of which two people must
    release the kill switch."""
    with small_desks(tmp_path_factory.mktemp("kill")) as make:
        yield {
            "alone": make(SLEEPER + VENUE),
            "guarded": make(SLEEPER + VENUE + TWO_PEOPLE.format(expire_after="1h")),
        }


def unlatched(made: Any) -> Any:
    """Whatever the test before did: its controller runs, and nothing is latched."""
    if not made.answers():
        made.start()
    for file in made.layout.latches.glob("*"):
        file.unlink()
    assert made.get("kill-switch")[1]["active"] is False
    return made


@pytest.fixture
def shared(lasting: dict[str, Any]) -> Any:
    return unlatched(lasting["alone"])


@pytest.fixture
def trading(shared: Any) -> Any:
    """The same, open and trading."""
    assert shared.run("open")[-1]["event"] == "done"
    if shared.status()["state"] != "trading":
        assert shared.post("resume")[0] == 200
    assert shared.status()["state"] == "trading"
    return shared


@pytest.fixture
def guarded(lasting: dict[str, Any]) -> Any:
    return unlatched(lasting["guarded"])


def asked(desk: Any, *scopes: str, who: str = "alice") -> Any:
    status, answer = post(desk, "deactivate", who, scopes=scopes, reason="checked")
    assert (status, answer["deactivated"]) == (202, False), answer
    return answer["request"]


def test_it_is_set_at_once_shown_recorded_and_outlives_the_controller(desk: Any) -> None:
    desk.run("open")
    answer = activate(desk, reason="fat finger")
    assert (answer["activated"], answer["durable"], answer["recorded"]) == (True, True, True)
    assert answer["engine"] == "no engine"
    for _ in range(2):
        document = desk.get("kill-switch")[1]
        assert (document["active"], document["desk"], document["scopes"]) == (True, True, ["desk"])
        assert document["latches"][0]["reason"] == "fat finger"
        seen = desk.status()
        assert seen["state"] == "emergency"
        assert seen["latch"]["active"] and seen["latch"]["by"] == "eve"
        desk.kill()
        desk.start()
    record = next(r for r in desk.audit() if r["action"] == "kill_switch.activate")
    assert (record["actor"], record["detail"]["reason"]) == ("eve", "fat finger")


def test_a_latched_desk_opens_in_safe_mode_and_says_who_and_why(desk: Any) -> None:
    activate(desk, reason="fat finger")
    last = desk.run("open")[-1]
    assert (last["event"], last["outcome"]) == ("done", "safe")
    for said in ("kill switch is latched by eve", "fat finger", "kill-switch deactivate"):
        assert said in last["message"]
    status, refused = desk.post("resume")
    assert (status, refused["blockers"]) == (403, ["the kill switch is latched"])


def test_a_release_needs_a_reason_and_leaves_the_desk_halted(trading: Any) -> None:
    activate(trading)
    assert post(trading, "deactivate", "eve")[0] == 422
    assert post(trading, "deactivate", "eve", reason=" ")[0] == 422
    assert trading.status()["state"] == "emergency"
    status, answer = post(trading, "deactivate", "eve", reason="all checked")
    assert (status, answer["deactivated"], answer["halted"], answer["still"]) == (
        200,
        True,
        True,
        [],
    )
    assert trading.status()["state"] == "halted"
    assert "all checked" in trading.status()["why"]
    assert trading.post("resume")[0] == 200
    assert trading.status()["state"] == "trading"
    *_, record = (r for r in trading.audit() if r["action"] == "kill_switch.deactivate")
    assert (record["actor"], record["detail"]["reason"]) == ("eve", "all checked")


def test_opened_under_the_latch_it_does_not_trade_when_the_file_is_gone(desk: Any) -> None:
    """A person who deletes the file releases it too; to trade takes a word of its own."""
    activate(desk)
    desk.run("open")
    for file in desk.layout.latches.iterdir():
        file.unlink()
    assert desk.status()["state"] == "safe"


def test_a_part_of_the_desk_is_latched_and_released_by_itself(trading: Any) -> None:
    answer = activate(trading, "venue:binance", "symbol:BTC/USDT")
    assert answer["scopes"] == ["symbol:BTC/USDT", "venue:binance"]
    seen = trading.status()
    assert (seen["state"], seen["latch"]["active"]) == ("trading", False)
    assert seen["latch"]["scopes"] == ["symbol:BTC/USDT", "venue:binance"]
    assert any("venue:binance" in each["text"] for each in seen["recommendations"])
    assert trading.get("health")[1]["verdict"] == "degraded"
    last = trading.run("open")[-1]
    assert "latched for venue:binance" in last["message"]
    status, wrong = post(trading, "deactivate", "eve", reason="r")
    assert (status, wrong["message"]) == (422, "not latched: desk")
    answer = post(trading, "deactivate", "eve", scopes=["venue:binance"], reason="r")[1]
    assert (answer["still"], answer["halted"]) == (["symbol:BTC/USDT"], False)


def test_a_scope_the_desk_does_not_have_is_refused_not_ignored(shared: Any) -> None:
    for scope in ("venue:binanse", "strategy:x", "symbol:ETH/USDT", "nonsense"):
        status, answer = post(shared, "activate", "eve", scopes=[scope])
        assert (status, answer["error"]) == (422, "usage"), scope
        assert shared.get("kill-switch")[1]["active"] is False, scope


def test_a_latch_that_the_caller_has_set_is_recorded_and_not_set_twice(shared: Any) -> None:
    first = activate(shared)["latches"][0]["id"]
    status, answer = post(shared, "activate", "eve", set_already=[first])
    assert (status, [each["id"] for each in answer["latches"]]) == (200, [first])
    assert len(list(shared.layout.latches.iterdir())) == 1
    post(shared, "activate", "eve", set_already=["unknown"])
    assert len(list(shared.layout.latches.iterdir())) == 2


def test_what_was_set_since_somebody_looked_is_not_released(shared: Any) -> None:
    shown = activate(shared)["latches"][0]["id"]
    activate(shared, who="bob")
    status, answer = post(shared, "deactivate", "eve", reason="r", latches=[shown])
    assert (status, answer["error"]) == (409, "conflict")
    assert shared.get("kill-switch")[1]["active"] is True


def test_a_kill_that_the_audit_log_does_not_take_is_done_and_journalled(desk: Any) -> None:
    desk.layout.audit_log.write_text("broken\n")
    assert activate(desk)["recorded"] is True
    line = json.loads(desk.layout.kill_switch_log.read_text())
    assert (line["actor"], line["action"]) == ("eve", "kill_switch.activate")
    status, _ = post(desk, "deactivate", "eve", reason="r")
    assert status == 422
    assert desk.get("kill-switch")[1]["active"] is True, (
        "a release that is not recorded is not done"
    )


def test_another_person_s_approval_releases_exactly_what_was_asked_for(guarded: Any) -> None:
    activate(guarded, "venue:binance")
    activate(guarded, "symbol:BTC/USDT")
    before = guarded.get("kill-switch")[1]["requests"]
    request = asked(guarded, "venue:binance")
    requests = guarded.get("kill-switch")[1]["requests"]
    assert [each for each in requests if each not in before] == [request]
    assert asked(guarded, "venue:binance")["id"] == request["id"], "asked twice is asked once"
    status, answer = post(
        guarded, "approve", "bob", request=request["id"], digest=request["digest"], reason="looked"
    )
    assert (status, answer["deactivated"], answer["approved_by"]) == (200, True, "bob")
    document = guarded.get("kill-switch")[1]
    assert (document["scopes"], document["requests"]) == (["symbol:BTC/USDT"], before)
    *_, record = (r for r in guarded.audit() if r["action"] == "kill_switch.deactivate")
    assert (record["actor"], record["detail"]["approved_by"]) == ("alice", "bob")


def test_one_s_own_approval_and_that_of_no_risk_role_are_refused(guarded: Any) -> None:
    def refused() -> int:
        return [r["action"] for r in guarded.audit()].count("kill_switch.approval_refused")

    activate(guarded)
    request, before = asked(guarded), refused()
    for who, why in (("alice", "another person"), ("Alice", "another person"),
                     ("carol", "role risk"), ("eve", "no role"), ("api", "a name")):  # fmt: skip
        status, answer = post(
            guarded,
            "approve",
            who,
            request=request["id"],
            digest=request["digest"],
            reason="looked",
        )
        assert (status, answer["error"]) == (403, "refused")
        assert why in answer["message"]
    assert guarded.get("kill-switch")[1]["active"] is True
    assert refused() == before + 5
    assert post(guarded, "deactivate", "mallory", reason="r")[0] == 403


def test_an_approval_of_another_scope_or_a_latch_set_since_is_refused(guarded: Any) -> None:
    activate(guarded, "venue:binance")
    activate(guarded)
    small, large = asked(guarded, "venue:binance"), asked(guarded)
    status, answer = post(
        guarded, "approve", "bob", request=large["id"], digest=small["digest"], reason="looked"
    )
    assert (status, "another act" in answer["message"]) == (403, True)
    activate(guarded, who="eve", reason="it happens again")
    status, answer = post(
        guarded, "approve", "bob", request=large["id"], digest=large["digest"], reason="looked"
    )
    assert (status, "has changed" in answer["message"]) == (403, True)
    assert guarded.get("kill-switch")[1]["desk"] is True


def test_an_approval_is_used_up_by_its_act(guarded: Any) -> None:
    activate(guarded)
    request = asked(guarded)
    body = {"request": request["id"], "digest": request["digest"], "reason": "looked"}
    assert post(guarded, "approve", "bob", **body)[0] == 200
    activate(guarded)
    status, answer = post(guarded, "approve", "bob", **body)
    assert (status, "counts once" in answer["message"]) == (403, True)
    assert guarded.get("kill-switch")[1]["active"] is True


def test_an_approval_comes_in_time_or_not_at_all(make_desk: Any) -> None:
    desk = make_desk(SLEEPER + VENUE + TWO_PEOPLE.format(expire_after="300ms"))
    desk.start()
    activate(desk)
    request = asked(desk)
    desk.until(lambda: desk.get("kill-switch")[1]["requests"] == [], "it expires")
    status, answer = post(
        desk, "approve", "bob", request=request["id"], digest=request["digest"], reason="looked"
    )
    assert (status, "expired" in answer["message"]) == (403, True)
    assert desk.get("kill-switch")[1]["active"] is True


def test_what_was_asked_outlives_the_controller(guarded: Any) -> None:
    activate(guarded)
    request = asked(guarded)
    guarded.kill()
    guarded.start()
    status, answer = post(
        guarded, "approve", "bob", request=request["id"], digest=request["digest"], reason="looked"
    )
    assert status == 200, answer
    assert guarded.get("kill-switch")[1]["active"] is False


# --- the command line, with a controller ---------------------------------------------------------


def openbell(desk: Any, *arguments: str, who: str = "alice") -> tuple[int, Any]:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "openbell", "--desk", str(desk.folder), "--json", "kill-switch", *arguments],
        env={**desk.environ, "OPENBELL_ACTOR": who},
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 1, done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_command_line_goes_the_whole_way(guarded: Any) -> None:
    status, document = openbell(guarded, "activate", "--reason", "fat finger")
    assert (status, document["controller"], document["recorded"]) == (0, True, True)
    assert len(list(guarded.layout.latches.iterdir())) == 1, "set once, by the command itself"
    assert openbell(guarded, "deactivate", "--reason", "r")[0] == 2, "nobody there to ask"
    status, document = openbell(guarded, "deactivate", "--reason", "checked", "--yes")
    assert (status, document["deactivated"]) == (6, False)
    approving = ("approve", document["request"]["id"], "--reason", "seen")
    assert openbell(guarded, *approving[:2], "--reason", " ", "--yes", who="bob")[0] == 2
    assert openbell(guarded, *approving, "--yes")[0] == 6
    status, document = openbell(guarded, *approving, "--yes", who="bob")
    assert (status, document["deactivated"], document["approved_by"]) == (0, True, "bob")
    assert openbell(guarded, *approving, "--yes", who="bob")[0] == 6
    status, document = openbell(guarded, "status")
    assert (status, document["active"]) == (0, False)


def test_a_controller_that_hangs_does_not_hold_the_latch_up(
    desk: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    os.kill(desk.processes[-1].pid, signal.SIGSTOP)
    try:
        status, document = openbell(desk, "activate", "--reason", "hung")
        assert (status, document["activated"], document["controller"]) == (0, True, False)
        assert "did not answer" in document["why"]
        assert list(desk.layout.latches.iterdir())
        status, document = openbell(desk, "deactivate", "--reason", "r", "--yes")
        assert (status, document["error"]) == (7, "unverified")
    finally:
        os.kill(desk.processes[-1].pid, signal.SIGCONT)
    assert desk.get("kill-switch")[1]["active"] is True
