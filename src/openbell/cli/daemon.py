"""Starts the controller in the background and waits until it answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from openbell.cli.client import Client, actor
from openbell.config.layout import DeskLayout
from openbell.errors import (
    ConfigError,
    ConflictError,
    CorruptError,
    FailedError,
    OpenbellError,
    RefusedError,
    StorageError,
)
from openbell.runtime.logs import tail

_START_TIMEOUT_S = 30.0
"""Ample: a controller answers within a second; adopting 100 services adds a third of one."""
_POLL_EVERY_S = 0.02
_TAIL_LINES = 15
_BY_STATUS: dict[int, type[OpenbellError]] = {
    error.exit_code: error
    for error in (ConfigError, ConflictError, RefusedError, CorruptError, StorageError)
}
"""The controller ends with its error's exit code; the command that started it says the same."""


def ensure_controller(layout: DeskLayout, desk: Path) -> bool:
    """Whether a controller had to be started. If it ends, raises the error that its
    exit status stands for, with its last lines; FailedError where that says nothing more."""
    if Client(layout).is_running():
        return False
    _start(layout, desk)
    return True


def start_opening(layout: DeskLayout, desk: Path, wanted: dict[str, Any]) -> str | None:
    """Starts a controller that begins this opening while it loads its API, and gives the run's id;
    None where the opening was not begun: ask for it, and the controller says why.

    Errors as of `ensure_controller`.
    """
    _start(layout, desk, "--open", json.dumps(wanted), "--actor", actor())
    run: str | None = Client(layout).get("ping")["newest_run"]
    return run


def _start(layout: DeskLayout, desk: Path, *more: str) -> None:
    client = Client(layout)
    layout.make()
    with layout.controller_log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "openbell.controller", "--desk", str(desk.absolute()), *more],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not client.is_running():
        status = process.poll()
        # Two commands may start a controller each; one wins the lock, and then answers both.
        if status is not None and not _answers_soon(client, deadline):
            raise _BY_STATUS.get(status, FailedError)(
                f"the controller ended with status {status} as it started",
                hint=f"its log: {layout.controller_log}\n{_tail(layout.controller_log)}",
            )
        if time.monotonic() > deadline:
            raise FailedError(
                f"the controller (pid {process.pid}) does not answer after {_START_TIMEOUT_S:.0f}s",
                hint=f"its log: {layout.controller_log}\n{_tail(layout.controller_log)}",
            )
        time.sleep(_POLL_EVERY_S)


def _answers_soon(client: Client, deadline: float) -> bool:
    """Whether another controller, that holds the lock, answers within two seconds."""
    until = min(deadline, time.monotonic() + 2)
    while time.monotonic() < until:
        if client.is_running():
            return True
        time.sleep(_POLL_EVERY_S)
    return False


def _tail(log: Path) -> str:
    try:
        return "\n".join(tail(log, _TAIL_LINES))
    except OSError as error:
        return f"(unreadable: {error.strerror})"
