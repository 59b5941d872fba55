"""The native runtime: starts, watches, stops and adopts the processes of a desk.

It knows nothing of dependencies or of trading: who asks it to start something has thought of the
order. One per desk and one controller per desk (an exclusive lock, held by the controller).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping

import msgspec

from openbell.config.layout import DeskLayout
from openbell.config.models import Logs
from openbell.config.nearest import did_you_mean
from openbell.domain.service_state import UP
from openbell.errors import StorageError, UsageError
from openbell.runtime import logs as log_files
from openbell.runtime.host import Hold, Host
from openbell.runtime.members import Leader, Mark, Scan
from openbell.runtime.ports import holder_of, is_taken
from openbell.runtime.records import Record
from openbell.runtime.run import Found, adopted_run, beside_run, find_recorded
from openbell.runtime.spec import (
    AdoptionReport,
    Orphan,
    Proven,
    ReplaceResult,
    ServiceEvent,
    ServiceSpec,
    ServiceView,
    StartResult,
    StopResult,
    TrialResult,
)
from openbell.runtime.supervised import SupervisedService
from openbell.runtime.trial import try_out

_FIRST_ANSWERS_S = 2.0
"""How long an adoption waits for its services to answer; those that take longer are probed on."""
_LOOK_AT_LOGS_EVERY_S = 2.0
_LOOK_AT_FLOODED_LOGS_EVERY_S = 0.2
"""While one of them needed to be rotated at the last look."""
_ORPHAN_STOP_TIMEOUT_S = 10.0
"""As the default of `stop.timeout`."""


class Supervisor:
    """Call `adopt` first. Not thread-safe: one event loop uses it."""

    def __init__(
        self,
        layout: DeskLayout,
        specs: Mapping[str, ServiceSpec],
        *,
        logs: Logs,
        on_event: Callable[[ServiceEvent], None],
        host: Host | None = None,
        hold: Hold | None = None,
    ) -> None:
        """`on_event` is called on the loop at every change of state; it must not raise or block.
        `host` stands in for the machine in tests. `hold` is asked before every start of a service,
        restarts included: what it keeps from starting, or ends while it holds, is stopped."""
        layout.make()
        self._layout = layout
        self._logs = logs
        self._host = host or Host.of(layout, on_event, hold=hold)
        self._services: dict[str, SupervisedService] = {}
        for spec in specs.values():
            self.replace_spec(spec)
        self._rotation: asyncio.Task[None] | None = None

    async def adopt(self) -> AdoptionReport:
        """Takes over what an earlier controller left running, and lists what it cannot take over.

        What does not match its record in pid, start time, boot and mark is not signalled, and what
        matches goes on running as it is; except that a service that was being replaced is two
        processes, of which the one that its record puts beside it is told to end, and that one whose
        end was begun is ended. Services that
        answer their probe within two seconds are ready when this returns. Harmless when repeated: what this
        supervisor runs already stays as it is.
        """
        began = time.monotonic()
        records, unreadable = self._host.records.read_all()
        # Most desks that are opened have nothing to adopt and pay one scan; those that have, too.
        scan = await self._host.scanner.fresh()
        adopted: list[str] = []
        gone: list[str] = []
        stopping: list[str] = []
        orphans: dict[int, Orphan] = {}
        doubles: dict[str, tuple[Record, Found]] = {}
        own_marks: set[Mark | None] = set()
        for record in records:
            service = self._services.get(record.service)
            if service is not None and service.mark is not None:  # adopted or started before
                own_marks.add(service.mark)
                if record.beside is not None:  # being replaced at this moment
                    own_marks.add(Mark.parse(record.beside.mark))
                continue
            found = self._find(record, scan)
            beside = None if record.beside is None else self._find(record.beside, scan)
            if found is None and beside is not None and record.beside is not None:
                # The service itself is gone: what stood beside it is what is left of it.
                record, found, beside = record.beside, beside, None
                self._write_down(record)
            if beside is not None and record.beside is not None:
                if service is None:
                    orphans[beside.process.pid] = self._orphan(beside.leader, "record")
                    beside.process.close()
                else:
                    own_marks.add(beside.leader.mark)
                    doubles[record.service] = record.beside, beside
            if found is None:
                self._host.records.close(record)
                if service is not None:
                    service.found_gone()
                    gone.append(record.service)
            elif service is None:  # no longer in the desk file
                orphans[found.process.pid] = self._orphan(found.leader, "record")
                found.process.close()
            else:
                own_marks.add(found.leader.mark)
                alone = msgspec.structs.replace(record, beside=None)
                if record.beside is not None and beside is None:
                    self._write_down(alone)
                record = alone
                run = adopted_run(self._host, service.spec, record, found)
                if record.stopping:
                    service.adopt_stopping(run)
                    stopping.append(record.service)
                else:
                    service.adopt(run)
                    adopted.append(record.service)
        for name, (record, beside) in doubles.items():
            spec = self._services[name].spec
            self._services[name].end_beside(beside_run(self._host, spec, record, beside))
        for pid, mark in scan.marks.items():
            facts = scan.processes[pid]
            if mark in own_marks or not facts.alive or pid in orphans:
                continue
            # One that has begun to end since the scan has no environment any more, and is no orphan.
            if Mark.parse(self._host.table.mark(pid)) == mark:
                orphans[pid] = self._orphan(Leader(pid, facts.start, mark), "marker")
        for orphan in self._holders_of_our_ports():
            orphans.setdefault(orphan.pid, orphan)
        waiting = [
            asyncio.create_task(self._services[name].first_answer(), name=f"adopt {name}")
            for name in adopted
        ]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=_FIRST_ANSWERS_S)
            for task in late:
                task.cancel()
        self._keep_logs_small()
        return AdoptionReport(
            adopted=tuple(adopted),
            gone=tuple(gone),
            orphans=tuple(orphans.values()),
            seconds=time.monotonic() - began,
            unreadable=tuple(unreadable),
            doubled=tuple(doubles),
            stopping=tuple(stopping),
        )

    async def start(self, name: str) -> StartResult:
        """Returns when the service is ready or its start failed; at once when it is ready already.
        Joins a start that is under way. Does not raise for a service that fails."""
        self._keep_logs_small()
        return await self._service(name).start()

    async def stop(self, name: str, *, reason: str) -> StopResult:
        """Stop signal, then SIGKILL for the whole group; returns when it is seen to be empty, or
        when it outlived that too. Stopping a stopped service is harmless."""
        return await self._service(name).stop(reason)

    async def kill(self, name: str) -> None:
        """SIGKILL to a service that hangs, and to its whole group; it is then treated like one that
        crashed, and its view shows a pid for as long as anything of it is left."""
        await self._service(name).kill()

    def trial_of(self, name: str) -> tuple[str, ...]:
        """The command that `trial` would run now; empty: the service has none, or does not run."""
        service = self._service(name)
        runs = service.state in UP
        return service.spec.trial if runs and service.mark is not None else ()

    async def trial(self, name: str) -> TrialResult:
        """Tries what the service would be started with now, and leaves the one that runs alone. Where
        nothing runs there is nothing to protect, and nothing is tried."""
        service = self._service(name)
        if not self.trial_of(name) or service.mark is None:
            return TrialResult(name)
        return await try_out(service.spec, service.mark)

    async def replace(self, name: str, proven: Proven) -> ReplaceResult:
        """Starts a second process of the service beside it, and ends the first once the second is
        ready, healthy and `proven`; else ends the second. Raises RefusedError."""
        return await self._service(name).replace(proven)

    async def reload(self, name: str) -> None:
        """Sends the service's reload signal. Raises RefusedError when it does not run."""
        self._service(name).reload()

    async def end_orphan(self, orphan: Orphan) -> bool:
        """Stops an orphan with all that carries its marker. False: it is not ours, is not the
        process that was found any more, or outlived SIGKILL; in the first two cases nothing was
        signalled."""
        if not orphan.ours:
            return False
        process = self._host.watch.other(orphan.pid)
        if process is None:
            return False
        try:
            mark = Mark.parse(self._host.table.mark(orphan.pid))
            if process.start != orphan.start or mark is None:
                return False
            if mark.desk_id != self._layout.desk_id:
                return False
            leader = Leader(orphan.pid, orphan.start, mark)
            ladder = self._host.ladder(process, leader, None, with_earlier_runs=False)
            result = await ladder.stop(signal.SIGTERM, _ORPHAN_STOP_TIMEOUT_S)
            return not result.survivors
        finally:
            process.close()

    def replace_spec(self, spec: ServiceSpec) -> None:
        """A changed or new service of the desk file: used at its next start; until then the
        running one goes on under the old one, and its view says `drifted`."""
        # Made here and not at the start: making a file takes a third of the time of a spawn.
        self._layout.service_state(spec.name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._host.records.prepare(spec.name)
        if spec.name in self._services:
            self._services[spec.name].spec = spec
        else:
            self._services[spec.name] = SupervisedService(spec, self._host)

    def view(self, name: str) -> ServiceView:
        return self._service(name).view()

    def views(self) -> list[ServiceView]:
        """In the order of the desk file."""
        return [service.view() for service in self._services.values()]

    async def probe_now(self, name: str) -> ServiceView:
        """Probes at once; the result counts like that of any other probe."""
        service = self._service(name)
        await service.probe_now()
        return service.view()

    async def detach(self) -> None:
        """Stops watching; every service goes on running and can be adopted again."""
        if self._rotation is not None:
            self._rotation.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._rotation
            self._rotation = None
        for service in self._services.values():
            service.detach()

    # ------------------------------------------------------------------

    def _service(self, name: str) -> SupervisedService:
        service = self._services.get(name)
        if service is None:
            raise UsageError(
                f'there is no service "{name}"',
                hint=did_you_mean(name, self._services),
                service=name,
            )
        return service

    def _write_down(self, record: Record) -> None:
        # Unwritten, the next adoption finds the same and decides the same.
        with contextlib.suppress(StorageError):
            self._host.records.add(record)

    def _find(self, record: Record, scan: Scan) -> Found | None:
        """The process a record tells of, if it is still there."""
        if record.boot_id != self._host.boot_id:
            return None
        pid = record.pid
        if record.phase == "intent":
            # The controller died around the spawn: if there is a process, its mark tells.
            pid = next(
                (
                    facts.pid
                    for facts, mark in scan.marked(record.service)
                    if str(mark) == record.mark and facts.session == facts.pid
                ),
                0,
            )
        return find_recorded(self._host, record, pid) if pid else None

    def _orphan(self, leader: Leader, found_by: str) -> Orphan:
        return Orphan(
            service=leader.mark.service,
            pid=leader.pid,
            found_by=found_by,
            command=self._host.table.command(leader.pid) or "",
            ours=True,
            start=leader.start,
        )

    def _holders_of_our_ports(self) -> list[Orphan]:
        found = []
        for name, service in self._services.items():
            port = next(filter(is_taken, service.spec.ports), None)
            if port is None or service.mark is not None:
                continue
            holder = holder_of(port, self._host.table)
            if holder is None or holder.pid == os.getpid():
                continue
            if holder.pid is None:
                found.append(Orphan(name, 0, "port", str(holder), ours=False))
                continue
            mark = Mark.parse(self._host.table.mark(holder.pid))
            facts = self._host.table.facts(holder.pid)
            found.append(
                Orphan(
                    service=name,
                    pid=holder.pid,
                    found_by="port",
                    command=holder.command or "",
                    ours=mark is not None and mark.desk_id == self._layout.desk_id,
                    start=facts.start if facts is not None else 0,
                )
            )
        return found

    def _keep_logs_small(self) -> None:
        if self._rotation is None or self._rotation.done():
            self._rotation = asyncio.create_task(self._rotate_logs(), name="rotate logs")

    async def _rotate_logs(self) -> None:
        pause = _LOOK_AT_LOGS_EVERY_S
        while True:
            await asyncio.sleep(pause)
            pause = _LOOK_AT_LOGS_EVERY_S
            for service in tuple(self._services.values()):
                if service.rotate_needed(self._logs.rotate_at):
                    pause = _LOOK_AT_FLOODED_LOGS_EVERY_S
                    # A log that cannot be rotated grows on; the next look tries again.
                    with contextlib.suppress(OSError):
                        await asyncio.to_thread(
                            log_files.rotate,
                            service.spec.log_path,
                            self._logs.keep,
                            self._logs.rotate_at,
                        )
