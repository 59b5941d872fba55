"""Closing, step 2: what is deployed and configured stays as it is until the desk is closed.

`openbell up`, `reload` and rolling restarts respect the lock, also after a controller was killed,
until the closing is over, proven or not, or cancelled (docs/decisions/lock-of-a-closing.md). What the
desk consists of at this moment goes into the record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from openbell.procedures.closing.context import Closing
from openbell.procedures.declared import StepSpec
from openbell.procedures.ports import facts_of
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.state.desk_lock import DeskLock, read_lock, set_lock


@dataclass(frozen=True)
class LockFacts:
    lock: DeskLock | None
    run: str
    """The closing's own."""


@dataclass(frozen=True)
class SetLock:
    instead_of: str = ""
    """The closing whose lock it is so far."""

    def __str__(self) -> str:
        was = f", so far by {self.instead_of}" if self.instead_of else ""
        return f"lock deployments and configuration{was}"


def plan_lock(facts: LockFacts) -> Plan[SetLock]:
    """A person's lock is left as it is: they release it. That of an earlier closing is taken over."""
    lock = facts.lock
    if lock is None:
        return Plan((SetLock(),))
    if lock.run in ("", facts.run):
        return Plan(reason=f"{lock} already")
    return Plan((SetLock(instead_of=lock.run),))


SPEC = StepSpec(
    name="lock",
    title="Lock deployments and configuration",
    does="Refuses openings, reloads and rolling restarts until the closing is over or cancelled, and "
    "writes down what the desk consists of.",
    verified_by="The lock's file is read back.",
    timeout_s=30.0,
    on_failure=OnFailure.WARN,
    evidence="the lock, the digest of desk.toml, each service's state and whether it has drifted",
)


@dataclass
class LockDesk:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure

    async def observe(self) -> LockFacts:
        lock = await asyncio.to_thread(read_lock, self.closing.layout.lock)
        return LockFacts(lock, self.closing.run)

    def plan(self, facts: LockFacts) -> Plan[SetLock]:
        return plan_lock(facts)

    async def act(self, plan: Plan[SetLock], say: Say) -> None:
        closing = self.closing
        reason = closing.wishes.reason or "closing"
        lock = DeskLock(reason, closing.actor, datetime.now(UTC), closing.run)
        await asyncio.to_thread(set_lock, closing.layout.lock, lock)
        closing.locked = True

    async def verify(self, say: Say) -> Verification:
        lock = (await self.observe()).lock
        evidence: dict[str, object] = {
            "lock": None if lock is None else str(lock),
            "desk_digest": self.closing.desk.digest,
            "services": self._services(),
        }
        if lock is None:
            return Verification(Outcome.FAILED, "nothing is locked", evidence)
        return Verification(Outcome.DONE, str(lock), evidence)

    def _services(self) -> Mapping[str, object]:
        return {
            view.name: {
                "state": str(view.state),
                "pid": view.pid,
                "drifted": list(view.drift) or view.drifted,
            }
            for view in facts_of(self.closing.services).views.values()
        }
