"""Who may ask: the Host allow-list, the Origin and the tokens, before any handler runs."""

from __future__ import annotations

import hmac
from collections.abc import Collection

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from openbell.service.http import host_name, is_cross_site

SERVICE_PATHS = frozenset({"/api/v1/permit", "/api/v1/kill-switch/triggered"})
"""What the desk's own services ask, with their token."""
OPEN_PATHS = frozenset({"/api/v1/openapi.json", "/api/v1/docs"})
"""They describe the API and say nothing of the desk."""


class Gate:
    """ASGI middleware: 421 for a foreign Host, 403 for what a foreign page sent and may change
    something, 401 without the right token."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: Collection[str],
        api_token: str,
        service_token: str,
        page_paths: Collection[str] = (),
    ) -> None:
        """`page_paths`: of the console, which are open as well."""
        self._app = app
        self._allowed = frozenset(host.lower() for host in allowed_hosts) | {"localhost"}
        self._api = api_token.encode()
        self._service = service_token.encode()
        self._open = OPEN_PATHS.union(page_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path = str(scope["path"])
        if host_name(headers.get("host", "")) not in self._allowed:
            refusal = _refusal(421, "misdirected", "this host name is not served here")
            await refusal(scope, receive, send)
        elif is_cross_site(scope["method"], headers.get("origin"), headers.get("host", "")):
            refusal = _refusal(403, "foreign_origin", "pages of other sites change nothing here")
            await refusal(scope, receive, send)
        elif path not in self._open and not self._admits(path, headers.get("authorization", "")):
            refusal = _refusal(
                401,
                "unauthorized",
                "send Authorization: Bearer <the token in state/"
                + ("service.token>" if path in SERVICE_PATHS else "api.token>"),
            )
            refusal.headers["WWW-Authenticate"] = "Bearer"
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _admits(self, path: str, authorization: str) -> bool:
        scheme, _, offered = authorization.partition(" ")
        wanted = self._service if path in SERVICE_PATHS else self._api
        given = offered.strip().encode("utf-8", "replace")
        return scheme.lower() == "bearer" and hmac.compare_digest(given, wanted)


def _refusal(status: int, code: str, message: str) -> Response:
    body = orjson.dumps({"error": code, "message": message, "hint": ""})
    return Response(body, status, media_type="application/json")
