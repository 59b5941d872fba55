"""Runs the steps of a procedure, keeping a journal that survives its operator.

STARTED is written before a step's first effect and DONE after its verification, so a killed
controller leaves at most one step of which it is not known how far it got. Taking the run up again
goes through all of its steps: each observes first, finds what was done, and does what is left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from openbell.errors import OpenbellError
from openbell.procedures.closing_tables import in_event
from openbell.procedures.evidence import file_facts
from openbell.procedures.step import (
    STEP_ENDS_AT_S,
    OnFailure,
    Outcome,
    Plan,
    Step,
    StepReport,
    Verification,
)
from openbell.service.logging import get_logger

Waited = TypeVar("Waited")

Emit = Callable[[dict[str, object]], None]
"""Takes one event, `{"event": ..., ...}`, as docs/reference/api.md lists them."""

VERIFY_TIMEOUT_S = 30.0
"""Of one verification: a venue asked over a slow line answers within it, or is unknown."""
LATE_VERIFY_TIMEOUT_S = 6.0
"""Of a verification after the run's time is over: venues can be asked past everything in that."""

NOT_REACHED = "not reached"
"""How the detail of a step begins that was skipped because the run had ended before it."""

NOT_APPROVED = "not approved in time"
"""How the detail of a step begins that failed because nobody gave what it waited for."""

log = get_logger()


class Journal(Protocol):
    """Where a run is written down, bound to that run."""

    async def step_started(self, step: str, index: int) -> None: ...

    async def step_planned(
        self, step: str, index: int, facts: object, plan: Sequence[str], reason: str
    ) -> None:
        """What was observed, and what will be done about it."""
        ...

    async def step_done(
        self, step: str, index: int, outcome: str, evidence: Mapping[str, object]
    ) -> None: ...


Decide = Callable[[str, Verification], Awaitable[bool]]
"""Answers for a person, for steps that ask: whether to go on after this outcome of that step."""


Gate = Callable[[Step[Any, Any]], Awaitable[str]]
"""Waits until a step may begin. Why it may not, for good; empty where it may."""


async def open_gate(_step: Step[Any, Any]) -> str:
    return ""


def may_always_act(_step: Step[Any, Any]) -> bool:
    return True


async def never_go_on(_step: str, _verification: Verification) -> bool:
    return False


async def always_go_on(_step: str, _verification: Verification) -> bool:
    return True


