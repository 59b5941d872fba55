"""The client and a controller that dies in the middle of its answer."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openbell.cli import reaching
from openbell.cli.client import Client
from openbell.config.layout import DeskLayout
from openbell.errors import NotRunningError, UnverifiedError
from openbell.runtime import peer
from openbell.state.lock import held_by

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    (tmp_path / "desk.toml").touch()
    made = DeskLayout.for_desk(tmp_path, {})
    made.make()
    made.api_token.write_text("token")
    return made


@contextlib.contextmanager
def dying_controller(layout: DeskLayout, said: bytes) -> Iterator[None]:
    """Reads one request, says so much, and is gone."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(layout.controller_socket))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield
        finally:
            serving.join(timeout=30)


@pytest.mark.parametrize(
    ("said", "ask"),
    [
        (CHUNKED + b'40\r\n{"seq": 1', lambda client: list(client.events("runs/x/events"))),
        (CHUNKED + b'9\r\n{"seq": 1\r\n', lambda client: list(client.events("runs/x/events"))),
        (
            b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"desk"',
            lambda client: client.get("status"),
        ),
        (
            b'HTTP/1.1 409 Conflict\r\nContent-Length: 90\r\n\r\n{"error"',
            lambda client: client.post("open"),
        ),
        (b"", lambda client: client.post("close")),
    ],
)
def test_an_answer_that_is_cut_off_is_unverified_and_no_defect(
    layout: DeskLayout, said: bytes, ask: Callable[[Client], Any]
) -> None:
    """A controller killed while it wrote an event ended `openbell down` with status 70 and a stack
    trace, and did not say that the same command goes on."""
    with dying_controller(layout, said), pytest.raises(UnverifiedError):
        ask(Client(layout))


def test_events_that_came_whole_are_given_before_the_cut(layout: DeskLayout) -> None:
    said = CHUNKED + b'b\r\n{"seq": 1}\n\r\n' + b'40\r\n{"seq": 2'
    with dying_controller(layout, said):
        events = Client(layout).events("runs/x/events")
        assert next(events) == {"seq": 1}
        with pytest.raises(UnverifiedError):
            next(events)


HOLDS = """
import sys
from pathlib import Path
from openbell.state.lock import FileLock
with FileLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_token_is_sent_to_nobody_but_the_process_that_holds_the_lock(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the socket is gone the port is another way; somebody else may listen there."""
    monkeypatch.setattr(reaching, "REACH_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        somebody.settimeout(0)
        port = somebody.getsockname()[1]
        with pytest.raises(NotRunningError, match="no controller answers"):
            Client(layout).get("status")
        holding = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(layout.controller_lock)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with holding:
            assert holding.stdout is not None and holding.stdout.readline() == b"held\n"
            record = {"pid": holding.pid, "host": "127.0.0.1", "port": port}
            layout.controller_record.write_text(json.dumps(record))
            with pytest.raises(NotRunningError, match=f"runs \\(process {holding.pid}\\)"):
                Client(layout).get("status")
            with pytest.raises(BlockingIOError):
                somebody.accept()
            assert held_by(layout.controller_lock) == holding.pid
        assert held_by(layout.controller_lock) is None, "given back by whoever held it"


@contextlib.contextmanager
def somebody_at(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)
        yield listener


def was_told(listener: socket.socket) -> bytes:
    """What everybody who connected has sent; they are gone."""
    said = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setblocking(True)
                while data := connection.recv(65536):
                    said += data
    return said


def test_the_token_is_sent_to_no_other_user_who_listens_at_the_path(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a temporary folder that was cleaned anybody may make the folder of the sockets anew."""
    monkeypatch.setattr(peer, "credentials", lambda _: (os.getpid(), os.getuid() + 1))
    with somebody_at(layout.controller_socket) as listener:
        with pytest.raises(NotRunningError, match=r"another user listens .* was asked nothing"):
            Client(layout).post("close")
        assert was_told(listener) == b""


def test_the_token_is_sent_to_no_other_process_than_the_one_that_holds_the_lock(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaching, "REACH_S", 0.0)
    holding = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(layout.controller_lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holding, somebody_at(layout.controller_socket) as listener:
        assert holding.stdout is not None and holding.stdout.readline() == b"held\n"
        with pytest.raises(NotRunningError, match=f"runs \\(process {holding.pid}\\)"):
            Client(layout).get("status")
        assert was_told(listener) == b""
