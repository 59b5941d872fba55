"""Closing, after step 11: simulated venues stop, last of all, once their last word is written down."""

from __future__ import annotations

from dataclasses import dataclass, field

from openbell.procedures.closing.connections import links_now
from openbell.procedures.closing.context import Closing
from openbell.procedures.closing.stopping import (
    StopFacts,
    StopWave,
    killed_note,
    stop_evidence,
    stop_facts,
    stop_wave,
    waves_to_stop,
)
from openbell.procedures.declared import StepSpec
from openbell.procedures.ports import facts_of
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.runtime.spec import StopResult

SPEC = StepSpec(
    name="stop_venues",
    title="Stop simulated venues",
    does="Stops the simulated venues, once their last word is written down.",
    verified_by="The processes are seen to be gone.",
    timeout_s=60.0,
    on_failure=OnFailure.FORCE,
    needed_because="a closed desk leaves no process",
    evidence="every rung of every ladder",
)


@dataclass
class StopVenues:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure
    results: dict[str, StopResult] = field(default_factory=dict)

    async def observe(self) -> StopFacts:
        return stop_facts(self.closing)

    def plan(self, facts: StopFacts) -> Plan[StopWave]:
        closing = self.closing
        if not closing.voices.roles.venues:
            return Plan(reason="the desk has no simulated venue", skipped=True)
        before = closing.outcomes.get("stop_services", Outcome.DONE)
        if before is not Outcome.DONE and not closing.wishes.force:
            return Plan(
                reason=f"they stay up, because stop_services is {before}: they know what remains",
                skipped=True,
            )
        waves = waves_to_stop(facts, closing.voices.roles.venues)
        return Plan(tuple(waves), "" if waves else "they are stopped")

    async def act(self, plan: Plan[StopWave], say: Say) -> None:
        for wave in plan.actions:
            self.results |= await stop_wave(self.closing, wave.names, say)

    async def verify(self, say: Say) -> Verification:
        facts = facts_of(self.closing.services)
        up = [name for name in self.closing.voices.roles.venues if facts.state(name).is_running]
        if self.closing.connections is not None:
            # What is left there was asked before; who is connected has changed with these processes.
            self.closing.connections = links_now(
                self.closing.desk.file, facts, self.closing.connections
            )
        evidence: dict[str, object] = {"services": stop_evidence(self.results)}
        if up:
            return Verification(Outcome.FAILED, f"still running: {', '.join(up)}", evidence)
        return Verification(Outcome.DONE, f"stopped{killed_note(self.results)}", evidence)
