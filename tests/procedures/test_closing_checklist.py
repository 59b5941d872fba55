"""The checklists of a planned shutdown say what its steps saw, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from openbell.procedures.checklists import Checklist, Found
from openbell.procedures.closing.cancel_orders import plan_cancel
from openbell.procedures.closing.checklist import ClosingRecord, closing_checklists
from openbell.procedures.closing.flatten import FlattenFacts, plan_flatten
from openbell.procedures.closing.picture import Picture
from openbell.procedures.run import NOT_REACHED
from openbell.procedures.step import Outcome, StepReport

STEPS = (
    "announce", "lock", "halt_strategies", "cancel_orders", "flatten", "wait_for_orders",
    "reconcile", "checkpoint", "stop_market_data", "disconnect", "stop_services", "verify",
    "afterwards",
)  # fmt: skip
EVIDENCE: Mapping[str, Mapping[str, object]] = {
    "halt_strategies": {"permit_scope": "reduce"},
    "verify": {"orphans": [], "checkpoint_valid": True},
    "afterwards": {"told": {"ops": "told"}, "archive": "logs.tar.gz", "went_wrong": []},
}
WHOLE = ClosingRecord(
    reports=tuple(
        StepReport(name, Outcome.DONE, 0.1, "", EVIDENCE.get(name, {})) for name in STEPS
    ),
    reason="end of day",
    approvals={},
    services_stopped=True,
    positions_left=0,
    pnl={"net": "1.5", "currency": "USDT"},
    checkpoint="a.ckpt",
    checkpoint_wanted=True,
    processes_left=0,
    sockets_left=0,
    errors=0,
)


def found(record: ClosingRecord) -> dict[str, Found]:
    return {each.name: each.found for one in closing_checklists(record) for each in one.checks}


def ended(step: str, outcome: Outcome, detail: str = "", **evidence: object) -> ClosingRecord:
    reports = tuple(
        StepReport(step, outcome, 0.1, detail, {**each.evidence, **evidence})
        if each.name == step
        else each
        for each in WHOLE.reports
    )
    return replace(WHOLE, reports=reports)


def test_a_closing_that_saw_everything_ticks_everything_that_the_system_can_know() -> None:
    lists = closing_checklists(WHOLE)
    assert [each.name for each in lists] == ["before", "during", "after", "verification"]
    assert [each.found for each in lists] == [Found.OK] * 4
    asked_of_people = {name for name, what in found(WHOLE).items() if what is not Found.OK}
    assert asked_of_people == {"downtime", "approved"}


@pytest.mark.parametrize(
    ("step", "check"),
    [
        ("announce", "announced"), ("lock", "locked"), ("wait_for_orders", "no_order_pending"),
        ("halt_strategies", "strategies_halted"), ("cancel_orders", "orders_handled"),
        ("flatten", "positions_handled"), ("reconcile", "reconciled"),
        ("checkpoint", "checkpoint_saved"), ("stop_market_data", "market_data_stopped"),
        ("disconnect", "disconnected"), ("stop_services", "services_stopped"),
    ],
)  # fmt: skip
def test_a_check_says_what_its_step_came_to(step: str, check: str) -> None:
    assert found(ended(step, Outcome.FAILED))[check] is Found.FAILED
    assert found(ended(step, Outcome.UNKNOWN))[check] is Found.UNKNOWN
    assert found(ended(step, Outcome.SKIPPED, f"{NOT_REACHED}: lock"))[check] is Found.UNKNOWN
    assert found(ended(step, Outcome.SKIPPED, "as asked"))[check] is Found.NOT_CONFIGURED


def test_what_is_kept_as_asked_is_done_and_not_left_out() -> None:
    keep = FlattenFacts(Picture(source="engine"))
    kept = plan_flatten(keep, "keep", cast(Any, None)).reason
    assert kept == "0 positions are kept as asked"
    assert found(ended("flatten", Outcome.SKIPPED, kept))["positions_handled"] is Found.OK
    kept = plan_cancel(Picture(source="engine"), "keep").reason
    assert found(ended("cancel_orders", Outcome.SKIPPED, kept))["orders_handled"] is Found.OK
    # Which there are is not known: then it is not ticked.
    silent = Picture(source="none", unknown=("nobody answers",))
    for plan in (
        plan_flatten(FlattenFacts(silent), "keep", cast(Any, None)),
        plan_cancel(silent, "keep"),
    ):
        assert (
            found(ended("flatten", Outcome.SKIPPED, plan.reason))["positions_handled"]
            is not Found.OK
        )


def test_what_was_not_looked_for_is_never_ticked() -> None:
    nothing = ClosingRecord(
        reports=(), reason="", approvals={"flatten": ("risk",)}, services_stopped=False, positions_left=None,
        pnl=None, checkpoint=None, checkpoint_wanted=True, processes_left=None,
            sockets_left=None, errors=None,
    )  # fmt: skip
    ticked = {name for name, what in found(nothing).items() if what is Found.OK}
    assert ticked == set()


def test_services_that_were_left_up_are_not_stopped() -> None:
    record = replace(ended("stop_services", Outcome.SKIPPED, "stay up"), services_stopped=False)
    assert found(record)["services_stopped"] is Found.FAILED
    assert found(record)["status_offline"] is Found.FAILED


def test_what_was_killed_stopped_but_not_cleanly() -> None:
    record = ended("disconnect", Outcome.DONE, "disconnected; killed: engine")
    assert found(record)["services_stopped"] is Found.WARN


def test_findings_of_the_last_look_are_told() -> None:
    assert found(replace(WHOLE, errors=3))["no_errors"] is Found.WARN
    assert found(replace(WHOLE, processes_left=1))["no_process"] is Found.FAILED
    assert found(ended("verify", Outcome.FAILED, orphans=[7]))["no_orphan"] is Found.FAILED
    assert found(ended("verify", Outcome.FAILED, checkpoint_valid=False))["checkpoint_valid"] is (
        Found.FAILED
    )
    assert found(ended("halt_strategies", Outcome.FAILED, permit_scope="trade"))[
        "no_new_orders"
    ] is (Found.FAILED)
    assert found(ended("afterwards", Outcome.FAILED, told={"ops": "failed"}))["notified"] is (
        Found.FAILED
    )


def test_an_approval_is_known_where_nothing_is_left_open() -> None:
    wanted = replace(WHOLE, approvals={"flatten": ("risk",)})
    assert found(wanted)["approved"] is Found.OK
    held = replace(ended("flatten", Outcome.UNKNOWN), approvals={"flatten": ("risk",)})
    assert found(held)["approved"] is Found.UNKNOWN


@pytest.mark.parametrize(
    ("outcome", "detail", "in_vain", "expected"),
    [
        (Outcome.DONE, "flat", False, Found.OK),
        (Outcome.SKIPPED, "as asked", False, Found.OK),
        (Outcome.FAILED, "1 position remains; no order can be sent", True, Found.OK),
        (Outcome.FAILED, "cancelled by bob while it waited", False, Found.UNKNOWN),
        (Outcome.FAILED, "1 position remains", False, Found.UNKNOWN),
        (Outcome.UNKNOWN, "no answer", False, Found.UNKNOWN),
    ],
)
def test_that_no_approval_was_needed_is_told_of_what_shows_it_alone(
    outcome: Outcome, detail: str, in_vain: bool, expected: Found
) -> None:
    """Of a flatten that was cancelled while it waited, the checklist ticked that none was needed."""
    report = StepReport("flatten", outcome, 1.0, detail, in_vain=in_vain)
    record = replace(WHOLE, reports=[report], approvals={"flatten": ("risk",)})
    (before, *_) = closing_checklists(record)
    (check,) = [each for each in before.checks if each.name == "approved"]
    assert check.found is expected
    assert ("none was needed" in check.detail) is (expected is Found.OK)


def test_an_approval_that_was_given_is_told_however_the_step_ended() -> None:
    """Two had approved, and the statement said that it was not known, as the step had not closed all."""
    wanted = {"flatten": ("operator", "risk")}
    failed = replace(ended("flatten", Outcome.FAILED), approvals=wanted)
    (before, *_) = closing_checklists(replace(failed, approved={"flatten": ("bob", "eve")}))
    (check,) = [each for each in before.checks if each.name == "approved"]
    assert (check.found, check.detail) == (Found.OK, "flatten: bob, eve")
    late = replace(
        WHOLE,
        reports=[StepReport("flatten", Outcome.FAILED, 1.0, "not approved in time: risk did not")],
        approvals=wanted,
    )
    assert found(late)["approved"] is Found.FAILED
    assert found(replace(WHOLE, reports=[], approvals=wanted))["approved"] is Found.UNKNOWN


def test_a_checklist_of_a_closing_reads_as_any_other() -> None:
    (before, *_) = closing_checklists(WHOLE)
    assert isinstance(before, Checklist)
    assert any("end of day" in line for line in before.lines())
