"""A desk file changes a procedure's steps: names are checked, and the order of the rest is kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.config.loader import parse_desk
from openbell.config.models import DeskFile
from openbell.config.problems import DeskFileError
from openbell.procedures import closing, rolling
from openbell.procedures.opening_steps import PROCEDURE as OPEN
from openbell.procedures.registry import PROCEDURES
from openbell.procedures.settings import approvals_of, arrange, declared_steps, procedure_problems
from openbell.procedures.step import OnFailure

DESK = (
    '[desk]\nname = "d"\n[services.web]\ncommand = ["true"]\n[services.api]\ncommand = ["true"]\n'
)
FILE = Path("/d/desk.toml")


class Named:
    """A step of which only what is arranged counts."""

    on_failure = OnFailure.WARN
    timeout_s = 7.0

    def __init__(self, name: str) -> None:
        self.name = self.title = name


def desk(text: str) -> DeskFile:
    return parse_desk((DESK + text).encode(), FILE, procedure_problems)


def problems(text: str) -> list[str]:
    with pytest.raises(DeskFileError) as refused:
        desk(text)
    return [each.located(FILE) for each in refused.value.problems]


def arranged(procedure: Any, text: str, names: list[str] | None = None) -> list[Any]:
    names = names or [each.name for each in procedure.steps]
    made = arrange(procedure, desk(text), [Named(n) for n in names], lambda e: Named(e.name))  # type: ignore[misc,arg-type]
    return list(made)


def extra(name: str, place: str, more: str = "") -> str:
    return (
        f'[[procedures.close.extra]]\nname = "{name}"\ncommand = ["true"]\nverify = ["true"]\n'
        f"{place}\n{more}\n"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[procedures.clos]\n", "did you mean close"),
        ("[procedures.close.steps.flaten]\n", "did you mean flatten"),
        ("[procedures.close.steps.flatten]\nenabled = false\n", "cannot be left out"),
        ('[procedures.rolling-restart.steps.restart_web]\non_failure = "warn"\n', "write abort"),
        ('[procedures.rolling-restart.steps.restart_web]\ntimeout = "5s"\n', "is not set here"),
        ("[procedures.rolling-restart.steps.restart_wbe]\n", "did you mean restart_web"),
        (extra("x", 'before = "flaten"'), "did you mean flatten"),
        (extra("x", 'before = "flatten"\nafter = "flatten"'), "one of the two"),
        (extra("x", ""), "one of the two"),
        (extra("flatten", 'after = "verify"'), "has a step"),
        (extra("x", 'after = "verify"') + extra("x", 'after = "verify"'), "has a step"),
        (extra("x", 'after = "verify"', "retries = 3"), 'unknown key "retries"'),
        (
            (
                '[approvals]\npeople = { ann = ["operator"], bob = ["operator"] }\n'
                '[procedures.close.steps.flatten]\napprovals = ["risk"]\n'
            ),
            "nobody has the role risk",
        ),
        (
            (
                '[approvals]\npeople = { ann = ["risk"], bob = ["operator"] }\n'
                '[procedures.close.steps.flatten]\napprovals = ["risk", "operator"]\n'
            ),
            "take 3 people",
        ),
    ],
)
def test_what_makes_no_sense_is_told_with_its_mend(text: str, told: str) -> None:
    (problem,) = problems(text)
    assert told in problem


def test_a_problem_names_the_line_of_the_second_of_several_steps() -> None:
    text = extra("one", 'after = "verify"') + extra("two", 'after = "verfy"')
    (problem,) = problems(text)
    line = (DESK + text).splitlines().index('after = "verfy"') + 1
    assert problem.startswith(f"{FILE}:{line}: procedures.close.extra.1.after:")


def test_every_step_that_is_not_optional_says_why() -> None:
    for procedure in PROCEDURES.values():
        # One that is made of others is set under their names.
        for spec in () if procedure.composed_of else procedure.steps:
            text = f"[procedures.{procedure.name}.steps.{spec.name.replace('*', 'web')}]\nenabled = false\n"
            if spec.optional:
                assert desk(text)
            else:
                assert spec.needed_because in problems(text)[0]


def test_the_how_to_shows_what_check_takes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "procedures.md").read_text()
    shown = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert any("enabled = false" in each for each in shown)
    for each in shown:
        assert desk(each)


def test_time_and_policy_are_the_desks_and_the_step_is_the_same() -> None:
    text = '[procedures.close.steps.flatten]\ntimeout = "3s"\non_failure = "ask"\napprovals = ["risk"]\n'
    step = next(each for each in arranged(closing.PROCEDURE, text) if each.name == "flatten")
    assert (step.timeout_s, step.on_failure, approvals_of(step)) == (3.0, OnFailure.ASK, ("risk",))
    other = next(each for each in arranged(closing.PROCEDURE, text) if each.name == "verify")
    assert (other.timeout_s, approvals_of(other)) == (7.0, ())


def test_a_step_that_is_left_out_is_gone() -> None:
    names = [
        s.name
        for s in arranged(closing.PROCEDURE, "[procedures.close.steps.announce]\nenabled = false\n")
    ]
    assert "announce" not in names and len(names) == len(closing.PROCEDURE.steps) - 1


def test_steps_of_the_desk_come_where_they_belong_in_the_order_of_the_file() -> None:
    text = "".join(
        (
            extra("a1", 'after = "flatten"'),
            extra("b1", 'before = "flatten"'),
            extra("a2", 'after = "flatten"'),
            extra("b2", 'before = "flatten"'),
            extra("last", 'after = "verify"'),
        )
    )
    names = [step.name for step in arranged(closing.PROCEDURE, text)]
    at = names.index("flatten")
    assert names[at - 2 : at + 3] == ["b1", "b2", "flatten", "a1", "a2"]
    assert names[names.index("verify") + 1] == "last"


def test_a_place_that_this_run_has_not_is_where_it_would_be() -> None:
    without = [each.name for each in closing.PROCEDURE.steps if each.name != "disarm"]
    text = extra("x", 'after = "disarm"') + extra("y", 'before = "disarm"')
    names = [step.name for step in arranged(closing.PROCEDURE, text, without)]
    assert names[names.index("stop_services") + 1 : names.index("stop_venues")] == ["x", "y"]


def test_a_step_beside_one_services_restart_is_left_out_without_it() -> None:
    text = (
        '[[procedures.rolling-restart.extra]]\nname = "warm"\ncommand = ["true"]\nverify = ["true"]\n'
        'after = "restart_web"\n'
    )
    assert [s.name for s in arranged(rolling.PROCEDURE, text, ["restart_api"])] == ["restart_api"]
    names = [s.name for s in arranged(rolling.PROCEDURE, text, ["restart_web", "restart_api"])]
    assert names == ["restart_web", "warm", "restart_api"]


ANCHORS = st.lists(
    st.tuples(st.sampled_from([each.name for each in closing.PROCEDURE.steps]), st.booleans()),
    max_size=6,
)


@given(ANCHORS, st.sets(st.sampled_from([each.name for each in closing.PROCEDURE.steps])))
def test_whatever_is_added_the_steps_keep_their_order_and_each_stands_beside_its_own(
    anchors: list[tuple[str, bool]], missing: set[str]
) -> None:
    present = [each.name for each in closing.PROCEDURE.steps if each.name not in missing]
    text = "".join(
        extra(f"x{n}", f'{"before" if before else "after"} = "{anchor}"')
        for n, (anchor, before) in enumerate(anchors)
    )
    names = [step.name for step in arranged(closing.PROCEDURE, text, present or ["verify"])]
    kept = [name for name in names if not name.startswith("x")]
    assert kept == (present or ["verify"])
    assert len(names) == len(kept) + len(anchors), "none is lost"
    for n, (anchor, before) in enumerate(anchors):
        if anchor in kept:
            assert (names.index(f"x{n}") < names.index(anchor)) is before


def test_show_tells_of_steps_that_are_left_out_and_of_the_desks_own() -> None:
    file = desk(
        "[procedures.close.steps.announce]\nenabled = false\n" + extra("x", 'after = "verify"')
    )
    rows = declared_steps(closing.PROCEDURE, file)
    assert [spec.name for spec, _, own in rows if own is not None] == ["x"]
    assert [spec.name for spec, settings, _ in rows if not settings.enabled] == ["announce"]
    assert [spec.name for spec, _, _ in declared_steps(OPEN, None)] == [s.name for s in OPEN.steps]


@pytest.mark.parametrize("name", ["restart", "quick-restart"])
def test_what_is_made_of_others_is_set_under_their_names(name: str) -> None:
    with pytest.raises(DeskFileError) as refused:
        desk(f"[procedures.{name}.steps.validate]\nenabled = false\n")
    assert "[procedures.close] or [procedures.open]" in str(refused.value)
    shown = {
        spec.name: settings.enabled
        for spec, settings, _ in declared_steps(
            PROCEDURES[name], desk("[procedures.open.steps.validate]\nenabled = false\n")
        )
    }
    assert shown["validate"] is False and shown["reconcile"] is True
    assert ("announce" in shown) is (name == "restart") and "flatten" not in shown
