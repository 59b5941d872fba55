"""The service graph against naive definitions."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.domain import graph

NAMES = "abcdef"
GRAPHS = st.dictionaries(
    st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES), max_size=3), max_size=6
)
DESK = {
    "venue-sim": [],
    "market-data": ["venue-sim"],
    "execution-engine": ["venue-sim"],
    "risk-management": ["execution-engine", "market-data"],
    "market-analysis": ["risk-management", "execution-engine", "market-data"],
}


def reach(deps: dict[str, set[str]], start: str) -> set[str]:
    """All that can be come to in one step or more."""
    found: set[str] = set()
    edge = set(deps.get(start, ()))
    while edge:
        found |= edge
        edge = {far for name in edge for far in deps.get(name, ())} - found
    return found


@given(GRAPHS)
def test_a_cycle_is_found_exactly_where_something_reaches_itself(deps: dict[str, set[str]]) -> None:
    cycle = graph.find_cycle(deps)
    assert (cycle is not None) == any(name in reach(deps, name) for name in deps)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(after in deps[name] for name, after in pairwise(cycle))
        with pytest.raises(ValueError, match="cycle"):
            graph.start_order(deps)


@given(GRAPHS)
def test_everything_starts_after_what_it_needs_and_no_later_than_it_must(
    deps: dict[str, set[str]],
) -> None:
    if graph.find_cycle(deps):
        return
    waves = graph.start_order(deps)
    wave_of = {name: index for index, wave in enumerate(waves) for name in wave}
    assert sorted(wave_of) == sorted(deps) == sorted(name for wave in waves for name in wave)
    for name in deps:
        needed = [wave_of[dep] for dep in deps[name] if dep in deps]
        assert wave_of[name] == (max(needed) + 1 if needed else 0)


@given(GRAPHS)
def test_everything_stops_before_what_it_needs(deps: dict[str, set[str]]) -> None:
    if graph.find_cycle(deps):
        return
    wave_of = {name: i for i, wave in enumerate(graph.stop_order(deps)) for name in wave}
    assert set(wave_of) == set(deps)
    for name, needed in deps.items():
        assert all(wave_of[name] < wave_of[dep] for dep in needed if dep in deps)


@given(GRAPHS, st.sets(st.sampled_from(NAMES), max_size=3))
def test_what_a_name_needs_and_what_needs_it_are_the_two_closures(
    deps: dict[str, set[str]], names: set[str]
) -> None:
    below = names | {far for name in names for far in reach(deps, name)}
    assert graph.with_dependencies(deps, names) == below
    above = names | {name for name in deps if reach(deps, name) & names & set(deps)}
    assert graph.with_dependents(deps, names) == above


def test_the_paper_desk_starts_from_the_venue_up() -> None:
    assert graph.start_order(DESK) == [
        ["venue-sim"],
        ["execution-engine", "market-data"],
        ["risk-management"],
        ["market-analysis"],
    ]
    assert graph.stop_order(DESK) == [
        ["market-analysis"],
        ["risk-management"],
        ["execution-engine", "market-data"],
        ["venue-sim"],
    ]


def test_a_long_chain_is_no_reason_to_fail() -> None:
    chain = {f"s{i}": [f"s{i + 1}"] for i in range(5000)} | {"s5000": []}
    assert graph.find_cycle(chain) is None
    chain["s5000"] = ["s0"]
    cycle = graph.find_cycle(chain)
    assert cycle is not None
    assert len(cycle) == 5002
