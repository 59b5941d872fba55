"""After a closing: that the controller itself is gone. Nobody else can tell."""

from __future__ import annotations

import time
from typing import Any

import psutil

from openbell.config.layout import DeskLayout

_TIMEOUT_S = 15.0
"""The controller leaves at most five seconds after the last event was delivered."""


def await_departure(layout: DeskLayout, pid: int) -> list[dict[str, Any]]:
    """Waits for the controller's end: empty when it left, else `[{"service", "pid"}]`."""
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        if not _is_alive(pid) and not layout.controller_socket.exists():
            return []
        time.sleep(0.02)
    return [{"service": "controller", "pid": pid}]


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