class Runner:
    """Runs steps one after another."""

    def __init__(
        self,
        journal: Journal,
        emit: Emit,
        *,
        decide: Decide = never_go_on,
        gate: Gate = open_gate,
        may_act: Callable[[Step[Any, Any]], bool] = may_always_act,
        leave: Gate = open_gate,
        ended: Callable[[], str] = lambda: "",
        timeout_s: float | None = None,
        on_report: Callable[[StepReport], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout_s` is the time of all steps together; a step that it cuts short is still
        verified, and the steps after it still observe, so that the end tells the whole truth.
        What waits for people, at `gate` and in `decide`, does not use it up. `ended`: why no further
        step may begin. `may_act`: whether a step that has something to do has the approvals it needs;
        one that has not waits at `leave`, and then observes anew. `on_report` hears how each step ended,
        and whether somebody insisted on going on, before the next one observes."""
        self._journal = journal
        self._emit = emit
        self._decide = decide
        self._gate = gate
        self._may_act = may_act
        self._leave = leave
        self._ended = ended
        self.ended_by = ""
        """Why no further step began, where somebody ended the run; empty where nobody did."""
        self.stopped_at: StepReport | None = None
        """The step after which no further one began, because it was not verified."""
        self._refused = ""
        """Why the step under way may not act, though it was let begin."""
        self._in_vain = False
        """Of the step under way: all that there was to do could not be done."""
        self._on_report = on_report
        self._clock = clock
        self._deadline = None if timeout_s is None else clock() + timeout_s

    async def run(self, steps: Sequence[Step[Any, Any]]) -> tuple[StepReport, ...]:
        """A report for each step, those that were not reached included."""
        reports: list[StepReport] = []
        stopped_by = ""
        for index, step in enumerate(steps, start=1):
            if not stopped_by and (why := self._ended()):
                self.ended_by = stopped_by = why
            why_not = "" if stopped_by else await self._waiting(self._gate(step))
            if not stopped_by and (why := self._ended()):
                self.ended_by = stopped_by = why
            if stopped_by:
                reports.append(
                    StepReport(step.name, Outcome.SKIPPED, 0.0, f"{NOT_REACHED}: {stopped_by}")
                )
                continue
            report = await self._run_step(step, index, len(steps), why_not)
            verification = Verification(report.outcome, report.detail, report.evidence)
            # What a person did not approve no policy goes past, wherever it was asked for.
            goes_on = not (why_not or self._refused)
            if goes_on and not verification.settled:
                goes_on = await self._goes_on(step, verification)
                insisted = step.on_failure in (OnFailure.FORCE, OnFailure.ASK)
                report = replace(report, insisted=goes_on and insisted)
            reports.append(report)
            self._on_report(report)
            if self._refused and (why := self._ended()):
                self.ended_by = stopped_by = why
            elif not goes_on:
                stopped_by = f"{step.name} was not verified"
                self.stopped_at = report
        return tuple(reports)

    async def _waiting(self, for_people: Awaitable[Waited]) -> Waited:
        """Waits without using up the run's time."""
        since = self._clock()
        answer = await for_people
        if self._deadline is not None:
            self._deadline += self._clock() - since
        return answer

    async def _goes_on(self, step: Step[Any, Any], verification: Verification) -> bool:
        match step.on_failure:
            case OnFailure.ABORT:
                return False
            case OnFailure.ASK:
                return await self._waiting(self._decide(step.name, verification))
            case OnFailure.WARN | OnFailure.FORCE:
                return True

    async def _run_step(
        self, step: Step[Any, Any], index: int, of: int, why_not: str = ""
    ) -> StepReport:
        """`why_not`: it may not be done, and has failed by that."""
        started = self._clock()
        self._refused, self._in_vain = "", False
        await self._journal.step_started(step.name, index)
        self._emit(
            {
                "event": "step_started",
                "step": step.name,
                "title": step.title,
                "index": index,
                "of": of,
            }
        )

        last_said: tuple[object, ...] = ()

        def say(message: str, count: int | None = None, target: int | None = None) -> None:
            nonlocal last_said
            said = (message, count, target)
            if said == last_said:
                return  # no progress
            last_said = said
            self._emit(
                {
                    "event": "progress",
                    "step": step.name,
                    "message": message,
                    "count": count,
                    "target": target,
                }
            )

        if why_not:
            verification = Verification(Outcome.FAILED, why_not)
        else:
            verification = await self._carry_out(step, index, say)
        report = StepReport(
            name=step.name,
            outcome=verification.outcome,
            seconds=self._clock() - started,
            detail=verification.detail,
            evidence=verification.evidence,
            in_vain=self._in_vain,
        )
        evidence: dict[str, object] = {"detail": report.detail, **report.evidence}
        if verification.files:
            evidence["files"] = [
                await asyncio.to_thread(file_facts, Path(each)) for each in verification.files
            ]
        await self._journal.step_done(step.name, index, str(report.outcome), evidence)
        self._emit(
            {
                "event": "step_done",
                "step": step.name,
                "index": index,
                "of": of,
                "outcome": str(report.outcome),
                "seconds": round(report.seconds, 3),
                "message": report.detail,
                **in_event(step.name, report.evidence),
            }
        )
        return report

    async def _carry_out(
        self, step: Step[Any, Any], index: int, say: Callable[..., None]
    ) -> Verification:
        trouble = ""
        wants_leave = False
        time_s = self._time_for(step)
        STEP_ENDS_AT_S.set(asyncio.get_running_loop().time() + time_s)
        try:
            async with asyncio.timeout(time_s):
                facts = await step.observe()
                plan: Plan[Any] = step.plan(facts)
                self._in_vain = plan.in_vain
                await self._journal.step_planned(step.name, index, facts, plan.lines(), plan.reason)
                self._emit(
                    {
                        "event": "step_planned",
                        "step": step.name,
                        "plan": list(plan.lines()),
                        "message": plan.reason,
                    }
                )
                if plan.skipped:
                    return Verification(Outcome.SKIPPED, plan.reason)
                if not self._may_act(step):
                    # Nothing was to be done when it was let begin, and there may be by now.
                    wants_leave = plan.does_something
                    trouble = "; ".join(plan.lines()) if plan.in_vain else ""
                elif plan.actions:
                    await step.act(plan, say)
        except TimeoutError:
            trouble = f"ran out of time after {time_s:.3g}s"
        except OpenbellError as error:
            # A full disk too: a checkpoint that cannot be written must not keep a desk open. That
            # the journal cannot be written is another matter, and ends the run outside of here.
            trouble = error.message
        except Exception as error:
            log.exception("defect in a step", step=step.name)
            trouble = f"defect: {type(error).__name__}"
        if wants_leave:
            self._refused = await self._waiting(self._leave(step))
            if self._refused:
                return Verification(Outcome.FAILED, self._refused)
            return await self._carry_out(step, index, say)
        return await self._verify(step, say, trouble)

    async def _verify(
        self, step: Step[Any, Any], say: Callable[..., None], trouble: str
    ) -> Verification:
        time_s = self._time_to_verify()
        try:
            async with asyncio.timeout(time_s):
                found = await step.verify(say)
        except TimeoutError:
            found = Verification(Outcome.UNKNOWN, f"no answer within {time_s:g}s of verification")
        except OpenbellError as error:
            found = Verification(Outcome.UNKNOWN, error.message)
        except Exception as error:
            log.exception("defect in a verification", step=step.name)
            found = Verification(Outcome.UNKNOWN, f"defect: {type(error).__name__}")
        if not trouble or found.settled:
            # What was in the way no longer matters where the goal is verified to be reached.
            return found
        told = f"{found.detail}; {trouble}"
        return Verification(found.outcome, told, found.evidence, found.files)

    def _time_for(self, step: Step[Any, Any]) -> float:
        if self._deadline is None:
            return step.timeout_s
        # At least a moment, so that a step whose time is up can still observe what there is.
        return max(0.5, min(step.timeout_s, self._deadline - self._clock()))

    def _time_to_verify(self) -> float:
        """Less once the run's own time is over, but never none: the end must tell the truth."""
        if self._deadline is None:
            return VERIFY_TIMEOUT_S
        left_s = self._deadline - self._clock()
        return min(VERIFY_TIMEOUT_S, max(LATE_VERIFY_TIMEOUT_S, left_s))
