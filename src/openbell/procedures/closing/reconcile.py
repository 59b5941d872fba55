"""Closing, step 5: our books and the venue's say the same."""

from __future__ import annotations

from dataclasses import dataclass

from openbell.procedures.closing.context import Closing
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.procedures.wording import count_of
from openbell.watch.service_client import Answer


@dataclass(frozen=True)
class Compare:
    def __str__(self) -> str:
        return "compare orders and positions in the books with the venue's"


def judge_reconciliation(answer: Answer) -> Verification:
    """From the engine's answer to `POST /v1/reconcile`."""
    if not answer.known:
        return Verification(Outcome.UNKNOWN, f"books not compared: {answer.why}")
    mismatches = list(answer.get("mismatches") or ())
    evidence = {
        "positions": list(answer.get("positions") or ()),
        "mismatches": mismatches,
    }
    if answer.get("unknown"):
        silent = "; ".join(map(str, answer.get("unknown_venues") or ())) or "no reason given"
        return Verification(Outcome.UNKNOWN, f"not all could be compared: {silent}", evidence)
    if mismatches:
        told = count_of(len(mismatches), "mismatch", "mismatches")
        return Verification(Outcome.FAILED, told, evidence)
    if answer.get("ok") is not True:
        return Verification(Outcome.UNKNOWN, "the engine did not say that they agree", evidence)
    return Verification(Outcome.DONE, "books and venue agree", evidence)


@dataclass
class ReconcileBooks:
    closing: Closing
    name: str = "reconcile"
    title: str = "Reconcile positions with the venue"
    timeout_s: float = 30.0
    on_failure: OnFailure = OnFailure.WARN

    async def observe(self) -> bool:
        return await self.closing.sight.engine_is_up(patience_s=10)

    def plan(self, facts: bool) -> Plan[Compare]:
        if self.closing.voices.roles.engine is None:
            return Plan(reason="the desk has no engine, so no books", skipped=True)
        return Plan((Compare(),) if facts else (), "" if facts else "the engine does not run")

    async def act(self, plan: Plan[Compare], say: Say) -> None:
        say("comparing books with the venue")

    async def verify(self, say: Say) -> Verification:
        """The comparison changes nothing, so it is its own verification."""
        earlier = self.closing.earlier.get(self.name)
        if await self.closing.sight.engine_is_up():
            answer = await self.closing.voices.tell_engine("/v1/reconcile", {})
            found = judge_reconciliation(answer)
        elif earlier is not None and earlier.outcome is Outcome.DONE:
            # The engine was stopped by this very closing after it had reconciled.
            found = Verification(Outcome.DONE, "books and venue agreed", earlier.evidence)
        else:
            found = Verification(Outcome.UNKNOWN, "the engine does not run: books not compared")
        return found
