"""A desk is healthy when it does what it was asked to do, not when its processes live."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.desk_state import DeskState, DeskTarget
from openbell.domain.health import (
    DeskHealthFacts,
    ServiceFacts,
    VenueHealthFacts,
    Verdict,
    judge,
    resume_blockers,
)
from openbell.domain.service_state import ServiceState

ENGINE = ServiceFacts(name="execution-engine", state=ServiceState.READY, critical=True)
CONSOLE = ServiceFacts(name="console", state=ServiceState.READY, critical=False)
VENUE = VenueHealthFacts(name="binance", connected=True, clock_skew_ms=3.0)
DESK = DeskHealthFacts(
    state=DeskState.TRADING,
    target=DeskTarget.TRADING,
    engine_trading=True,
    reconciled=True,
)


def verdict(
    *,
    engine: dict[str, Any] | None = None,
    console: dict[str, Any] | None = None,
    venue: dict[str, Any] | None = None,
    desk: dict[str, Any] | None = None,
) -> Verdict:
    report = judge(
        [replace(ENGINE, **(engine or {})), replace(CONSOLE, **(console or {}))],
        [replace(VENUE, **(venue or {}))],
        replace(DESK, **(desk or {})),
    )
    assert bool(report.reasons) == (report.verdict is not Verdict.HEALTHY)
    return report.verdict


def test_a_desk_that_trades_as_asked_is_healthy() -> None:
    assert verdict() is Verdict.HEALTHY


@pytest.mark.parametrize("state", [ServiceState.STOPPED, ServiceState.FAILED])
def test_no_start_is_advised_where_an_emergency_stop_would_have_it_refused(
    state: ServiceState,
) -> None:
    """`status` said that nothing is started until the desk is opened, and then to start each service."""
    service = replace(ENGINE, state=state)
    start = "openbell start execution-engine"
    advised = judge([service], [VENUE], DESK).recommendations
    assert any(start in each for each in advised)
    held = judge([service], [VENUE], replace(DESK, stopped=True))
    assert not any(start in each for each in held.recommendations)
    assert held.verdict is Verdict.UNHEALTHY, "what is missing is told all the same"


def test_the_exit_codes_are_fixed() -> None:
    assert [each.exit_code for each in Verdict] == [0, 1, 2, 3]
    assert list(Verdict) == ["healthy", "degraded", "unhealthy", "not_running"]


@pytest.mark.parametrize(
    "facts",
    [
        {"engine": {"state": ServiceState.FAILED}},
        {"engine": {"state": ServiceState.BACKOFF}},
        {"engine": {"state": ServiceState.DEGRADED}},
        {"engine": {"state": ServiceState.STOPPED}},
        {"venue": {"connected": False}},
        {"desk": {"latched": True}},
        {"desk": {"engine_trading": False, "engine_why_not": "no permit"}},
        {"desk": {"engine_trading": None}},
        {"desk": {"reconciled": False}},
        {"desk": {"journal_ok": False}},
        {"desk": {"target": DeskTarget.OFFLINE}},
    ],
)
def test_what_stops_trading_is_unhealthy(facts: dict[str, Any]) -> None:
    assert verdict(**facts) is Verdict.UNHEALTHY


@pytest.mark.parametrize(
    "facts",
    [
        {"console": {"state": ServiceState.FAILED}},
        {"console": {"state": ServiceState.DEGRADED}},
        {"engine": {"state": ServiceState.STARTING}, "desk": {"engine_trading": False}},
        {"engine": {"restarts": 2}},
        {"venue": {"connected": None}},
        {"venue": {"clock_skew_ms": -1500.0}},
        {"desk": {"target": DeskTarget.HALTED, "engine_trading": False}},
        {"desk": {"target": DeskTarget.CLOSING, "engine_trading": False}},
        {"desk": {"in_doubt": 1}},
        {"desk": {"quotes_fresh": False}},
        {"desk": {"risk_heard": False}},
        {"desk": {"reconciled": None}},
        {"desk": {"journal_ok": None}},
        {"desk": {"risk_breaches": ("max_daily_loss",)}},
    ],
)
def test_what_needs_an_eye_is_degraded(facts: dict[str, Any]) -> None:
    assert verdict(**facts) is Verdict.DEGRADED


def test_green_processes_do_not_hide_that_trading_is_dead() -> None:
    report = judge(
        [ENGINE, CONSOLE], [VENUE], replace(DESK, engine_trading=False, engine_why_not="no permit")
    )
    assert report.verdict is Verdict.UNHEALTHY
    assert report.reasons == ("meant to trade, and the engine does not: no permit",)


def test_safe_mode_without_trading_is_as_asked() -> None:
    desk = {"target": DeskTarget.SAFE, "state": DeskState.SAFE, "engine_trading": False}
    assert verdict(desk=desk) is Verdict.HEALTHY


def test_a_closed_desk_is_not_running() -> None:
    services = [replace(ENGINE, state=ServiceState.STOPPED)]
    desk = replace(DESK, target=DeskTarget.OFFLINE, state=DeskState.OFFLINE)
    report = judge(services, [replace(VENUE, connected=None)], desk)
    assert report.verdict is Verdict.NOT_RUNNING


def test_the_worst_comes_first() -> None:
    report = judge(
        [replace(CONSOLE, state=ServiceState.FAILED, why="exit 1"), ENGINE],
        [replace(VENUE, connected=False)],
        DESK,
    )
    assert report.reasons == ("binance is not connected", "console is failed: exit 1")
    assert "`openbell logs console`, then `openbell start console`" in report.recommendations


def test_nothing_blocks_a_desk_that_is_ready_to_resume() -> None:
    desk = replace(DESK, target=DeskTarget.HALTED, engine_trading=False)
    assert (
        resume_blockers([ENGINE, replace(CONSOLE, state=ServiceState.FAILED)], [VENUE], desk) == []
    )


@pytest.mark.parametrize(
    ("desk", "venue", "engine", "blocker"),
    [
        ({"latched": True}, {}, {}, "the kill switch is latched"),
        ({"target": DeskTarget.CLOSING}, {}, {}, "the desk is closing"),
        ({"target": DeskTarget.OFFLINE}, {}, {}, "the desk is offline"),
        ({"reconciled": None}, {}, {}, "the books are not reconciled with the venue"),
        ({"in_doubt": 2}, {}, {}, "2 orders are in doubt"),
        ({"in_doubt": None}, {}, {}, "it is not known whether orders are in doubt"),
        ({"quotes_fresh": None}, {}, {}, "quotes are missing or stale"),
        ({"risk_heard": None}, {}, {}, "risk-management was not heard lately"),
        ({"journal_ok": None}, {}, {}, "the journal cannot be written"),
        ({"risk_breaches": ("max_daily_loss",)}, {}, {}, "breached: max_daily_loss"),
        ({}, {"connected": False}, {}, "binance is not connected"),
        ({}, {"connected": None}, {}, "binance is not known to be connected"),
        ({}, {"clock_skew_ms": 2500.0}, {}, "the clock is 2500 ms off binance's"),
        ({}, {}, {"state": ServiceState.DEGRADED}, "execution-engine is critical and degraded"),
    ],
)
def test_what_keeps_a_desk_from_resuming_is_named(
    desk: dict[str, Any], venue: dict[str, Any], engine: dict[str, Any], blocker: str
) -> None:
    facts = replace(replace(DESK, target=DeskTarget.HALTED), **desk)
    found = resume_blockers([replace(ENGINE, **engine)], [replace(VENUE, **venue)], facts)
    assert found == [blocker]


@given(
    st.sampled_from(ServiceState),
    st.sampled_from([True, False, None]),
    st.builds(
        DeskHealthFacts,
        state=st.sampled_from(DeskState),
        target=st.sampled_from(DeskTarget),
        latched=st.booleans(),
        engine_trading=st.sampled_from([True, False, None]),
        reconciled=st.sampled_from([True, False, None]),
        in_doubt=st.sampled_from([0, 1, None]),
        journal_ok=st.sampled_from([True, False, None]),
    ),
)
def test_healthy_is_never_said_of_a_desk_that_should_trade_and_does_not(
    engine: ServiceState, connected: bool | None, desk: DeskHealthFacts
) -> None:
    report = judge([replace(ENGINE, state=engine)], [replace(VENUE, connected=connected)], desk)
    if report.verdict is Verdict.HEALTHY:
        assert engine is ServiceState.READY
        assert connected
        assert desk.target in (DeskTarget.TRADING, DeskTarget.SAFE)
        assert desk.engine_trading or desk.target is DeskTarget.SAFE
        assert (desk.reconciled, desk.in_doubt, desk.journal_ok) == (True, 0, True)
