"""What a closing would do: its plan changes nothing, and what is done is what it said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.harness.closing_run import close

from openbell.config.loader import parse_desk
from openbell.procedures.closing import (
    closing_steps,
)
from openbell.procedures.closing.cancel_orders import judge_cancel, plan_cancel
from openbell.procedures.closing.flatten import (
    FlattenFacts,
    judge_flatten,
    order_rows,
    plan_flatten,
    slippage_told,
)
from openbell.procedures.closing.picture import Picture
from openbell.procedures.plans import plan_document
from openbell.procedures.run import Runner
from openbell.procedures.step import Outcome
from openbell.service_client import Answer

pytestmark = pytest.mark.usefixtures("impatient")


DESK = parse_desk(
    b"""[desk]
name = "x"
[venues.sim]
url = "http://h:1"
symbols = ["BTC/USDT"]
taker_fee = "0.1%"
[services.s]
command = ["true"]
""",
    Path("desk.toml"),
)


def test_slippage_is_told_by_currency_and_what_is_not_known_as_such() -> None:
    leg = {
        "venue": "sim", "symbol": "BTC/USDT", "side": "BUY", "order_qty": "2", "cum_qty": "2",
        "avg_px": "101", "mid_px": "100", "mid_age_s": 1.0, "outcome": "FILLED", "text": "",
    }  # fmt: skip
    better = {**leg, "symbol": "ETH/EUR", "side": "SELL"}
    old, nothing = (
        {**leg, "mid_age_s": 60.0},
        {**leg, "cum_qty": "0", "avg_px": None, "mid_px": None},
    )
    rows = order_rows([leg, better, old, nothing, {**leg, "mid_px": None}], 5.0)
    assert [row["slippage"] for row in rows] == ["2", "-2", None, "0", None]
    assert slippage_told(rows) == "slippage 2.00 USDT, -2.00 EUR, not known of 2 orders"
    assert slippage_told([]) == ""
    assert slippage_told([], untold=True) == "slippage not known of what the engine did not tell of"
    held = ({"venue": "sim", "symbol": "BTC/USDT", "venue_quantity": "1"},)
    found = judge_flatten(
        Picture(source="engine", positions=held), rows[:1], ("sim BTC/USDT: no permit: halted",)
    )
    assert found.outcome is Outcome.FAILED
    assert (
        "no order was sent for sim BTC/USDT: no permit: halted; slippage 2.00 USDT" in found.detail
    )


async def test_a_plan_changes_nothing(fake_desk: Any) -> None:
    plan = await plan_document("close", closing_steps(fake_desk.closing()))
    assert fake_desk.asks.asked == [] and fake_desk.services.calls == []
    steps = {step["name"]: step["actions"] for step in plan["steps"]}  # type: ignore[attr-defined]
    assert steps["cancel_orders"] == ["cancel 2 open orders"]
    (flatten,) = steps["flatten"]
    assert flatten.startswith("flatten sim BTC/USDT (0.5) with market orders: ")
    assert "not known: slippage: there is no quote" in flatten, "unknown is told as unknown"
    details = {step["name"]: step["details"] for step in plan["steps"]}  # type: ignore[attr-defined]
    assert len(details["cancel_orders"]) == 2, "which orders, one by one"
    waiting = next(step for step in plan["steps"] if step["name"] == "wait_for_orders")  # type: ignore[attr-defined]
    assert (waiting["actions"], waiting["reason"]) == ([], "no order is pending"), (
        "the steps before it will have withdrawn them"
    )
    (cost,) = details["flatten"]
    assert [each["order_qty"] for each in cost["orders"]] == ["0.5"]
    assert (cost["estimated_slippage"], cost["estimated_fee"]) == (None, None)
    assert steps["stop_market_data"] == ["stop strategies", "stop feed"]
    assert steps["disconnect"] == ["stop engine: no order of ours is to rest"]
    assert steps["stop_services"] == [
        "stop risk", "stop board", "stop bus", "ask the venues, past everything of ours, what remains",
    ]  # fmt: skip


async def test_a_desk_stops_as_planned(fake_desk: Any, journal: Any) -> None:
    """By what the services are to trading; a store outlives whatever depends on it."""
    plan = await plan_document("close", closing_steps(fake_desk.closing()))
    foreseen = [
        action.removeprefix("stop ").partition(":")[0]
        for step in plan["steps"]  # type: ignore[attr-defined]
        for action in step["actions"]
        if action.startswith("stop ")
    ]
    await close(fake_desk, journal)
    stopped = [name for verb, name in fake_desk.services.calls if verb == "stop"]
    assert stopped == foreseen
    assert stopped == ["strategies", "feed", "engine", "risk", "board", "bus", "venue"]


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        # As the two restarts close it, and the quick one with orders that stay.
        {"flatten": "keep"},
        {"flatten": "keep", "quick": True},
        {"flatten": "keep", "orders": "keep", "quick": True},
    ],
)
async def test_what_is_done_is_what_was_planned_with_orders_and_a_position(
    fake_desk: Any, journal: Any, wishes: dict[str, Any]
) -> None:
    """On a desk that nobody changed meanwhile; with a real engine and its venue's own order log:
    tests/trading/engine/test_against_the_simulated_venue.py."""
    plan = await plan_document("close", closing_steps(fake_desk.closing(**wishes)))
    foreseen = {step["name"]: step["actions"] for step in plan["steps"]}  # type: ignore[attr-defined]
    closing = fake_desk.closing(**wishes)
    events: list[dict[str, Any]] = []
    runner = Runner(journal, events.append, on_report=closing.note)
    await runner.run(closing_steps(closing))
    done = {each["step"]: each["plan"] for each in events if each["event"] == "step_planned"}
    assert done == foreseen


def test_nothing_is_cancelled_or_flattened_where_nothing_is() -> None:
    nothing = Picture(source="engine")
    assert plan_cancel(nothing, "cancel").actions == ()
    assert plan_flatten(FlattenFacts(nothing), "aggressive", DESK).actions == ()


def test_a_flatten_is_planned_with_what_it_would_cost() -> None:
    quote = {"bid_px": "99", "bid_qty": "1", "ask_px": "101", "ask_qty": "5", "age_s": 0.2}
    row = {
        "venue": "sim",
        "symbol": "BTC/USDT",
        "quantity": "2",
        "venue_quantity": "2",
        "quote": quote,
    }
    picture = Picture(source="engine", positions=(row,))
    (action,) = plan_flatten(FlattenFacts(picture), "aggressive", DESK).actions
    assert "estimated slippage at least 2.00 USDT, fee 0.1980 USDT" in str(action), (
        "1 of 2 at the touch"
    )
    (limits,) = plan_flatten(FlattenFacts(picture), "conservative", DESK).actions
    assert "estimated slippage at least 2.00 USDT" in str(limits)
    bought = {**row, "venue_quantity": "-2"}
    (detail,) = plan_flatten(
        FlattenFacts(Picture(source="engine", positions=(bought,))), "conservative", DESK
    ).details
    assert (detail["estimated_slippage"], detail["slippage_is_least"]) == ("2", False)
    old = {**row, "quote": {**quote, "age_s": 60.0}}
    (stale,) = plan_flatten(
        FlattenFacts(Picture(source="engine", positions=(old,))), "aggressive", DESK
    ).details
    assert stale["estimated_slippage"] is stale["estimated_fee"] is None
    assert "the quote is 60s old" in str(stale["unknown"])


def test_a_flatten_is_planned_as_the_engine_plans_it() -> None:
    """Which orders is what the engine would send: split, and none where it knows no rules."""
    row = {"venue": "sim", "symbol": "BTC/USDT", "quantity": "5", "venue_quantity": "5"}
    other = {**row, "symbol": "ETH/USDT"}
    dust = {**row, "symbol": "XRP/USDT"}
    latched = {**row, "symbol": "SOL/USDT"}
    legs = [
        {"venue": "sim", "symbol": "BTC/USDT", "side": "SELL", "order_qty": size, "price": None,
         "ord_type": "MARKET"}
        for size in ("3", "2")
    ]  # fmt: skip
    planned = Answer(
        {
            "legs": legs,
            "dust": [{"venue": "sim", "symbol": "XRP/USDT", "quantity": "5"}],
            "blocked": ["sim ETH/USDT: the venue's rules are not known"],
        },
        200,
    )
    facts = FlattenFacts(
        Picture(source="engine", positions=(row, other, dust, latched)),
        planned, "kill switch", frozenset({("sim", "SOL/USDT")}),
    )  # fmt: skip
    plan = plan_flatten(facts, "aggressive", DESK)
    split, blocked, small, stopped = plan.lines()
    assert split.startswith("flatten sim BTC/USDT (5) with market orders of 3, 2: ")
    assert blocked == "NO ORDER can be sent for sim ETH/USDT (5): the venue's rules are not known"
    assert small == "NO ORDER can be sent for sim XRP/USDT (5): it is too small for any order"
    assert stopped == "NO ORDER can be sent for sim SOL/USDT (5): kill switch"
    assert [len(each["orders"]) for each in plan.details] == [2, 0, 0, 0]  # type: ignore[arg-type]
    assert plan.details[0]["orders"][0] == {  # type: ignore[index]
        "side": "SELL", "order_qty": "3", "ord_type": "MARKET", "price": None,
    }  # fmt: skip
    silent = FlattenFacts(Picture(source="engine", positions=(row,)), Answer(None, why="hangs"))
    (unknown,) = plan_flatten(silent, "aggressive", DESK).details
    assert unknown["orders"] is None, "unknown is not none"
    limits = Answer({"legs": [{**legs[0], "ord_type": "LIMIT", "price": "100"}]}, 200)
    facts = FlattenFacts(Picture(source="engine", positions=(row,)), limits)
    assert "limit orders at mid" in plan_flatten(facts, "conservative", DESK).lines()[0]
    facts = FlattenFacts(Picture(source="engine", positions=(row,)), planned)
    assert "limit" not in plan_flatten(facts, "conservative", DESK).lines()[0], "it takes none"


def test_what_is_not_known_is_cancelled_all_the_same() -> None:
    unknown = Picture(source="engine", unknown=("venue x: no route",))
    assert plan_cancel(unknown, "cancel").actions
    assert judge_cancel(unknown).outcome is Outcome.UNKNOWN


def test_counts_read_well() -> None:
    assert plan_cancel(Picture(source="engine", orders=({},)), "cancel").lines() == (
        "cancel 1 open order",
    )
    unknown = Picture(source="none", unknown=("venue x: no route",))
    assert plan_cancel(unknown, "cancel").lines() == ("cancel whatever own order is open",)
    assert unknown.describe() == "not known: venue x: no route"
