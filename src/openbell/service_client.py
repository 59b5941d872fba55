"""Asks a service of the desk something over HTTP on loopback, with the services' token.

A question has an answer or none; "none" is a result that says why, not an exception, because
most askers go on without it, and have to say so. Each says until when it is waited for, so that a
service which reads it later leaves it alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

if TYPE_CHECKING:
    from openbell.http_library import aiohttp

_ANSWER_BYTES_MAX = 64 << 20


@dataclass(frozen=True)
class Answer:
    """What a service said. `body` is None where it said nothing that could be understood."""

    body: Mapping[str, Any] | None
    status: int | None = None
    """HTTP status; None where there was no answer at all."""
    why: str = ""
    """Why there is no body, or the message of a refusal."""

    @property
    def known(self) -> bool:
        """Whether this is an answer to the question: a JSON object with a 2xx status."""
        return self.body is not None and self.status is not None and 200 <= self.status < 300

    def get(self, key: str, default: Any = None) -> Any:
        """A key of the body of a known answer, else `default`."""
        return self.body.get(key, default) if self.known and self.body is not None else default


class Asks(Protocol):
    """The port: how procedures and the controller ask services."""

    async def get(self, service: str, path: str, *, timeout_s: float = 5.0) -> Answer: ...

    async def post(
        self,
        service: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_s: float = 10.0,
    ) -> Answer: ...


class ServiceClient:
    """`Asks` over HTTP. The client library is loaded with the first question: a controller that
    only supervises does not need it."""

    def __init__(
        self, ports: Mapping[str, int] | Callable[[str], int | None], token_file: Path
    ) -> None:
        """`ports`: where each service that can be asked listens, on 127.0.0.1; asked for each
        question where it is a function, as a service that was replaced listens elsewhere."""
        self._port_of = ports if callable(ports) else ports.get
        self._token_file = token_file
        self._session: aiohttp.ClientSession | None = None

    async def get(
        self, service: str, path: str, *, timeout_s: float = 5.0, port: int | None = None
    ) -> Answer:
        """`port`: of a process of the service that is not the service yet."""
        return await self._ask("GET", service, path, None, timeout_s, port)

    async def post(
        self,
        service: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_s: float = 10.0,
    ) -> Answer:
        return await self._ask("POST", service, path, body or {}, timeout_s)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(
        self,
        method: str,
        service: str,
        path: str,
        body: Mapping[str, object] | None,
        timeout_s: float,
        port: int | None = None,
    ) -> Answer:
        from openbell.http_library import aiohttp

        port = port or self._port_of(service)
        if port is None:
            return Answer(None, why=f"{service} has no port to be asked on")
        if self._session is None:
            # No keep-alive: questions are rare, and a kept connection to a service that was
            # restarted would fail the first of them.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        try:
            headers = {
                "Authorization": f"Bearer {await asyncio.to_thread(self._token)}",
                "X-Openbell-Deadline-Mono-Ns": str(time.monotonic_ns() + int(timeout_s * 1e9)),
            }
            async with self._session.request(
                method,
                f"http://127.0.0.1:{port}{path}",
                data=None if body is None else orjson.dumps(body, default=str),
                headers={**headers, "Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                raw = bytearray()
                async for chunk in response.content.iter_chunked(64 << 10):
                    raw += chunk
                    if len(raw) > _ANSWER_BYTES_MAX:
                        return Answer(None, response.status, f"{service} answers without end")
                return _understood(service, response.status, bytes(raw))
        except TimeoutError:
            return Answer(None, why=f"{service} did not answer within {timeout_s:g}s")
        except (aiohttp.ClientError, OSError) as error:
            return Answer(None, why=f"{service} cannot be asked: {_short(error)}")

    def _token(self) -> str:
        return self._token_file.read_text().strip()


def _understood(service: str, status: int, raw: bytes) -> Answer:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return Answer(None, status, f"{service} answered {status} with something that is no JSON")
    if not isinstance(body, dict):
        return Answer(None, status, f"{service} answered {status} with no JSON object")
    if 200 <= status < 300:
        return Answer(body, status)
    return Answer(
        body, status, f"{service} answered {status}: {body.get('message', '')}".rstrip(": ")
    )


def _short(error: BaseException) -> str:
    return str(error) or type(error).__name__
