"""Which process the guard is, in `state/guard.json`: for people, and for a guard that comes after.

Whoever must be sure of the process asks its socket, of which the kernel says who listens; the lock
says whether there is a guard at all. So a record that cannot be read costs nothing but a word.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from openbell.config.layout import DeskLayout
from openbell.domain.dead_man import Mode
from openbell.errors import StorageError
from openbell.kill.aside import aside
from openbell.runtime.peer import listener_pid
from openbell.runtime.processes import ProcessFacts, ProcessTable, system_processes
from openbell.state.files import write_atomically


class GuardRecord(msgspec.Struct, frozen=True, kw_only=True):
    version: Literal[1] = 1
    pid: int
    start: int
    """The process's start time, as in ProcessFacts."""
    boot_id: str
    since_ns: int
    """Wall clock."""
    engine_heard: bool = False
    """An engine was well under this guard, or the one before, and did not end on purpose: should
    nothing more be heard of it, its orders are to go."""
    left_s: float | None = None
    """When an engine left on purpose that is to be back, by this boot's monotonic clock; None: none has."""
    mode: Mode = Mode.OPEN
    """What it was told last of the switches; a guard that comes after goes on with it."""
    left: tuple[str, ...] = ()
    """Venues whose timer a closing has left to run out; one that comes after is not to disarm them."""


def own_record(
    watching: bool,
    mode: Mode = Mode.OPEN,
    left: tuple[str, ...] = (),
    left_s: float | None = None,
) -> GuardRecord:
    """Of this process."""
    table = system_processes()
    facts = table.facts(os.getpid())
    return GuardRecord(
        pid=os.getpid(),
        start=facts.start if facts is not None else 0,
        boot_id=table.boot_id(),
        since_ns=time.time_ns(),
        engine_heard=watching,
        left_s=left_s,
        mode=mode,
        left=left,
    )


def write_record(path: Path, record: GuardRecord) -> None:
    """Raises StorageError; the guard goes on without."""
    write_atomically(path, msgspec.json.encode(record) + b"\n")


class RecordKeeper:
    """Writes the record on threads, one write at a time and always the newest: a disk that hangs must
    not hold up what refreshes the dead-man's switches. On the event loop."""

    def __init__(self, path: Path, record: GuardRecord, failed: Callable[[str], None]) -> None:
        """`record`: as it was written last. `failed` is told why one could not be written."""
        self.record = record
        self._path = path
        self._failed = failed
        self._done = record
        """Written, or told that it could not be."""
        self._writing: asyncio.Task[None] | None = None

    def keep(self, record: GuardRecord) -> None:
        if record == self.record:
            return
        self.record = record
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def kept(self, timeout_s: float) -> None:
        """Returns when there is nothing left to write, or after the time."""
        if self._writing is not None and not self._writing.done():
            await asyncio.wait({self._writing}, timeout=timeout_s)
            if not self._writing.done():
                self._failed(f"the disk did not answer within {timeout_s:g} s")

    async def _write(self) -> None:
        while (record := self.record) != self._done:
            try:
                await aside(partial(write_record, self._path, record))
            except StorageError as error:
                self._failed(error.message)
            self._done = record


def read_record(path: Path) -> GuardRecord | None:
    """None where there is none. A file that is none raises ValueError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=GuardRecord)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error


def process_of(record: GuardRecord, table: ProcessTable) -> ProcessFacts | None:
    """The recorded process, if it still is that one."""
    if record.boot_id != table.boot_id():
        return None
    facts = table.facts(record.pid)
    if facts is None or not facts.alive or facts.start != record.start:
        return None
    return facts


def guard_pid(layout: DeskLayout) -> int | None:
    """The guard's, if one runs."""
    try:
        record = read_record(layout.guard_record)
    except ValueError:
        return listener_pid(layout.guard_socket)
    if record is not None and process_of(record, system_processes()) is not None:
        return record.pid
    return listener_pid(layout.guard_socket)
