"""The desk's state is what is, not what was asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.desk_state import (
    COMMANDS,
    DeskCommand,
    DeskFacts,
    DeskState,
    DeskTarget,
    UndefinedCommandError,
    after,
    decide,
)

FACTS = st.builds(
    DeskFacts,
    target=st.sampled_from(DeskTarget),
    latched=st.booleans(),
    services_running=st.integers(0, 3),
    critical_not_ready=st.sampled_from([(), ("execution-engine",)]),
    engine_trading=st.booleans(),
)


def state(target: DeskTarget, **facts: Any) -> DeskState:
    return decide(
        DeskFacts(**({"target": target, "latched": False, "services_running": 5} | facts))
    )


@given(FACTS)
def test_a_desk_shows_trading_only_when_its_engine_trades(facts: DeskFacts) -> None:
    if decide(facts) is DeskState.TRADING:
        assert facts.engine_trading
        assert not facts.latched
        assert not facts.critical_not_ready
        assert facts.target is DeskTarget.TRADING


@given(FACTS)
def test_the_latch_shows_before_all_else(facts: DeskFacts) -> None:
    assert (decide(facts) is DeskState.EMERGENCY) == facts.latched


def test_each_target_has_its_state() -> None:
    assert state(DeskTarget.TRADING, engine_trading=True) is DeskState.TRADING
    assert state(DeskTarget.TRADING) is DeskState.STARTING
    late = state(DeskTarget.TRADING, engine_trading=True, critical_not_ready=("risk",))
    assert late is DeskState.STARTING
    differs = state(DeskTarget.TRADING, differs=True)
    assert differs is DeskState.HALTED, "it is up, and must not trade"
    assert (
        state(DeskTarget.TRADING, differs=True, critical_not_ready=("risk",)) is DeskState.STARTING
    )
    assert state(DeskTarget.SAFE) is DeskState.SAFE
    assert state(DeskTarget.SAFE, critical_not_ready=("risk",)) is DeskState.STARTING
    assert state(DeskTarget.HALTED) is DeskState.HALTED
    assert state(DeskTarget.CLOSING) is DeskState.CLOSING
    assert state(DeskTarget.OFFLINE, services_running=0) is DeskState.OFFLINE


def test_processes_that_outlived_their_shutdown_are_not_offline() -> None:
    assert state(DeskTarget.OFFLINE, services_running=1) is DeskState.CLOSING


def test_only_opening_or_resuming_leads_to_trading() -> None:
    for (target, command), then in COMMANDS.items():
        if then is DeskTarget.TRADING and target is not DeskTarget.TRADING:
            assert command in (DeskCommand.OPEN, DeskCommand.RESUME)


def test_opening_a_halted_or_safe_desk_does_not_start_trading() -> None:
    assert after(DeskTarget.HALTED, DeskCommand.OPEN) is DeskTarget.HALTED
    assert after(DeskTarget.SAFE, DeskCommand.OPEN) is DeskTarget.SAFE


def test_a_desk_can_be_closed_from_anywhere() -> None:
    for target in DeskTarget:
        assert after(target, DeskCommand.CLOSE) is DeskTarget.CLOSING


@pytest.mark.parametrize(
    ("target", "command"),
    [
        (DeskTarget.OFFLINE, DeskCommand.HALT),
        (DeskTarget.OFFLINE, DeskCommand.RESUME),
        (DeskTarget.CLOSING, DeskCommand.RESUME),
        (DeskTarget.TRADING, DeskCommand.CLOSED),
    ],
)
def test_what_makes_no_sense_is_refused(target: DeskTarget, command: DeskCommand) -> None:
    with pytest.raises(UndefinedCommandError, match=f"{target} cannot {command}"):
        after(target, command)
