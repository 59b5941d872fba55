"""What is written down of each running service, so that a restarted controller finds it again.

One JSON file per service under `records/`, replaced whole (temporary file, then rename). It is not
fsynced: it has to outlive the controller, for which the kernel's cache is enough; after a power cut
the boot id no longer matches and the record means nothing anyway. (Two fsyncs per start cost more
than the spawn itself.)

Writes of one start, and what a crash between them leaves:
    1. INTENT with mark and generation      spawned or not: the mark tells (processes are scanned)
    2. spawn                                the process carries the mark
    3. RUNNING with pid and start time      found by pid, checked by start time, mark and boot id
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from openbell.errors import StorageError


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """One service's record. Holds no secret: the environment is not in it."""

    version: int = 1
    phase: Literal["intent", "running"]
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
    `stop`, `reload_signal`."""
    restarts: int = 0
    restarted_at_s: tuple[float, ...] = ()
    """Monotonic, of the restarts that may still count against the limit."""
    was_ready: bool = False
    """It has printed its ready line: one that was rotated away cannot be read again."""
    pid: int = 0
    """Also its process group and session: it was spawned as leader of both."""
    start: int = 0
    """The process's start time, as in ProcessFacts."""
    cgroup: str | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


class Records:
    """The folder of records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, record: Record) -> None:
        """Raises StorageError; then nothing may be spawned."""
        path = self._path(record.service)
        temporary = f"{path}.new"
        try:
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                data = _encoder.encode(record)
                if os.write(file, data) != len(data):
                    raise OSError("the disk took only a part of it")
            finally:
                os.close(file)
            os.replace(temporary, path)  # noqa: PTH105 - strings: this is on the start path
        except OSError as error:
            raise StorageError(
                f"cannot write the record {path}: {error}",
                hint="without it a restarted controller would not find the service again",
            ) from error

    def remove(self, service: str) -> None:
        """Harmless where there is none."""
        # One that cannot be removed tells of a process that is gone, and is found out as that.
        with contextlib.suppress(OSError):
            os.unlink(self._path(service))  # noqa: PTH108 - as above

    def read_all(self) -> tuple[list[Record], list[Path]]:
        """All records, and the files that are none (left alone, reported)."""
        records = []
        unreadable = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                record = _decoder.decode(path.read_bytes())
            except (msgspec.MsgspecError, OSError):
                unreadable.append(path)
                continue
            if record.service == path.stem and record.version == 1:
                records.append(record)
            else:
                unreadable.append(path)
        return records, unreadable

    def _path(self, service: str) -> str:
        return f"{self._folder}/{service}.json"
