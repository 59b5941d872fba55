"""How an opening is told, from what its steps came to."""

from __future__ import annotations

from typing import Any

import pytest

from openbell.procedures.begin_trading import Opened, Verdict
from openbell.procedures.opening import ServiceOutcome, Started
from openbell.procedures.opening_end import OpeningSeen, opening_end
from openbell.procedures.run import NOT_REACHED
from openbell.procedures.step import Outcome, StepReport

NAMES = (
    "preflight", "start_guard", "start_core", "start_services", "check_venues", "check_readiness",
    "begin_trading",
)  # fmt: skip


def step(
    name: str, outcome: Outcome = Outcome.DONE, detail: str = "", **evidence: Any
) -> StepReport:
    return StepReport(name, outcome, 0.1, detail or f"{name} is {outcome}", evidence)


def reports(*changed: StepReport) -> tuple[StepReport, ...]:
    """Of a run whose steps were done but for these; what comes after the last one that is not was
    reached all the same."""
    by_name = {each.name: each for each in changed}
    return tuple(by_name.get(name) or step(name) for name in NAMES)


def ended_at(name: str, outcome: Outcome = Outcome.FAILED) -> dict[str, Any]:
    place = NAMES.index(name)
    stopped = step(name, outcome)
    skipped = (step(each, Outcome.SKIPPED, f"{NOT_REACHED}: {name}") for each in NAMES[place + 1 :])
    return {
        "stopped_at": stopped,
        "reports": (*(step(each) for each in NAMES[:place]), stopped, *skipped),
        "verdict": Verdict(Opened.WAITING, "nothing was observed yet"),
    }


def seen(**changes: Any) -> OpeningSeen:
    given: dict[str, Any] = {
        "reports": reports(),
        "wanted": ("base", "top"),
        "services": {
            "top": ServiceOutcome("top", Started.READY),
            "base": ServiceOutcome("base", Started.READY),
        },
        "verdict": Verdict(Opened.TRADING),
        "ended_by": "",
        "stopped_at": None,
        "begun": True,
        "held_back": False,
        "left_out": False,
        "only": (),
        "own_steps": frozenset(),
    }
    return OpeningSeen(**(given | changes))


RUNS_ALREADY = {name: ServiceOutcome(name, Started.ALREADY_RUNNING) for name in ("base", "top")}
DOWN = {
    "base": ServiceOutcome("base", Started.FAILED, reason="exit status 3"),
    "top": ServiceOutcome(
        "top", Started.NOT_STARTED, reason="not started because base is not ready"
    ),
}
WAITS = {
    "reports": reports(step("begin_trading", Outcome.FAILED, "waiting for venue v")),
    "verdict": Verdict(Opened.WAITING, "venue v"),
}
LEFT_OUT = {
    "reports": reports(step("begin_trading", Outcome.SKIPPED, "only base is asked for")),
    "verdict": Verdict(Opened.WAITING, "nothing was observed yet"),
    "only": ("base",),
}


@pytest.mark.parametrize(
    ("changes", "opened", "outcome", "failed_at", "message"),
    [
        ({}, True, "trading", "", "begin_trading is done"),
        ({"services": RUNS_ALREADY}, True, "already_open", "", "already open: begin_trading is done"),
        ({"services": RUNS_ALREADY, **WAITS}, False, "waiting", "begin_trading", "waiting for venue v"),
        ({"left_out": True}, True, "partial", "",
         "everything asked for is up, but the desk does not trade: begin_trading is done"),
        ({**LEFT_OUT, "left_out": True}, True, "partial", "", "base is up (only what was asked for)"),
        (LEFT_OUT, True, "partial", "",
         "base is up (only what was asked for); the desk does not trade: only base is asked for"),
        ({"reports": reports(step("start_core", Outcome.FAILED, "base: exit status 3")),
          "services": DOWN}, False, "failed", "start_core", "base: exit status 3"),
        ({"reports": reports(step("start_core", Outcome.FAILED), step("start_services", Outcome.FAILED)),
          "services": DOWN}, False, "failed", "start_core", "base: exit status 3"),
        ({**ended_at("preflight"), "begun": False, "services": {}}, False, "failed", "preflight",
         "preflight: preflight is failed; nothing was started"),
        ({**ended_at("check_venues"), "held_back": True}, False, "failed", "check_venues",
         "check_venues: check_venues is failed; the desk does not trade"),
        ({"reports": reports(step("check_readiness", Outcome.FAILED, holds_trading=True),
                             step("begin_trading", Outcome.FAILED, "held: orders in doubt")),
          "verdict": Verdict(Opened.HELD, note="orders in doubt")},
         False, "held", "check_readiness", "held: orders in doubt"),
        ({"reports": reports(step("check_venues", Outcome.FAILED, "v: no route"))},
         True, "trading", "", "begin_trading is done; check_venues is failed: v: no route"),
        ({"reports": reports(step("start_guard", Outcome.UNKNOWN, "no answer"))},
         True, "trading", "", "begin_trading is done; WITHOUT A GUARD: no answer"),
    ],
)  # fmt: skip
def test_an_opening_is_told_by_what_its_steps_came_to(
    changes: dict[str, Any], opened: bool, outcome: str, failed_at: str, message: str
) -> None:
    end = opening_end(seen(**changes))
    assert (end.opened, end.outcome, end.message) == (opened, outcome, message)
    assert end.result["failed_at"] == failed_at
    assert end.result["outcome"] == outcome


def test_one_that_somebody_ended_says_what_was_left() -> None:
    skipped = step("begin_trading", Outcome.SKIPPED, f"{NOT_REACHED}: cancelled by joe")
    ended = {"reports": reports(skipped), "ended_by": "cancelled by joe", "held_back": True}
    end = opening_end(seen(**ended))
    assert (end.opened, end.outcome) == (False, "cancelled")
    assert end.message == "cancelled by joe; what runs was left running; the desk does not trade"
    assert opening_end(seen(**ended, begun=False)).why == "cancelled by joe; nothing was started"


def test_services_are_told_in_start_order_and_the_desks_own_steps_that_were_not_verified() -> None:
    own = step("ledger", Outcome.UNKNOWN, "no answer")
    end = opening_end(seen(reports=(*reports(), own), own_steps=frozenset({"ledger"})))
    rows: Any = end.result["services"]
    assert [row["name"] for row in rows] == ["base", "top"]
    assert end.message.endswith("; ledger is unknown: no answer")
