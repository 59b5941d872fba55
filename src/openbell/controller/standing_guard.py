"""What the controller sees of a guard in which a stop stood still; when it is to go, `domain.standing_guard`
says. The disk is asked on a thread, one look at a time: one that hangs holds up nobody who hears the guard.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from openbell.config.layout import DeskLayout
from openbell.domain.standing_guard import Standing, StandingFacts
from openbell.errors import StorageError
from openbell.kill.aside import aside
from openbell.kill.course import is_held
from openbell.kill.stuck import lock_holder
from openbell.state.files import write_atomically

LOOK_EVERY_S = 1.0
DISK_S = 2.0
_ON_DISK = ("D",)
"""As proc_pid_stat(5) names a sleep that no signal ends."""


class StandingGuard:
    """Of the guard that is followed now."""

    def __init__(self) -> None:
        self._standing = Standing()
        self._looking: asyncio.Task[bool] | None = None
        self._looked_s = float("-inf")

    async def is_to_go(self, layout: DeskLayout, told: Mapping[str, Any], pid: int | None) -> bool:
        """`told`: its status, as it said it last. Never raises for what a disk does."""
        now_s = time.monotonic()
        if not told.get("stands_still") or pid is None:
            self._standing = Standing()
            return False
        if now_s - self._looked_s < LOOK_EVERY_S:
            return False
        self._looked_s = now_s
        elsewhere = await self._elsewhere(layout, pid)
        return self._standing.is_to_go(
            StandingFacts(
                now_s=now_s,
                stood_still=True,
                elsewhere=elsewhere,
                at_work=bool(told.get("at_work")),
                on_disk=_waits_for_disk(pid),
            )
        )

    async def _elsewhere(self, layout: DeskLayout, pid: int) -> bool | None:
        if self._looking is None:
            self._looking = asyncio.create_task(aside(partial(_look, layout, pid)))
        await asyncio.wait({self._looking}, timeout=DISK_S)
        if not self._looking.done():
            return None
        looked, self._looking = self._looking, None
        try:
            return looked.result()
        except (OSError, StorageError):
            return None


def _look(layout: DeskLayout, pid: int) -> bool:
    """Whether another process than this one carries out a stop. Raises OSError, StorageError: the disk takes
    nothing. It is written to as a guard that starts does: a disk that only reads from its memory would let
    the next one hang."""
    locks = (layout.emergency_lock, layout.emergency_beside_lock)
    # Whose it is that the kernel does not tell counts as another's.
    held = any(is_held(path) and lock_holder(path) != pid for path in locks)
    probe = layout.guard_record.with_suffix(".probe")
    write_atomically(probe, b"")
    probe.unlink(missing_ok=True)
    return held


def _waits_for_disk(pid: int) -> bool:
    """Any of its threads, now. Where the system does not tell, none does."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return False
    return any(_state_of(thread) in _ON_DISK for thread in threads)


def _state_of(thread: Path) -> str:
    try:
        stat = (thread / "stat").read_text()
    except OSError:  # it ended meanwhile
        return ""
    # `4711 (name, with any sign) S ...`
    return stat[stat.rfind(")") + 2 :][:1]
