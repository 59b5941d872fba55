"""Closing, step 1: people are told that the desk is being closed, by the channels of the desk file.

Who could not be told is named in the closing statement. It says nothing about whether the desk is
closed, so it keeps no desk open and makes no proven closing unproven.

Telling is an effect of the run, one for each event and channel: a closing that is gone on with tells
nobody again who was told of the same, and tells those of whom that is not known. To hear it twice
harms nobody; not to hear it may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from openbell.procedures.closing.context import Closing
from openbell.procedures.declared import StepSpec
from openbell.procedures.ports import EarlierEffect
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


def _effect(event: str, channel: str) -> str:
    return f"tell {event}: {channel}"


async def told_earlier(closing: Closing, event: str) -> tuple[str, ...]:
    """The channels that were told of this before the closing was cut off."""
    names = closing.channels.for_event(event)
    known = [await closing.effects.earlier(_effect(event, name)) for name in names]
    done = EarlierEffect.DONE
    return tuple(name for name, each in zip(names, known, strict=True) if each is done)


async def tell(closing: Closing, channels: Iterable[str], notice: Notice) -> tuple[Told, ...]:
    """All of them at the same time. What is not known to be told stays in doubt in the journal."""

    async def tell_one(name: str) -> Told:
        effect = _effect(notice.event, name)
        await closing.effects.intend(effect, f"tell {name}: {notice.event}")
        (told,) = await closing.channels.tell((name,), notice)
        if told.outcome != "unknown":
            done = EarlierEffect.DONE if told.outcome == "told" else EarlierEffect.FAILED
            await closing.effects.settle(effect, done)
        return told

    return tuple(await asyncio.gather(*map(tell_one, channels)))


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
        return AnnounceFacts(closing.channels.for_event(EVENT), await told_earlier(closing, EVENT))

    def plan(self, facts: AnnounceFacts) -> Plan[Tell]:
        return plan_tell(facts, "that the desk is being closed")

    async def act(self, plan: Plan[Tell], say: Say) -> None:
        closing = self.closing
        names = tuple(action.channel for action in plan.actions)
        why = f": {closing.wishes.reason}" if closing.wishes.reason else ""
        text = (
            f"{closing.desk.file.desk.name}: SHUTTING DOWN, {closing.run} by {closing.actor}{why}"
        )
        self.told += await tell(closing, names, Notice(EVENT, text, closing.run))
        say(f"told {', '.join(str(each) for each in self.told)}")

    async def verify(self, say: Say) -> Verification:
        facts = await self.observe()
        return judge_told(facts.channels, facts.told, self.told)
