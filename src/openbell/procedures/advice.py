"""What is recommended of a run that was cut off and of an emergency stop, with a controller and without.

Each is a row of `status`: `{"severity", "subject", "text", "action"}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from openbell.domain.closing_wishes import wishes_told
from openbell.kill.unproven_stop import LeftOpen

Advice = Mapping[str, str]


def cut_off_advice(run: str, procedure: str, parameters: Mapping[str, object]) -> Advice:
    """Whatever the run was asked for holds when it is resumed; the procedure's own command may ask for
    something else, and forgets that a closing was half of a restart."""
    told = f"a killed controller left this {procedure} unfinished"
    return {
        "severity": "warning",
        "subject": run,
        "text": f"{told} ({wishes_told(parameters)})" if procedure == "close" else told,
        "action": f"openbell procedure resume {run}",
    }


def stop_advice(stop: Mapping[str, Any] | None) -> Advice:
    """Of the emergency stop that holds the desk (`kill.unproven_stop`); None: it cannot be read."""
    text, action = _of_a_stop(stop)
    return {"severity": "critical", "subject": "desk", "text": text, "action": action}


def left_open_advice(left: Iterable[LeftOpen]) -> list[Advice]:
    """Of stops that hold the desk no more, and were not proven since."""
    return [
        {
            "severity": "critical",
            "subject": each.venue,
            "text": f"emergency stop {each.course} came to {each.result} here, and that its orders are gone "
            f"was not seen since{f': {each.why}' if each.why else ''}",
            "action": "the guard asks again until it is proven, or its latch is released: "
            "openbell emergency-stop presses again",
        }
        for each in left
    ]


def is_unproven(stop: Mapping[str, Any]) -> bool:
    """Whether something may rest in spite of that stop, or because it goes on."""
    stated = stop.get("statement")
    return bool(stop["under_way"]) or stated is None or stated["result"] != "verified"


def _of_a_stop(stop: Mapping[str, Any] | None) -> tuple[str, str]:
    stated = (stop or {}).get("statement")
    if stop is not None and stop["under_way"]:
        return "an emergency stop is under way", "openbell emergency-stop shows it"
    held = "nothing is started until the desk is opened again"
    if stated is None:
        return f"an emergency stop was begun and has no end: {held}", "openbell emergency-stop"
    if stated["result"] != "verified":
        text = f"an emergency stop came to {stated['result']}, orders may be left: {held}"
        return text, "openbell emergency-stop"
    return f"an emergency stop was begun: {held}", "openbell up"
