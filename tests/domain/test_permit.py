"""The permit: who gets one, for what, and for how long."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.desk_state import DeskTarget
from openbell.domain.orders import Purpose
from openbell.domain.permit import (
    Grant,
    Permit,
    PermitFacts,
    PermitScope,
    Refusal,
    allows,
    decide_permit,
    held,
    scope_now,
)

GOOD = PermitFacts(
    target=DeskTarget.TRADING,
    latched=False,
    engine_epoch=7,
    current_epoch=7,
    engine_reconciled=True,
)
FACTS = st.builds(
    PermitFacts,
    target=st.sampled_from(DeskTarget),
    latched=st.booleans(),
    engine_epoch=st.sampled_from([6, 7]),
    current_epoch=st.sampled_from([7, None]),
    engine_reconciled=st.booleans(),
    books_known=st.booleans(),
    critical_not_ready=st.sampled_from([(), ("risk-management",)]),
    halted=st.booleans(),
)


def test_an_engine_of_a_desk_that_is_to_trade_gets_leave_to_trade() -> None:
    assert decide_permit(GOOD) == Grant(PermitScope.TRADE)


@given(FACTS)
def test_nobody_gets_leave_to_trade_unless_everything_is_right(facts: PermitFacts) -> None:
    answer = decide_permit(facts)
    right = replace(facts, target=DeskTarget.TRADING, books_known=False) == GOOD
    assert (answer == Grant(PermitScope.TRADE)) == (right and facts.target is DeskTarget.TRADING)
    known = facts.engine_reconciled or facts.books_known
    if facts.latched or facts.engine_epoch != facts.current_epoch or not known:
        assert isinstance(answer, Refusal)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"latched": True}, "latched"),
        ({"current_epoch": 8}, "stale_epoch"),
        ({"current_epoch": None}, "storage"),
        ({"engine_reconciled": False}, "not_reconciled"),
        ({"target": DeskTarget.HALTED}, "halted"),
        ({"target": DeskTarget.OFFLINE}, "offline"),
        ({"halted": True}, "halted"),
        ({"critical_not_ready": ("risk-management",)}, "not_ready"),
    ],
)
def test_each_missing_condition_is_named(change: dict[str, Any], code: str) -> None:
    answer = decide_permit(replace(GOOD, **change))
    assert isinstance(answer, Refusal)
    assert answer.code == code


@pytest.mark.parametrize("target", [DeskTarget.CLOSING, DeskTarget.SAFE])
def test_a_desk_that_does_not_trade_may_still_be_flattened(target: DeskTarget) -> None:
    facts = replace(GOOD, target=target, halted=True, critical_not_ready=("market-data",))
    assert decide_permit(facts) == Grant(PermitScope.REDUCE)


@pytest.mark.parametrize("target", DeskTarget)
def test_books_that_differ_in_some_symbols_allow_a_closing_desk_to_reduce(
    target: DeskTarget,
) -> None:
    closes = target in (DeskTarget.CLOSING, DeskTarget.SAFE)
    answer = decide_permit(replace(GOOD, target=target, engine_reconciled=False, books_known=True))
    if closes:
        assert answer == Grant(PermitScope.REDUCE)
    else:
        assert isinstance(answer, Refusal)
        assert answer.code == "not_reconciled"


def test_a_permit_ends_at_its_time_on_the_holders_clock() -> None:
    permit = Permit(PermitScope.TRADE, expires_mono_ns=100)
    assert held(permit, 99)
    assert not held(permit, 100)
    assert not held(None, 0)
    assert not held(Permit(PermitScope.NONE, expires_mono_ns=100), 0)
    assert scope_now(permit, 99) is PermitScope.TRADE
    assert scope_now(permit, 100) is PermitScope.NONE
    assert scope_now(None, 0) is PermitScope.NONE


def test_the_scope_allows_only_its_own() -> None:
    allowed = {
        (scope, purpose, smaller)
        for scope, purpose, smaller in product(PermitScope, Purpose, [True, False])
        if allows(scope, purpose, smaller)
    }
    trade, reduce = PermitScope.TRADE, PermitScope.REDUCE
    assert allowed == {
        (trade, Purpose.TRADE, True),
        (trade, Purpose.TRADE, False),
        (trade, Purpose.TEST, True),
        (trade, Purpose.TEST, False),
        (trade, Purpose.FLATTEN, True),
        (reduce, Purpose.FLATTEN, True),
    }
