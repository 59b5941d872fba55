"""Opening, step 1: the guard, before anything that could send an order."""

from __future__ import annotations

from dataclasses import dataclass

from openbell.procedures.ports import GuardPort
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification


@dataclass(frozen=True)
class StartTheGuard:
    def __str__(self) -> str:
        return "start the guard; it connects to the venues by itself"


@dataclass
class StartGuard:
    guard: GuardPort
    name: str = "start_guard"
    title: str = "Start the guard"
    timeout_s: float = 30.0
    on_failure: OnFailure = OnFailure.FORCE
    why_not: str = ""

    async def observe(self) -> str:
        view = self.guard.view()
        return "" if view is None else str(view["state"])

    def plan(self, facts: str) -> Plan[StartTheGuard]:
        if facts == "running":
            return Plan(reason="the guard runs")
        return Plan((StartTheGuard(),))

    async def act(self, plan: Plan[StartTheGuard], say: Say) -> None:
        say("starting the guard")

    async def verify(self, say: Say) -> Verification:
        """Also of one that runs: from now on its switches follow the engine."""
        why_not = await self.guard.opened()
        if why_not:
            return Verification(Outcome.FAILED, f"the guard is not up: {why_not}")
        view = self.guard.view() or {}
        return Verification(Outcome.DONE, f"the guard watches (pid {view.get('pid')})")
