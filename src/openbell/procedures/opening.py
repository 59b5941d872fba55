"""Opening the desk: its services, phase by phase, each when what it depends on is ready.

Each service is started the moment what it waits for is ready, not in waves: the opening takes as long
as the longest chain of dependencies. So a phase may begin services of the next ones while it brings up
its own, where nothing stands between them (`ahead`), and the guard's step those that send no orders;
each phase is still shown, waited for and verified by itself. A service that fails takes only its
dependents with it. Nothing is undone: what runs is left running, and opening again does what is left
to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from openbell.config.phases import PHASES, can_send
from openbell.config.services import Phase
from openbell.domain.graph import start_order, with_dependencies
from openbell.procedures.declared import StepSpec
from openbell.procedures.ports import Facts, Services
from openbell.procedures.start_remedies import start_remedy
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.procedures.wording import count_of
from openbell.runtime.spec import StartResult

if TYPE_CHECKING:
    from openbell.config.services import Service


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
    def remedy(self) -> str:
        """What would mend it; empty where nothing is wrong with it itself."""
        failed = self.outcome is Started.FAILED
        return start_remedy(self.name, self.reason, self.log_tail) if failed else ""

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
            "remedy": self.remedy,
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


def only_wanted(
    wait_for: Mapping[str, tuple[str, ...]], wanted: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """What each of these waits for among them: what is not started is not waited for."""
    return {name: tuple(each for each in wait_for[name] if each in wanted) for name in wanted}


def sending_nothing(
    services: Mapping[str, Service],
    phases: Mapping[str, Phase],
    wait_for: Mapping[str, tuple[str, ...]],
    wanted: Iterable[str],
) -> frozenset[str]:
    """Those of `wanted`, which is in start order, that have nothing to send an order with, and wait
    for such alone: they may be started before there is a guard."""
    found: set[str] = set()
    for name in wanted:
        quiet = not can_send(services[name], phases[name])
        if quiet and found.issuperset(wait_for[name]):
            found.add(name)
    return frozenset(found)


ServiceNews = Callable[[ServiceOutcome], None]


def _spec(phase: Phase, name: str, title: str, what: str) -> StepSpec:
    return StepSpec(
        name=name,
        title=title,
        does=f"Starts {what}, each the moment what it depends on is ready; one that fails takes only "
        "its dependents with it.",
        verified_by="Every service of the phase that is wanted is seen to be ready.",
        timeout_s=0.0,
        timeout_note="the longest chain of readiness time-outs, and ten seconds",
        on_failure=OnFailure.WARN,
        needed_because="it is the opening",
        evidence="by service: outcome, seconds until ready, memory, why not",
        applies=f"a service that is wanted is of the phase {phase}",
    )


SPECS: dict[Phase, StepSpec] = {
    "infrastructure": _spec(
        "infrastructure",
        "start_infrastructure",
        "Start the infrastructure",
        "stores, brokers and simulated venues: what the others need",
    ),
    "core": _spec(
        "core",
        "start_core",
        "Start the core",
        "limits and breakers, the engine and its standby, market data",
    ),
    "services": _spec(
        "services",
        "start_services",
        "Start the services",
        "strategies, agents and every service that is of no other phase",
    ),
    "console": _spec(
        "console",
        "start_console",
        "Start the console",
        "consoles and gateways: what people look at",
    ),
}
PHASE_STEPS = frozenset(spec.name for spec in SPECS.values())


@dataclass
class Starting:
    """The starts of one opening, which its phases share."""

    services: Services
    wait_for: Mapping[str, tuple[str, ...]]
    """By service: what must be ready before it is started, of what is wanted."""
    tell: ServiceNews
    """Hears of each service that failed or was not started."""
    outcomes: dict[str, ServiceOutcome] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[bool]] = field(default_factory=dict)

    def is_up_already(self, name: str) -> None:
        if name not in self._tasks:
            self.outcomes[name] = ServiceOutcome(name, Started.ALREADY_RUNNING)

    def begin_what_is_down(self, names: Iterable[str]) -> None:
        for name in names:
            if Facts({name: self.services.view(name)}).is_up(name):
                self.is_up_already(name)
            else:
                self.begin((name,))

    def begin(self, names: Iterable[str]) -> None:
        """Begins them, in start order; what was begun is under way or done."""
        for name in names:
            if name not in self._tasks and name not in self.outcomes:
                self._tasks[name] = asyncio.create_task(self._start(name), name=f"start {name}")

    async def ended(self, names: Collection[str]) -> None:
        """Returns when each of these is ready, or it is known why not. Where it is not waited for
        any longer, they are not brought up any further. Raises what a start raised."""
        tasks = [self._tasks[name] for name in names if name in self._tasks]
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            await _cancelled(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def seen(self, names: Collection[str]) -> None:
        """Returns when the starts of these have told how they ended: what is seen to be ready may
        be a moment ahead of that."""
        if tasks := [self._tasks[name] for name in names if name in self._tasks]:
            await asyncio.wait(tasks)

    async def end(self) -> None:
        """Nothing is brought up any further; does nothing where all has ended."""
        await _cancelled(self._tasks.values())

    async def _start(self, name: str) -> bool:
        waiting = [each for each in self.wait_for[name] if each in self._tasks]
        if waiting:
            await asyncio.wait([self._tasks[each] for each in waiting])
        missing = [each for each in self.wait_for[name] if not self._is_up(each)]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            reason = f"not started because {', '.join(missing)} {verb} not ready"
            outcome = ServiceOutcome(name, Started.NOT_STARTED, reason=reason)
        else:
            outcome = _outcome(await self.services.start(name))
        self.outcomes[name] = outcome
        if not outcome.is_up:
            self.tell(outcome)
        return outcome.is_up

    def _is_up(self, name: str) -> bool:
        return name in self.outcomes and self.outcomes[name].is_up


async def _cancelled(tasks: Iterable[asyncio.Task[bool]]) -> None:
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)


@dataclass
class StartServices:
    """Step: every wanted service of a phase is ready."""

    starting: Starting
    wanted: tuple[str, ...]
    """Of this phase, in start order."""
    timeout_s: float
    phase: Phase = "services"
    ahead: tuple[str, ...] = ()
    """Of later phases: what may be started meanwhile, since nothing stands between this step and
    theirs."""
    on_failure: OnFailure = OnFailure.WARN
    """What does not depend on the failed service may go on, trading included if it is not critical."""

    @property
    def name(self) -> str:
        return SPECS[self.phase].name

    @property
    def title(self) -> str:
        return SPECS[self.phase].title

    def _facts(self, names: Iterable[str]) -> Facts:
        return Facts({name: self.starting.services.view(name) for name in names})

    async def observe(self) -> Facts:
        facts = self._facts((*self.wanted, *self.ahead))
        for name in facts.views:
            if facts.is_up(name):
                self.starting.is_up_already(name)
        return facts

    def plan(self, facts: Facts) -> Plan[StartService]:
        return plan_services(facts, self.wanted, self.starting.wait_for)

    async def act(self, plan: Plan[StartService], say: Say) -> None:
        """Says nothing: every change of a service's state is an event of the run by itself."""
        own = [action.name for action in plan.actions]
        self.starting.begin((*own, *self.ahead))
        await self.starting.ended(own)

    async def verify(self, say: Say) -> Verification:
        await self.starting.seen([name for name in self.wanted if self._facts((name,)).is_up(name)])
        facts, outcomes = self._facts(self.wanted), self.starting.outcomes
        for name in self.wanted:
            if name not in outcomes or (outcomes[name].is_up and not facts.is_up(name)):
                reason = facts.views[name].reason or f"is {facts.state(name)}"
                outcomes[name] = ServiceOutcome(name, Started.FAILED, reason=reason)
        rows = [
            {**outcomes[name].as_dict(), "memory_bytes": facts.views[name].memory_bytes}
            for name in self.wanted
        ]
        evidence = {"phase": self.phase, "services": rows}
        if not (told := trouble(outcomes[name] for name in self.wanted)):
            ready = count_of(len(self.wanted), "service is", "services are")
            return Verification(Outcome.DONE, f"{ready} ready", evidence)
        return Verification(Outcome.FAILED, told, evidence)


