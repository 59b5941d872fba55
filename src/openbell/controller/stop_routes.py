"""The routes of what stops the desk: the kill switch and the emergency stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from starlette.responses import Response, StreamingResponse

from openbell.controller.bodies import (
    ActivateBody,
    ApproveBody,
    DeactivateBody,
    EmergencyBody,
    TriggeredBody,
)
from openbell.controller.emergency import Emergency
from openbell.controller.kill_switch import KillSwitch
from openbell.controller.routes import Actor, FromHeader, Routes
from openbell.domain.approvals import UNNAMED
from openbell.domain.kill_rules import ACTOR
from openbell.domain.scopes import parse_scopes
from openbell.errors import UsageError
from openbell.kill.request import EmergencyRequest


def add_stop_routes(
    routes: Routes,
    prefix: str,
    switch: KillSwitch,
    emergency: Emergency,
    answer: Callable[[object, int], Response],
    line: Callable[[object], str],
) -> None:
    """`answer` makes an answer of a document and a status, `line` a line of JSON of an event."""
    _kill_switch(routes, f"{prefix}/kill-switch", switch, answer)

    @routes.post(
        f"{prefix}/emergency-stop",
        summary="Latch, freeze, cancel everywhere, verify, end; its statement, or its events",
    )
    async def emergency_stop(
        body: EmergencyBody | None = None,
        actor: Actor = UNNAMED,
        accept: Annotated[str, FromHeader("Accept")] = "",
    ) -> Response:
        events = emergency.stop(_request(body, actor))
        if "application/x-ndjson" in accept:
            first = await anext(events)  # what is refused is refused with a status

            async def lines() -> AsyncIterator[str]:
                yield line(first)
                async for event in events:
                    yield line(event)

            return StreamingResponse(lines(), media_type="application/x-ndjson")
        stated: object = None
        async for event in events:
            stated = event.get("statement") if event.get("event") == "done" else stated
        return answer(stated, 200)

    @routes.post(f"{prefix}/emergency-stop/plan", summary="What it would do now; nothing is done")
    async def emergency_stop_plan(
        body: EmergencyBody | None = None, actor: Actor = UNNAMED
    ) -> Response:
        # In a thread: it looks through the process table.
        document = await asyncio.to_thread(emergency.plan, _request(body, actor))
        if document["by"] != "guard":
            document["by"] = "a process of its own"
        return answer(document, 200)


def _request(body: EmergencyBody | None, actor: str) -> EmergencyRequest:
    """Raises UsageError for what is no scope, and for what makes no sense together."""
    asked = body or EmergencyBody()
    try:
        return EmergencyRequest(
            reason=asked.reason,
            actor=actor,
            scopes=parse_scopes(asked.scopes),
            flatten=asked.flatten,
            account_wide=asked.account_wide,
            timeout_s=asked.timeout_s,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _kill_switch(
    routes: Routes,
    path: str,
    switch: KillSwitch,
    answer: Callable[[object, int], Response],
) -> None:
    @routes.get(path, summary="What is latched, by whom and why; pending requests")
    async def kill_switch() -> Response:
        document, rules = await asyncio.gather(asyncio.to_thread(switch.document), switch.rules())
        return answer({**document, "rules": rules}, 200)

    @routes.post(f"{path}/activate", summary="Latch: no new order from now on")
    async def activate(body: ActivateBody | None = None, actor: Actor = UNNAMED) -> Response:
        asked = body or ActivateBody()
        done = await switch.activate(asked.scopes, asked.reason, actor, asked.set_already)
        return answer(done, 200)

    @routes.post(f"{path}/triggered", summary="For services: a kill rule has latched")
    async def triggered(body: TriggeredBody) -> Response:
        actor = f"{ACTOR}{body.rule}"
        return answer(await switch.activate(body.scopes, body.reason, actor, body.latches), 200)

    @routes.post(f"{path}/deactivate", summary="Release, or ask for the approval it takes")
    async def deactivate(body: DeactivateBody, actor: Actor = UNNAMED) -> Response:
        done = await switch.deactivate(body.scopes, body.reason, actor, body.latches)
        return answer(done, 200 if done["deactivated"] else 202)

    @routes.post(f"{path}/approve", summary="Approve another person's release: it is done")
    async def approve(body: ApproveBody, actor: Actor = UNNAMED) -> Response:
        return answer(await switch.approve(body.request, body.digest, body.reason, actor), 200)
