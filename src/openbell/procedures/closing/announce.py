"""Closing, step 1: people are told that the desk is being closed, by the channels of the desk file.

Who could not be told is named in the closing statement. It says nothing about whether the desk is
closed, so it keeps no desk open and makes no proven closing unproven.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openbell.procedures.closing.context import Closing
from openbell.procedures.declared import StepSpec
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.watch.channels import Notice, Told

EVENT = "closing"
_CHANNELS_S = 30.0
"""More than one telling may take; the channels have times of their own."""


@dataclass(frozen=True)
class AnnounceFacts:
    channels: tuple[str, ...]
    """Those that are told of this."""
    told: tuple[str, ...]
    """Those of them that an attempt that was cut off has told."""


@dataclass(frozen=True)
class Tell:
    channel: str
    what: str

    def __str__(self) -> str:
        return f"tell {self.channel} {self.what}"


def plan_tell(facts: AnnounceFacts, what: str) -> Plan[Tell]:
    if not facts.channels:
        return Plan(reason="no channel of the desk file is told of this", skipped=True)
    left = tuple(Tell(name, what) for name in facts.channels if name not in facts.told)
    return Plan(left, "" if left else "told before the closing was cut off")


def told_earlier(evidence: Mapping[str, object]) -> tuple[str, ...]:
    """The channels that were told, by a step's evidence of an earlier attempt."""
    told = evidence.get("told")
    if not isinstance(told, Mapping):
        return ()
    return tuple(str(name) for name, outcome in told.items() if outcome == "told")


def judge_told(wanted: Sequence[str], earlier: Sequence[str], told: Sequence[Told]) -> Verification:
    """`unknown` where some channel did not answer, and none is known to have failed."""
    outcomes = {**dict.fromkeys(earlier, "told"), **{each.channel: each.outcome for each in told}}
    whys = {each.channel: each.why for each in told}
    evidence: dict[str, object] = {
        "told": {name: outcomes.get(name, "unknown") for name in wanted},
        "why": {name: why for name, why in whys.items() if why},
    }
    missed = [
        f"{name}: {whys.get(name) or 'not known'}"
        for name in wanted
        if outcomes.get(name) != "told"
    ]
    if not missed:
        return Verification(Outcome.DONE, f"told {', '.join(wanted)}", evidence)
    failed = any(outcomes.get(name) == "failed" for name in wanted)
    outcome = Outcome.FAILED if failed else Outcome.UNKNOWN
    return Verification(outcome, f"not known to be told: {'; '.join(missed)}", evidence)


SPEC = StepSpec(
    name="announce",
    title="Announce the closing",
    does="Tells the channels of the desk file that the desk is being closed, by whom and why.",
    verified_by="Each channel's own answer: a 2xx status of a web hook, exit status 0 of a command.",
    timeout_s=_CHANNELS_S,
    on_failure=OnFailure.WARN,
    evidence="what came of each channel",
    applies="the desk file has a channel for it",
)


@dataclass
class Announce:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure
    told: list[Told] = field(default_factory=list)

    async def observe(self) -> AnnounceFacts:
        closing = self.closing
        earlier = closing.earlier.get(self.name)
        return AnnounceFacts(
            closing.channels.for_event(EVENT),
            () if earlier is None else told_earlier(earlier.evidence),
        )

    def plan(self, facts: AnnounceFacts) -> Plan[Tell]:
        return plan_tell(facts, "that the desk is being closed")

    async def act(self, plan: Plan[Tell], say: Say) -> None:
        closing = self.closing
        names = tuple(action.channel for action in plan.actions)
        why = f": {closing.wishes.reason}" if closing.wishes.reason else ""
        text = (
            f"{closing.desk.file.desk.name}: SHUTTING DOWN, {closing.run} by {closing.actor}{why}"
        )
        self.told += await closing.channels.tell(names, Notice(EVENT, text, closing.run))
        say(f"told {', '.join(str(each) for each in self.told)}")

    async def verify(self, say: Say) -> Verification:
        facts = await self.observe()
        return judge_told(facts.channels, facts.told, self.told)
