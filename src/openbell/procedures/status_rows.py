"""What `status` shows of what holds a desk back: halt, latches, lock, an announced closing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from openbell.state.desk_lock import DeskLock
from openbell.state.halts import Halt
from openbell.state.latch import Latch, desk_halt
from openbell.state.planned_closing import PlannedClosing


def halt_row(halt: Halt | None, active: bool) -> dict[str, object]:
    """A halt or latch as `status` shows it."""
    return {
        "active": active,
        "reason": halt.reason if halt else "",
        "by": halt.who if halt else "",
        "since": halt.at.isoformat() if halt else None,
    }


def latch_row(latches: Sequence[Latch], *, active: bool) -> dict[str, object]:
    """The kill switch as `status` shows it: `active` for the whole desk, `scopes` for whatever is
    latched."""
    scopes = sorted({latch.scope for latch in latches})
    return {
        **halt_row(desk_halt(latches), active),
        "scopes": [str(scope) for scope in scopes],
        "latches": [
            {
                "scope": str(each.scope),
                "reason": each.halt.reason,
                "by": each.halt.who,
                "since": each.halt.at.isoformat(),
            }
            for each in latches
        ],
    }


def lock_row(lock: DeskLock | None) -> dict[str, object]:
    """The lock of deployments as `status` shows it; `run`: the closing that set it."""
    return {
        "active": lock is not None,
        "reason": lock.reason if lock else "",
        "by": lock.who if lock else "",
        "run": (lock.run or None) if lock else None,
        "since": lock.at.isoformat() if lock else None,
    }


def planned_row(planned: PlannedClosing | None, now: datetime) -> dict[str, object] | None:
    """A closing that is announced, as `status` shows it; None where none is."""
    if planned is None:
        return None
    return {
        "at": planned.at.isoformat(),
        "in_s": round(max(0.0, (planned.at - now).total_seconds()), 3),
        "by": planned.who,
        "reason": planned.reason,
        "announced": planned.announced.isoformat(),
    }
