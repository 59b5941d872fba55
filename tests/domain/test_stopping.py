"""In which order a desk stops."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.graph import with_dependents
from openbell.domain.stopping import stop_waves

ORDER = (
    ("strategies",),
    ("engine", "standby"),
    ("risk",),
    ("order-management",),
    ("market-data",),
    ("agent", "other"),
    ("monitoring",),
)
ROLES = [role for part in ORDER for role in part]


def test_a_desk_stops_by_what_its_services_are_to_trading() -> None:
    roles = dict(zip("mnaofrse", ["monitoring", "market-data", "agent", "order-management",
                                  "strategies", "risk", "standby", "engine"], strict=True))  # fmt: skip
    assert stop_waves(dict.fromkeys(roles, ()), roles) == [
        ["f"], ["e", "s"], ["r"], ["o"], ["n"], ["a"], ["m"],
    ]  # fmt: skip


def test_a_store_outlives_whatever_depends_on_it() -> None:
    deps = {"db": (), "board": ("db",), "engine": ("db",), "journal": ("db",)}
    roles = {"db": "other", "board": "monitoring", "engine": "engine", "journal": "other"}
    assert stop_waves(deps, roles) == [["engine"], ["journal"], ["board"], ["db"]]


def test_a_cycle_is_told() -> None:
    with pytest.raises(ValueError, match="cycle"):
        stop_waves({"a": ("b",), "b": ("a",)}, {"a": "other", "b": "other"})


@st.composite
def desks(draw: st.DrawFn) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    names = [f"s{number}" for number in range(draw(st.integers(1, 8)))]
    deps = {
        name: tuple(draw(st.sets(st.sampled_from(names[:place])))) if place else ()
        for place, name in enumerate(names)
    }
    return deps, {name: draw(st.sampled_from(ROLES)) for name in names}


@given(desks())
def test_every_service_stops_once_in_the_order_of_the_parts_and_of_the_graph(
    desk: tuple[dict[str, tuple[str, ...]], dict[str, str]],
) -> None:
    deps, roles = desk
    waves = stop_waves(deps, roles)
    at = {name: place for place, wave in enumerate(waves) for name in wave}
    assert sorted(at) == sorted(deps) == sorted(name for wave in waves for name in wave)
    part = {role: place for place, part in enumerate(ORDER) for role in part}
    for a, b in combinations(deps, 2):
        if "other" not in (roles[a], roles[b]) and part[roles[a]] != part[roles[b]]:
            assert (at[a] < at[b]) == (part[roles[a]] < part[roles[b]])
    for name, role in roles.items():
        above = with_dependents(deps, [name]) - {name}
        if role == "other":
            assert all(at[each] < at[name] for each in above)
        # A service of the role `other` stops later where one of a later part depends on it.
        same = [each for each in above if roles[each] == role or "other" not in (roles[each], role)]
        assert all(at[each] < at[name] for each in same if part[roles[each]] == part[role])
