"""A second person's approval: another person, this very act, once, in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from openbell.config.approvals import Approvals
from openbell.domain.approvals import (
    ActRequest,
    may_not_approve,
    may_not_take_part,
    nobody_may_approve,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ANYBODY = Approvals(needed_for=("kill-switch-deactivate",))
ROLES = Approvals(
    needed_for=("kill-switch-deactivate",),
    people={"alice": ("operator",), "carol": ("operator",), "bob": ("risk",), "dan": ("operator", "risk")},
)  # fmt: skip
REQUEST = ActRequest(
    id="a1",
    act="kill-switch-deactivate",
    parameters={"scopes": ("venue:binance",), "latches": ("l1",)},
    reason="venue is back",
    asked_by="alice",
    asked_at=NOON,
    expires_at=NOON,
    expires_mono_ns=1000,
)


def problem(approver: str, rules: Approvals = ANYBODY, **given: Any) -> str:
    facts = {
        "digest": REQUEST.digest,
        "now_mono_ns": 999,
        "used": False,
        "request": REQUEST,
    } | given
    return may_not_approve(facts.pop("request"), approver, facts.pop("digest"), rules, **facts)


def test_another_person_approves_this_act() -> None:
    assert problem("bob") == ""
    assert problem("bob", ROLES) == ""


@pytest.mark.parametrize("name", ["alice", "Alice", " ALICE "])
def test_nobody_approves_what_they_asked_for_however_they_write_their_name(name: str) -> None:
    assert "another person" in problem(name)
    assert "another person" in problem(name, ROLES)


@pytest.mark.parametrize("name", ["", " ", "api", "API"])
def test_who_has_no_name_takes_no_part(name: str) -> None:
    assert "needs a name" in problem(name)
    assert "needs a name" in may_not_take_part(name, ANYBODY)


def test_roles_say_who_may_and_one_of_the_two_has_the_risk_role() -> None:
    assert "no role" in may_not_take_part("eve", ROLES)
    assert "no role" in problem("eve", ROLES)
    assert "role risk" in problem("carol", ROLES)
    assert problem("dan", ROLES) == ""
    asked_by_risk = replace(REQUEST, asked_by="BOB")
    assert problem("carol", ROLES, request=asked_by_risk, digest=asked_by_risk.digest) == ""


def test_it_expires_and_counts_once() -> None:
    assert "expired" in problem("bob", now_mono_ns=1000)
    assert "counts once" in problem("bob", used=True)


@given(
    change=st.sampled_from(
        [
            {"parameters": {"scopes": ("desk",), "latches": ("l1",)}},
            {"parameters": {"scopes": ("venue:binance", "desk"), "latches": ("l1",)}},
            {"parameters": {"scopes": ("venue:binance",), "latches": ("l2",)}},
            {"parameters": {"scopes": ("venue:binance",), "latches": ("l1", "l2")}},
            {"parameters": {"scopes": ("venue:binance",)}},
            {"parameters": {}},
            {"reason": "other"},
            {"asked_by": "carol"},
            {"id": "a2"},
            {"expires_at": datetime(2027, 1, 1, tzinfo=UTC)},
        ]
    )
)
def test_an_approval_of_any_other_act_is_refused(change: dict[str, Any]) -> None:
    altered = replace(REQUEST, **change)
    assert "another act" in problem("bob", digest=altered.digest)


@pytest.mark.parametrize(
    "people",
    [
        {"bob": ["risk"]},
        {"alice": ["operator"], "carol": ["operator"]},
        {"bob": ["risk"], "BOB": ["operator"]},
    ],
)
def test_a_desk_file_by_which_nobody_could_approve_is_refused(people: dict[str, list[str]]) -> None:
    said = {"needed_for": ["kill-switch-deactivate"], "people": people}
    with pytest.raises(ValidationError):
        Approvals.model_validate(said, strict=False)


def test_an_adoption_needs_another_person_unless_the_desk_says_that_one_is_enough() -> None:
    """Before, it needed one only where a desk file asked for it."""
    assert Approvals().acts == ("reconcile-adopt",)
    assert Approvals(needed_for=("limits-raise",)).acts == ("reconcile-adopt", "limits-raise")
    assert Approvals(needed_for=("reconcile-adopt",)).acts == ("reconcile-adopt",)
    assert Approvals(adopt_alone=True).acts == ()
    assert Approvals(adopt_alone=True, needed_for=("limits-raise",)).acts == ("limits-raise",)
    with pytest.raises(ValidationError, match="adopt_alone"):
        Approvals(adopt_alone=True, needed_for=("reconcile-adopt",))


@pytest.mark.parametrize(
    ("people", "why"),
    [
        ({}, ""),
        ({"alice": ("operator", "risk")}, "nobody beside alice"),
        ({"ALICE": ("risk",)}, "nobody beside alice"),
        (
            {"alice": ("operator",), "bob": ("operator",)},
            "nobody in [approvals] people has the role",
        ),
        ({"alice": ("risk",), "bob": ("operator",)}, ""),
        ({"alice": ("operator",), "bob": ("risk",)}, ""),
    ],
)
def test_a_request_that_nobody_could_approve_is_not_made(
    people: dict[str, tuple[Literal["operator", "risk"], ...]], why: str
) -> None:
    told = nobody_may_approve("alice", Approvals(people=people))
    assert (why in told) if why else told == ""
