"""Closing, step 6: nothing of ours is pending at the venue any more. Target 0, with a time-out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from openbell.procedures.closing.context import Closing
from openbell.procedures.closing.picture import Picture
from openbell.procedures.declared import StepSpec
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.procedures.wording import count_of

_POLL_S = 0.5


@dataclass(frozen=True)
class Await:
    count: int
    unknown: tuple[str, ...]

    def __str__(self) -> str:
        awaited = [count_of(self.count, "open order")] if self.count else []
        awaited += [f"what is not known ({'; '.join(self.unknown)})"] if self.unknown else []
        return f"wait for {', and '.join(awaited)}"


SPEC = StepSpec(
    name="wait_for_orders",
    title="Wait for orders to complete",
    does="Waits until nothing of the desk's is pending at a venue any more.",
    verified_by="Every venue is asked for its open orders.",
    timeout_s=0.0,
    timeout_note="`wait_for_orders` in `[closing]`, or of this step",
    timeout_of=lambda desk: desk.closing.wait_for_orders,
    on_failure=OnFailure.WARN,
    needed_because="the services that could still cancel an order would be stopped before it is final",
    progress="pending orders, towards 0",
)


@dataclass
class WaitForOrders:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    on_failure: OnFailure = SPEC.on_failure

    @property
    def timeout_s(self) -> float:
        return self.closing.wishes.wait_for_orders_s

    async def observe(self) -> Picture:
        return await self.closing.look()

    def plan(self, facts: Picture) -> Plan[Await]:
        if why := self.closing.why_not_asked:
            return Plan(reason=why, skipped=True)
        # Of a plan, the steps before will have withdrawn what is to go.
        count = 0 if self.closing.is_foreseen else len(self.closing.must_go(facts))
        if facts.known and not count:
            return Plan(reason="no order is pending")
        return Plan((Await(count, facts.unknown),))

    async def act(self, plan: Plan[Await], say: Say) -> None:
        while True:
            picture = await self.closing.look()
            count = len(self.closing.must_go(picture))
            if picture.known:
                say("pending orders", count, 0)
            else:
                say(f"pending orders are not known: {'; '.join(picture.unknown)}")
            if picture.known and not count:
                return
            await asyncio.sleep(_POLL_S)

    async def verify(self, say: Say) -> Verification:
        picture = await self.closing.look()
        count = len(self.closing.must_go(picture))
        if not picture.known:
            found = Verification(Outcome.UNKNOWN, picture.describe())
        elif count:
            told = count_of(count, "order is", "orders are")
            found = Verification(Outcome.FAILED, f"{told} still pending")
        else:
            found = Verification(Outcome.DONE, "no order is pending")
        return found
