"""When the dead-man's switches go off where orders are kept, and when they follow the engine again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from openbell.domain.service_state import ServiceState
from openbell.procedures.closing import PROCEDURE
from openbell.procedures.closing.checklist import STOPPING
from openbell.procedures.closing.context import Earlier
from openbell.procedures.closing.disarm import unproven
from openbell.procedures.closing.picture import Picture
from openbell.procedures.ports import GuardPort
from openbell.procedures.step import Outcome


class FakeGuard(GuardPort):
    def __init__(self) -> None:
        self.disarmed = self.held = 0
        self.mode = "open"

    def view(self) -> Mapping[str, Any]:
        return {"mode": self.mode}

    async def hold(self) -> None:
        self.held += 1

    async def disarm(self, but: Collection[str] = ()) -> Mapping[str, Any]:
        self.disarmed += 1
        return {"disarmed": True, "unknown": [], "why": ""}


def guarded(desk: Any, **wishes: Any) -> tuple[Any, FakeGuard]:
    closing, guard = desk.closing(**wishes), FakeGuard()
    closing.guard = guard
    return closing, guard


KEPT = {"orders": "keep", "flatten": "keep"}


async def test_where_orders_are_kept_they_go_off_when_the_strategies_are_halted(
    fake_desk: Any,
) -> None:
    """Not as the closing begins: limits are reduced for a while, and an approval may be waited for,
    while strategies trade."""
    closing, guard = guarded(fake_desk, **KEPT)
    for step in ("announce", "lock", "reduce_limits", "halt_strategies"):
        await closing.before(step)
        assert guard.disarmed == 0
    closing.outcomes["halt_strategies"] = Outcome.DONE
    await closing.before("cancel_orders")
    await closing.before("flatten")
    assert guard.disarmed == 1


@pytest.mark.parametrize("halted", [Outcome.FAILED, Outcome.UNKNOWN])
async def test_strategies_that_are_not_known_to_be_halted_are_guarded_until_services_are_stopped(
    fake_desk: Any, halted: Outcome
) -> None:
    """They may go on trading, and an engine that hangs meanwhile would leave more than what was kept."""
    closing, guard = guarded(fake_desk, **KEPT)
    closing.outcomes["halt_strategies"] = halted
    for step in ("cancel_orders", "flatten", "wait_for_orders", "reconcile", "checkpoint"):
        await closing.before(step)
    assert guard.disarmed == 0
    await closing.before("stop_market_data")
    await closing.before("disconnect")
    assert guard.disarmed == 1


async def test_gone_on_with_after_services_were_stopped_it_withdraws_no_kept_order_either(
    fake_desk: Any,
) -> None:
    unknown = Earlier(Outcome.UNKNOWN, {})
    fake_desk.earlier = {"halt_strategies": unknown, "stop_market_data": unknown}
    closing, guard = guarded(fake_desk, **KEPT)
    await closing.before("lock")
    assert guard.disarmed == 1


def test_the_steps_that_stop_services_are_those_of_the_procedure() -> None:
    names = [spec.name for spec in PROCEDURE.steps]
    assert set(names) >= STOPPING and min(map(names.index, STOPPING)) > names.index("checkpoint")


async def test_a_closing_that_is_gone_on_with_after_the_halt_withdraws_no_kept_order(
    fake_desk: Any,
) -> None:
    """The engine may be stopped by now: its silence must not count."""
    fake_desk.earlier = {"halt_strategies": Earlier(Outcome.DONE, {})}
    closing, guard = guarded(fake_desk, **KEPT)
    await closing.before("lock")
    assert guard.disarmed == 1


async def test_orders_that_are_to_go_are_guarded_to_the_end(fake_desk: Any) -> None:
    closing, guard = guarded(fake_desk)
    closing.outcomes["halt_strategies"] = Outcome.DONE
    await closing.before("cancel_orders")
    assert guard.disarmed == 0


async def test_what_a_closing_that_was_cut_off_has_held_is_kept_up_from_the_first_step_on(
    fake_desk: Any,
) -> None:
    """The venue's timer fired while the one that went on took its time before it stopped the engine."""
    closing, guard = guarded(fake_desk)
    await closing.before("announce")
    assert guard.held == 0, "nothing is held before the engine is about to go"
    guard.mode = "hold"
    for step in ("lock", "reduce_limits", "halt_strategies"):
        await closing.before(step)
        assert guard.held == 1
    closing, guard = guarded(fake_desk)
    guard.mode, closing.disarmed = "hold", {"disarmed": True}
    await closing.before("verify")
    assert guard.held == 0, "it was disarmed, and the guard's word is of before"


def test_services_that_stay_up_are_guarded_again(fake_desk: Any) -> None:
    """Also where the switches are off already; not where kept orders rest without an engine."""
    for orders in ("cancel", "keep"):
        closing = fake_desk.closing(orders=orders, flatten="keep")
        closing.disarmed = {"disarmed": True}
        assert closing.guards_again
    fake_desk.services.states["engine"] = ServiceState.STOPPED
    assert not fake_desk.closing(**KEPT).guards_again
    assert fake_desk.closing().guards_again


def test_while_something_still_runs_that_can_send_every_timer_runs_out(fake_desk: Any) -> None:
    """Though the venue has just said that nothing rests there."""
    closing = fake_desk.closing()
    closing.final = Picture(source="venue", all_orders=True, all_positions=True)
    closing.outcomes["stop_services"] = Outcome.DONE
    assert unproven(closing) == ()
    closing.outcomes["stop_services"] = Outcome.FAILED
    assert unproven(closing) == ("sim",)
