"""Requests that a service reads after their asker has given up."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from openbell.service.http import DEADLINE_HEADER, deadline_mono_ns, endpoint
from openbell.service_client import ServiceClient

Start = Callable[[str], Any]


async def test_what_lay_unread_in_a_stopped_service_is_not_done_late(
    start_service: Start, tmp_path: Path
) -> None:
    """A flatten that `down` had given up acted when the engine was woken."""
    service = start_service(
        """
        done = []
        async def act(request):
            done.append(request["name"])
            return {}
        app.route("POST", "/v1/act/{name}", act)
        app.route("POST", "/v1/reduce/{name}", act, acts_late=True)
        app.route("GET", "/v1/done", lambda _: {"done": done})
        """
    )
    client = ServiceClient({"sample": service.port}, tmp_path / "service.token")
    try:
        assert (await client.post("sample", "/v1/act/in-time")).known
        service.process.send_signal(signal.SIGSTOP)
        given_up = await asyncio.gather(
            client.post("sample", "/v1/act/late", timeout_s=0.2),
            client.post("sample", "/v1/reduce/harmless", timeout_s=0.2),
        )
        assert [answer.status for answer in given_up] == [None, None]
        service.process.send_signal(signal.SIGCONT)
        done: list[str] = []
        end = time.monotonic() + 20
        while "harmless" not in done and time.monotonic() < end:
            done = (await client.get("sample", "/v1/done")).get("done")
        assert done == ["in-time", "harmless"]
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("deadline", "status"),
    [(None, 200), (10**18, 200), (0, 409), ("soon", 400), ("-1", 400), ("9" * 30, 400)],
)
async def test_a_deadline_is_read_from_the_header(deadline: Any, status: int) -> None:
    seen: list[int | None] = []

    def act(_: dict[str, Any]) -> object:
        seen.append(deadline_mono_ns.get())
        return {}

    headers = (
        [] if deadline is None else [(DEADLINE_HEADER.lower().encode(), str(deadline).encode())]
    )
    scope = {
        "type": "http", "method": "POST", "path": "/v1/act", "query_string": b"", "headers": headers,
        "path_params": {},
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    answer = await asyncio.create_task(endpoint(act, lambda _: None)(Request(scope, receive)))
    assert answer.status_code == status
    assert seen == ([deadline] if status == 200 else [])
    if status == 409:
        assert b'"expired"' in answer.body