def trouble(outcomes: Iterable[ServiceOutcome]) -> str:
    """Which of these are not up, and why: those that failed, or else those that were not started
    for it. Empty: all are up."""
    missing = [outcome for outcome in outcomes if not outcome.is_up]
    failed = [each for each in missing if each.outcome is Started.FAILED]
    return "; ".join(f"{each.name}: {each.reason}" for each in failed or missing)


def phase_steps(
    starting: Starting,
    wanted: Sequence[str],
    phases: Mapping[str, Phase],
    ready_timeout_s: Mapping[str, float],
) -> list[StartServices]:
    """A step for each phase of which something is wanted. `wanted` is in start order."""
    steps = []
    for phase in PHASES:
        own = tuple(name for name in wanted if phases[name] == phase)
        if own:
            budget = start_budget_s(own, starting.wait_for, ready_timeout_s)
            steps.append(StartServices(starting, own, budget, phase))
    return steps


class RunsAhead(Protocol):
    """A step that may begin services of the steps after it."""

    ahead: tuple[str, ...]
    """What it may begin."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """What it starts itself."""


def let_run_ahead(steps: Sequence[tuple[RunsAhead | None, bool, bool]]) -> None:
    """Lets each phase begin the services of the phases right after it. `steps` are all those of the
    run, each as one that can run ahead (None: it cannot), whether something has to be decided before
    it, and whether it can end the run: what stands behind any of that is not begun before its turn."""
    ahead: tuple[str, ...] = ()
    open_behind = False
    for step, gated, can_end in reversed(steps):
        if step is None:
            ahead, open_behind = (), False
            continue
        step.ahead = ahead if open_behind and not can_end else ()
        ahead = (*step.wanted, *step.ahead)
        open_behind = not gated


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
    """Longest time these may take: the chain of them whose readiness time-outs sum up highest, and
    ten seconds for what is not waiting. `wanted` is in start order; what one of them waits for and is
    not among them takes no time any more."""
    longest: dict[str, float] = {}
    for name in wanted:
        before = max((longest[each] for each in depends_on[name] if each in longest), default=0.0)
        longest[name] = before + ready_timeout_s[name]
    return max(longest.values(), default=0.0) + 10.0
