"""Who may approve a step: never who asked for it, each person once, with the roles that are needed."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.config.approvals import Approvals
from openbell.domain.approvals import (
    GO_ON_ACT,
    STEP_ACT,
    ActRequest,
    may_not_approve_step,
    missing_roles,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PEOPLE: dict[str, Any] = {
    "ann": ("operator",),
    "bob": ("operator", "risk"),
    "eve": ("risk",),
    "joe": ("operator",),
}
RULES = Approvals.model_validate({"people": PEOPLE})


def request(roles: tuple[str, ...] = ("risk",), act: str = STEP_ACT, **more: Any) -> ActRequest:
    parameters = {
        "run": ("close-1",), "step": ("flatten",), "what": ("abc",), "roles": roles,
        "requesters": ("ann",), **more,
    }  # fmt: skip
    return ActRequest(
        id="r1", act=act, parameters=parameters, reason="", asked_by="ann", asked_at=NOW,
        expires_at=NOW + timedelta(minutes=15), expires_mono_ns=1000,
    )  # fmt: skip


def why_not(
    asked: ActRequest, who: str, given: tuple[str, ...] = (), now: int = 0, **more: Any
) -> str:
    digest = more.get("digest", asked.digest)
    rules = more.get("rules", RULES)
    return may_not_approve_step(asked, who, digest, rules, given, now_mono_ns=now)


@pytest.mark.parametrize(
    ("who", "told"),
    [
        ("eve", ""),
        ("bob", ""),
        ("ANN", "asked for it"),
        ("joe", "has not the role risk"),
        ("api", "say who you are"),
        ("sam", "no role"),
    ],
)
def test_one_person_with_the_role_who_did_not_ask(who: str, told: str) -> None:
    found = why_not(request(), who)
    assert (told in found) if told else found == ""


def test_whoever_went_on_with_the_run_has_asked_for_it_too() -> None:
    assert "asked for it" in why_not(request(requesters=("ann", "Eve")), "eve")


def test_two_approvals_take_two_people_in_whichever_order() -> None:
    asked = request(("operator", "risk"))
    assert why_not(asked, "bob") == ""
    assert "approved it already" in why_not(asked, "BOB", ("bob",))
    # bob has both roles: whoever comes second fills the one that is left.
    assert why_not(asked, "joe", ("bob",)) == "" and why_not(asked, "eve", ("bob",)) == ""
    assert "has not the role risk" in why_not(
        asked, "joe", ("joe2",), rules=Approvals(people={**PEOPLE, "joe2": ("operator",)})
    )


def test_an_approval_is_of_these_very_parameters_and_expires() -> None:
    assert "another act" in why_not(request(), "eve", digest=request(what=("xyz",)).digest)
    assert "another act" in why_not(request(), "eve", digest="")
    assert why_not(request(), "eve", now=999) == ""
    assert "expired" in why_not(request(), "eve", now=1000)


def test_where_nobody_is_named_any_other_person_approves() -> None:
    rules = Approvals()
    assert why_not(request(), "sam", rules=rules) == ""
    assert "asked for it" in why_not(request(), "ann", rules=rules)
    assert missing_roles(("operator", "risk"), ["sam"], rules) != ()
    assert missing_roles(("operator", "risk"), ["sam", "kim"], rules) == ()


def test_to_go_on_is_a_decision_that_the_requester_may_make() -> None:
    assert why_not(request(act=GO_ON_ACT), "ann") == ""
    assert "no role" in why_not(request(act=GO_ON_ACT), "sam")


@given(
    st.lists(st.sampled_from(["operator", "risk"]), min_size=1, max_size=2),
    st.lists(st.sampled_from(sorted(PEOPLE)), max_size=4, unique=True),
)
def test_roles_are_filled_as_well_as_they_can_be(roles: list[str], people: list[str]) -> None:
    most = _most(roles, people)
    assert len(roles) - len(missing_roles(tuple(roles), people, RULES)) == most


def _most(roles: list[str], people: list[str]) -> int:
    """By trying every assignment of people, or nobody, to roles."""
    best = 0
    for chosen in itertools.product([None, *people], repeat=len(roles)):
        named = [each for each in chosen if each is not None]
        fits = all(p is None or r in PEOPLE[p] for r, p in zip(roles, chosen, strict=True))
        if fits and len(set(named)) == len(named):
            best = max(best, len(named))
    return best
