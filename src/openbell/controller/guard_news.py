"""What the guard tells and a person must see, in the controller's log and in the audit log too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openbell.controller.desk import ControlledDesk
from openbell.service.logging import get_logger

log = get_logger()

_SWITCHES = frozenset({"dead_man_fires", "dead_man_fired", "dead_man_late", "dead_man_problem"})
_WENT_ON = {"stop_gone_on": "begun", "stop_proven": "verified"}
"""What it says of a stop that it goes on with, and what that came to."""


def pass_on(desk: ControlledDesk, told: Mapping[str, Any], pid: int | None) -> None:
    """`told`: one event of the guard with this pid; others than these are in its own log."""
    event = str(told.get("event"))
    if event in _SWITCHES:
        facts = {key: value for key, value in told.items() if key not in ("event", "at")}
        settled = event == "dead_man_fired" and facts.get("result") == "verified"
        said = log.warning if settled else log.error
        said(event.replace("_", " "), alert=not settled, **facts)
        action = f"dead_man.{event.removeprefix('dead_man_')}"
        desk.auditor.note(action, str(facts.pop("venue", "")), **facts)
    elif event in _WENT_ON:
        venue, course = str(told.get("venue", "")), str(told.get("course", ""))
        result = _WENT_ON[event]
        log.warning("the guard goes on with a stop", venue=venue, course=course, result=result)
        desk.auditor.note("emergency.went_on", venue, course=course, result=result)
    elif event == "stop_stands_still":
        why = str(told.get("why", ""))
        log.error(
            "a stop stood still in the guard: it is replaced once no stop is under way",
            pid=pid, why=why, alert=True,
        )  # fmt: skip
        desk.auditor.note("emergency.stood_still", desk.desk.file.desk.name, pid=pid, why=why)
