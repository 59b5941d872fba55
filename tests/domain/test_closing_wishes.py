"""What a closing that is gone on with is asked for: as before, but for what is said explicitly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.closing_wishes import (
    WISHES,
    changes_told,
    command_with,
    wishes_going_on,
    wishes_told,
)

KEPT = {"flatten": "keep", "orders": "keep", "timeout_s": 600.0, "force": True}


def test_who_says_nothing_changes_nothing() -> None:
    assert wishes_going_on(KEPT, dict.fromkeys(WISHES)) == KEPT
    assert wishes_going_on(KEPT, {}) == KEPT
    assert changes_told(KEPT, wishes_going_on(KEPT, {})) == []


def test_only_what_is_said_is_changed_and_told() -> None:
    now = wishes_going_on(KEPT, {"orders": "cancel", "force": False})
    assert now == {**KEPT, "orders": "cancel", "force": False}
    assert changes_told(KEPT, now) == ["orders keep -> cancel", "force yes -> no"]


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
    for key in ("flatten", "timeout_s", "force"):
        said = [each[key] for each in (had, first, second) if key in each]
        assert now.get(key) == (said[-1] if said else None)


def test_wishes_read_as_the_options_do() -> None:
    assert wishes_told(KEPT) == "flatten keep, orders keep, force"
    assert wishes_told({}) == "nothing in particular"
    assert command_with(KEPT) == "openbell down --flatten keep --orders keep"
