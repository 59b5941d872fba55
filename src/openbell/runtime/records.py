"""What is written down of each running service, so that a restarted controller finds it again.

One file per service under `records/`, to which a line of JSON is added at each stage. The last
whole line counts.

    1. INTENT with mark and generation      spawned or not: the mark tells (processes are scanned)
    2. spawn                                the process carries the mark
    3. RUNNING with pid and start time      found by pid, checked by start time, mark and boot id
       RUNNING, stopping                    it is being ended: whoever finds it so goes on with that
    4. STOPPED                              its group was seen to be empty

While a service is being replaced its line tells of two processes; the first is the service, and
one line makes the other the first (`surge`).

A crash while a line is written leaves a piece of it, which is ignored, and the line before says
enough: before INTENT nothing of an earlier run is left, and after INTENT the mark finds what was
spawned. So no temporary file and rename is needed per stage, which would make a file each time:
0.3 ms where adding a line takes 0.015 ms.

It is not fsynced: it has to outlive the controller, for which the kernel's cache is enough; after a
power cut the boot id no longer matches and the record means nothing anyway.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from openbell.errors import StorageError


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One service's record. Holds no secret: the environment is not in it."""

    version: Literal[1] = 1
    phase: Literal["intent", "running", "stopped"]
    service: str
    boot_id: str
    generation: int
    mark: str
    digest: str
    """Of the specification it was spawned by."""
    started_ns: int
    """Wall clock."""
    started_monotonic_s: float
    """The system's monotonic clock, which all processes of one boot share."""
    log_offset: int
    """Where this start's output begins in its log file."""
    settings: dict[str, Any]
    """What is needed to probe and stop it even after desk.toml changed: `port`, `ready`, `health`,
    `stop`, `reload_signal`; and what it is to the desk: `role`, `venues`."""
    restarts: int = 0
    restarted_at_s: tuple[float, ...] = ()
    """Monotonic, of the restarts that may still count against the limit."""
    was_ready: bool = False
    """It has printed its ready line: one that was rotated away cannot be read again."""
    pid: int = 0
    """Also its process group and session: it was spawned as leader of both."""
    start: int = 0
    """The process's start time, as in ProcessFacts."""
    stopping: bool = False
    """Its end was begun. It may have had its stop signal or not, and need not answer any more."""
    cgroup: str | None = None
    code: str = ""
    """Of the files its command named when it was spawned (`code`); empty: not known."""
    beside: Record | None = None
    """A second process of the service: its replacement before it is ready, the one it replaced
    afterwards. Either way not the service, and to be ended by whoever finds it so."""


class KeepsRecords(Protocol):
    """Where the stages of one run are written down."""

    def add(self, record: Record) -> None:
        """The next stage. Raises StorageError; then nothing may be spawned."""

    def close(self, record: Record) -> None:
        """Nothing of the run is left."""


_KEPT_BYTES = 64 << 10
"""The lines of earlier runs are kept for whoever looks, up to so much."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


class BesideRecords:
    """Keeps the record of a second process within that of the one it stands beside."""

    def __init__(self, records: Records, of: Record) -> None:
        self._records = records
        self._of = of

    def add(self, record: Record) -> None:
        self._records.add(msgspec.structs.replace(self._of, beside=record))

    def close(self, record: Record) -> None:
        with contextlib.suppress(StorageError):  # found out by the next adoption
            self._records.add(msgspec.structs.replace(self._of, beside=None))


class Records:
    """The folder of records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self, service: str) -> None:
        """Makes the service's file, so that no start has to."""
        os.close(os.open(self._path(service), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def add(self, record: Record) -> None:
        """The next stage. Raises StorageError; then nothing may be spawned."""
        path = self._path(record.service)
        # A line of its own even after a piece of one.
        line = b"\n" + _encoder.encode(record) + b"\n"
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                if record.phase == "intent" and os.fstat(file).st_size > _KEPT_BYTES:
                    os.ftruncate(file, 0)
                if os.write(file, line) != len(line):
                    raise OSError("the disk took only a part of it")
            finally:
                os.close(file)
        except OSError as error:
            raise StorageError(
                f"cannot write the record {path}: {error}",
                hint="without it a restarted controller would not find the service again",
            ) from error

    def close(self, record: Record) -> None:
        """Nothing of the run is left."""
        # Where that cannot be written, the next adoption finds it out.
        with contextlib.suppress(StorageError):
            self.add(msgspec.structs.replace(record, phase="stopped"))

    def read_all(self) -> tuple[list[Record], list[Path]]:
        """What was not closed, and the files that hold no record (left alone, reported)."""
        records = []
        unreadable = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                lines = [line for line in path.read_bytes().split(b"\n") if line]
            except OSError:
                unreadable.append(path)
                continue
            record = _last_whole(lines)
            if record is None or record.service != path.stem:
                if lines:
                    unreadable.append(path)
            elif record.phase != "stopped":
                records.append(record)
        return records, unreadable

    def _path(self, service: str) -> str:
        return f"{self._folder}/{service}.json"


def _last_whole(lines: list[bytes]) -> Record | None:
    for line in reversed(lines):
        with contextlib.suppress(msgspec.MsgspecError):
            return _decoder.decode(line)
    return None
