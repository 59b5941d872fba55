"""Which timers a closing disarms, by the venues' last word."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from openbell.procedures.closing.disarm import DisarmDeadMan, unproven
from openbell.procedures.closing.picture import Picture
from openbell.procedures.step import Outcome


def closing(last: Picture | None, *, orders: str = "cancel", asks: bool = True) -> Any:
    return SimpleNamespace(
        wishes=SimpleNamespace(orders=orders),
        asks_venues=asks,
        desk=SimpleNamespace(file=SimpleNamespace(venues={"one": None, "two": None})),
        final=last,
        is_foreseen=False,
        outcomes={},
        guard=None,
        disarmed=None,
    )


ORDER = {"venue": "one", "cl_ord_id": "a"}


@pytest.mark.parametrize(
    ("last", "left"),
    [
        (Picture(source="venue", all_orders=True), ()),
        (Picture(source="venue", orders=(ORDER,), all_orders=True), ("one",)),
        (Picture(source="venue", all_orders=True, unknown=("position two X: not said",)), ()),
        (Picture(source="venue", unknown=("venue two: no answer",)), ("two",)),
        (Picture(source="venue", orders=(ORDER,), unknown=("venue two: no answer",)), ("one", "two")),
        (Picture(source="venue", unknown=("venue two: no answer", "1 order is in doubt")), ("one", "two")),
        (Picture(source="none"), ("one", "two")),
        (None, ("one", "two")),
    ],
)  # fmt: skip
def test_a_timer_is_disarmed_where_the_venue_has_said_that_nothing_of_ours_rests(
    last: Picture | None, left: tuple[str, ...]
) -> None:
    assert unproven(closing(last)) == left


def test_where_orders_are_kept_or_none_was_ever_sent_each_is_disarmed() -> None:
    assert unproven(closing(None, orders="keep")) == ()
    assert unproven(closing(None, asks=False)) == ()


@pytest.mark.parametrize(
    ("applies", "becomes"),
    [
        ("venue", "leave those of one to run out"),
        ("guard", "leave what may rest at one: nobody cancels there"),
        ("none", "leave what may rest at one: nobody cancels there"),
    ],
)
async def test_the_guard_is_told_which_to_leave_and_that_is_said(
    applies: str, becomes: str
) -> None:
    """A closing that was forced on disarmed all of them, orders known to rest."""
    asked: list[tuple[str, ...]] = []

    async def disarm(but: tuple[str, ...] = ()) -> dict[str, Any]:
        asked.append(but)
        return {"disarmed": not but, "unknown": list(but), "why": "one: left to run out"}

    def dead_man() -> dict[str, Any]:
        return {"one": {"applies": applies}, "two": {"applies": "venue"}}

    forced = closing(Picture(source="venue", orders=(ORDER,), all_orders=True))
    forced.guard = SimpleNamespace(disarm=disarm, dead_man=dead_man)
    step = DisarmDeadMan(forced)
    plan = step.plan(None)
    said: list[str] = []
    await step.act(plan, lambda told, *_: said.append(told))
    assert asked == [("one",)]
    assert said == [f"disarm the dead-man's switches of two; {becomes}"]
    found = await step.verify(lambda *_: None)
    assert found.outcome is Outcome.UNKNOWN and "left to run out" in found.detail
