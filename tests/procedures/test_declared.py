"""A procedure is data: what is declared is what is run, and the runbooks in docs are made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openbell.errors import UsageError
from openbell.procedures import closing
from openbell.procedures.declared import what_changed
from openbell.procedures.registry import PROCEDURES, find_procedure
from openbell.procedures.runbook import pages

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"


def test_the_runbooks_in_docs_are_current() -> None:
    there = {
        path.name: path.read_text() for path in RUNBOOKS.glob("*.md") if path.name != "README.md"
    }
    assert there == pages(), "run: make runbooks"


def test_a_runbook_tells_of_every_step() -> None:
    for name, procedure in PROCEDURES.items():
        page = pages()[f"{name}.md"]
        for spec in procedure.steps:
            assert spec.does in page and spec.verified_by in page


def test_the_closing_takes_the_steps_that_are_declared_in_their_order(fake_desk: Any) -> None:
    steps = closing.closing_steps(fake_desk.closing())
    declared = [each.name for each in closing.PROCEDURE.steps]
    names = [step.name for step in steps]
    # Nobody guards the faked desk, no channel of it is told, and it reduces no limits.
    left_out = ("disarm", "announce", "reduce_limits")
    assert names == [name for name in declared if name not in left_out]
    for step in steps:
        spec = closing.PROCEDURE.spec_of(step.name)
        assert spec is not None
        assert (step.title, step.on_failure) == (spec.title, spec.on_failure)
        if spec.timeout_s:
            assert step.timeout_s == spec.timeout_s


@pytest.mark.parametrize(
    ("name", "meant"), [("shutdown", "close"), ("clsoe", "close"), ("startup", "open")]
)
def test_a_procedure_that_is_not_known_names_the_one_that_is_meant(name: str, meant: str) -> None:
    with pytest.raises(UsageError) as refused:
        find_procedure(name)
    assert refused.value.facts["nearest"] == [meant] or meant in refused.value.hint


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        ((1, ["a", "b"]), (1, ["a", "b"]), ""),
        ((0, []), (3, ["a"]), ""),
        ((1, ["a", "b"]), (2, ["a", "b"]), "version 1 then, 2 now"),
        ((1, ["a", "b"]), (1, ["a"]), "steps that are gone: b"),
        ((1, ["a"]), (1, ["a", "b"]), "steps that are new: b"),
        ((1, ["a", "b", "c"]), (1, ["b", "a", "d"]), "another order"),
    ],
)
def test_what_changed_between_a_crash_and_its_resumption_is_told(
    then: Any, now: Any, told: str
) -> None:
    assert (told in what_changed(then, now)) if told else what_changed(then, now) == ""
