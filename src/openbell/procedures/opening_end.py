"""What an opening came to: one word, one sentence for people, and the document of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openbell.procedures.begin_trading import BeginTrading, Opened, Verdict
from openbell.procedures.opening import PHASE_STEPS, ServiceOutcome, Started, trouble
from openbell.procedures.readiness import NAMES as LOOKS
from openbell.procedures.starting_guard import StartGuard
from openbell.procedures.step import Outcome, StepReport

_SETTLED = (Outcome.DONE, Outcome.SKIPPED)
_OPEN = (Outcome.FAILED, Outcome.UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class OpeningSeen:
    """What of an opening its end is told from."""

    reports: Sequence[StepReport]
    wanted: tuple[str, ...]
    """Services, in start order."""
    services: Mapping[str, ServiceOutcome]
    """What became of them, in the order in which it was known."""
    verdict: Verdict
    """Of the last step, where it came to that."""
    ended_by: str
    """Who ended the run; empty: nobody did."""
    stopped_at: StepReport | None
    """The step at which it ended because that was not verified."""
    begun: bool
    """Something of the desk was started, by this controller or the one before it."""
    held_back: bool
    left_out: bool
    """Services of the desk are not meant to run."""
    only: tuple[str, ...]
    """The services that were asked for; empty: all."""
    own_steps: frozenset[str]
    """Names of the desk's own steps."""

    @property
    def traded(self) -> StepReport:
        return next(each for each in self.reports if each.name == BeginTrading.name)

    @property
    def not_up(self) -> list[StepReport]:
        """Phases of which something is not up."""
        phases = (each for each in self.reports if each.name in PHASE_STEPS)
        return [each for each in phases if each.outcome not in _SETTLED]


@dataclass(frozen=True, kw_only=True)
class OpeningEnd:
    opened: bool
    """Without its guard a desk opens all the same, and says so: it can be stopped by hand."""
    outcome: str
    """As docs/reference/api.md lists them."""
    failed_at: str
    why: str
    """The cause alone."""
    message: str
    """With what was left, and what else a person has to know."""
    result: Mapping[str, object]


def opening_end(seen: OpeningSeen) -> OpeningEnd:
    ended_early = bool(seen.ended_by or seen.stopped_at)
    opened = not ended_early and not seen.not_up and seen.traded.outcome in _SETTLED
    outcome = _outcome(seen)
    verdict = _verdict(seen)
    failed_at = _failed_at(seen, verdict)
    why = _why(seen)
    result = {
        "outcome": outcome,
        "state": str(verdict.opened),
        "waiting_for": verdict.waiting_for,
        "failed_at": "" if opened else failed_at,
        "begun": seen.begun,
        "services": [
            seen.services[name].as_dict() for name in seen.wanted if name in seen.services
        ],
        "steps": [report.as_dict() for report in seen.reports],
    }
    return OpeningEnd(
        opened=opened,
        outcome=outcome,
        failed_at=failed_at,
        why=why,
        message=_message(seen, outcome, why, opened=opened),
        result=result,
    )


def _outcome(seen: OpeningSeen) -> str:
    if seen.ended_by:
        return "cancelled"
    if seen.stopped_at or seen.not_up:
        return "failed"
    if seen.traded.outcome is Outcome.SKIPPED:
        return "partial"
    found = [each.outcome for each in seen.services.values()]
    nothing_done = all(each is Started.ALREADY_RUNNING for each in found)
    if nothing_done and seen.verdict.opened not in (Opened.WAITING, Opened.HELD):
        return "already_open"
    if seen.left_out and seen.verdict.opened is Opened.TRADING:
        return "partial"
    return str(seen.verdict.opened)


def _verdict(seen: OpeningSeen) -> Verdict:
    if seen.traded.outcome is not Outcome.SKIPPED:
        return seen.verdict
    return Verdict(Opened.SAFE) if seen.left_out else Verdict(Opened.WAITING, seen.traded.detail)


def _failed_at(seen: OpeningSeen, verdict: Verdict) -> str:
    holding = [each for each in seen.reports if each.evidence.get("holds_trading")]
    culprits = [
        *([seen.stopped_at] if seen.stopped_at else []),
        *seen.not_up,
        *(holding if verdict.opened is Opened.HELD else []),
        seen.traded,
    ]
    return next((each.name for each in culprits if each.outcome not in _SETTLED), "")


def _why(seen: OpeningSeen) -> str:
    if seen.ended_by:
        left = "what runs was left running" if seen.begun else "nothing was started"
        return f"{seen.ended_by}; {left}"
    if seen.stopped_at:
        return f"{seen.stopped_at.name}: {seen.stopped_at.detail}"
    if seen.not_up:
        told = trouble(seen.services.values())
        return told if told and len(seen.not_up) > 1 else seen.not_up[0].detail
    return seen.traded.detail


def _message(seen: OpeningSeen, outcome: str, why: str, *, opened: bool) -> str:
    told = [why]
    if outcome == "already_open":
        told = [f"already open: {why}"]
    elif outcome == "partial":
        told = [_partly(seen)]
    if seen.stopped_at and not seen.begun:
        told.append("nothing was started")
    if (seen.ended_by or seen.stopped_at) and seen.held_back:
        told.append("the desk does not trade")
    unguarded = [
        each.detail
        for each in seen.reports
        if each.name == StartGuard.name and each.outcome in _OPEN
    ]
    told += [f"WITHOUT A GUARD: {unguarded[0]}"] if unguarded else []
    if not seen.stopped_at:
        told += [
            f"{each.name} is {each.outcome}: {each.detail}"
            for each in seen.reports
            if (each.name in seen.own_steps and each.outcome in _OPEN)
            # Where the desk does not trade, that is told already, and why.
            or (opened and each.name in LOOKS and each.outcome is Outcome.FAILED)
        ]
    return "; ".join(told)


def _partly(seen: OpeningSeen) -> str:
    """What is up where the desk was not opened as a whole, or does not trade for lack of it."""
    why = seen.traded.detail
    if not seen.only:
        return f"everything asked for is up, but the desk does not trade: {why}"
    verb = "is" if len(seen.only) == 1 else "are"
    told = f"{', '.join(seen.only)} {verb} up (only what was asked for)"
    return told if seen.left_out else f"{told}; the desk does not trade: {why}"
