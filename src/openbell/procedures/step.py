"""What a step of a procedure is: observe → plan → act → verify.

- `observe` gathers the facts. It changes nothing.
- `plan` is pure: facts in, actions out. Actions are computed from what is observed, so running a
  step again does what is left to do, and `--plan` shows what the same function would do now.
- `act` does what the plan says, reporting progress.
- `verify` asks again, independently of what `act` believes to have done. Only its word counts:
  a step whose `act` raised or ran out of time is still verified.

An action's text (`str(action)`) is what a person sees in a plan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

Facts = TypeVar("Facts")
Action = TypeVar("Action")


class Outcome(StrEnum):
    DONE = "done"
    """Verified."""
    FAILED = "failed"
    """Verified not to be so."""
    UNKNOWN = "unknown"
    """Could not be verified: nobody may take it for done."""
    SKIPPED = "skipped"
    """Did not apply, or was not reached."""


class OnFailure(StrEnum):
    """What becomes of the run when a step's outcome is failed or unknown."""

    ABORT = "abort"
    """The run ends here; what runs is left running."""
    WARN = "warn"
    """The run goes on, and is not verified."""
    ASK = "ask"
    """A person decides; without an answer, as ABORT."""
    FORCE = "force"
    """The run goes on whatever happened: the step is itself the last resort, or the desk file says
    beforehand that nobody is to be waited for."""


@dataclass(frozen=True)
class Plan(Generic[Action]):
    """What a step would do. No actions: nothing to do, and `reason` says why."""

    actions: tuple[Action, ...] = ()
    reason: str = ""
    skipped: bool = False
    """The step does not apply; it is not verified either."""
    details: tuple[Mapping[str, object], ...] = ()
    """What the actions are about, one by one: JSON-able, with `told`, a line for people."""

    @property
    def in_vain(self) -> bool:
        """What there is to do cannot be done, as things are: its actions say why (`in_vain`)."""
        return bool(self.actions) and all(getattr(each, "in_vain", False) for each in self.actions)

    @property
    def does_something(self) -> bool:
        """Whether carrying it out has an effect."""
        return bool(self.actions) and not self.skipped and not self.in_vain

    def lines(self) -> tuple[str, ...]:
        """One line for each action, for people."""
        return tuple(str(action) for action in self.actions)


@dataclass(frozen=True)
class Verification:
    """What was found when it was asked again."""

    outcome: Outcome
    detail: str = ""
    """One sentence for people."""
    evidence: Mapping[str, object] = field(default_factory=dict)
    """JSON-able facts behind the outcome, kept in the run's journal."""
    files: tuple[str, ...] = ()
    """Evidence files; the record keeps the digest of each."""

    @property
    def settled(self) -> bool:
        """Nothing is left open: done, or it did not apply."""
        return self.outcome in (Outcome.DONE, Outcome.SKIPPED)


STEP_ENDS_AT_S: ContextVar[float] = ContextVar("STEP_ENDS_AT_S")
"""On the event loop's clock: when the time of the step that is carried out is over."""


def time_left_s(otherwise: float) -> float:
    """What is left of the step's time, for one that divides it among its attempts; `otherwise` where
    nobody has set any."""
    ends_at_s = STEP_ENDS_AT_S.get(None)
    if ends_at_s is None:
        return otherwise
    return max(0.0, ends_at_s - asyncio.get_running_loop().time())


Say = Callable[..., None]
"""`say(message, count=None, target=None)`: progress of the step, counts towards a target."""


class Step(Protocol[Facts, Action]):
    """One step. Instances belong to one run and may keep what they learned between the phases."""

    @property
    def name(self) -> str:
        """Stable, `snake_case`: it is in journals, events and the closing statement."""
        ...

    @property
    def title(self) -> str:
        """For people, in the imperative: `Cancel open orders`."""
        ...

    @property
    def timeout_s(self) -> float:
        """Of observe, plan and act together. Verification has its own time."""
        ...

    @property
    def on_failure(self) -> OnFailure: ...

    async def observe(self) -> Facts: ...

    def plan(self, facts: Facts) -> Plan[Action]: ...

    async def act(self, plan: Plan[Action], say: Say) -> None: ...

    async def verify(self, say: Say) -> Verification: ...


@dataclass(frozen=True)
class StepReport:
    """How a step ended."""

    name: str
    outcome: Outcome
    seconds: float
    detail: str
    evidence: Mapping[str, object] = field(default_factory=dict)
    insisted: bool = False
    """It is not settled, and the run goes on all the same, because the desk file (`force`) or a person
    said so: what waits for it need not."""
    in_vain: bool = False
    """What there was to do could not be done, as things were, so nobody was asked for it."""

    def as_dict(self) -> dict[str, object]:
        """`{"name", "outcome", "seconds", "detail"}`"""
        return {
            "name": self.name,
            "outcome": str(self.outcome),
            "seconds": round(self.seconds, 3),
            "detail": self.detail,
        }
