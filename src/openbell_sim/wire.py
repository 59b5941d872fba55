"""JSON in and out of the venue's own endpoints (`/sim/v1`)."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TypeVar

import msgspec
import orjson
from aiohttp import web

S = TypeVar("S", bound=msgspec.Struct)

Admit = Callable[[web.Request], None]
"""Raises HTTPUnauthorized for a request that may not change anything."""


def bearer(token: str) -> Admit:
    """Asks for `Authorization: Bearer <token>`; with an empty token for nothing."""

    def admit(request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise refused(401, "unauthorized", "the control endpoint wants a bearer token")

    return admit


async def read(request: web.Request, kind: type[S]) -> S:
    """The request's body as a struct; no body is an empty one. Raises HTTPBadRequest, saying what
    is wrong with it."""
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind, strict=False)
    except msgspec.MsgspecError as error:
        raise refused(400, "malformed", str(error)) from None


def refused(status: int, code: str, text: str) -> web.HTTPException:
    kinds: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        401: web.HTTPUnauthorized,
        404: web.HTTPNotFound,
        409: web.HTTPConflict,
    }
    body = orjson.dumps({"error": code, "message": text}).decode()
    return kinds[status](text=body, content_type="application/json")


def json_reply(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
