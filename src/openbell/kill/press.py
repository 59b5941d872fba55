"""Presses the button: latch at once, then by the guard, and without it alone, from the desk file.

latch ─▶ guard takes it within 100 ms ─▶ its statement
           │ no, or it ends in the middle
           ▼
         alone: freeze, load what the venues need, cancel, verify, end
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from openbell.config.layout import DeskLayout
from openbell.errors import OpenbellError
from openbell.kill.aside import aside
from openbell.kill.course import Tell
from openbell.kill.emergency import carry_out
from openbell.kill.emergency_statement import EmergencyStatement, LatchSet
from openbell.kill.equipment import LoadedAlone
from openbell.kill.guard_client import GuardGoneError, GuardRefusedError, emergency_stop_by_guard
from openbell.kill.holding import LATCH_TIMEOUT_S
from openbell.kill.latching import latch_now
from openbell.kill.progress import StandsStillError
from openbell.kill.request import EmergencyRequest
from openbell.state.kill_log import append_act

RECORD_TIMEOUT_S = 1.0


async def press(
    layout: DeskLayout,
    request: EmergencyRequest,
    tell: Tell,
    *,
    ask_guard: bool = True,
    latch: bool = True,
) -> EmergencyStatement:
    """Never raises for what a guard, a disk, a venue or a process does. `latch`: False: the caller has set
    it, or tried to, as `front.latch_apart` does."""
    request = await latched(layout, request) if latch else request
    stated = None
    if ask_guard:
        try:
            stated = await emergency_stop_by_guard(layout, request, tell)
        except (GuardGoneError, GuardRefusedError) as error:
            tell({"event": "alone", "why": f"the guard does not do it: {error}"})
    if stated is None:
        try:
            stated = await carry_out(layout, request, LoadedAlone(layout), tell)
        except StandsStillError as error:
            stated = _unfinished(request, str(error))
    await _record(layout, request, stated)
    return stated


def _unfinished(request: EmergencyRequest, why: str) -> EmergencyStatement:
    """Of a stop of which nothing is known but what it did not come through."""
    return EmergencyStatement(
        course="",
        reason=request.reason,
        actor=request.actor,
        scopes=tuple(str(scope) for scope in request.scopes),
        flatten=request.flatten,
        account_wide=request.account_wide,
        began=datetime.now(UTC).isoformat(),
        took_s=0.0,
        carrier_pid=os.getpid(),
        latch=LatchSet(set=bool(request.set_already), durable=bool(request.set_already)),
        problems=(f"this stop stood still: {why}",),
        by_hand=(
            "this stop was not carried to its end: press again; should that one stand still too, log in at "
            "each venue of the desk and cancel its open orders"
        ),
    )


async def latched(layout: DeskLayout, request: EmergencyRequest) -> EmergencyRequest:
    """Sets the latch before anybody is asked. What fails here is tried, and told, by the stop."""
    try:
        ids = await aside(lambda: latch_now(layout, request), LATCH_TIMEOUT_S)
    except (OSError, OpenbellError, TimeoutError):
        return request
    return msgspec.structs.replace(request, set_already=ids)


async def _record(
    layout: DeskLayout, request: EmergencyRequest, stated: EmergencyStatement
) -> None:
    """In the kill switch's own log; the controller, where there is one, records each
    course for itself (`kill.stop_seen`)."""
    detail: Mapping[str, Any] = {
        "scopes": list(stated.scopes),
        "reason": request.reason,
        "result": stated.result,
        "course": stated.course,
        "joined": stated.joined,
    }
    try:
        await aside(
            lambda: append_act(layout.kill_switch_log, request.actor, "emergency_stop", detail),
            RECORD_TIMEOUT_S,
        )
    except (OSError, OpenbellError, TimeoutError):
        return  # the course has it
