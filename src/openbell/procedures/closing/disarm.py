"""Closing, after step 11: the dead-man's switches are disarmed, when nothing that could send an order is
left, and not armed again before the desk is opened.

A timer of a venue where that nothing of ours rests is not proven, of a closing that is forced on, is left
to run out instead: it withdraws what nobody else will. Where the guard is the timer, or nothing is, nobody
cancels once the desk is closed, and that is said.

Where orders are kept, they were disarmed once the strategies were halted, at the latest before services
were stopped: a timer must not withdraw what a person wants to rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from openbell.procedures.closing.context import Closing
from openbell.procedures.declared import StepSpec
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification


@dataclass(frozen=True)
class Disarm:
    venues: tuple[str, ...]
    but: tuple[str, ...] = ()
    """What rests there is not proven to be gone: these run out."""
    no_timer: tuple[str, ...] = ()
    """Of those, venues without a timer of their own, as the guard says."""

    def __str__(self) -> str:
        off = [name for name in self.venues if name not in self.but]
        told = [f"disarm the dead-man's switches of {', '.join(off)}"] if off else []
        run_out = [name for name in self.but if name not in self.no_timer]
        told += [f"leave those of {', '.join(run_out)} to run out"] if run_out else []
        if self.no_timer:
            told.append(f"leave what may rest at {', '.join(self.no_timer)}: nobody cancels there")
        return "; ".join(told)


SPEC = StepSpec(
    name="disarm",
    title="Disarm the dead-man's switches",
    does="Has the guard switch every dead-man's timer off, once nothing that could send an order is left. "
    "One of a venue where that nothing of ours rests is not proven is left to run out.",
    verified_by="The guard tells, by venue, whether the timer is off.",
    timeout_s=60.0,
    on_failure=OnFailure.FORCE,
    needed_because="a timer that is left armed fires at a closed desk, or at the next one",
    evidence="by venue, what is not known to be off",
    applies="the desk has a venue",
)


def unproven(closing: Closing) -> tuple[str, ...]:
    """Venues where, by their last word, an order of ours may rest that was to go."""
    if closing.wishes.orders != "cancel" or not closing.asks_venues:
        return ()
    venues, last = tuple(closing.desk.file.venues), closing.final
    if last is None or closing.outcomes.get("stop_services") is Outcome.FAILED:
        return venues  # in the second case something still runs that can send
    rests = {str(row.get("venue")) for row in last.orders}
    if not (last.known or last.all_orders):
        # One that is not named by what is unknown has answered completely.
        silent = {name for name in venues if any(_of(name, told) for told in last.unknown)}
        every = last.unknown and all(any(_of(n, told) for n in venues) for told in last.unknown)
        rests |= silent if every else set(venues)
    return tuple(name for name in venues if name in rests)


def _of(venue: str, told: str) -> bool:
    return told.startswith(f"venue {venue}:")


@dataclass
class DisarmDeadMan:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure

    async def observe(self) -> None:
        """Nothing to find out first: what is disarmed already stays so."""

    def plan(self, facts: None) -> Plan[Disarm]:
        closing = self.closing
        before = closing.outcomes.get("stop_services", Outcome.DONE)
        if before is Outcome.SKIPPED:
            return Plan(reason="they stay armed: the services are up", skipped=True)
        but = () if closing.is_foreseen else unproven(closing)
        rows = closing.guard.dead_man() if but and closing.guard is not None else {}
        no_timer = [n for n in but if rows.get(n, {}).get("applies") in ("guard", "none")]
        return Plan((Disarm(tuple(closing.desk.file.venues), but, tuple(no_timer)),))

    async def act(self, plan: Plan[Disarm], say: Say) -> None:
        assert self.closing.guard is not None
        (action,) = plan.actions
        say(str(action))
        self.closing.disarmed = await self.closing.guard.disarm(action.but)

    async def verify(self, say: Say) -> Verification:
        told = self.closing.disarmed
        if told is None:
            return Verification(Outcome.UNKNOWN, "the guard was not reached")
        if told.get("disarmed") is True:
            return Verification(Outcome.DONE, "disarmed, and not armed again", {"disarmed": True})
        unknown = told.get("unknown")
        names = ", ".join(map(str, unknown)) if isinstance(unknown, list) else "?"
        why = f" ({told['why']})" if told.get("why") else ""
        return Verification(
            Outcome.UNKNOWN,
            f"not known to be disarmed: {names}{why}; what runs there may still cancel orders",
            {"disarmed": False, "unknown": unknown},
        )
