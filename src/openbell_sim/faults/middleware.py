"""The middleware that lets every HTTP request meet the faults in the plan."""

from __future__ import annotations

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from openbell_sim.faces.port import Answer, Asked
from openbell_sim.faults.plan import FaultPlan

_EXEMPT = ("/sim/", "/health", "/ready", "/metrics", "/shutdown-status")
"""Whoever checks the desk needs to reach the venue whatever the desk is made to suffer."""


def middleware(plan: FaultPlan) -> Middleware:
    """To be put in front of every face."""

    @web.middleware
    async def meet(request: web.Request, handler: Handler) -> web.StreamResponse:
        # What is only read is no order; where nothing can become of it, nothing need be known of it.
        if request.path.startswith(_EXEMPT) or (plan.idle and request.method == "GET"):
            return await handler(request)
        if request.can_read_body:
            # Now: the body is gone with a client that does not wait.
            body = await request.read()
        else:
            body = b""

        async def carry_out() -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPException as reply:  # A reply like any other, as faults go.
                return reply

        outcome = await plan.meet(_asked(plan, request, body), carry_out)
        if outcome is None:
            return _cut(request)
        if isinstance(outcome, web.HTTPException):
            raise outcome
        return _reply(outcome) if isinstance(outcome, Answer) else outcome

    return meet


def _asked(plan: FaultPlan, request: web.Request, body: bytes) -> Asked:
    words = [word for value in request.headers.values() for word in value.split()]
    bearer = plan.ground.keys.bearer([*words, *request.query.values()])
    return Asked(
        kind=plan.ground.face.kind_of(request.method, request.path),
        method=request.method,
        path=request.path,
        account=None if bearer is None else bearer.account,
        said=tuple(text for text in (request.query_string.encode(), body) if text),
    )


def _cut(request: web.Request) -> web.StreamResponse:
    """Closes the connection before a byte of a reply leaves."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=504)


def _reply(answer: Answer) -> web.Response:
    return web.Response(
        body=None if answer.body is None else orjson.dumps(answer.body),
        status=answer.status,
        headers=answer.headers,
        content_type="application/json",
    )
