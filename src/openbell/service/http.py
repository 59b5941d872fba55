"""The HTTP face of a service: open endpoints for probes, a token for everything under `/v1`.

A request that acts may say until when its asker waits. One that lay unread for longer, because the
service was stopped or hung, is refused: nobody expects its effect any more, and whoever asked has
been told that it did not happen.
"""

from __future__ import annotations

import hmac
import inspect
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import orjson
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from openbell.errors import (
    ConfigError,
    ConflictError,
    NotRunningError,
    OpenbellError,
    RefusedError,
    UnverifiedError,
    UsageError,
)
from openbell.service.logging import REDACTOR, get_logger

Handler = Callable[[dict[str, Any]], object | Awaitable[object]]
"""Takes path parameters, query parameters and the fields of a JSON body in one dict; gives
anything that msgspec can encode as JSON (Structs, dataclasses, Decimals as text)."""

ALLOWED_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
BODY_BYTES_MAX = 1 << 20

DEADLINE_HEADER = "X-Openbell-Deadline-Mono-Ns"
"""When the asker stops waiting, on the monotonic clock, which all processes of one boot share."""
deadline_mono_ns: ContextVar[int | None] = ContextVar("deadline_mono_ns", default=None)
"""Of the request that is being handled; None: its asker did not say."""


class ExpiredError(ConflictError):
    """The asker no longer waits: nothing was done."""

    code: ClassVar[str] = "expired"


_STATUS: tuple[tuple[type[OpenbellError], int], ...] = (
    (UsageError, 400),
    (ConfigError, 400),
    (ConflictError, 409),
    (RefusedError, 409),
    (NotRunningError, 503),
    (UnverifiedError, 502),
)


def json_response(body: object, status: int = 200) -> Response:
    plain = msgspec.to_builtins(body, builtin_types=(Decimal,))
    content = orjson.dumps(plain, default=_amount, option=orjson.OPT_NON_STR_KEYS)
    return Response(content, status, media_type="application/json")


def _amount(value: object) -> str:
    """An amount in plain figures: `0.00000000`, where `str` would write `0E-8`."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(f"{type(value).__name__} has no JSON form")


def error_response(error: OpenbellError, status: int = 0) -> Response:
    code = status or next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    return json_response(error.as_dict(), code)


def host_name(host: str) -> str:
    """The name in a Host header, in lower case and without its port: `[::1]:8000` is `[::1]`. Empty for what
    is not `name [":" digits]` (RFC 9110, section 7.2): `127.0.0.1:8000@evil.example` names nobody. A dot
    at its end is part of the name."""
    text = host.strip().lower()
    if text.startswith("["):
        name, closed, port = text.partition("]")
        name += closed
        well_formed = bool(closed) and (not port or port.startswith(":"))
        port = port[1:]
    else:
        name, _, port = text.partition(":")
        well_formed = True
    return name if well_formed and (not port or (port.isascii() and port.isdigit())) else ""


def is_cross_site(method: str, origin: str | None, host: str) -> bool:
    """Whether a request that may change something was sent by a page that this `Host` did not serve.

    A browser says with every such request of whose page it is, and a page cannot change what it says;
    `null` is that of a page without a name. Programs send no Origin.
    """
    if origin is None or method in ("GET", "HEAD", "OPTIONS"):
        return False
    _, _, authority = origin.strip().lower().partition("://")
    return not authority or authority != host.strip().lower()


class HostGuard:
    """Answers only requests that were addressed to this machine, others get 421; and none that a page
    of another site sent and that may change something: 403.

    A page in a browser can make a foreign name resolve to 127.0.0.1 (DNS rebinding); its requests
    carry that name in their Host header.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host = headers.get("host", "")
            if host_name(host) not in ALLOWED_HOSTS:
                refusal = json_response(
                    {"error": "wrong_host", "message": "this service answers on loopback only"}, 421
                )
                await refusal(scope, receive, send)
                return
            if is_cross_site(scope["method"], headers.get("origin"), host):
                refusal = json_response(
                    {
                        "error": "foreign_origin",
                        "message": "pages of other sites change nothing here",
                    },
                    403,
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class TokenFile:
    """The service token, read again when its file changes. Without a token nobody gets in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._token = b""

    def admits(self, authorization: str) -> bool:
        scheme, _, offered = authorization.partition(" ")
        token = self._read()
        return (
            bool(token)
            and scheme.lower() == "bearer"
            and hmac.compare_digest(offered.strip().encode("utf-8", "replace"), token)
        )

    def _read(self) -> bytes:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                self._token = self._path.read_bytes().strip()
                self._stamp = stamp
                REDACTOR.add([self._token.decode("utf-8", "replace")])
        except OSError:
            self._stamp, self._token = None, b""
        return self._token


async def read_request(request: Request) -> dict[str, Any]:
    """Query, JSON body and path parameters in one dict; the path wins. Raises UsageError."""
    fields: dict[str, Any] = dict(request.query_params)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise UsageError(f"the body is larger than {BODY_BYTES_MAX} bytes")
    if body:
        try:
            decoded = msgspec.json.decode(bytes(body))
        except msgspec.DecodeError as error:
            raise UsageError(f"the body is not JSON: {error}") from error
        if not isinstance(decoded, dict):
            raise UsageError("the body must be a JSON object")
        fields |= decoded
    return fields | request.path_params


def endpoint(
    handler: Handler, admit: Callable[[Request], Response | None], *, acts_late: bool = False
) -> Any:
    """A Starlette endpoint around `handler`. `admit` gives the refusal, where there is one.
    `acts_late`: a POST is carried out though its asker has given up."""

    async def answer(request: Request) -> Response:
        refusal = admit(request)
        if refusal is not None:
            return refusal
        try:
            fields = await read_request(request)
            if request.method == "POST" and not acts_late:
                _refuse_expired(request)
            result = handler(fields)
            if inspect.isawaitable(result):
                result = await result
            return result if isinstance(result, Response) else json_response(result)
        except OpenbellError as error:
            return error_response(error)
        except Exception as error:  # noqa: BLE001 - a defect in a handler must not end the service
            get_logger().exception("request failed", path=request.url.path)
            return json_response({"error": "defect", "message": type(error).__name__}, 500)

    return answer


def _refuse_expired(request: Request) -> None:
    text = request.headers.get(DEADLINE_HEADER)
    if text is None:
        return
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise UsageError(f"{DEADLINE_HEADER} is nanoseconds, not {text[:40]!r}")
    deadline_ns = int(text)
    late_ns = time.monotonic_ns() - deadline_ns
    if late_ns > 0:
        raise ExpiredError(
            f"the request was read {late_ns / 1e9:.1f}s after its asker gave up; nothing was done",
            hint="ask again",
        )
    deadline_mono_ns.set(deadline_ns)
