"""A closing proves what it says, survives being killed anywhere, and never calls unknown done."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.harness.closing_run import STEPS, close, outcomes

from openbell.cli.commands.down import closing_statement_text
from openbell.config.loader import parse_desk
from openbell.domain.service_state import ServiceState
from openbell.procedures.closing import (
    PROCEDURE,
    closing_steps,
    verify,
)
from openbell.procedures.closing.disconnect import (
    Disconnect,
    DisconnectFacts,
    plan_disconnect,
)
from openbell.procedures.closing.statement import closing_statement
from openbell.procedures.closing.stop_market_data import plan_stop_market_data
from openbell.procedures.closing.stop_services import plan_stop
from openbell.procedures.closing.stopping import StopFacts
from openbell.procedures.ports import Facts
from openbell.procedures.run import Runner
from openbell.procedures.step import OnFailure, Outcome, StepReport
from openbell.watch.log_line import LogLine

pytestmark = pytest.mark.usefixtures("impatient")


async def test_a_desk_is_closed_flat_and_proven(fake_desk: Any, journal: Any) -> None:
    statement = await close(fake_desk, journal)
    assert statement.verified, statement.summary
    assert outcomes(statement) == dict.fromkeys(STEPS, "done")
    document = statement.document
    assert document["asked"] == "venue", "the last word is the venue's, past everything of ours"
    assert document["remaining_positions"] == []
    assert [row["own"] for row in document["remaining_orders"]] == [False]
    assert document["pnl"] == {"net": "1.5", "currency": "USDT"}
    (row,) = document["reconciliation"]
    assert (row["books"], row["venue_says"], row["status"]) == ("0", "0", "ok")
    text = closing_statement_text(dict(document), {})
    assert "BTC/USDT      0    0  agrees" in text, text
    assert document["checkpoint"].endswith(".ckpt")
    assert fake_desk.venue.sent == ["market 0.5"]
    assert journal.ended["flatten"].evidence["orders"][0]["slippage"] == "0.5"
    (step,) = [each for each in document["steps"] if each["name"] == "flatten"]
    assert step["detail"] == "flat, asked from the venue; slippage 0.5000 USDT"


async def test_the_permit_to_trade_goes_before_anything_is_cancelled(
    fake_desk: Any, journal: Any
) -> None:
    await close(fake_desk, journal)
    asked = fake_desk.asks.asked
    assert asked[:2] == ["/v1/halt", "/v1/resume"]
    assert asked.index("/v1/halt") < asked.index("/v1/cancel") < asked.index("/v1/flatten")


@pytest.mark.parametrize(
    "line", [f"{when} {step}" for step in STEPS for when in ("started", "done")]
)
async def test_a_closing_killed_anywhere_is_gone_on_with(
    fake_desk: Any, make_journal: Any, killed: Any, line: str
) -> None:
    """Killed after any line of its journal, then asked for again: it ends as an undisturbed one,
    and nothing was sent twice. Also where the simulated venue, who alone knows what remains, was
    stopped by then: its last word is in the journal."""
    first = make_journal(dies_after=line)
    with pytest.raises(killed):
        await close(fake_desk, first)
    fake_desk.earlier = first.ended
    statement = await close(fake_desk, make_journal())
    assert statement.services_stopped
    assert fake_desk.venue.sent == ["market 0.5"]
    assert statement.verified, statement.summary


async def test_conservative_sends_limits_first(fake_desk: Any, journal: Any) -> None:
    await close(fake_desk, journal, flatten="conservative", conservative_wait_s=60.0)
    assert fake_desk.venue.sent == ["limit 0.5"]


async def test_an_order_that_does_not_go_keeps_the_services_up(
    fake_desk: Any, journal: Any
) -> None:
    fake_desk.venue.stuck = frozenset({fake_desk.own_order(1)})
    statement = await close(fake_desk, journal)
    assert not statement.verified and not statement.services_stopped
    found = outcomes(statement)
    assert found["cancel_orders"] == "failed"
    assert (found["checkpoint"], found["stop_services"]) == ("done", "skipped")
    assert fake_desk.services.states["engine"] is ServiceState.READY
    assert statement.document["remaining_orders"]


async def test_force_stops_them_and_still_says_what_remains(fake_desk: Any, journal: Any) -> None:
    fake_desk.venue.stuck = frozenset({fake_desk.own_order(1)})
    statement = await close(fake_desk, journal, force=True)
    assert statement.services_stopped and not statement.verified
    own = [row for row in statement.document["remaining_orders"] if row["own"]]
    assert [row["cl_ord_id"] for row in own] == [fake_desk.own_order(1)]


async def test_books_that_differ_are_not_verified(fake_desk: Any, journal: Any) -> None:
    fake_desk.asks.mismatches = [{"symbol": "BTC/USDT"}]
    statement = await close(fake_desk, journal)
    assert not statement.verified and outcomes(statement)["reconcile"] == "failed"


async def test_logs_that_are_not_on_the_disk_are_not_proven(
    fake_desk: Any, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_desk.layout.service_log("engine").write_text("one\n")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    # Of the logs alone: the checkpoint's own way to the disk is another module's.
    monkeypatch.setattr(verify, "os", SimpleNamespace(**{**vars(os), "fsync": broken}))
    statement = await close(fake_desk, journal)
    assert not statement.verified
    assert "logs are not known to be on the disk: engine.log" in statement.summary


def test_errors_of_the_last_minutes_are_counted_and_named() -> None:
    lines = [
        LogLine(service, at, "error", text)
        for at, (service, text) in enumerate(
            [("risk", "no price"), ("engine", "venue timed out"), ("engine", "x" * 500)]
        )
    ]
    assert verify.errors_told([]) == ""
    told = verify.errors_told(lines)
    assert told.startswith("; 3 errors in the last five minutes (engine 2, the last: xxx")
    assert told.endswith("; risk 1, the last: no price)") and len(told) < 250
    assert verify.errors_told(lines * 50).startswith("; at least 150 errors"), "no more are read"


async def test_a_process_that_stays_is_named(fake_desk: Any, journal: Any) -> None:
    fake_desk.services.stubborn = frozenset({"strategies"})
    statement = await close(fake_desk, journal)
    assert not statement.verified
    assert [row["service"] for row in statement.document["processes_left"]] == ["strategies"]


def with_policy(closing: Any, **policies: OnFailure) -> list[Any]:
    steps = list(closing_steps(closing))
    for step in steps:
        step.on_failure = policies.get(step.name, step.on_failure)
        if step.name in ("cancel_orders", "flatten"):
            step.timeout_s = 0.3
    return steps


@pytest.mark.parametrize(
    ("policies", "word", "stopped"),
    [
        ({"wait_for_orders": OnFailure.FORCE}, False, True),
        ({"wait_for_orders": OnFailure.ASK}, True, True),
        # What failed is cancelling, and to wait for it has failed too: nobody insisted there.
        ({"cancel_orders": OnFailure.FORCE}, False, False),
        ({"cancel_orders": OnFailure.ASK}, True, False),
        ({"cancel_orders": OnFailure.FORCE, "wait_for_orders": OnFailure.FORCE}, False, True),
        ({"flatten": OnFailure.FORCE}, False, False),
        ({}, True, False),
    ],
)
async def test_who_insists_stops_the_services_over_an_order_and_it_is_told_all_the_same(
    fake_desk: Any, journal: Any, policies: dict[str, OnFailure], word: bool, stopped: bool
) -> None:
    """The desk file's `force`, or a person asked by `ask`: a shutdown script's "60 seconds, then
    proceed". Before, both went on to steps that stopped nothing."""
    stuck = fake_desk.own_order(1)
    fake_desk.venue.stuck = frozenset({stuck})
    closing = fake_desk.closing()

    async def decide(_step: str, _found: Any) -> bool:
        return word

    runner = Runner(journal, lambda _: None, on_report=closing.note, decide=decide, timeout_s=10)
    reports = await runner.run(with_policy(closing, **policies))
    statement = await closing_statement(closing, reports)
    assert statement.services_stopped is stopped
    assert not statement.verified, "an order remains, whoever insisted"
    assert stuck in {row["cl_ord_id"] for row in statement.document["remaining_orders"]}
    assert "failed: cancel_orders, wait_for_orders" in statement.summary


