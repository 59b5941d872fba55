"""The latch as whoever presses sets it, before anybody is asked."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from openbell.config.layout import DeskLayout
from openbell.kill.request import EmergencyRequest
from openbell.state.halts import Halt
from openbell.state.latch import Latches


def halt_of(request: EmergencyRequest) -> Halt:
    reason = f"emergency stop: {request.reason or 'no reason given'}"
    return Halt(reason, request.actor or "unknown", datetime.now(UTC))


def latch_now(layout: DeskLayout, request: EmergencyRequest) -> tuple[str, ...]:
    """Their ids, where the disk has confirmed them. Raises StorageError; blocks for as long as a
    disk that hangs."""
    # What it could not make a latch may do without: a folder of the sockets that is another user's too.
    with contextlib.suppress(OSError):
        layout.make()
    setting = Latches(layout).set(request.scopes, halt_of(request))
    return tuple(latch.id for latch in setting.latches) if setting.durable else ()
