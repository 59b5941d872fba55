"""Which run that was cut off goes on without a person's word, and what leaves it to one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openbell.config.models import DeskFile
from openbell.procedures.by_itself import CutOff, why_it_waits
from openbell.procedures.declared import Resumes
from openbell.procedures.registry import PROCEDURES
from openbell.procedures.runbook import procedure_document, runbook
from openbell.procedures.settings import procedure_problems, resumes

CLOSE = PROCEDURES["close"]
GOES_ON = CutOff(
    resumes=Resumes.BY_ITSELF,
    steps_begun=frozenset({"lock", "halt_strategies", "cancel_orders"}),
    started_by_guard=True,
    went_on_by_itself=False,
    half_of_restart=False,
    still_meant=True,
    emergency=False,
    latched=False,
    waits_for_people=False,
    changed="",
    same_code=True,
)


def test_a_closing_that_withdraws_orders_goes_on() -> None:
    assert why_it_waits(CLOSE, GOES_ON) == ""


@pytest.mark.parametrize(
    ("otherwise", "why"),
    [
        ({"resumes": Resumes.BY_COMMAND}, "desk.toml says"),
        ({"steps_begun": frozenset({"lock", "halt_strategies"})}, "not come to cancel_orders"),
        ({"started_by_guard": False}, "not started by the guard"),
        ({"went_on_by_itself": True}, "cut off again"),
        ({"half_of_restart": True}, "opens the desk again"),
        ({"still_meant": False}, "not meant to be closed"),
        ({"emergency": True}, "emergency stop"),
        ({"latched": True}, "kill switch"),
        ({"waits_for_people": True}, "approval"),
        ({"changed": "version 4 then, 5 now"}, "version 4 then, 5 now"),
        ({"same_code": False}, "has changed since"),
        ({"same_code": None}, "nobody can tell"),
    ],
)
def test_each_thing_that_speaks_against_it_leaves_it_to_a_person(
    otherwise: dict[str, object], why: str
) -> None:
    assert why in why_it_waits(CLOSE, replace(GOES_ON, **otherwise))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in PROCEDURES if name != "close"])
def test_what_adds_to_the_desk_never_goes_on_by_itself(name: str) -> None:
    procedure = PROCEDURES[name]
    assert procedure.resumes is Resumes.BY_COMMAND
    assert why_it_waits(procedure, GOES_ON) == procedure.not_by_itself != ""
    assert "| goes on by itself | no: " in runbook(procedure_document(procedure))


def test_a_step_from_which_it_goes_on_is_one_that_no_desk_leaves_out() -> None:
    spec = CLOSE.spec_of(CLOSE.by_itself_from)
    assert spec is not None and spec.needed_because


def desk(name: str, how: str) -> DeskFile:
    return DeskFile.model_validate(
        {
            "desk": {"name": "small"},
            "services": {"web": {"command": ["sleep", "1"]}},
            "procedures": {name: {"resumes": how}},
        },
        strict=False,
    )


def test_a_desk_may_have_people_decide_and_no_more() -> None:
    by_command = desk("close", "by_command")
    assert procedure_problems(by_command) == []
    assert resumes(CLOSE, by_command) is Resumes.BY_COMMAND
    told = runbook(procedure_document(CLOSE, by_command))
    assert "| goes on by itself | no: desk.toml says so |" in told
    assert resumes(CLOSE, desk("close", "by_itself")) is Resumes.BY_ITSELF
    (problem,) = procedure_problems(desk("open", "by_itself"))
    assert "does not go on by itself" in str(problem)
