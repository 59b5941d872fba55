"""The dead-man's switch of one venue: what to do about it now.

Orders that rest without an engine that is well are withdrawn: by the venue's own timer, which is
refreshed while the engine is well and else runs out, or by the guard, once the engine was silent
for as long.

    mode   open   the engine's health counts
           hold   the desk is being closed: the closing's counts, for the engine is about to go. It lasts
                  only as long as a closing says so: one that was cut off is a silence like an engine's
           off    disarmed, and never armed again until the desk is opened

An engine that ends as it was told to says so: it is to be back soon, and until then its orders are meant
to rest. That is a lease, not for good: should it not be heard again within `back_within_s`, what rests is
withdrawn as that of one that fell silent. Orders that are to rest for longer are a closing's to keep (`off`).
One that an emergency stop has ended says nothing any more: where that stop verified zero nothing is left to
do. Pure: facts in, one act out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

REFRESH_SHARE = 0.2
"""Of the time-out: then a refresh is due, so that a quarter of it (what Kraken advises) never passes
between two."""
LATE_SHARE = 0.5
"""Of the time-out: a refresh later than this is an alert."""
FIRED_GRACE_S = 0.5
"""After its time-out a venue may take so long to cancel."""


LEFT_TO_RUN_OUT = "left to run out: that nothing of ours rests there is not proven"


class Mode(StrEnum):
    OPEN = "open"
    HOLD = "hold"
    OFF = "off"


class EngineIs(StrEnum):
    UNHEARD = "unheard"
    """None was heard since the desk was opened: nothing of it can rest."""
    WELL = "well"
    SILENT = "silent"
    LEFT = "left"
    """It ended as it was told to, and is to be back soon."""


class Act(StrEnum):
    NOTHING = "nothing"
    REFRESH = "refresh"
    DISARM = "disarm"
    CANCEL = "cancel"
    """Cancel everything of the desk at this venue and prove it; after a venue's own timer has run
    out, see that it did."""


Applies = Literal["venue", "guard", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadManFacts:
    applies: Applies
    mode: Mode
    engine: EngineIs
    engine_silent_s: float
    """Since the engine was last heard."""
    engine_away_s: float
    """Since the engine that left on purpose said so; 0 of any other."""
    back_within_s: float
    """So long the orders of one that left may rest without it; at least as long as `timeout_s`."""
    closing_well: bool
    """A closing goes on, by its controller's word of just now."""
    closing_silent_s: float
    """Since that word was heard last."""
    timeout_s: float
    armed: bool | None
    """Whether the venue's timer runs; None: an earlier guard may have started it."""
    since_refresh_s: float | None
    """Since a refresh that the venue took was sent; None: there was none."""
    cancelled: bool
    """This silence has been acted on, and it was proven."""
    stopped: bool = False
    """An emergency stop has ended the engine, and verified zero here."""
    left_to_run_out: bool = False
    """By a closing that could not prove that nothing of ours rests here."""

    @property
    def only_runs_out(self) -> bool:
        """The venue's own timer may run, and it alone is to act."""
        left = self.mode is Mode.OFF and self.left_to_run_out
        return left and self.applies == "venue" and self.armed is not False


@dataclass(frozen=True, slots=True)
class Decision:
    act: Act
    why: str = ""


def decide(facts: DeadManFacts) -> Decision:
    """What is to be done now."""
    if facts.applies == "none":
        return Decision(Act.NOTHING, "nothing is armed here: dead_man is off")
    if facts.mode is Mode.OFF:
        return _off(facts, "disarmed")
    if facts.mode is Mode.HOLD:
        return _closing(facts)
    match facts.engine:
        case EngineIs.UNHEARD:
            return Decision(Act.NOTHING, "no engine was heard yet")
        case EngineIs.LEFT:
            return _away(facts)
        case EngineIs.WELL:
            return _kept_up(facts)
    return _running_out(facts, "the engine", facts.engine_silent_s)


def what_becomes(facts: DeadManFacts) -> str:
    """Of what rests while the guard does nothing about it; goes on with a decision's `why`."""
    if facts.only_runs_out:
        after = f"{facts.timeout_s:g}s after it was refreshed last"
        return f"; the venue's own timer cancels it, {after}, and the guard does not see to it that it did"
    return ", so nobody cancels, however long that lasts"


