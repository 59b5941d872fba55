"""A closing that is announced begins at its time, whatever becomes of the controller meanwhile."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

CHANNEL = """
[channels.ops]
command = ["sh", "-c", 'echo "$OPENBELL_EVENT" >> {desk}/told; cat >> {desk}/told']
"""
SLEEPS = '[services.top]\ncommand = ["sleep", "86400"]\n'


def by(name: str) -> dict[str, str]:
    return {"X-Openbell-Actor": name}


def in_s(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def told(desk: Any) -> list[str]:
    path = desk.folder / "told"
    return list(path.read_text().splitlines()) if path.exists() else []


@pytest.fixture
def open_desk(make_desk: Any) -> Any:
    made = make_desk(SLEEPS + CHANNEL)
    made.start()
    made.run("open")
    # By whom and how it was opened was told; what follows is of its closing.
    news = told(made)
    assert (news[0], news[2]) == ("opening", "opened") and "OPENING, open-" in news[1]
    (made.folder / "told").unlink()
    return made


def announce(desk: Any, at: str, **body: Any) -> dict[str, Any]:
    status, answer = desk.post("close/later", {"at": at, **body}, headers=by("ann"))
    assert status == 200, answer
    return dict(answer)


def announce_soon(desk: Any, **body: Any) -> None:
    """As soon as this machine takes it: by the time it is read, the moment must not be over."""
    ahead_s = 1.0
    while desk.post("close/later", {"at": in_s(ahead_s), **body}, headers=by("ann"))[0] != 200:
        ahead_s *= 2
        assert ahead_s < 100.0


def pretend_it_was_for(desk: Any, at: str) -> None:
    """Of a desk without a controller."""
    path = desk.layout.planned_closing
    path.write_text(json.dumps({**json.loads(path.read_text()), "at": at}))


def is_closed(desk: Any) -> None:
    assert desk.processes[-1].wait(120) == 0, "the desk is closed and its controller has left"
    assert json.loads(desk.layout.target.read_text())["target"] == "offline"
    assert not desk.layout.planned_closing.exists()
    assert not desk.layout.lock.exists()


def test_it_is_announced_and_the_desk_trades_and_is_locked(open_desk: Any) -> None:
    answer = announce(open_desk, in_s(3600), reason="maintenance")
    assert answer["told"] == {"ops": "told"}
    seen = open_desk.status()
    assert seen["state"] == "trading"
    assert seen["shutting_down_soon"]["by"] == "ann"
    assert 3500 < seen["shutting_down_soon"]["in_s"] <= 3600
    assert seen["lock"]["run"] == "the announced closing"
    assert open_desk.post("open")[0] == 403
    first = told(open_desk)
    assert first[0] == "closing_soon"
    assert "SHUTTING DOWN SOON, at " in first[1] and first[1].endswith("by ann: maintenance")


def test_it_begins_at_its_time(open_desk: Any) -> None:
    announce_soon(open_desk, reason="maintenance")
    is_closed(open_desk)
    assert [line for line in told(open_desk) if line.startswith("clos")] == [
        "closing_soon", "closing", "closed",
    ]  # fmt: skip
    (begun,) = (line for line in open_desk.audit() if line["action"] == "desk.close")
    assert begun["actor"] == "ann"


def test_it_outlives_the_controller(open_desk: Any) -> None:
    """Whose successor begins it late, where its time passed meanwhile."""
    announce(open_desk, in_s(3600))
    open_desk.kill()
    pretend_it_was_for(open_desk, in_s(-60))
    open_desk.start()
    is_closed(open_desk)


def test_one_that_was_missed_is_told_and_leaves_the_desk_open_and_unlocked(open_desk: Any) -> None:
    announce(open_desk, in_s(3600))
    open_desk.kill()
    pretend_it_was_for(open_desk, in_s(-7200))
    open_desk.start()
    open_desk.until(lambda: "closing_called_off" in told(open_desk), "it is told")
    assert open_desk.status()["shutting_down_soon"] is None
    assert not open_desk.status()["lock"]["active"]
    assert not open_desk.layout.planned_closing.exists()
    open_desk.until(lambda: open_desk.status()["state"] == "trading", "it trades on")
    assert open_desk.run("open")[-1]["outcome"] == "already_open"


def test_it_can_be_called_off(open_desk: Any) -> None:
    assert open_desk.post("close/call-off")[0] == 409, "nothing is announced"
    announce(open_desk, in_s(3600))
    status, answer = open_desk.post("close/call-off", {"reason": "not today"}, headers=by("joe"))
    assert (status, answer["told"]) == (200, {"ops": "told"})
    seen = open_desk.status()
    assert seen["shutting_down_soon"] is None and not seen["lock"]["active"]
    assert told(open_desk)[-1].endswith("by joe: not today")
    assert open_desk.run("open")[-1]["outcome"] == "already_open"


def test_another_time_may_be_announced(open_desk: Any) -> None:
    announce(open_desk, in_s(3600))
    answer = announce(open_desk, in_s(7200))
    assert answer["moved"] is True
    assert open_desk.status()["shutting_down_soon"]["in_s"] > 3600


def test_a_closing_by_hand_leaves_nothing_announced(open_desk: Any) -> None:
    announce(open_desk, in_s(3600))
    assert open_desk.run("close")[-1]["outcome"] == "verified"
    is_closed(open_desk)


def test_a_restart_before_it_leaves_it_announced_and_the_desk_locked(open_desk: Any) -> None:
    """Also of a controller that came back in the middle of the restart. It was forgotten, and nobody was
    told that the desk would not close."""
    announce(open_desk, in_s(3600), reason="maintenance")
    assert open_desk.post("restart")[0] == 403, "the lock is for that"
    assert open_desk.post("unlock", headers=by("ann"))[0] == 200
    status, begun = open_desk.post("restart", headers=by("ann"))
    assert status == 202, begun

    def opened_again() -> bool:
        opening = open_desk.get(f"restart/{begun['run']}")[1]["opening"]
        return bool(opening) and open_desk.status()["lock"]["active"]

    open_desk.until(opened_again, "it is opened and locked again")
    seen = open_desk.status()
    assert seen["lock"]["run"] == "the announced closing"
    assert seen["shutting_down_soon"]["by"] == "ann"
    assert open_desk.layout.planned_closing.exists()
    assert "closing_called_off" not in told(open_desk)


def test_what_makes_no_sense_is_not_announced(open_desk: Any) -> None:
    for body in (
        {"at": "lunch"},
        {"at": "2020-01-01T00:00"},
        {},
        {"at": "15:45", "flatten": "aggressive", "orders": "keep"},
    ):
        assert open_desk.post("close/later", body)[0] == 422, body
        assert open_desk.status()["shutting_down_soon"] is None, body
        assert told(open_desk) == [], body


def test_a_time_can_be_judged_before_anything_is_announced(open_desk: Any) -> None:
    """`down --at 25:99` asked for --yes first, and `--at` of the past with --plan showed a plan."""
    for at in ("25:99", "2020-01-01T00:00"):
        assert open_desk.get(f"plan/close/later?at={at}")[0] == 422, at
    status, begins = open_desk.get("plan/close/later?at=23:59:59")
    assert status == 200 and "T23:59:59" in begins["at"] and begins["in_s"] > 0
    assert open_desk.status()["shutting_down_soon"] is None and told(open_desk) == []


def test_a_closed_desk_has_nothing_to_announce(make_desk: Any) -> None:
    made = make_desk(SLEEPS)
    made.start()
    assert made.post("close/later", {"at": in_s(60)})[0] == 409
