"""What the steps of one rolling restart share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from openbell.procedures.rolling.plan import RollingPlan, Way
from openbell.procedures.rolling.ports import Condition, Desk, EnginePair, RollingServices
from openbell.procedures.wording import seconds_text

_ASKED_AGAIN_S = 5.0
_ASK_EVERY_S = 0.1


@dataclass(frozen=True)
class Times:
    """Seconds."""

    watch_for: float
    """A restarted service must stay well for so long before the next one's turn."""
    trading_within: float
    """Within which it must be well, and the desk trade as before, after it is ready again."""


@dataclass(frozen=True)
class Took:
    """For how long a service's turn let something stand still."""

    way: Way
    paused_s: float
    """In place: the service was away. Standby: nobody could have taken over. Hand-over: at most so
    long nobody traded. Surge: 0."""
    trading_after_s: float | None = None
    """In place: from when it left until the desk was seen to trade again; None: it is not meant to."""

    def __str__(self) -> str:
        """`away for 1.2 s, the desk seen to trade after 1.4 s`"""
        paused = seconds_text(self.paused_s)
        match self.way:
            case Way.SURGE:
                return "replaced without a pause"
            case Way.STANDBY:
                return f"{paused} without a standby"
            case Way.HAND_OVER:
                return f"handed over in {paused}"
            case Way.IN_PLACE:
                after = self.trading_after_s
                seen = "" if after is None else seconds_text(after)
                return f"away for {paused}" + (
                    f", the desk seen to trade after {seen}" if seen else ""
                )


@dataclass(frozen=True)
class Restarted:
    """One service's turn, done."""

    service: str
    pid_before: int | None
    pid: int | None
    took: Took

    def as_dict(self) -> dict[str, object]:
        after = self.took.trading_after_s
        return {
            "service": self.service,
            "way": str(self.took.way),
            "pid_before": self.pid_before,
            "pid": self.pid,
            "paused_s": round(self.took.paused_s, 3),
            "trading_after_s": None if after is None else round(after, 3),
            "took": str(self.took),
        }


@dataclass(frozen=True)
class FailedTurn:
    service: str
    why: str
    log_tail: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {"service": self.service, "why": self.why, "log_tail": list(self.log_tail)}


@dataclass
class Rolling:
    """One rolling restart of one desk."""

    plan: RollingPlan
    services: RollingServices
    desk: Desk
    pair: EnginePair
    since_ns: int
    """Wall clock, when the run began: a service that started since has had its turn, though the
    controller that gave it died."""
    passed: frozenset[str]
    """Services with which the desk was seen to trade before an earlier controller died in a later turn:
    that it does not trade now says nothing of them."""
    times: Times
    timeouts_s: Mapping[str, float]
    """What stopping and starting each service may take together."""
    hand_back_to: str = ""
    """The engine that is to trade at the end; empty: whichever does."""
    last: Mapping[str, Took] = field(default_factory=dict)
    """Of each service's last rolling restart."""
    ended: str = ""
    """Who or what ended it before its time."""
    restarted: list[Restarted] = field(default_factory=list)
    earlier: list[str] = field(default_factory=list)
    """Services that had their turn before an earlier controller died."""
    failed: FailedTurn | None = None

    async def verified_condition(self) -> Condition:
        """The desk's condition for a verdict: one answer that came late does not end a run, so it is
        asked for a few seconds before it counts as not as it should be."""
        until = time.monotonic() + _ASKED_AGAIN_S
        while True:
            condition = await self.desk.condition()
            if condition.is_as_meant or time.monotonic() > until or self.desk.ended_by():
                return condition
            await asyncio.sleep(_ASK_EVERY_S)

    @property
    def had_its_turn(self) -> frozenset[str]:
        """Services that were restarted, or tried to be."""
        tried = {each.service for each in self.restarted}
        return frozenset({*tried, *self.earlier, *([self.failed.service] if self.failed else ())})
