"""The guard as a process: started, found where no connection names it, and ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Mapping

from openbell.config.layout import DeskLayout
from openbell.guard.record import process_of, read_record
from openbell.runtime.process_watch import ProcessWatch, WatchedProcess
from openbell.runtime.processes import ProcessTable
from openbell.runtime.spawn import spawn_module
from openbell.service.logging import get_logger

log = get_logger()

_MODULE = "openbell.guard"
CONNECT_S = 1.0
KILL_S = 5.0


def start_guard(layout: DeskLayout, environment: Mapping[str, str] | None = None) -> int:
    """Its pid. In a session of its own, its output in a file: it outlives this controller."""
    return spawn_module(_MODULE, layout.desk, layout.guard_log, environment)


async def listens(layout: DeskLayout) -> bool:
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_unix_connection(str(layout.guard_socket))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def recorded_guard(
    layout: DeskLayout, watch: ProcessWatch, table: ProcessTable
) -> WatchedProcess | None:
    """The guard that the record names, or else the lock; `kill_guard` looks whether it is one."""
    with contextlib.suppress(ValueError):
        record = read_record(layout.guard_record)
        if record is not None and process_of(record, table) is not None:
            return watch.other(record.pid)
    try:
        return watch.other(int(layout.guard_lock.read_text()))
    except (OSError, ValueError):
        return None


async def kill_guard(process: WatchedProcess, layout: DeskLayout, table: ProcessTable) -> bool:
    """For certain: whether it was seen to be gone."""
    command = table.command(process.pid) or ""
    if _MODULE not in command or str(layout.desk) not in command:
        return False
    process.signal(signal.SIGKILL)
    try:
        async with asyncio.timeout(KILL_S):
            await asyncio.shield(process.exit)
    except TimeoutError:
        log.error("the guard outlives SIGKILL", pid=process.pid, alert=True)
        return False
    return True
