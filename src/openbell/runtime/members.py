"""Which processes belong to a service: its session, and whatever carries its mark.

The group is asked of the kernel by its leader's pidfd (process_watch). This finds the rest: a
child that called setsid left group and session, and is known by the mark it inherited.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from openbell.runtime.process_watch import ProcessWatch, WatchedProcess
from openbell.runtime.processes import ProcessFacts, ProcessTable

_STEP = "step "
"""No service's name has a blank."""


@dataclass(frozen=True)
class Mark:
    """`desk id:service:generation`, as it stands in OPENBELL_MARK."""

    desk_id: str
    service: str
    generation: int

    def __str__(self) -> str:
        return f"{self.desk_id}:{self.service}:{self.generation}"

    @classmethod
    def of_step(cls, desk_id: str, step: str) -> Mark:
        """Of a command of the desk's own, which is no service."""
        return cls(desk_id, f"{_STEP}{step}", 0)

    @property
    def is_step(self) -> bool:
        return self.service.startswith(_STEP)

    @classmethod
    def parse(cls, text: str | None) -> Mark | None:
        """None where `text` is not a mark."""
        if text is None:
            return None
        desk_id, _, rest = text.partition(":")
        service, _, generation = rest.partition(":")
        if not (desk_id and service and generation.isdecimal()):
            return None
        return cls(desk_id, service, int(generation))


@dataclass(frozen=True)
class Leader:
    """The process that was spawned: leader of its session and group."""

    pid: int
    start: int
    mark: Mark


@dataclass(frozen=True)
class Scan:
    """The process table at one moment, with the marks of one desk."""

    processes: dict[int, ProcessFacts]
    marks: dict[int, Mark]

    def members(self, leader: Leader) -> list[ProcessFacts]:
        """Live processes of the service that `leader` was spawned for, itself included.

        By session only while the session's number is the leader's: another process under the
        leader's pid means that the old session is gone.
        """
        holder = self.processes.get(leader.pid)
        session_is_its_own = holder is None or holder.start == leader.start
        return [
            facts
            for facts in self.processes.values()
            if facts.alive
            and (
                self.marks.get(facts.pid) == leader.mark
                or (session_is_its_own and facts.session == leader.pid)
            )
        ]

    def remains(self, leader: Leader) -> list[ProcessFacts]:
        """Its members, and whatever earlier runs of the same service left in sessions of their
        own: a service has not stopped while a daemon of the run before still holds an account."""
        found = {facts.pid: facts for facts in self.members(leader)}
        for facts, mark in self.marked(leader.mark.service):
            if mark.generation < leader.mark.generation:
                found[facts.pid] = facts
        return list(found.values())

    def marked(self, service: str) -> list[tuple[ProcessFacts, Mark]]:
        """Live processes of any generation of a service."""
        return [
            (self.processes[pid], mark)
            for pid, mark in self.marks.items()
            if mark.service == service and self.processes[pid].alive
        ]


def scan(table: ProcessTable, desk_id: str) -> Scan:
    """Reads the whole process table: 20 microseconds a process."""
    processes = {}
    marks = {}
    own = os.getpid()
    for facts in table.everything():
        processes[facts.pid] = facts
        # Kernel threads have no memory and no environment; a third of a server's processes.
        if not facts.memory_bytes or facts.pid == own:
            continue
        mark = Mark.parse(table.mark(facts.pid))
        if mark is not None and mark.desk_id == desk_id:
            marks[facts.pid] = mark
    return Scan(processes, marks)


class Scanner:
    """Shares one scan among all who ask at the same moment: stopping 100 services needs a few
    scans, not a hundred."""

    def __init__(self, table: ProcessTable, desk_id: str) -> None:
        self._table = table
        self._desk_id = desk_id
        self._next: asyncio.Future[Scan] | None = None
        self._recent: tuple[float, Scan] | None = None

    async def fresh(self) -> Scan:
        """A scan made after this was called."""
        if self._next is None:
            loop = asyncio.get_running_loop()
            self._next = loop.create_future()
            loop.call_soon(self._scan)
        return await asyncio.shield(self._next)

    def recent(self, age_s: float) -> Scan:
        """A scan at most so old; for figures, never for deciding whom to signal."""
        if self._recent is None or time.monotonic() - self._recent[0] > age_s:
            self._recent = (time.monotonic(), scan(self._table, self._desk_id))
        return self._recent[1]

    def _scan(self) -> None:
        waiting, self._next = self._next, None
        made = scan(self._table, self._desk_id)
        self._recent = (time.monotonic(), made)
        if waiting is not None and not waiting.done():
            waiting.set_result(made)


async def end_members(
    members: Iterable[ProcessFacts], number: int, watch: ProcessWatch, timeout_s: float
) -> None:
    """Signals exactly these processes, each seen again to be the one that was found, and waits
    until they have ended or the time is over."""
    held: list[WatchedProcess] = []
    for facts in members:
        process = watch.other(facts.pid)
        if process is None:
            continue
        held.append(process)
        if process.start == facts.start and number:
            process.signal(number)
    try:
        if held:
            await asyncio.wait([process.exit for process in held], timeout=timeout_s)
    finally:
        for process in held:
            process.close()
