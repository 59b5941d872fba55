"""Closing, step 4: halted is said of a desk that can make no order any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.harness.closing_run import close

from openbell.procedures.closing import (
    halt_strategies,
)
from openbell.procedures.closing.halt_strategies import HaltFacts, judge_halt, plan_halt
from openbell.procedures.desk_voices import EngineSays, StrategySays
from openbell.procedures.step import Outcome

pytestmark = pytest.mark.usefixtures("impatient")


def halt_facts(**given: Any) -> HaltFacts:
    known: dict[str, Any] = {
        "engine_up": True,
        "engine": EngineSays("ready", True, "", "trade", 0, (), 1),
        "engine_why": "",
        "host_up": True,
        "strategies": (StrategySays("mm", "RUNNING", ""),),
        "strategies_why": "",
    }
    return HaltFacts(**(known | given))


def test_a_halted_desk_needs_no_halting() -> None:
    reduce = EngineSays("ready", False, "", "reduce", 0, (), 1)
    facts = halt_facts(engine=reduce, strategies=(StrategySays("mm", "HALTED", ""),))
    assert plan_halt(facts).actions == ()
    assert judge_halt(facts).outcome is Outcome.DONE


@pytest.mark.parametrize(
    ("in_flight", "outcome"), [([0], "verified"), ([5, 3, 0], "verified"), ([2], "unknown")]
)
async def test_orders_on_their_way_are_awaited_before_it_is_called_halted(
    fake_desk: Any,
    journal: Any,
    monkeypatch: pytest.MonkeyPatch,
    in_flight: list[int],
    outcome: str,
) -> None:
    """The engine tells how many had no answer when it halted, and nobody looked at it."""
    monkeypatch.setattr(halt_strategies, "IN_FLIGHT_S", 0.5)
    monkeypatch.setattr(halt_strategies, "LOOK_EVERY_S", 0.01)
    fake_desk.asks.in_flight = in_flight
    await close(fake_desk, journal)
    ended = journal.ended["halt_strategies"]
    assert ended.outcome is (Outcome.DONE if outcome == "verified" else Outcome.UNKNOWN)
    assert ended.evidence["in_flight"] == in_flight[-1]
    facts = halt_facts(engine=EngineSays("ready", False, "", "reduce", 0, (), 1, in_flight=2))
    assert "2 orders sent before the halt" in judge_halt(replace(facts, strategies=())).detail


def test_a_disabled_strategy_is_halted_too_for_it_could_cancel_what_is_to_be_kept() -> None:
    reduce = EngineSays("ready", False, "", "reduce", 0, (), 1)
    facts = halt_facts(engine=reduce, strategies=(StrategySays("mm", "DISABLED", "by ann"),))
    assert list(plan_halt(facts).lines()) == ["halt strategies mm"]
    assert judge_halt(facts).outcome is Outcome.DONE, "it orders nothing"


def test_the_age_of_each_strategy_s_last_signal_is_in_the_record() -> None:
    now_ns = 1_000_000_000_000
    rows = [
        {"name": "mm", "state": "HALTED", "last_signal_ns": now_ns - 10_000_000_000},
        {"name": "arb", "state": "HALTED", "last_signal_ns": None},
        {"name": "old_host", "state": "HALTED"},
        {"name": "clock_set_back", "state": "HALTED", "last_signal_ns": now_ns + 60_000_000_000},
    ]
    found = judge_halt(
        halt_facts(
            engine=EngineSays("ready", False, "", "reduce", 0, (), 1),
            strategies=tuple(map(StrategySays.of, rows)),
            now_ns=now_ns,
        )
    )
    assert found.outcome is Outcome.DONE
    assert found.evidence["last_signals"] == [
        {"strategy": "mm", "state": "HALTED", "last_signal": "10.0s ago", "age_s": 10.0},
        {"strategy": "arb", "state": "HALTED", "last_signal": "never", "age_s": None},
        {"strategy": "old_host", "state": "HALTED", "last_signal": "unknown", "age_s": None},
        {"strategy": "clock_set_back", "state": "HALTED", "last_signal": "unknown", "age_s": None},
    ]
    assert "last signals: mm 10.0s ago, arb never" in found.detail


def test_a_silent_engine_is_told_to_halt_and_is_unknown() -> None:
    facts = halt_facts(engine=None, strategies=())
    assert plan_halt(facts).actions
    assert judge_halt(facts).outcome is Outcome.UNKNOWN


def test_a_desk_whose_engine_and_host_are_down_is_quiet() -> None:
    facts = halt_facts(engine_up=False, engine=None, host_up=False, strategies=())
    assert plan_halt(facts).actions == ()
    assert judge_halt(facts).outcome is Outcome.DONE


def test_a_plan_for_a_halted_desk_says_that_there_is_no_permit() -> None:
    halted = EngineSays("ready", False, "halted", "none", 0, (), 1)
    facts = halt_facts(engine=halted, strategies=(StrategySays("mm", "HALTED", ""),))
    assert plan_halt(facts).reason == (
        "no strategy runs, and the engine holds no permit to trade; "
        "it is given one to reduce positions and no other"
    )
