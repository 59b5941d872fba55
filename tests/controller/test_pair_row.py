"""What status shows of the two engines of a pair."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from openbell.controller.desk import ControlledDesk
from openbell.controller.pair import EnginePair, _Watched
from openbell.domain.service_state import ServiceState
from openbell.service_client import Answer

PRIMARY, STANDBY = "execution-engine", "execution-engine-standby"


@pytest.fixture
def pair() -> EnginePair:
    """Both run, and have said what they are."""
    desk = SimpleNamespace(
        desk=SimpleNamespace(file=SimpleNamespace(engine_pair=lambda: (PRIMARY, STANDBY))),
        roles=SimpleNamespace(engine=PRIMARY, standby=STANDBY),
        states={PRIMARY: ServiceState.READY, STANDBY: ServiceState.READY},
        heard_service=None,
        pair_row=None,
    )
    pair = EnginePair(cast(ControlledDesk, desk))
    for service, phase in ((PRIMARY, "ready"), (STANDBY, "standby")):
        hear(pair, service, Answer({"phase": phase}, 200))
    return pair


def hear(pair: EnginePair, service: str, answer: Answer) -> None:
    pair._watched.setdefault(service, _Watched(service)).heard(answer, 0.0)


def test_of_two_that_are_well_the_standby_is_promotable(pair: EnginePair) -> None:
    assert pair.row(PRIMARY) == {"phase": "ready"}
    assert pair.row(STANDBY) == {"phase": "standby", "promotable": True, "why_not_promotable": []}
    assert pair.row("market-data") == {}


@pytest.mark.parametrize(
    "state", [state for state in ServiceState if not state.is_running], ids=str
)
def test_a_standby_whose_process_is_gone_is_not_promotable_whatever_it_said_last(
    pair: EnginePair, state: ServiceState
) -> None:
    pair._desk.states[STANDBY] = state  # type: ignore[index]
    row = pair.row(STANDBY)
    assert (row["promotable"], row["why_not_promotable"]) == (False, [f"it is {state}"])


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer({"phase": "starting"}, 200), "it is starting"),
        (Answer(None, why="no answer within 1 s"), "no answer within 1 s"),
    ],
)
def test_one_that_runs_and_does_not_stand_by_is_not_promotable_and_says_why(
    pair: EnginePair, answer: Answer, why: str
) -> None:
    hear(pair, STANDBY, answer)
    assert pair.row(STANDBY)["why_not_promotable"] == [why]


def test_one_that_nobody_has_heard_yet_is_not_promotable(pair: EnginePair) -> None:
    pair._watched.clear()
    row: dict[str, Any] = pair.row(STANDBY)
    assert (row["promotable"], row["why_not_promotable"]) == (False, ["it is not seen yet"])


def test_what_makes_it_unlike_the_engine_is_told_with_it(pair: EnginePair) -> None:
    pair.unfit = ("it applies other limits",)
    assert pair.row(STANDBY)["why_not_promotable"] == ["it applies other limits"]


def test_roles_are_those_of_now_and_not_of_the_desk_file(pair: EnginePair) -> None:
    pair._desk.roles.engine, pair._desk.roles.standby = STANDBY, PRIMARY
    assert "promotable" in pair.row(PRIMARY) and "promotable" not in pair.row(STANDBY)
