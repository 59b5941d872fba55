"""A closing's own looks take the time of their step, as desk.toml sets it, and not that of a verification."""

from __future__ import annotations

from typing import Any

import pytest

from openbell.procedures import run
from openbell.procedures.closing import reconcile
from openbell.procedures.closing.reconcile import ReconcileBooks
from openbell.procedures.closing.verify import VerifyClosed
from openbell.procedures.run import Runner
from openbell.procedures.step import Outcome, Step, StepReport


@pytest.fixture(autouse=True)
def no_time_to_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verification that waits for anything at all is cut off."""
    monkeypatch.setattr(run, "VERIFY_TIMEOUT_S", 0.0)
    monkeypatch.setattr(reconcile, "RETRY_S", 0.0)


def held_back(desk: Any, times: int | None) -> None:
    """The venue's limits let it be asked only after so many comparisons; None: never."""
    answer, left = desk.asks._body, times

    def body(path: str, asked: Any) -> dict[str, Any]:
        nonlocal left
        told: dict[str, Any] = answer(path, asked)
        if path == "/v1/state":
            return {**told, "venues": [{"name": "sim", "held_back": True}]}
        if path != "/v1/reconcile" or left == 0:
            return told
        left = None if left is None else left - 1
        return {**told, "ok": False, "unknown": True, "unknown_venues": ["sim: held back"]}

    desk.asks._body = body


async def carry_out(journal: Any, step: Step[Any, Any]) -> StepReport:
    (report,) = await Runner(journal, lambda _: None).run([step])
    return report


async def test_books_are_compared_for_as_long_as_the_step_may_take(
    fake_desk: Any, journal: Any
) -> None:
    """A venue that counts by the minute took longer than any verification may, and each closing there
    ended unproven, whatever time desk.toml gave."""
    held_back(fake_desk, 3)
    report = await carry_out(journal, ReconcileBooks(fake_desk.closing()))
    assert report.outcome is Outcome.DONE, report.detail
    assert fake_desk.asks.asked.count("/v1/reconcile") == 4


async def test_a_comparison_ends_with_the_steps_time_and_says_what_was_not_compared(
    fake_desk: Any, journal: Any
) -> None:
    held_back(fake_desk, None)
    report = await carry_out(journal, ReconcileBooks(fake_desk.closing(), timeout_s=0.3))
    assert report.outcome is Outcome.UNKNOWN
    assert "sim: held back" in report.detail and "ran out of time after 0.3s" in report.detail


async def test_the_last_look_takes_the_time_of_its_step(fake_desk: Any, journal: Any) -> None:
    fake_desk.layout.service_log("engine").write_text("one\n")
    report = await carry_out(journal, VerifyClosed(fake_desk.closing()))
    assert "no answer within" not in report.detail
    assert report.evidence["logs_not_on_disk"] == []


async def test_a_venue_that_says_when_it_lets_ask_again_is_waited_for(
    fake_desk: Any, journal: Any
) -> None:
    """The comparison alone was held back, by its adapter's request budget: the engine's state told nothing
    of it, and `openbell down` ended "not verified: reconcile" after one question."""
    held_by_the_budget(fake_desk, 2, retry_after_s=0.01)
    report = await carry_out(journal, ReconcileBooks(fake_desk.closing()))
    assert report.outcome is Outcome.DONE, report.detail
    assert fake_desk.asks.asked.count("/v1/reconcile") == 3


async def test_a_budget_that_is_free_only_after_the_steps_time_is_unknown_at_once(
    fake_desk: Any, journal: Any
) -> None:
    held_by_the_budget(fake_desk, None, retry_after_s=3600)
    report = await carry_out(journal, ReconcileBooks(fake_desk.closing()))
    assert report.outcome is Outcome.UNKNOWN and "held back" in report.detail
    assert fake_desk.asks.asked.count("/v1/reconcile") == 1


def held_by_the_budget(desk: Any, times: int | None, *, retry_after_s: float) -> None:
    """So many comparisons, or all; nothing else tells of it."""
    answer, left = desk.asks._body, times

    def body(path: str, asked: Any) -> dict[str, Any]:
        nonlocal left
        told: dict[str, Any] = answer(path, asked)
        if path != "/v1/reconcile" or left == 0:
            return told
        left = None if left is None else left - 1
        held = [{"venue": "sim", "retry_after_s": retry_after_s}]
        why = ["sim: held back to stay inside the request budget"]
        return {**told, "ok": False, "unknown": True, "unknown_venues": why, "held_back": held}

    desk.asks._body = body
