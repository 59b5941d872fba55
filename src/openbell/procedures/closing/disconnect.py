"""Closing, step 10: whoever could send an order logs out of the venues, cancelling or keeping.

What may rest there is said before it is done: nothing of ours, or the orders that were asked to be
kept, by number. An order that is open beside these is withdrawn first, while the engine is there to do
it. An engine's connections end with its process; the venues' own word is asked for when everything
else is gone too, in the next step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from openbell.procedures.closing.cancel_orders import withdraw
from openbell.procedures.closing.connections import ORDER_ENTRY, links_after
from openbell.procedures.closing.context import Closing
from openbell.procedures.closing.picture import Picture
from openbell.procedures.closing.stop_market_data import market_data_of
from openbell.procedures.closing.stopping import (
    StopFacts,
    StopWave,
    killed_note,
    still_running,
    stop_budget_s,
    stop_evidence,
    stop_facts,
    stop_wave,
    waves_to_stop,
    why_they_stay,
)
from openbell.procedures.declared import StepSpec
from openbell.procedures.ports import facts_of
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.procedures.wording import count_of
from openbell.runtime.spec import StopResult

_SETTLING_S = 60.0
"""To look, to withdraw what is left, and to look again."""


@dataclass(frozen=True)
class DisconnectFacts:
    services: StopFacts
    connected: frozenset[str]
    """Services with an order entry, and whatever of the strategies would send through them."""
    picture: Picture | None
    """None: the desk has no venue."""
    must_go: int
    """Own open orders that are not to stay."""
    orders: str


@dataclass(frozen=True)
class Withdraw:
    count: int

    def __str__(self) -> str:
        return f"withdraw {count_of(self.count, 'order')} first"


@dataclass(frozen=True)
class LogOut:
    wave: StopWave
    leaving: str

    def __str__(self) -> str:
        return f"{self.wave}: {self.leaving}"


Action = Withdraw | LogOut


def connected_of(closing: Closing) -> frozenset[str]:
    """Services that can reach a venue's order entry, and the strategies, whose orders they send."""
    return frozenset(
        name
        for name, each in closing.desk.file.services.items()
        if each.role in ORDER_ENTRY
        or each.role == "strategies"
        or (each.venues and each.role not in ("market-data", "venue"))
    )


def leaving(picture: Picture | None, must_go: int, orders: str) -> str:
    """What rests at the venues when we log out, in words."""
    if picture is None:
        return "the desk has no venue"
    if not picture.tells_orders:
        return "what rests there is not known"
    kept = len(picture.orders) - must_go
    if orders == "cancel" or not kept:
        return "no order of ours is to rest"
    return f"{count_of(kept, 'order is', 'orders are')} kept"


def plan_disconnect(facts: DisconnectFacts) -> Plan[Action]:
    if why := why_they_stay(facts.services):
        return Plan(reason=why, skipped=True)
    if not facts.connected:
        return Plan(reason="no service of the desk has an order entry", skipped=True)
    waves = waves_to_stop(facts.services, facts.connected)
    if not waves:
        return Plan(reason="disconnected already")
    left = leaving(facts.picture, facts.must_go, facts.orders)
    return Plan(
        (
            *((Withdraw(facts.must_go),) if facts.must_go else ()),
            *(LogOut(wave, left) for wave in waves),
        )
    )


SPEC = StepSpec(
    name="disconnect",
    title="Disconnect from the venues",
    does="Stops the engine and whatever else has an order entry, once it was said what is left there: "
    "withdraws an own order that is still open, or keeps those that were asked to be kept. Does nothing "
    "where orders or positions are not settled, unless the closing is forced.",
    verified_by="The process groups are seen to be empty; what rests is asked again in the next step.",
    timeout_s=0.0,
    timeout_note="the stop time-outs of these services together, and one minute",
    on_failure=OnFailure.FORCE,
    needed_because="a closed desk runs nothing that could send an order",
    evidence="every rung of every service's ladder, by venue what is still connected and what of our "
    "orders was open, the orders kept",
)


@dataclass
class Disconnect:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    on_failure: OnFailure = SPEC.on_failure
    results: dict[str, StopResult] = field(default_factory=dict)
    picture: Picture | None = None
    """The last look before the engine went."""

    @property
    def timeout_s(self) -> float:
        return stop_budget_s(self.closing, connected_of(self.closing)) + _SETTLING_S

    async def observe(self) -> DisconnectFacts:
        closing = self.closing
        services = stop_facts(closing, market_data_of(stop_facts(closing)))
        connected = connected_of(closing)
        # Where nobody is left to log out, the next step asks the venues anyway.
        asked = closing.asks_venues and bool(still_running(closing, connected))
        self.picture = await closing.look() if asked else None
        must_go = 0 if self.picture is None else len(closing.must_go(self.picture))
        if closing.is_foreseen and self.picture is not None:
            # The steps before will have withdrawn what is to go.
            kept = tuple(row for row in self.picture.orders if closing.may_rest(row))
            self.picture, must_go = replace(self.picture, orders=kept), 0
        return DisconnectFacts(services, connected, self.picture, must_go, closing.wishes.orders)

    def plan(self, facts: DisconnectFacts) -> Plan[Action]:
        return plan_disconnect(facts)

    async def act(self, plan: Plan[Action], say: Say) -> None:
        closing = self.closing
        if closing.guard is not None and closing.wishes.orders == "cancel":
            # The engine's silence is about to be meant: the timers are kept up without it.
            await closing.guard.hold()
        for action in plan.actions:
            match action:
                case Withdraw(count):
                    say("withdrawing orders that are open still", count, 0)
                    self.picture = await withdraw(closing)
                case LogOut(wave, left):
                    say(f"logging out: {left}")
                    self.results |= await stop_wave(closing, wave.names, say)

    async def verify(self, say: Say) -> Verification:
        closing = self.closing
        facts = facts_of(closing.services)
        if self.picture is not None:
            closing.connections = links_after(
                closing.desk.file, facts, closing.may_rest, self.picture
            )
        evidence: dict[str, object] = {
            "services": stop_evidence(self.results),
            "connections": list(closing.connections or ()),
            "kept": self._kept(),
        }
        if up := still_running(closing, connected_of(closing)):
            return Verification(Outcome.FAILED, f"still connected: {', '.join(up)}", evidence)
        return Verification(Outcome.DONE, f"disconnected{killed_note(self.results)}", evidence)

    def _kept(self) -> list[Mapping[str, object]]:
        rows = () if self.picture is None else self.picture.orders
        return [dict(row) for row in rows if self.closing.may_rest(row)]
