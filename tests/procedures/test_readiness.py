"""Before a desk trades, each thing that trading takes is looked at, and unreachable venues are
waited for once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from openbell.config.loader import parse_desk
from openbell.domain.service_state import ServiceState
from openbell.procedures.begin_trading import VENUE_PATIENCE_S, VenuePatience
from openbell.procedures.checklists import Check, Found
from openbell.procedures.readiness import CheckReadiness, ReadinessFacts, judge_readiness
from openbell.procedures.run import Runner
from openbell.procedures.step import Outcome
from openbell.watch.service_client import Answer

DESK = parse_desk(
    b"""
[desk]
name = "x"
[venues.v]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
[services.engine]
command = ["true"]
port = 1
role = "engine"
[services.limits]
command = ["true"]
role = "risk"
""",
    Path("desk.toml"),
)
READY = {"engine": ServiceState.READY, "limits": ServiceState.READY}


def venue(**more: Any) -> dict[str, Any]:
    known = {"name": "v", "connected": True, "open_orders": 0, "positions": 0, "clock_skew_ms": 3}
    return {**known, **more}


def engine(phase: str = "ready", **more: Any) -> dict[str, Any]:
    return {"phase": phase, "in_doubt": 0, "why_not": "", "venues": [venue()], **more}


def judged(said: dict[str, Any] | None, states: Any = READY) -> dict[str, Check]:
    facts = ReadinessFacts(said, "" if said else "it is silent", states)
    return {each.name: each for each in judge_readiness(facts, DESK)}


def test_a_desk_that_can_trade_has_nothing_against_it() -> None:
    found = {name: each.found for name, each in judged(engine()).items()}
    assert {name for name, each in found.items() if each is Found.NOT_CONFIGURED} == {
        "market_data",
        "rules",
    }
    assert set(found.values()) == {Found.OK, Found.NOT_CONFIGURED}


@pytest.mark.parametrize(
    ("said", "check", "result"),
    [
        (engine(venues=[venue(connected=False, why_not="refused")]), "venue_v", Found.FAILED),
        (engine(venues=[venue(positions=None)]), "account_v", Found.UNKNOWN),
        (engine(venues=[venue(clock_skew_ms=-1200)]), "clock_v", Found.FAILED),
        (engine(venues=[venue(clock_skew_ms=None)]), "clock_v", Found.UNKNOWN),
        (
            engine(venues=[venue(clock_skew_ms=None, tells_time=False)]),
            "clock_v",
            Found.NOT_CONFIGURED,
        ),
        (engine("reconciling", why_not="a list is incomplete"), "reconciliation", Found.FAILED),
        (engine(in_doubt=2), "reconciliation", Found.FAILED),
        (None, "reconciliation", Found.UNKNOWN),
        (None, "venues", Found.UNKNOWN),
    ],
)
def test_what_trading_lacks_is_named(said: Any, check: str, result: Found) -> None:
    found = judged(said)[check]
    assert found.found is result and found.detail


@pytest.mark.parametrize(
    ("state", "result"),
    [(ServiceState.DEGRADED, Found.FAILED), (None, Found.UNKNOWN)],
)
def test_limits_count_only_where_the_service_that_has_them_is_ready(
    state: ServiceState | None, result: Found
) -> None:
    states = {} if state is None else {"limits": state}
    assert judged(engine(), states)["risk"].found is result


def step(*said: dict[str, Any] | None) -> CheckReadiness:
    """Asks an engine that says these one after another, the last one for ever."""
    answers = list(said)

    async def ask() -> Answer:
        body = answers.pop(0) if len(answers) > 1 else answers[0]
        return Answer(None, why="it is silent") if body is None else Answer(body, 200)

    return CheckReadiness(DESK, ask, lambda: READY, VenuePatience())


async def carried_out(step: CheckReadiness, journal: Any) -> Any:
    (report,) = await asyncio.wait_for(Runner(journal, lambda _: None).run((step,)), 60)
    return report


async def test_an_engine_that_is_still_about_it_is_waited_for(journal: Any) -> None:
    away = engine("waiting_for_venue", venues=[venue(connected=False)])
    report = await carried_out(step(away, away, engine("reconciling"), engine()), journal)
    assert report.outcome is Outcome.DONE
    rows = {row["name"]: row for row in report.evidence["checks"]}
    assert rows["venue_v"]["facts"]["connect_ms"] > 0


async def test_an_engine_that_says_nothing_is_not_waited_for(journal: Any) -> None:
    report = await carried_out(step(None), journal)
    assert report.outcome is Outcome.UNKNOWN and "it is silent" in report.detail


def test_venues_are_waited_for_once_in_an_opening() -> None:
    patience = VenuePatience()
    assert not patience.is_over(True, 100.0)
    assert not patience.is_over(True, 100.0 + VENUE_PATIENCE_S)
    assert patience.is_over(True, 100.1 + VENUE_PATIENCE_S)
    assert patience.is_over(True, 101.0 + VENUE_PATIENCE_S), "the next step does not wait anew"
    assert not patience.is_over(False, 200.0)
    assert not patience.is_over(True, 201.0), "one that came and went again is waited for again"
