"""Starts the controller in the background and waits until it answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from openbell.cli.client import Client, actor
from openbell.cli.reaching import unreachable
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
from openbell.runtime.logs import size_of, tail
from openbell.state.lock import held_by

_START_TIMEOUT_S = 30.0
"""Ample: a controller answers within a second; adopting 100 services adds a third of one."""
_POLL_EVERY_S = 0.02
SOON_S = 2.0
"""For another controller to answer where ours ended and did not say that one holds the desk."""
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
    StartingController(layout, desk).await_answer()
    return True


class StartingController:
    """A controller that was started and may not answer yet."""

    def __init__(
        self, layout: DeskLayout, desk: Path, opening: dict[str, Any] | None = None
    ) -> None:
        """`opening` is begun while the controller still loads its API; its `before` are the emergency
        stops that whoever asks for it may know of."""
        self._layout = layout
        wish = () if opening is None else ("--open", json.dumps(opening), "--actor", actor())
        layout.make()
        self._log_from = size_of(layout.controller_log)
        """What is before it in the log is of earlier controllers, and explains nothing of this one."""
        with layout.controller_log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "openbell.controller",
                    "--desk",
                    str(desk.absolute()),
                    *wish,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )

    def await_answer(self) -> dict[str, Any]:
        """What it says of itself, once it answers: `newest_run`, the id of the run it began (None where
        it could not begin one: ask for it, and the controller says why), and `live`, the venues at which
        real money is traded. Errors as of `ensure_controller`."""
        client = Client(self._layout)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not client.is_running():
            status = self._process.poll()
            # Two commands, or a command and the guard, may start a controller each; one wins the
            # lock, and then answers both: as soon as it has adopted what runs.
            held = status == ConflictError.exit_code
            if status is not None and not _answers(client, deadline, None if held else SOON_S):
                holder = held_by(self._layout.controller_lock)
                if held and holder is not None:
                    missed = unreachable(self._layout, holder)
                    raise ConflictError(missed.message, hint=missed.hint, pid=holder)
                raise _BY_STATUS.get(status, FailedError)(
                    f"the controller ended with status {status} as it started",
                    hint=self._told(),
                )
            if time.monotonic() > deadline:
                raise FailedError(
                    f"the controller (pid {self._process.pid}) does not answer "
                    f"after {_START_TIMEOUT_S:.0f}s",
                    hint=self._told(),
                )
            time.sleep(_POLL_EVERY_S)
        told: dict[str, Any] = client.get("ping")
        return told

    def _told(self) -> str:
        """Where its log is, and the last lines that were written since it was started."""
        log = self._layout.controller_log
        try:
            lines = tail(log, _TAIL_LINES, self._log_from)
        except OSError as error:
            lines = (f"(unreadable: {error.strerror})",)
        return "\n".join([f"its log: {log}", *lines])


def _answers(client: Client, deadline: float, within_s: float | None) -> bool:
    """Whether another controller answers within so long; None: until the deadline."""
    until = deadline if within_s is None else min(deadline, time.monotonic() + within_s)
    while time.monotonic() < until:
        if client.is_running():
            return True
        time.sleep(_POLL_EVERY_S)
    return False
