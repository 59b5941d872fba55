"""What is told of a desk without a controller agrees with what the controller does."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from typing import Any

import pytest

from openbell.cli.plans import plan_text
from openbell.errors import RefusedError
from openbell.kill.marker import set_marker
from openbell.procedures.preview import opening_plan_of_a_closed_desk
from openbell.state.asked import closing_begun
from openbell.state.database import open_database
from openbell.state.desk_lock import ANNOUNCED, DeskLock, set_lock
from openbell.state.halts import Halt, set_halt
from openbell.state.new_run import NewRun
from openbell.state.runs import RunStore


def second_step(desk: Any, **wishes: Any) -> dict[str, Any]:
    plan = opening_plan_of_a_closed_desk(desk.desk.path, desk.layout, **wishes)
    steps = plan["steps"]
    assert isinstance(steps, list)
    phases = [f"start_{each}" for each in ("infrastructure", "core", "services")]
    names = [step["name"] for step in steps]
    assert [*names[:2], names[-1]] == ["preflight", "start_guard", "begin_trading"]
    looks = ["check_venues", "check_market_data", "validate", "check_readiness"]
    assert names[2:-1] == ([*phases, *looks] if "only" not in wishes else phases[:1])
    return dict(steps[-1])


def test_a_plan_ends_with_trading(fake_desk: Any) -> None:
    step = second_step(fake_desk)
    assert step["actions"][-1].startswith("wait until books are reconciled")
    assert not step["skipped"]


def test_a_plan_in_safe_mode_says_so(fake_desk: Any) -> None:
    step = second_step(fake_desk, safe_mode=True)
    assert (step["title"], step["actions"]) == ("Stay in safe mode: nothing trades by itself", [])


def test_a_plan_without_the_engine_says_that_nothing_will_trade(fake_desk: Any) -> None:
    step = second_step(fake_desk, only=["venue"])
    assert step["reason"] == "only venue is asked for, not engine"


def test_a_guard_that_a_restart_ends_is_planned_to_be_started(
    fake_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan of a restart said that nothing was to be done, as the guard ran; it was ended on the way."""
    row = {"state": "running", "pid": 7, "why": ""}
    monkeypatch.setattr("openbell.procedures.preview.guard_row", lambda *_: row)

    def guard_step(**wishes: Any) -> dict[str, Any]:
        plan = opening_plan_of_a_closed_desk(fake_desk.desk.path, fake_desk.layout, **wishes)
        return next(step for step in plan["steps"] if step["name"] == "start_guard")  # type: ignore[attr-defined]

    assert guard_step(stopped=True)["reason"] == "the guard runs"
    anew = guard_step(stopped=True, guard_ends=True)
    assert (anew["actions"], anew["reason"]) == (
        ["start the guard; it connects to the venues by itself"],
        "",
    ), anew


def test_a_halt_from_before_is_in_the_plan(fake_desk: Any) -> None:
    set_halt(fake_desk.layout.halt, Halt("odd fills", "eve", datetime.now(UTC)))
    assert second_step(fake_desk)["title"] == "Leave the halt in place"


def test_a_desk_that_is_locked_is_not_planned_to_be_opened(fake_desk: Any) -> None:
    """Before, without a controller `up --plan` showed what `up` then refused."""
    path = fake_desk.layout.lock
    set_lock(path, DeskLock("audit", "ann", datetime.now(UTC)))
    with pytest.raises(RefusedError, match="locked by ann"):
        second_step(fake_desk)
    assert second_step(fake_desk, stopped=True), "the closing of a restart is over by then"

    database = open_database(fake_desk.layout.database)
    runs = RunStore(database)
    run = runs.begin(NewRun(kind="close", who="ann"))
    set_lock(path, DeskLock("", "ann", datetime.now(UTC), f"close-{run}"))
    with pytest.raises(RefusedError, match=f"close-{run} of ann"):
        second_step(fake_desk)
    runs.finish(run, "failed")
    database.close()
    assert second_step(fake_desk), "it has outlived its closing"
    set_lock(path, DeskLock("", "ann", datetime.now(UTC), "close-9"))
    with pytest.raises(RefusedError):
        second_step(fake_desk)
    set_lock(path, DeskLock("", "ann", datetime.now(UTC), ANNOUNCED))
    assert second_step(fake_desk), "what was announced was called off"

    fake_desk.layout.lock.unlink()
    fake_desk.layout.lock.with_suffix(".closing").touch()
    assert second_step(fake_desk), "it has outlived a closing that has a record"
    closing_begun(fake_desk.layout.target).touch()
    with pytest.raises(RefusedError, match="locked by a closing"):
        second_step(fake_desk)


def test_after_an_emergency_stop_the_plan_is_to_open_safe(fake_desk: Any) -> None:
    assert set_marker(fake_desk.layout, "odd fills", "eve") == ""
    assert second_step(fake_desk)["title"] == "Stay in safe mode: nothing trades by itself"


def test_a_plan_names_who_holds_a_port_that_a_service_needs(fake_desk: Any) -> None:
    """It listed the start of a service that `up` would be refused for."""
    port = fake_desk.desk.file.services["engine"].port
    plan = opening_plan_of_a_closed_desk(fake_desk.desk.path, fake_desk.layout)
    assert plan["refused"] == []
    with socket.create_server(("127.0.0.1", port)):
        plan = opening_plan_of_a_closed_desk(fake_desk.desk.path, fake_desk.layout)
        (told,) = plan["refused"]  # type: ignore[misc]
        assert f"port {port} of engine is held by" in told and f"(pid {os.getpid()})" in told
        assert f"REFUSED as things are: {told}" in plan_text(dict(plan))
        of_another = opening_plan_of_a_closed_desk(
            fake_desk.desk.path, fake_desk.layout, only=["feed"]
        )
        assert of_another["refused"] == []
