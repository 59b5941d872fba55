"""After a closing: that the guard and the controller are gone. Nobody else can tell."""

from __future__ import annotations

import time
from typing import Any

import psutil

from openbell.config.layout import DeskLayout
from openbell.guard.record import guard_pid

_TIMEOUT_S = 15.0
"""The controller leaves at most five seconds after the last event was delivered."""


def await_departure(layout: DeskLayout, pid: int) -> list[dict[str, Any]]:
    """Waits for their end: empty when they left, else `[{"service", "pid"}, ...]`."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        left = []
        if _is_alive(pid) or layout.controller_socket.exists():
            left.append({"service": "controller", "pid": pid})
        if (guard := guard_pid(layout)) is not None:
            left.append({"service": "guard", "pid": guard})
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
