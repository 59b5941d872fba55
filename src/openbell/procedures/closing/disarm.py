"""Closing, step 8: the dead-man's switches are disarmed, when nothing that could send an order is
left, and not armed again before the desk is opened.

Where orders are kept, they were disarmed before the closing began: a timer must not withdraw what a
person wants to rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from openbell.procedures.closing.context import Closing
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification


@dataclass(frozen=True)
class Disarm:
    venues: tuple[str, ...]

    def __str__(self) -> str:
        return f"disarm the dead-man's switches of {', '.join(self.venues)}"


@dataclass
class DisarmDeadMan:
    closing: Closing
    name: str = "disarm"
    title: str = "Disarm the dead-man's switches"
    timeout_s: float = 60.0
    on_failure: OnFailure = OnFailure.FORCE

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
