"""Steps are journaled, verified whatever happened, and answered by their failure policy."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from openbell.errors import FailedError, StorageError
from openbell.procedures import run as run_module
from openbell.procedures.run import Runner, always_go_on
from openbell.procedures.step import OnFailure, Outcome, Plan, Verification


@dataclass
class Scripted:
    name: str = "one"
    title: str = "One"
    timeout_s: float = 5.0
    on_failure: OnFailure = OnFailure.ABORT
    outcome: Outcome = Outcome.DONE
    skipped: bool = False
    act_raises: Exception | None = None
    act_hangs: bool = False
    done: list[str] = field(default_factory=list)

    async def observe(self) -> int:
        return 1

    def plan(self, facts: int) -> Plan[str]:
        return Plan(reason="no need", skipped=True) if self.skipped else Plan(("act",))

    async def act(self, plan: Plan[str], say: Any) -> None:
        say("acting", 1, 0)
        if self.act_hangs:
            await asyncio.Event().wait()
        if self.act_raises is not None:
            raise self.act_raises
        self.done.append("act")

    async def verify(self, say: Any) -> Verification:
        self.done.append("verify")
        return Verification(self.outcome, "looked")


async def run(journal: Any, *steps: Scripted, **more: Any) -> tuple[Any, list[dict[str, object]]]:
    events: list[dict[str, object]] = []
    return await Runner(journal, events.append, **more).run(steps), events


async def test_started_is_written_before_and_done_after(journal: Any) -> None:
    reports, events = await run(journal, Scripted(), Scripted("two"))
    assert journal.lines == ["started one", "done one", "started two", "done two"]
    assert [report.outcome for report in reports] == [Outcome.DONE, Outcome.DONE]
    assert [event["event"] for event in events[:4]] == [
        "step_started",
        "step_planned",
        "progress",
        "step_done",
    ]


@dataclass
class Vain:
    in_vain: bool = True

    def __str__(self) -> str:
        return "no order can be sent"


@dataclass
class Growing(Scripted):
    """Has nothing to do until `grown`, and then `act`."""

    grown: tuple[Any, ...] = ()

    def plan(self, facts: int) -> Plan[Any]:
        return Plan(self.grown, "" if self.grown else "nothing is held")


async def test_a_step_without_its_approvals_never_acts_also_where_its_work_came_up_later(
    journal: Any,
) -> None:
    """It was let begin as it had nothing to do; what it then finds to do waits, and is looked at anew."""
    given: list[str] = []
    step = Growing(grown=("close 1 BTC",))

    async def leave(waits: Any) -> str:
        assert step.done == [], "not before"
        step.grown = ("close 2 BTC",)
        given.append(waits.name)
        return ""

    (report,), events = await run(journal, step, may_act=lambda _: bool(given), leave=leave)
    assert (step.done, report.outcome) == (["act", "verify"], Outcome.DONE)
    planned = [each["plan"] for each in events if each["event"] == "step_planned"]
    assert planned == [["close 1 BTC"], ["close 2 BTC"]], (
        "what is done is seen after it was approved"
    )

    async def refuse(_: Any) -> str:
        return "not approved in time: risk did not"

    step = Growing(grown=("close 1 BTC",))
    (report,), _ = await run(journal, step, may_act=lambda _: False, leave=refuse)
    assert (step.done, report.outcome) == ([], Outcome.FAILED)
    assert report.detail == "not approved in time: risk did not"


@pytest.mark.parametrize("policy", list(OnFailure))
async def test_no_policy_goes_past_an_approval_that_was_not_given_inside_a_step(
    journal: Any, policy: OnFailure
) -> None:
    """Idle at the gate and with something to do then, a flatten, whose policy is to warn, was refused, and
    the closing went on; at the gate the same refusal had ended it."""

    async def refuse(_: Any) -> str:
        return "not approved in time: risk did not"

    step, after = Growing(grown=("close 1 BTC",), on_failure=policy), Growing("after")
    runner = Runner(
        journal, lambda _: None, may_act=lambda _: False, leave=refuse, decide=always_go_on
    )
    first, second = await runner.run([step, after])
    assert (first.outcome, first.insisted) == (Outcome.FAILED, False)
    assert (second.outcome, second.detail) == (
        Outcome.SKIPPED, "not reached: one was not verified",
    )  # fmt: skip
    assert runner.stopped_at == first and runner.ended_by == ""
    assert step.done == after.done == []


async def test_a_run_that_is_cancelled_while_a_step_waits_inside_was_cancelled(
    journal: Any,
) -> None:
    by: list[str] = []

    async def cancelled(_: Any) -> str:
        by.append("cancelled by bob")
        return "cancelled by bob while it waited"

    step, after = Growing(grown=("close 1 BTC",), on_failure=OnFailure.WARN), Growing("after")
    runner = Runner(
        journal, lambda _: None, may_act=lambda _: False, leave=cancelled, ended=lambda: "".join(by)
    )
    first, second = await runner.run([step, after])
    assert (first.outcome, second.outcome) == (Outcome.FAILED, Outcome.SKIPPED)
    assert (runner.ended_by, runner.stopped_at) == ("cancelled by bob", None)


@pytest.mark.parametrize("plan", [(), (Vain(),)])
async def test_nobody_is_asked_for_what_does_nothing(journal: Any, plan: tuple[Any, ...]) -> None:
    step = Growing(grown=plan, outcome=Outcome.FAILED)

    async def leave(_: Any) -> str:
        raise AssertionError("nobody is asked")

    (report,), _ = await run(journal, step, may_act=lambda _: False, leave=leave)
    assert step.done == ["verify"] and report.outcome is Outcome.FAILED
    assert ("no order can be sent" in report.detail) is bool(plan)
    assert report.in_vain is bool(plan)


async def test_a_step_that_ran_out_of_time_is_still_verified(journal: Any) -> None:
    step = Scripted(act_hangs=True, timeout_s=0.05)
    (report,), _ = await run(journal, step)
    assert step.done == ["verify"]
    assert report.outcome is Outcome.DONE, "the goal is reached: what was in the way is no matter"


async def test_what_went_wrong_is_told_where_the_goal_was_missed(journal: Any) -> None:
    step = Scripted(act_raises=FailedError("the engine said no"), outcome=Outcome.FAILED)
    (report,), _ = await run(journal, step)
    assert report.outcome is Outcome.FAILED
    assert "the engine said no" in report.detail


async def test_a_defect_is_a_failure_and_not_a_crash(journal: Any) -> None:
    step = Scripted(act_raises=KeyError("x"), outcome=Outcome.UNKNOWN)
    (report,), _ = await run(journal, step)
    assert report.outcome is Outcome.UNKNOWN and "KeyError" in report.detail


async def test_a_verification_without_an_answer_is_unknown(
    journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "VERIFY_TIMEOUT_S", 0.05)

    class Mute(Scripted):
        async def verify(self, say: Any) -> Verification:
            await asyncio.Event().wait()
            raise AssertionError

    (report,), _ = await run(journal, Mute())
    assert report.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("policy", "reached"),
    [
        (OnFailure.ABORT, False),
        (OnFailure.ASK, False),
        (OnFailure.WARN, True),
        (OnFailure.FORCE, True),
    ],
)
async def test_the_failure_policy_decides_what_is_reached(
    journal: Any, policy: OnFailure, reached: bool
) -> None:
    failing = Scripted(outcome=Outcome.FAILED, on_failure=policy)
    reports, _ = await run(journal, failing, Scripted("two"))
    assert (reports[1].outcome is Outcome.DONE) is reached
    if not reached:
        assert reports[1].outcome is Outcome.SKIPPED
        assert "not reached" in reports[1].detail


async def test_a_person_may_let_it_go_on(journal: Any) -> None:
    failing = Scripted(outcome=Outcome.FAILED, on_failure=OnFailure.ASK)
    reports, _ = await run(journal, failing, Scripted("two"), decide=always_go_on)
    assert reports[1].outcome is Outcome.DONE


async def test_a_step_that_does_not_apply_is_skipped_and_not_verified(journal: Any) -> None:
    step = Scripted(skipped=True)
    (report,), _ = await run(journal, step)
    assert (report.outcome, report.detail, step.done) == (Outcome.SKIPPED, "no need", [])


async def test_nothing_is_begun_that_cannot_be_journaled() -> None:
    class Full:
        async def step_started(self, step: str, index: int) -> None:
            raise StorageError("disk full")

    step = Scripted()
    with pytest.raises(StorageError):
        await run(Full(), step)
    assert step.done == []


async def test_progress_is_told_when_it_changes(journal: Any) -> None:
    class Patient(Scripted):
        async def act(self, plan: Plan[str], say: Any) -> None:
            for count in (3, 3, 2, 2, 2, 0):
                say("open positions", count, 0)

    clock = iter(range(0, 1000, 10))
    _, events = await run(journal, Patient(), clock=lambda: float(next(clock)))
    told = [event["count"] for event in events if event["event"] == "progress"]
    assert told == [3, 2, 0]


async def test_the_time_of_the_whole_run_is_shared(journal: Any) -> None:
    """The second step has next to no time left, is cut short, and is verified all the same."""
    first = Scripted(act_hangs=True, timeout_s=60, on_failure=OnFailure.WARN)
    second = Scripted("two", act_hangs=True, timeout_s=60)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await run(journal, first, second, timeout_s=0.2)
    assert loop.time() - began < 30
    assert second.done == ["verify"]
