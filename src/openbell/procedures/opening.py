"""Opening the desk: its services in dependency order, then leave to trade.

Each service is started the moment its own dependencies are ready, not in waves: the opening takes
as long as the longest chain of dependencies. A service that fails takes only its dependents with
it. Nothing is undone: what runs is left running, and opening again does what is left to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from openbell.domain.graph import start_order, with_dependencies
from openbell.procedures.declared import StepSpec
from openbell.procedures.ports import Facts, Services, facts_of
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.procedures.wording import count_of
from openbell.runtime.spec import StartResult


class Started(StrEnum):
    """What became of one service in an opening."""

    READY = "ready"
    ALREADY_RUNNING = "already_running"
    FAILED = "failed"
    NOT_STARTED = "not_started"
    """A dependency is not ready."""


@dataclass(frozen=True)
class ServiceOutcome:
    name: str
    outcome: Started
    seconds: float = 0.0
    reason: str = ""
    log_tail: tuple[str, ...] = ()

    @property
    def is_up(self) -> bool:
        return self.outcome in (Started.READY, Started.ALREADY_RUNNING)

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "outcome": str(self.outcome),
            "seconds": round(self.seconds, 3),
            "reason": self.reason,
            "log_tail": list(self.log_tail),
        }


@dataclass(frozen=True)
class StartService:
    """Start it as soon as everything in `after` is ready."""

    name: str
    after: tuple[str, ...]

    def __str__(self) -> str:
        if not self.after:
            return f"start {self.name}"
        verb = "is" if len(self.after) == 1 else "are"
        return f"start {self.name} once {', '.join(self.after)} {verb} ready"


def plan_services(
    facts: Facts, wanted: tuple[str, ...], depends_on: Mapping[str, tuple[str, ...]]
) -> Plan[StartService]:
    """What to start. `wanted` is in start order and closed under `depends_on`.

    A service that is on its way up is started too: for the runtime that means waiting for it.
    """
    actions = tuple(
        StartService(name, tuple(depends_on[name])) for name in wanted if not facts.is_up(name)
    )
    return Plan(actions, "" if actions else "every service is up")


def services_to_open(
    depends_on: Mapping[str, tuple[str, ...]], only: Collection[str]
) -> tuple[str, ...]:
    """In start order: all services, or those of `only` with what they need."""
    chosen = with_dependencies(depends_on, only) if only else set(depends_on)
    return tuple(name for wave in start_order(depends_on) for name in wave if name in chosen)


ServiceNews = Callable[[ServiceOutcome], None]


SPEC = StepSpec(
    name="start_services",
    title="Start services in dependency order",
    does="Starts each service the moment what it depends on is ready; one that fails takes only its "
    "dependents with it.",
    verified_by="Every service that is wanted is seen to be ready.",
    timeout_s=0.0,
    timeout_note="the longest chain of readiness time-outs, and ten seconds",
    on_failure=OnFailure.WARN,
    needed_because="it is the opening",
    evidence="by service: outcome, seconds, why not",
)


@dataclass
class StartServices:
    """Step: every wanted service is ready."""

    services: Services
    wanted: tuple[str, ...]
    depends_on: Mapping[str, tuple[str, ...]]
    tell: ServiceNews
    """Hears of each service that failed or was not started."""
    timeout_s: float
    name: str = SPEC.name
    title: str = SPEC.title
    on_failure: OnFailure = SPEC.on_failure
    """What does not depend on the failed service may go on, trading included if it is not critical."""
    outcomes: dict[str, ServiceOutcome] = field(default_factory=dict)

    async def observe(self) -> Facts:
        facts = facts_of(self.services)
        self.outcomes = {
            name: ServiceOutcome(name, Started.ALREADY_RUNNING)
            for name in self.wanted
            if facts.is_up(name)
        }
        return facts

    def plan(self, facts: Facts) -> Plan[StartService]:
        return plan_services(facts, self.wanted, self.depends_on)

    async def act(self, plan: Plan[StartService], say: Say) -> None:
        """Says nothing: every change of a service's state is an event of the run by itself."""
        loop = asyncio.get_running_loop()
        ready: dict[str, asyncio.Future[bool]] = {
            name: loop.create_future() for name in self.wanted
        }
        for name in self.outcomes:
            ready[name].set_result(True)
        try:
            async with asyncio.TaskGroup() as group:
                for action in plan.actions:
                    group.create_task(self._start(action, ready), name=f"start {action.name}")
        finally:
            # Whoever still waits when time runs out must not wait for ever.
            for future in ready.values():
                future.cancel()

    async def _start(self, action: StartService, ready: Mapping[str, asyncio.Future[bool]]) -> None:
        for dependency in action.after:
            await asyncio.wait([ready[dependency]])
        missing = [name for name in action.after if not ready[name].result()]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            reason = f"not started because {', '.join(missing)} {verb} not ready"
            outcome = ServiceOutcome(action.name, Started.NOT_STARTED, reason=reason)
        else:
            outcome = _outcome(await self.services.start(action.name))
        self.outcomes[action.name] = outcome
        ready[action.name].set_result(outcome.is_up)
        if not outcome.is_up:
            self.tell(outcome)

    async def verify(self, say: Say) -> Verification:
        facts = facts_of(self.services)
        for name in self.wanted:
            if name not in self.outcomes or (self.outcomes[name].is_up and not facts.is_up(name)):
                reason = facts.views[name].reason or f"is {facts.state(name)}"
                self.outcomes[name] = ServiceOutcome(name, Started.FAILED, reason=reason)
        missing = [outcome for outcome in self.outcomes.values() if not outcome.is_up]
        evidence = {"services": [self.outcomes[name].as_dict() for name in self.wanted]}
        if not missing:
            told = count_of(len(self.wanted), "service is", "services are")
            return Verification(Outcome.DONE, f"{told} ready", evidence)
        failed = [each for each in missing if each.outcome is Started.FAILED]
        told = "; ".join(f"{each.name}: {each.reason}" for each in failed or missing)
        return Verification(Outcome.FAILED, told, evidence)


def _outcome(result: StartResult) -> ServiceOutcome:
    return ServiceOutcome(
        name=result.service,
        outcome=Started.READY if result.ready else Started.FAILED,
        seconds=result.seconds,
        reason=result.reason,
        log_tail=result.log_tail,
    )


def start_budget_s(
    wanted: tuple[str, ...],
    depends_on: Mapping[str, tuple[str, ...]],
    ready_timeout_s: Mapping[str, float],
) -> float:
    """Longest time an opening may take: the chain whose readiness time-outs sum up highest, and
    ten seconds for what is not waiting. `wanted` is in start order."""
    longest: dict[str, float] = {}
    for name in wanted:
        before = max((longest[each] for each in depends_on[name]), default=0.0)
        longest[name] = before + ready_timeout_s[name]
    return max(longest.values(), default=0.0) + 10.0
