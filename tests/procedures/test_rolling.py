"""The order and the ways of a rolling restart, and its hand-back, decided without a process."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.procedures.conftest import view

from openbell.domain.service_state import ServiceState
from openbell.errors import FailedError
from openbell.procedures.rolling import (
    Condition,
    HandedOver,
    Member,
    Pair,
    Rolling,
    Times,
    Way,
    plan_rolling,
)
from openbell.procedures.rolling.gate import HELD_BACK_AT_MOST_S, Gate
from openbell.procedures.rolling.hand_back import BackFacts, HandBack
from openbell.procedures.rolling.restart_service import RestartService, TurnFacts
from openbell.procedures.run import Runner
from openbell.procedures.step import Outcome

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


@dataclass
class FakePair:
    """`procedures.rolling.ports.EnginePair`; and the desk of it, which trades."""

    primary: str = "engine-a"
    standby: str = "engine-b"
    why_not: list[str] = field(default_factory=list)
    """What stands against a hand-over, one answer after the other."""
    ended: str = ""
    handed: int = 0
    held_s: list[float] = field(default_factory=list)
    """How long the venue holds the desk back, one answer after the other; then not at all."""

    def now(self) -> Pair | None:
        return Pair(self.primary, self.standby)

    async def not_promotable(self) -> str:
        return self.why_not.pop() if self.why_not else ""

    async def hand_over(self) -> HandedOver:
        self.handed += 1
        self.primary, self.standby = self.standby, self.primary
        return HandedOver(self.primary, self.standby, 0.1)

    async def condition(self) -> Condition:
        return Condition(meant_to_trade=True, trades=True)

    def ended_by(self) -> str:
        return self.ended

    async def held_back_s(self) -> float:
        return self.held_s.pop(0) if self.held_s else 0.0


def rolling_of(pair: FakePair, *, earlier: tuple[str, ...] = (), within_s: float = 1.0) -> Rolling:
    anything: Any = pair
    return Rolling(
        plan=plan_rolling(PAIRED, ("engine-a",), Pair("engine-a", "engine-b")),
        services=anything,
        desk=anything,
        pair=anything,
        since_ns=0,
        times=Times(watch_for=0.0, trading_within=within_s),
        timeouts_s={},
        hand_back_to="engine-a",
        passed=frozenset(),
        earlier=list(earlier),
    )


def handing_back(pair: FakePair, *, earlier: tuple[str, ...] = ()) -> HandBack:
    return HandBack(rolling_of(pair, earlier=earlier), "engine-a")


async def carry_out(step: HandBack, journal: Any) -> Any:
    (report,) = await Runner(journal, lambda _: None).run((step,))
    return report


async def test_trading_is_handed_back_once_the_engine_can_take_it(journal: Any) -> None:
    pair = FakePair(primary="engine-b", standby="engine-a", why_not=["not connected yet"])
    report = await carry_out(handing_back(pair), journal)
    assert (report.outcome, pair.primary, pair.handed) == (Outcome.DONE, "engine-a", 1)


async def test_a_run_that_was_cut_off_before_the_hand_back_still_hands_back(journal: Any) -> None:
    pair = FakePair(primary="engine-b", standby="engine-a")
    step = handing_back(pair, earlier=("engine-a", "engine-b"))
    assert (await carry_out(step, journal)).outcome is Outcome.DONE
    assert pair.primary == "engine-a"


async def test_an_engine_that_trades_again_is_handed_nothing(journal: Any) -> None:
    pair = FakePair()
    step = handing_back(pair, earlier=("engine-a",))
    assert (await carry_out(step, journal)).outcome is Outcome.DONE
    assert pair.handed == 0


async def test_what_cannot_be_handed_back_in_time_is_told_and_left(journal: Any) -> None:
    pair = FakePair(primary="engine-b", standby="engine-a", why_not=["other code"] * 1000)
    step = handing_back(pair)
    report = await carry_out(step, journal)
    assert report.outcome is Outcome.FAILED and "engine-b trades" in report.detail
    assert pair.handed == 0


async def test_a_halt_leaves_trading_where_it_is(journal: Any) -> None:
    pair = FakePair(primary="engine-b", standby="engine-a", ended="halted by eve: lunch")
    report = await carry_out(handing_back(pair), journal)
    assert report.outcome is Outcome.SKIPPED and pair.handed == 0


def test_planning_ends_no_restart() -> None:
    """What ended it is observed; a plan of the same facts, made once more, changes nothing."""
    rolling = rolling_of(FakePair())
    rolling.timeouts_s = {turn.service: 1.0 for turn in rolling.plan.turns}
    facts = TurnFacts(view("engine-a"), "halted by eve: lunch", had_its_turn=False, unwell="")
    assert RestartService(rolling, rolling.plan.turns[0]).plan(facts).skipped
    back = BackFacts(None, "halted by eve: lunch", would_hand_over=False)
    assert HandBack(rolling, "engine-a").plan(back).skipped
    assert rolling.ended == ""


async def test_a_gate_has_time_anew_once_a_venue_says_until_when_it_holds_the_desk_back() -> None:
    """The engine that was restarted may ask its venue nothing until the minute is over: longer than
    a gate is open, and no fault of its new code."""
    said: list[str] = []
    gate = Gate(rolling_of(FakePair(held_s=[0.3, 0.3]), within_s=0.2))
    began = time.monotonic()
    with pytest.raises(FailedError, match=r"not well again within 0\.2 s: held back"):
        await gate.wait("well again", says("held back by the venue's limits"), said.append)
    assert time.monotonic() - began >= 0.2 + 0.3 + 0.2
    assert said[0] == "waiting for well again: held back by the venue's limits"


async def test_a_gate_waits_for_no_ban_and_not_where_nothing_is_held_back() -> None:
    for held_s in ([HELD_BACK_AT_MOST_S + 1], []):
        gate = Gate(rolling_of(FakePair(held_s=held_s), within_s=0.2))
        began = time.monotonic()
        with pytest.raises(FailedError):
            await gate.wait("well again", says("down"), lambda _: None)
        assert time.monotonic() - began < HELD_BACK_AT_MOST_S


async def test_a_gate_opens_when_the_venue_lets_the_desk_ask_again() -> None:
    opens_s = time.monotonic() + 0.5
    gate = Gate(rolling_of(FakePair(held_s=[0.2]), within_s=0.3))

    async def why_not() -> str:
        return "" if time.monotonic() >= opens_s else "held back"

    await gate.wait("well again", why_not, lambda _: None)


def says(why: str) -> Callable[[], Awaitable[str]]:
    async def why_not() -> str:
        return why

    return why_not
