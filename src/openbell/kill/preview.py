"""What an emergency stop would do now, seen from the same files, and nothing done."""

from __future__ import annotations

from typing import Any

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.domain.scopes import ScopeKind
from openbell.errors import ConfigError
from openbell.kill.marker import OUTSIDE
from openbell.kill.own_processes import OwnProcesses
from openbell.kill.request import EmergencyRequest, visits_of


def emergency_plan(layout: DeskLayout, request: EmergencyRequest) -> dict[str, Any]:
    """`{"procedure", "steps": [{"name", "title", "actions", "reason"}]}`, as other plans. Venues are
    not asked: what they hold is seen when it is done."""
    own = OwnProcesses(layout).look() if request.whole_desk else {}
    scopes = ", ".join(str(scope) for scope in request.scopes)
    freeze = [
        f"freeze {each.name} (pids {', '.join(map(str, each.pids))})"
        for each in own.values()
        if each.may_send
    ]
    steps = [
        _step("hold", "Nothing more is sent", [f"latch {scopes}", *freeze]),
        _step("venues", "Cancelled and verified at each venue", _venues(layout, request)),
    ]
    if request.whole_desk:
        ends = [
            f"{'kill' if each.may_send else 'stop'} {each.name}"
            for each in own.values()
            if each.role not in OUTSIDE
        ]
        steps += [
            _step(
                "checkpoint", "A quick checkpoint", [f"write {layout.checkpoints}/...-quick.ckpt"]
            ),
            _step("end", "Processes end", ends, "nothing of it runs"),
        ]
    return {
        "procedure": "emergency-stop",
        "by": "guard" if layout.guard_socket.exists() else "this command",
        "steps": steps,
    }


def _venues(layout: DeskLayout, request: EmergencyRequest) -> list[str]:
    try:
        desk = load_desk(layout.desk)
    except ConfigError as error:
        return [f"NO VENUE CAN BE ASKED: {error.message}"]
    whose = "every open order" if request.account_wide else "the desk's open orders"
    actions = []
    for name, symbols in visits_of(request, desk).items():
        where = "" if symbols == (None,) else f" in {', '.join(map(str, symbols))}"
        exclusive = ", by mass cancel where it has one" if desk.file.venues[name].exclusive else ""
        then = ", then close the positions" if request.flatten else "; positions stay"
        actions.append(
            f"{name}: cancel {whose}{where}{exclusive}; ask until two lists are empty{then}"
        )
    actions += [
        f"strategy {name}: its engine is asked to cancel, and what is open"
        for name in request.named(ScopeKind.STRATEGY)
    ]
    return actions


def _step(name: str, title: str, actions: list[str], reason: str = "") -> dict[str, Any]:
    return {"name": name, "title": title, "actions": actions, "reason": "" if actions else reason}
