"""What is told of a desk without a controller agrees with what the controller does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from openbell.procedures.preview import opening_plan_of_a_closed_desk
from openbell.state.halts import Halt, set_halt


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


def test_a_halt_from_before_is_in_the_plan(fake_desk: Any) -> None:
    set_halt(fake_desk.layout.halt, Halt("odd fills", "eve", datetime.now(UTC)))
    assert second_step(fake_desk)["title"] == "Leave the halt in place"
