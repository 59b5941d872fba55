"""The order and the ways of a rolling restart, decided without touching anything."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.service_state import ServiceState
from openbell.procedures.rolling import Member, Pair, Way, plan_rolling

ROLES = ("engine", "strategies", "risk", "market-data", "venue", "other")


def member(name: str, **keys: Any) -> Member:
    given: dict[str, Any] = {
        "role": "other",
        "critical": False,
        "surge": False,
        "depends_on": (),
        "state": ServiceState.READY,
    }
    return Member(name=name, **given | keys)


def members(*made: Member) -> dict[str, Member]:
    return {each.name: each for each in made}


@st.composite
def desks(draw: st.DrawFn) -> dict[str, Member]:
    names = [f"s{n}" for n in range(draw(st.integers(1, 8)))]
    return members(
        *(
            member(
                name,
                role=draw(st.sampled_from(ROLES)),
                critical=draw(st.booleans()),
                surge=draw(st.booleans()),
                depends_on=tuple(draw(st.sets(st.sampled_from(names[:n]))) if n else ()),
                state=draw(st.sampled_from(list(ServiceState))),
            )
            for n, name in enumerate(names)
        )
    )


@given(desks(), st.data())
def test_each_service_has_one_turn_or_a_reason_and_follows_what_it_needs(
    desk: dict[str, Member], data: st.DataObject
) -> None:
    named = data.draw(st.sets(st.sampled_from(sorted(desk))))
    plan = plan_rolling(desk, named, None)
    turns = [turn.service for turn in plan.turns]
    left = [each.service for each in plan.left_alone]
    assert sorted([*turns, *left]) == sorted(desk)
    for place, name in enumerate(turns):
        assert not set(desk[name].depends_on) & set(turns[place + 1 :])
        assert desk[name].state is not ServiceState.STOPPED
        assert name in named if named else desk[name].role != "venue"
    assert all(each.why for each in plan.left_alone)
    assert all(turn.pauses for turn in plan.turns)


@given(desks())
def test_only_what_runs_and_may_have_a_double_is_replaced(desk: dict[str, Member]) -> None:
    for turn in plan_rolling(desk, (), None).turns:
        each = desk[turn.service]
        runs = each.state in (ServiceState.READY, ServiceState.DEGRADED)
        assert (turn.way is Way.SURGE) == (each.surge and runs)


PAIRED = members(
    member("venue", role="venue"),
    member("engine-a", role="engine", critical=True, depends_on=("venue",)),
    member("engine-b", role="standby", depends_on=("venue",)),
    member("strategies", role="strategies", depends_on=("engine-a",)),
)


def test_of_a_pair_the_standby_goes_first_whoever_that_is() -> None:
    plan = plan_rolling(PAIRED, (), Pair("engine-a", "engine-b"))
    assert [(turn.service, turn.way) for turn in plan.turns] == [
        ("engine-b", Way.STANDBY),
        ("engine-a", Way.HAND_OVER),
        ("strategies", Way.IN_PLACE),
    ]
    plan = plan_rolling(PAIRED, (), Pair("engine-b", "engine-a"))
    assert [(turn.service, turn.way) for turn in plan.turns][:2] == [
        ("engine-a", Way.STANDBY),
        ("engine-b", Way.HAND_OVER),
    ]


def test_naming_the_primary_brings_its_standby_along_but_not_the_other_way_round() -> None:
    pair = Pair("engine-a", "engine-b")
    assert [turn.service for turn in plan_rolling(PAIRED, ("engine-a",), pair).turns] == [
        "engine-b",
        "engine-a",
    ]
    assert [turn.service for turn in plan_rolling(PAIRED, ("engine-b",), pair).turns] == [
        "engine-b"
    ]


def test_a_service_that_a_run_was_cut_off_in_is_started_again() -> None:
    desk = members(member("one", state=ServiceState.STOPPED), member("two"))
    assert [turn.service for turn in plan_rolling(desk, (), None).turns] == ["two"]
    plan = plan_rolling(desk, (), None, cut_off=("one",))
    assert [turn.service for turn in plan.turns] == ["one", "two"]
