"""Which processes are this desk's, proven: by record, start time, boot id and mark; never by name.

    recorded  pid, start time, boot id, session: one process and no other, whatever of its environment
              can be read. A program with file capabilities, or one that writes over its own, shows no mark
    marked    the mark that it inherited
    hidden    it may not be read, and its parent is one of these

Reads records and the process table; needs no desk file. What a service is to the desk stands in its
record; for one that an older Openbell wrote, in desk.toml, as far as that can be read as TOML.
"""

from __future__ import annotations

import contextlib
import os
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openbell.config.duties import has_order_entry
from openbell.config.layout import DESK_FILE, DeskLayout
from openbell.kill.aside import within
from openbell.runtime.members import Leader, Mark, Scan, scan
from openbell.runtime.processes import ProcessFacts, system_processes
from openbell.runtime.records import Record, Records

DISK_S = 1.0
"""For records and desk file, which the kernel mostly has in memory. Without a record the mark that every
process of a service carries proves it all the same; what its duties are is then not known: it may send."""

_LATE_EVERY_S = 0.02

_FRONTS: set[int] = set()


def spare_front(pid: int) -> None:
    """The process that waits for this one carries the same mark, where a service pressed: to stop or kill
    it would end this one."""
    _FRONTS.add(pid)


@dataclass(frozen=True)
class OwnService:
    """One service of which a process exists."""

    name: str
    role: str
    """Empty: not known."""
    may_send: bool
    """It is an engine, or holds keys for we do not know what, or nothing is known."""
    members: tuple[ProcessFacts, ...]
    """Alive, each proven to be ours."""
    leader: Leader | None
    """None: only what it left behind is found."""
    record: Record | None

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(sorted(facts.pid for facts in self.members))


@dataclass
class OwnProcesses:
    """Looks anew each time it is asked. The process table needs no disk; of one that does not answer for
    records and desk file it is not asked again before it has, and what it said last holds."""

    layout: DeskLayout
    _declared: Mapping[str, Mapping[str, Any]] | None = field(default=None, repr=False)
    _records: dict[str, Record] = field(default_factory=dict, repr=False)
    _known: bool = field(default=False, repr=False)
    """They were read, once at least."""
    _late: list[dict[str, Record]] | None = field(default=None, repr=False)
    """Of a read that the disk did not answer in time; empty until it does."""

    @property
    def unread(self) -> bool:
        """No record was ever read: a service whose processes show no mark is not found. What the last look
        found is then no proof that nothing runs."""
        return self._late is not None and not self._known

    def wait_for_records(self, timeout_s: float) -> bool:
        """For a disk that is only slow. Whether the next look has them."""
        deadline_s = time.monotonic() + timeout_s
        while self._late == [] and time.monotonic() < deadline_s:
            time.sleep(_LATE_EVERY_S)
        return self._late != []

    def look(self) -> dict[str, OwnService]:
        """By name. Never raises."""
        table = system_processes()
        try:
            boot_id = table.boot_id()
        except OSError:
            boot_id = ""
        seen = scan(table, self.layout.desk_id)
        records = self._read_records()
        names = {*records, *(mark.service for mark in seen.marks.values())}
        found = (self._service(name, records.get(name), seen, boot_id) for name in sorted(names))
        return {service.name: service for service in found if service is not None}

    def declared_roles(self) -> dict[str, str]:
        return {name: str(each.get("role", "other")) for name, each in self._services().items()}

    def _read_records(self) -> dict[str, Record]:
        if self._late:
            self._records, self._known, self._late = self._late[0], True, None
        if self._late is None:
            late: list[dict[str, Record]] = []

            def read() -> None:
                found = Records(self.layout.records).read_all()[0]
                late.append({record.service: record for record in found})

            try:
                within(read, DISK_S)
                self._records, self._known = late[0], True
            except TimeoutError:
                self._late = late
        return self._records

    def _service(
        self, name: str, record: Record | None, seen: Scan, boot_id: str
    ) -> OwnService | None:
        marked = seen.marked(name)
        members = {facts.pid: facts for facts, _ in marked}
        leader = None if record is None else _leader(record, seen, boot_id)
        if record is not None and record.beside is not None:
            beside = _leader(record.beside, seen, boot_id)
            members |= {} if beside is None else {f.pid: f for f in seen.members(beside)}
        if leader is None:
            # Spawned, and not recorded yet; or its record is lost. The mark proves it all the same.
            first = [(f, mark) for f, mark in marked if f.session == f.pid]
            if first:
                facts, mark = max(first, key=lambda each: each[1].generation)
                leader = Leader(facts.pid, facts.start, mark)
        if leader is not None:
            members |= {facts.pid: facts for facts in seen.members(leader)}
        members |= _hidden_children(members, seen)
        for pid in (os.getpid(), *_FRONTS):
            members.pop(pid, None)
        if not members:
            return None
        role, may_send = self._duty(name, record)
        return OwnService(name, role, may_send, tuple(members.values()), leader, record)

    def _duty(self, name: str, record: Record | None) -> tuple[str, bool]:
        recorded: Mapping[str, Any] = {} if record is None else record.settings
        declared = self._services().get(name)
        if "role" not in recorded and declared is None:
            return "", True
        declared = declared or {}
        role = str(recorded.get("role") or declared.get("role", "other"))
        # A record does not name its secrets; desk.toml may have been changed since it was started.
        return role, has_order_entry(role, recorded) or has_order_entry(role, declared)

    def _services(self) -> Mapping[str, Mapping[str, Any]]:
        """Of desk.toml as it stands, without looking at whether it is right."""
        if self._declared is None:
            self._declared = {}
            path = self.layout.desk / DESK_FILE
            with contextlib.suppress(OSError, ValueError, TimeoutError):
                tables = tomllib.loads(within(path.read_text, DISK_S))
                services = tables.get("services", {})
                self._declared = {n: s for n, s in services.items() if isinstance(s, dict)}
        return self._declared


def _leader(record: Record, seen: Scan, boot_id: str) -> Leader | None:
    """The process that a record tells of, if it is still that very one."""
    facts = seen.processes.get(record.pid)
    mark = Mark.parse(record.mark)
    if (
        facts is None
        or mark is None
        or record.phase != "running"
        or not boot_id
        or record.boot_id != boot_id
        or not facts.alive
        or facts.start != record.start
        or facts.session != facts.pid
        or seen.marks.get(facts.pid, mark) != mark
    ):
        return None
    return Leader(facts.pid, facts.start, mark)


def _hidden_children(members: Mapping[int, ProcessFacts], seen: Scan) -> dict[int, ProcessFacts]:
    """Those that left the session, and whose mark may not be read; theirs, too."""
    table = system_processes()
    found: dict[int, ProcessFacts] = {}
    parents = set(members)
    while parents:
        children = {
            pid: facts
            for pid, facts in seen.processes.items()
            if facts.parent in parents
            and facts.alive
            and not (pid in members or pid in found or pid in seen.marks)
            and table.hides_mark(pid)
        }
        found |= children
        parents = set(children)
    return found