async def test_a_position_needs_a_word_of_its_own(fake_desk: Any, journal: Any) -> None:
    fake_desk.asks.no_rules = "the venue's rules are not known"
    for policies, stopped in (
        ({"wait_for_orders": OnFailure.FORCE}, False),
        ({"flatten": OnFailure.FORCE}, True),
    ):
        closing = fake_desk.closing()
        runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=10)
        statement = await closing_statement(
            closing, await runner.run(with_policy(closing, **policies))
        )
        assert (statement.services_stopped, statement.verified) == (stopped, False)
        assert "1 position remains" in statement.summary


@pytest.mark.parametrize("left_out", [spec.name for spec in PROCEDURE.steps if spec.optional])
async def test_a_closing_is_proven_without_any_step_that_may_be_left_out(
    fake_desk: Any, journal: Any, left_out: str
) -> None:
    """Else `check` would take a desk file with which every closing ends with 7, and no restart ever
    opens the desk again."""
    closing = fake_desk.closing()
    steps = [step for step in closing_steps(closing) if step.name != left_out]
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=20)
    statement = await closing_statement(closing, await runner.run(steps))
    assert statement.verified, statement.summary


async def test_market_data_outlives_risk_where_its_silence_would_set_the_kill_switch(
    fake_desk: Any, journal: Any
) -> None:
    text = fake_desk.desk.path.read_text().replace(
        "[closing]", '[kill_switch.rules.stale_market_data]\nafter = "5s"\n[closing]'
    )
    file = parse_desk(text.encode(), fake_desk.desk.path)
    fake_desk.desk = replace(fake_desk.desk, file=file)
    statement = await close(fake_desk, journal, flatten="keep", orders="keep")
    assert statement.verified, statement.summary
    assert outcomes(statement)["stop_market_data"] == "skipped"
    stopped = [name for verb, name in fake_desk.services.calls if verb == "stop"]
    assert stopped == ["strategies", "engine", "risk", "feed", "board", "bus", "venue"]


