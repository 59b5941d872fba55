"""What the plan of a flatten says of positions that it does not close, and why."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from openbell.cli.plans import plan_text
from openbell.config.models import DeskFile
from openbell.procedures.closing.flatten import (
    KEPT_BY_A_RESTART,
    FlattenFacts,
    LeaveOne,
    plan_flatten,
)
from openbell.procedures.closing.picture import Picture
from openbell.service_client import Answer

ROW = {"venue": "sim", "symbol": "BTC/USDT", "quantity": "2", "venue_quantity": "2", "quote": None}
HELD = Picture(source="engine", positions=(ROW,))
DESK = DeskFile.model_validate(
    {
        "desk": {"name": "x"},
        "venues": {"sim": {"url": "http://h:1", "symbols": ("BTC/USDT",)}},
        "services": {"s": {"command": ("true",)}},
    }
)


def test_a_restart_says_that_it_is_the_restart_that_keeps_positions() -> None:
    """Its run said that they were kept as asked, where nobody had asked and desk.toml says otherwise."""
    asked = plan_flatten(FlattenFacts(HELD), "keep", DESK)
    assert asked.reason == "1 position is kept as asked"
    restarted = plan_flatten(FlattenFacts(HELD), "keep", DESK, KEPT_BY_A_RESTART)
    assert restarted.reason == "1 position is kept: a restart closes none, whatever [closing] says"
    assert not asked.does_something and not restarted.does_something


def test_a_flatten_that_the_kill_switch_stops_does_nothing_that_could_be_approved() -> None:
    latched = FlattenFacts(HELD, latch="the kill switch", latched=frozenset({("sim", "BTC/USDT")}))
    plan = plan_flatten(latched, "aggressive", DESK)
    assert isinstance(plan.actions[0], LeaveOne)
    assert plan.in_vain and not plan.does_something
    free = plan_flatten(FlattenFacts(HELD), "aggressive", DESK)
    assert free.does_something


@pytest.mark.parametrize(
    ("told", "stays"),
    [
        ({"dust": [{"venue": "sim", "symbol": "BTC/USDT"}]}, True),
        ({"blocked": ["sim BTC/USDT: 0123 may still close it, and is in doubt"]}, False),
        ({"blocked": ["sim BTC/USDT: the venue's position is unknown: time-out"]}, False),
        ({"blocked": ["sim BTC/USDT: books and venue differ (BTC/USDT: 1); told"]}, False),
        ({"blocked": ["sim BTC/USDT: no permit: the controller is not reached"]}, False),
        ({}, False),
    ],
)
def test_a_hindrance_that_may_pass_is_asked_about_and_acted_on(
    told: Mapping[str, object], stays: bool
) -> None:
    """Each of them counted as in vain: nobody was asked for an approval, no order was sent once the doubt
    was over, and the services stopped over a position."""
    planned = Answer({"legs": [], "dust": [], "blocked": [], **told}, 200)
    plan = plan_flatten(FlattenFacts(HELD, planned), "aggressive", DESK)
    assert isinstance(plan.actions[0], LeaveOne)
    assert (plan.in_vain, plan.does_something) == (stays, not stays)


def test_a_plan_shows_whose_approvals_a_step_waits_for_and_where_for_none() -> None:
    row = {"name": "flatten", "title": "Flatten", "approvals": ["operator", "risk"], "actions": []}
    idle = plan_text({"procedure": "close", "steps": [{**row, "reason": "no position is open"}]})
    assert "2 approvals (operator, risk) before it does anything, and so for none" in idle
    busy = plan_text({"procedure": "close", "steps": [{**row, "actions": ["close 1 BTC"]}]})
    assert "waits for 2 approvals (operator, risk) before it does anything\n" in busy