def _off(facts: DeadManFacts, why: str) -> Decision:
    if facts.only_runs_out:
        return Decision(Act.NOTHING, LEFT_TO_RUN_OUT)
    disarm = facts.applies == "venue" and facts.armed is not False
    return Decision(Act.DISARM if disarm else Act.NOTHING, why)


def _kept_up(facts: DeadManFacts) -> Decision:
    if facts.applies == "guard":
        return Decision(Act.NOTHING)
    since = facts.since_refresh_s
    due = since is None or not facts.armed or since >= facts.timeout_s * REFRESH_SHARE
    return Decision(Act.REFRESH if due else Act.NOTHING)


def _away(facts: DeadManFacts) -> Decision:
    """A timer that runs is kept up for so long that it runs out with the lease, or up to REFRESH_SHARE of
    it later: it is refreshed once more when just one time-out is left, for then the venue acts though guard
    and machine are gone. Nothing is armed anew."""
    if facts.cancelled:
        return Decision(
            Act.NOTHING,
            "the engine that was stopped on purpose is not back; what rested was cancelled",
        )
    since, lease_s = facts.since_refresh_s, facts.back_within_s
    if facts.applies == "venue" and facts.armed and since is not None:
        over = since >= facts.timeout_s + FIRED_GRACE_S
    else:
        over = facts.engine_away_s >= lease_s
    if over:
        why = f"the engine was stopped on purpose, and was not back within {lease_s:g}s"
        if facts.engine_away_s < lease_s:
            why = (
                f"the engine was stopped on purpose, to be back within {lease_s:g}s, and before that "
                f"the venue's timer of {facts.timeout_s:g}s could not be refreshed and ran out"
            )
        return Decision(Act.CANCEL, why)
    due = facts.applies == "venue" and facts.armed is not False and _refresh_is_due_away(facts)
    return Decision(
        Act.REFRESH if due else Act.NOTHING,
        f"the engine was stopped on purpose: its orders rest for {lease_s:g}s, or until it is back",
    )


def _refresh_is_due_away(facts: DeadManFacts) -> bool:
    since, away_s = facts.since_refresh_s, facts.engine_away_s
    last_s = facts.back_within_s - facts.timeout_s
    """Of the lease, when the timer is started last."""
    if away_s < last_s:
        return since is None or since >= facts.timeout_s * REFRESH_SHARE
    was_last = since is not None and away_s - since >= last_s
    return not was_last and away_s < last_s + facts.timeout_s * REFRESH_SHARE


def _closing(facts: DeadManFacts) -> Decision:
    """Only what runs is kept up: a desk that is being closed arms nothing anew. Where nobody closes it
    any more, what rests is to go whatever its engine says: an engine that left on the closing's word has
    left orders that were to be withdrawn."""
    if not facts.closing_well:
        return _running_out(facts, "the closing of the desk", facts.closing_silent_s)
    if facts.applies == "venue" and facts.armed:
        return _kept_up(facts)
    return Decision(Act.NOTHING, "the desk is being closed")


def _running_out(facts: DeadManFacts, who: str, silent_s: float) -> Decision:
    if facts.stopped:
        return Decision(Act.NOTHING, "an emergency stop ended the engine, and verified zero here")
    if facts.cancelled:
        return Decision(Act.NOTHING, f"{who} is silent; what rested was cancelled")
    since = facts.since_refresh_s
    if facts.applies == "venue" and facts.armed and since is not None:
        over = since >= facts.timeout_s + FIRED_GRACE_S
    else:
        over = silent_s >= facts.timeout_s
    if over:
        return Decision(Act.CANCEL, f"{who} was silent for {facts.timeout_s:g}s")
    return Decision(Act.NOTHING, f"{who} is silent: the timer runs out")


def is_late(facts: DeadManFacts) -> bool:
    """A refresh that should have been made was not."""
    since = facts.since_refresh_s
    wanted = (facts.mode is Mode.OPEN and facts.engine is EngineIs.WELL) or (
        facts.mode is Mode.HOLD and facts.closing_well
    )
    return (
        facts.applies == "venue"
        and wanted
        and facts.armed is True
        and since is not None
        and since > facts.timeout_s * LATE_SHARE
    )


def within(timeout_s: float, least_s: float, most_s: float) -> float:
    """The time-out that a venue takes, nearest to what is wanted."""
    return min(max(timeout_s, least_s), most_s)
