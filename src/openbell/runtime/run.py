"""One run of a service: the process that was spawned or adopted, and how it is to be treated."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError

from openbell.config.services import Health, Ready, Stop
from openbell.errors import FailedError, StorageError
from openbell.runtime.code import code_of
from openbell.runtime.host import Host
from openbell.runtime.limits import ServiceCgroup, support
from openbell.runtime.logs import size_of
from openbell.runtime.members import Leader, Mark
from openbell.runtime.process_watch import WatchedProcess
from openbell.runtime.records import KeepsRecords, Record
from openbell.runtime.spawn import spawn
from openbell.runtime.spec import ServiceSpec


@dataclass(frozen=True)
class CpuSample:
    """The CPU time a service had used at one moment, and its share since the moment before."""

    at: float
    """Monotonic."""
    cpu_s: float
    percent: float
    """Of one core."""


@dataclass
class Run:
    """Exists from the spawn (or adoption) until the group is seen to be empty."""

    spec: ServiceSpec
    """What it was spawned by; for an adopted one of an older desk file, as far as its record
    tells: port, probes, how to stop."""
    record: Record
    process: WatchedProcess
    leader: Leader
    cgroup: ServiceCgroup | None
    adopted: bool
    records: KeepsRecords
    cpu_sample: CpuSample | None = None

    def settle(self) -> None:
        """Records the process with its start time; harmless when repeated.

        Not part of the spawn, because that time is slow to read while the process executes its
        program. Until then it is known by its mark. Raises StorageError.
        """
        if self.record.phase == "intent":
            record = _with_process(self.record, self.process, self.cgroup)
            self.leader = Leader(self.process.pid, record.start, self.leader.mark)
            self.record = record
            self.records.add(record)

    def drift(self, spec: ServiceSpec, host: Host) -> tuple[str, ...]:
        """In what it is older than `spec` started now would be: `table`, `code`."""
        if self.record.digest != spec.digest:
            return ("table",)
        if self.record.code and self.record.code != host.code.recent(self.spec):
            return ("code",)
        return ()

    @property
    def stop_signal(self) -> signal.Signals:
        return signal.Signals[f"SIG{self.spec.stop.signal}"]

    @property
    def ready_timeout_s(self) -> float:
        return self.spec.ready.timeout if self.spec.ready is not None else 0.0

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self.record.started_monotonic_s


def describe_exit(status: int | None) -> str:
    """`exited with status 1`, `killed by SIGKILL`"""
    if status is None:
        return "exited (status unknown)"
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def spawn_run(
    host: Host,
    spec: ServiceSpec,
    generation: int,
    restarts: int,
    restarted_at_s: tuple[float, ...],
    records: KeepsRecords | None = None,
) -> Run:
    """Writes the intent and spawns. Blocks for half a millisecond; `settle` is to follow.
    `records`: where it is written down, if not as the service itself.

    Raises FailedError or StorageError; then no process of it exists.
    """
    records = records or host.records
    mark = host.mark(spec.name, generation)
    record = Record(
        phase="intent",
        service=spec.name,
        boot_id=host.boot_id,
        generation=generation,
        mark=str(mark),
        digest=spec.digest,
        started_ns=time.time_ns(),
        started_monotonic_s=time.monotonic(),
        log_offset=size_of(spec.log_path),
        settings=_settings(spec),
        restarts=restarts,
        restarted_at_s=restarted_at_s,
        code=code_of(spec),
    )
    try:
        delegated = support().cgroup
        cgroup = (
            # Killing a cgroup kills all in it, so two that run beside each other share none.
            ServiceCgroup.make(
                delegated,
                mark.desk_id,
                spec.name if records is host.records else f"{spec.name}.{generation}",
                spec.limits,
            )
            if delegated
            else None
        )
    except OSError as error:
        raise StorageError(f"cannot make a cgroup for {spec.name}: {error}") from error
    records.add(record)
    try:
        pid = spawn(spec, mark, cgroup)
    except FailedError:
        records.close(record)
        raise
    try:
        process = host.watch.child(pid)
    except OSError as error:  # out of descriptors: what cannot be watched must not run
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        records.close(record)
        raise FailedError(f"{spec.name} cannot be watched: {error.strerror}") from error
    return Run(spec, record, process, Leader(pid, 0, mark), cgroup, False, records)


@dataclass(frozen=True)
class Found:
    """A recorded process that is still there, watched from before it was compared."""

    process: WatchedProcess
    leader: Leader


def find_recorded(host: Host, record: Record, pid: int) -> Found | None:
    """Process `pid`, if it is the one that was spawned under `record`.

    The watch first, then the comparison: what is compared cannot become another process any more.
    None: it is gone, another has taken the pid, or it cannot be read; nothing was signalled.
    """
    mark = Mark.parse(record.mark)
    process = host.watch.other(pid)
    if process is None:
        return None
    facts = host.table.facts(pid)
    if (
        mark is None
        or facts is None
        or not facts.alive
        or facts.start != process.start
        or facts.session != pid
        or (record.phase == "running" and facts.start != record.start)
        or record.boot_id != host.boot_id
        or not _carries(host, record, pid)
    ):
        process.close()
        return None
    return Found(process, Leader(pid, facts.start, mark))


def _carries(host: Host, record: Record, pid: int) -> bool:
    """Whether it carries the record's mark; one that may not be read is told by its start time."""
    found = host.table.mark(pid)
    if found is None and record.phase == "running":
        return host.table.hides_mark(pid)
    return found == record.mark


