"""What a closing that is gone on with is asked for: as before, but for what is said explicitly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.closing_wishes import (
    WISHES,
    changes_told,
    command_with,
    force_told,
    goes_on_told,
    orders_by_default,
    wishes_going_on,
    wishes_told,
)

KEPT = {"flatten": "keep", "orders": "keep", "timeout_s": 600.0, "force": True}


GOES_ON = {**KEPT, "force": False}


def test_who_says_nothing_changes_nothing_but_does_not_insist() -> None:
    """Before, a force that somebody else had said was taken over without a word."""
    assert wishes_going_on(KEPT, dict.fromkeys(WISHES)) == GOES_ON
    assert wishes_going_on(KEPT, {}) == GOES_ON
    assert changes_told(KEPT, GOES_ON) == []
    told = goes_on_told("close-7", "flatten", KEPT, GOES_ON, of_restart=False)
    assert told.endswith("say it again with `openbell down --force`") and "NOT taken over" in told


def test_force_is_taken_from_whoever_goes_on_alone() -> None:
    again = wishes_going_on(KEPT, {"force": True})
    assert again == KEPT and force_told(KEPT, again) == ""
    assert "NOT taken over" not in goes_on_told("close-7", "", KEPT, again, of_restart=False)
    # One that nobody insisted on until now: told as the change that it is.
    assert changes_told(GOES_ON, again) == ["force no -> yes"]
    assert force_told(GOES_ON, wishes_going_on(GOES_ON, {})) == ""


def test_only_what_is_said_is_changed_and_told() -> None:
    now = wishes_going_on(KEPT, {"orders": "cancel", "force": False})
    assert now == {**KEPT, "orders": "cancel", "force": False}
    assert changes_told(KEPT, now) == ["orders keep -> cancel"]


def test_orders_do_not_outlive_positions_that_are_no_longer_kept() -> None:
    now = wishes_going_on(KEPT, {"flatten": "aggressive"})
    assert (now["flatten"], now["orders"]) == ("aggressive", "cancel")
    assert changes_told(KEPT, now) == ["flatten keep -> aggressive", "orders keep -> cancel"]
    # Said explicitly it stays what was said, for whoever checks to refuse.
    asked = {"flatten": "aggressive", "orders": "keep"}
    assert wishes_going_on(KEPT, asked)["orders"] == "keep"


_values = st.fixed_dictionaries(
    {},
    optional={
        "flatten": st.sampled_from(["aggressive", "conservative", "keep"]),
        "orders": st.sampled_from(["cancel", "keep", "keep-passive"]),
        "timeout_s": st.floats(1, 1e4),
        "force": st.booleans(),
    },
)


@given(had=_values, first=_values, second=_values)
def test_what_is_kept_is_sold_only_where_somebody_says_so(
    had: dict[str, object], first: dict[str, object], second: dict[str, object]
) -> None:
    """However often it is cut off and gone on with."""
    now = wishes_going_on(wishes_going_on(had, first), second)
    for key in ("flatten", "timeout_s"):
        said = [each[key] for each in (had, first, second) if key in each]
        assert now.get(key) == (said[-1] if said else None)
    assert now["force"] is second.get("force", False)


def test_wishes_read_as_the_options_do() -> None:
    assert wishes_told(KEPT) == "flatten keep, orders keep, force"
    assert wishes_told({}) == "nothing in particular"
    assert command_with(KEPT) == "openbell down --flatten keep --orders keep"


def test_orders_are_kept_beside_positions_alone() -> None:
    assert orders_by_default("keep", "keep-passive") == "keep-passive"
    assert orders_by_default("aggressive", "keep") == "cancel"
