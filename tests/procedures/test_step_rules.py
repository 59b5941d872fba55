"""What a desk says of its steps, and what of that is otherwise when a run is gone on with."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from openbell.config.loader import parse_desk
from openbell.config.models import DeskFile
from openbell.procedures.closing import PROCEDURE as CLOSE
from openbell.procedures.registry import PROCEDURES
from openbell.procedures.rolling import PROCEDURE as ROLLING
from openbell.procedures.settings import procedure_problems
from openbell.procedures.step_rules import rules_of, what_changed_of_rules

FILE = Path("/d/desk.toml")
SERVICES = (
    '[desk]\nname = "d"\n[services.web]\ncommand = ["true"]\n[services.api]\ncommand = ["true"]\n'
)
OWN = (
    '[[procedures.close.extra]]\nname = "tell"\nafter = "lock"\ncommand = ["a"]\nverify = ["b"]\n'
    'secrets = ["KEY"]\n'
)


def desk(text: str = "") -> DeskFile:
    return parse_desk((SERVICES + text).encode(), FILE, procedure_problems)


def step(procedure: str, name: str, text: str) -> str:
    return f"[procedures.{procedure}.steps.{name}]\n{text}\n"


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        ("", "", ""),
        (OWN, OWN, ""),
        (
            step("close", "flatten", 'on_failure = "force"'),
            "",
            "flatten: on failure force then, warn now",
        ),
        ("", step("close", "lock", 'timeout = "7s"'), "lock: time-out 30s then, 7s now"),
        (
            "",
            '[closing]\nwait_for_orders = "5s"',
            "wait_for_orders: time-out 60s then, 5s now",
        ),
        (
            step("close", "lock", 'approvals = ["risk", "operator"]'),
            step("close", "lock", 'approvals = ["risk"]'),
            "lock: approvals risk and operator then, risk now",
        ),
        (step("close", "lock", 'approvals = ["risk"]'), "", "lock: approvals risk then, none now"),
        (OWN, OWN + 'timeout = "5s"\n', "tell: time-out 30s then, 5s now"),
        (OWN, OWN + 'on_failure = "abort"\n', "tell: on failure warn then, abort now"),
        (OWN, OWN + 'approvals = ["risk"]\n', "tell: approvals none then, risk now"),
        (OWN, OWN.replace('"a"', '"c"'), "tell: it runs or verifies by another command than then"),
        (OWN, OWN.replace('"b"', '"c"'), "tell: it runs or verifies by another command than then"),
        # That a step is gone or new is told by its name.
        (OWN, "", ""),
        (OWN, OWN.replace('"tell"', '"other"'), ""),
    ],
)
def test_what_the_desk_file_says_otherwise_now_is_told_by_step(
    then: str, now: str, told: str
) -> None:
    kept = msgspec.json.decode(msgspec.json.encode(rules_of(CLOSE, desk(then))))
    assert what_changed_of_rules(kept, rules_of(CLOSE, desk(now))) == told


def test_a_run_from_before_its_rules_were_kept_tells_nothing() -> None:
    assert what_changed_of_rules({}, rules_of(CLOSE, desk(OWN))) == ""


def test_the_rules_of_a_step_of_each_service_are_those_of_that_one() -> None:
    rules = rules_of(ROLLING, desk(step("rolling-restart", "restart_web", 'approvals = ["risk"]')))
    assert rules["restart_web"]["approvals"] == ["risk"]
    assert rules["restart_api"]["approvals"] == []
    assert rules["restart_web"]["timeout_s"] == 0.0, "made of the service's own"


def test_every_procedure_has_its_rules_and_they_hold_no_secret() -> None:
    for procedure in PROCEDURES.values():
        assert set(procedure.step_names(desk().services)) == set(rules_of(procedure, desk()))
    assert set(rules_of(CLOSE, desk(OWN))["tell"]) == {
        "timeout_s", "on_failure", "approvals", "command",
    }  # fmt: skip
