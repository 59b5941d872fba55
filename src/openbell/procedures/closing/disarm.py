"""Closing, after step 11: the dead-man's switches are disarmed, when nothing that could send an order is
left, and not armed again before the desk is opened.

Where orders are kept, they were disarmed before the closing began: a timer must not withdraw what a
person wants to rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from openbell.procedures.closing.context import Closing
from openbell.procedures.declared import StepSpec
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification


@dataclass(frozen=True)
class Disarm:
    venues: tuple[str, ...]

    def __str__(self) -> str:
        return f"disarm the dead-man's switches of {', '.join(self.venues)}"


SPEC = StepSpec(
    name="disarm",
    title="Disarm the dead-man's switches",
    does="Has the guard switch every dead-man's timer off, once nothing that could send an order is left.",
    verified_by="The guard tells, by venue, whether the timer is off.",
    timeout_s=60.0,
    on_failure=OnFailure.FORCE,
    needed_because="a timer that is left armed fires at a closed desk, or at the next one",
    evidence="by venue, what is not known to be off",
    applies="the desk has a venue",
)


@dataclass
class DisarmDeadMan:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure

    async def observe(self) -> None:
        """Nothing to find out first: what is disarmed already stays so."""

    def plan(self, facts: None) -> Plan[Disarm]:
        closing = self.closing
        before = closing.outcomes.get("stop_services", Outcome.DONE)
        if before is Outcome.SKIPPED:
            return Plan(reason="they stay armed: the services are up", skipped=True)
        return Plan((Disarm(tuple(closing.desk.file.venues)),))

    async def act(self, plan: Plan[Disarm], say: Say) -> None:
        assert self.closing.guard is not None
        say("disarming the dead-man's switches")
        self.closing.disarmed = await self.closing.guard.disarm()

    async def verify(self, say: Say) -> Verification:
        told = self.closing.disarmed
        if told is None:
            return Verification(Outcome.UNKNOWN, "the guard was not reached")
        if told.get("disarmed") is True:
            return Verification(Outcome.DONE, "disarmed, and not armed again", {"disarmed": True})
        unknown = told.get("unknown")
        names = ", ".join(map(str, unknown)) if isinstance(unknown, list) else "?"
        why = f" ({told['why']})" if told.get("why") else ""
        return Verification(
            Outcome.UNKNOWN,
            f"not known to be disarmed: {names}{why}; what runs there may still cancel orders",
            {"disarmed": False, "unknown": unknown},
        )