def adopted_run(host: Host, spec: ServiceSpec, record: Record, found: Found) -> Run:
    """The run of a found process, under the specification it was spawned by as far as known."""
    cgroup = ServiceCgroup(Path(record.cgroup)) if record.cgroup else None
    if record.phase == "intent":
        record = _with_process(record, found.process, cgroup)
        # Unwritten, it is found by its mark once more; that is no reason not to adopt it.
        with contextlib.suppress(StorageError):
            host.records.add(record)
    spec = spec.on_port(record.settings.get("port"))
    running = spec if record.digest == spec.digest else _as_recorded(spec, record)
    return Run(running, record, found.process, found.leader, cgroup, True, host.records)


def beside_run(host: Host, spec: ServiceSpec, record: Record, found: Found) -> Run:
    """The run of a process that its record puts beside the service; it is only to be ended."""
    if record.phase == "intent":
        record = msgspec.structs.replace(record, phase="running", pid=found.process.pid)
    cgroup = ServiceCgroup(Path(record.cgroup)) if record.cgroup else None
    running = _as_recorded(spec, record)
    return Run(running, record, found.process, found.leader, cgroup, True, host.records)


def _with_process(record: Record, process: WatchedProcess, cgroup: ServiceCgroup | None) -> Record:
    return msgspec.structs.replace(
        record,
        phase="running",
        pid=process.pid,
        start=process.start or 0,
        cgroup=str(cgroup.path) if cgroup is not None else None,
    )


def _settings(spec: ServiceSpec) -> dict[str, Any]:
    def plain(model: BaseModel | None) -> dict[str, Any] | None:
        return None if model is None else model.model_dump()

    return {
        "port": spec.port,
        "ready": plain(spec.ready),
        "health": plain(spec.health),
        "stop": plain(spec.stop),
        "reload_signal": spec.reload_signal,
        # For the emergency stop, which must know what can send orders without a desk file.
        "role": spec.role,
        "venues": list(spec.venues),
    }


def _as_recorded(spec: ServiceSpec, record: Record) -> ServiceSpec:
    """The specification the process runs under: today's, with what its record says otherwise."""
    settings = record.settings
    try:
        return replace(
            spec,
            port=TypeAdapter(int | None).validate_python(settings["port"]),
            # From a tuple of JSON: lists stand where the strict models want tuples.
            ready=TypeAdapter(Ready | None).validate_python(settings["ready"], strict=False),
            health=TypeAdapter(Health | None).validate_python(settings["health"], strict=False),
            stop=TypeAdapter(Stop).validate_python(settings["stop"], strict=False),
            reload_signal=str(settings["reload_signal"]),
            digest=record.digest,
        )
    except (KeyError, ValidationError):  # written by another version of Openbell
        return replace(spec, digest=record.digest)
