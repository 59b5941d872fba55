"""Opening, step 2: the guard, before anything that could send an order.

What sends none is begun meanwhile (`ahead`): a guard takes as long to load as a service does.
"""

from __future__ import annotations

from dataclasses import dataclass

from openbell.procedures.declared import StepSpec
from openbell.procedures.opening import Starting
from openbell.procedures.ports import GuardPort
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification


@dataclass(frozen=True)
class StartTheGuard:
    def __str__(self) -> str:
        return "start the guard; it connects to the venues by itself"


SPEC = StepSpec(
    name="start_guard",
    title="Start the guard",
    does="Starts the guard, which connects to the venues by itself. Services that have nothing to send an "
    "order with are begun meanwhile.",
    verified_by="The guard answers, and its switches follow the engine.",
    timeout_s=30.0,
    on_failure=OnFailure.FORCE,
    needed_because="a desk without its guard is stopped by hand alone",
    applies="the desk has a venue",
)


@dataclass
class StartGuard:
    guard: GuardPort
    starting: Starting
    sending_nothing: frozenset[str] = frozenset()
    """Services that may be up before the guard is."""
    ahead: tuple[str, ...] = ()
    """Of the phases after this step, as nothing else stands between them."""
    wanted: tuple[str, ...] = ()
    """None: what it starts is no service."""
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure

    async def observe(self) -> str:
        view = self.guard.view()
        return "" if view is None else str(view["state"])

    def plan(self, facts: str) -> Plan[StartTheGuard]:
        if facts == "running":
            return Plan(reason="the guard runs")
        return Plan((StartTheGuard(),))

    async def act(self, plan: Plan[StartTheGuard], say: Say) -> None:
        """The guard itself is started by its keeper, at the question whether it is up."""
        say("starting the guard")
        self.starting.begin_what_is_down(
            name for name in self.ahead if name in self.sending_nothing
        )

    async def verify(self, say: Say) -> Verification:
        """Also of one that runs: from now on its switches follow the engine."""
        why_not = await self.guard.opened()
        if why_not:
            return Verification(Outcome.FAILED, f"the guard is not up: {why_not}")
        view = self.guard.view() or {}
        return Verification(Outcome.DONE, f"the guard watches (pid {view.get('pid')})")
