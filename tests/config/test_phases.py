"""Phases follow dependencies, whatever a desk file leaves out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.config.loader import parse_desk
from openbell.config.phases import PHASES, phase_problems, phases_of, waits_for
from openbell.config.services import Service
from openbell.domain.graph import find_cycle
from openbell.errors import ConfigError

ROLES = ("other", "venue", "market-data", "risk", "strategies", "engine")


def service(**keys: Any) -> Service:
    return Service(command=("true",), port=1, **keys)


@st.composite
def desks(draw: st.DrawFn) -> dict[str, Service]:
    names = [f"s{n}" for n in range(draw(st.integers(1, 9)))]
    return {
        name: service(
            role=draw(st.sampled_from(ROLES)),
            phase=draw(st.sampled_from((None, None, *PHASES))),
            depends_on=tuple(draw(st.sets(st.sampled_from(names[:n]), max_size=3)) if n else ()),
        )
        for n, name in enumerate(names)
    }


@given(desks())
def test_nothing_comes_before_what_it_depends_on(services: dict[str, Service]) -> None:
    """Save where the file says so itself, which is told as a problem of that key."""
    rank = {name: PHASES.index(phase) for name, phase in phases_of(services).items()}
    told = {problem.key[1] for problem in phase_problems(services)}
    for name, each in services.items():
        late = [needed for needed in each.depends_on if rank[needed] > rank[name]]
        assert bool(late) is (name in told)


@given(desks())
def test_phases_never_make_services_wait_for_each_other(services: dict[str, Service]) -> None:
    if not list(phase_problems(services)):
        assert find_cycle(waits_for(services)) is None


@given(desks())
def test_only_a_service_that_names_its_phase_waits_for_more_than_it_depends_on(
    services: dict[str, Service],
) -> None:
    rank = {name: PHASES.index(phase) for name, phase in phases_of(services).items()}
    for name, waited in waits_for(services).items():
        assert set(services[name].depends_on) <= set(waited)
        if services[name].phase is None:
            assert waited == services[name].depends_on
        else:
            assert {each for each in services if rank[each] < rank[name]} <= set(waited)


def test_what_the_core_needs_is_infrastructure_and_a_service_of_its_own_is_none() -> None:
    services = {
        "db": service(),
        "broker": service(depends_on=("db",)),
        "engine": service(role="engine", depends_on=("broker",)),
        "report": service(),
        "web": service(phase="console", depends_on=("report",)),
    }
    assert phases_of(services) == {
        "db": "infrastructure",
        "broker": "infrastructure",
        "engine": "core",
        "report": "services",
        "web": "console",
    }
    assert set(waits_for(services)["web"]) == {"report", "db", "broker", "engine"}


def test_a_phase_before_that_of_a_dependency_is_named_with_its_line(tmp_path: Any) -> None:
    text = (
        '[desk]\nname = "x"\n[services.web]\ncommand = ["true"]\nphase = "console"\n'
        '[services.db]\ncommand = ["true"]\nphase = "infrastructure"\ndepends_on = ["web"]\n'
    )
    with pytest.raises(ConfigError) as found:
        parse_desk(text.encode(), tmp_path / "desk.toml")
    assert "db is of the phase infrastructure and depends on web" in str(found.value)