async def test_an_order_that_turns_up_is_withdrawn_before_the_engine_logs_out(
    fake_desk: Any,
) -> None:
    closing = fake_desk.closing()
    late = fake_desk.own_order(7)
    step = Disconnect(closing)
    closing.note(StepReport("lock", Outcome.DONE, 0.0, ""))
    fake_desk.venue.orders[late] = True
    plan = step.plan(await step.observe())
    assert plan.lines()[0].startswith("withdraw "), plan.lines()
    await step.act(plan, lambda *_: None)
    found = await step.verify(lambda *_: None)
    assert found.outcome is Outcome.DONE
    assert late not in fake_desk.venue.orders and "someone-else" in fake_desk.venue.orders
    assert {row["left"] for row in found.evidence["connections"]} == {"no order of ours"}
    assert fake_desk.services.calls[-1] == ("stop", "engine")


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN])
def test_the_services_are_not_stopped_over_open_points(make_view: Any, outcome: Outcome) -> None:
    def facts(force: bool) -> StopFacts:
        return StopFacts(
            Facts({"a": make_view("a"), "feed": make_view("feed")}),
            {"a": (), "feed": ()},
            {"a": "engine", "feed": "market-data"},
            {"flatten": outcome},
            force,
        )

    def connected(force: bool) -> DisconnectFacts:
        return DisconnectFacts(facts(force), frozenset({"a"}), None, 0, "cancel")

    assert plan_stop(facts(False)).skipped
    assert plan_stop_market_data(facts(False)).skipped
    assert plan_disconnect(connected(False)).skipped
    assert plan_stop(facts(True)).lines()[:2] == ("stop a", "stop feed")
    assert plan_stop_market_data(facts(True)).lines() == ("stop feed",)
    assert plan_disconnect(connected(True)).lines() == ("stop a: the desk has no venue",)
