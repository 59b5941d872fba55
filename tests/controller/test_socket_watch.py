"""A socket whose path was cleaned away is opened again, and what goes wrong meanwhile ends no watching."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from openbell.config.layout import DeskLayout
from openbell.controller import socket_watch
from openbell.controller.listeners import place_of, unix_listener
from openbell.controller.socket_watch import SocketWatch
from openbell.service.server import QuietServer

WAIT_S = 60.0


async def app(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Notes:
    """Stands in for the auditor."""

    def __init__(self) -> None:
        self.actions: list[str] = []

    def note(self, action: str, *_: object) -> None:
        self.actions.append(action)


async def answer(path: Path) -> bytes:
    """First line; empty where nobody answers."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return b""
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return await reader.readline()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "failure", [OSError("no more watches"), RuntimeError("odd"), ValueError("fd")]
)
async def test_a_socket_that_cannot_be_served_at_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """It ended the watching unseen, and the socket counted as open: it was never tried again."""
    layout = DeskLayout(desk=tmp_path, state=tmp_path / "state")
    layout.make()
    path = layout.controller_socket
    listener = unix_listener(path)
    server, notes = QuietServer(app, graceful_s=1), Notes()
    loop = asyncio.get_running_loop()
    serving = asyncio.create_task(server.serve([listener]))
    async with asyncio.timeout(WAIT_S):
        while not server.started:
            await asyncio.sleep(0.005)
    create, failed = loop.create_server, []

    async def create_server(*arguments: Any, **options: Any) -> Any:
        if not failed:
            failed.append(options["sock"])
            raise failure
        return await create(*arguments, **options)

    monkeypatch.setattr(socket_watch, "LOOK_S", 0.005)
    monkeypatch.setattr(loop, "create_server", create_server)
    watch = SocketWatch(layout, listener, place_of(listener), server, notes)  # type: ignore[arg-type]
    watching = asyncio.create_task(watch.run())
    path.unlink()
    async with asyncio.timeout(WAIT_S):
        while notes.actions != ["controller.socket_lost"]:
            assert not watching.done()
            await asyncio.sleep(0.005)
        assert (await answer(path)).startswith(b"HTTP/1.1 204")
    assert [each.fileno() for each in failed] == [-1], "what could not be served is closed"
    watching.cancel()
    server.stop()
    await serving
