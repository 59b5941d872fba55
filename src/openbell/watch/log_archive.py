"""The logs of a desk in one file, kept beside what a run proved.

The archive is written under another name and moved into place when it is whole and on the disk, so
a file of that name is a whole archive. A log that is written to meanwhile is kept as far as it
went when its turn came.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from openbell.errors import CorruptError, StorageError
from openbell.state.files import fsync_folder, storage_error

_COMPRESSION = 1
"""Logs shrink to a tenth by it already; more would keep a closing waiting."""


def archive_logs(
    logs: Iterable[Path], target: Path, stopped: Callable[[], bool] = lambda: False
) -> int:
    """Writes those of `logs` that exist, with their rotated copies if they are among them, into
    `target` (gzipped tar), and reads it back. Their number. `stopped`: asked before each file;
    where it says so nothing is left behind. Raises StorageError, CorruptError."""
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with part.open("wb") as raw:
            os.fchmod(raw.fileno(), 0o600)
            kept = _write(raw, logs, stopped)
            raw.flush()
            os.fsync(raw.fileno())
        if kept is None:
            raise StorageError(f"{target.name} was not finished", hint="the time was up")
        _check(part, kept)
        part.replace(target)
        fsync_folder(target.parent)
    except OSError as error:
        raise storage_error(error, "archive logs into", target) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return len(kept)


def _write(raw: object, logs: Iterable[Path], stopped: Callable[[], bool]) -> dict[str, int] | None:
    """Size by name; None where it was stopped."""
    kept: dict[str, int] = {}
    with tarfile.open(fileobj=raw, mode="w:gz", compresslevel=_COMPRESSION) as archive:  # type: ignore[call-overload]
        for path in logs:
            if stopped():
                return None
            try:
                file = path.open("rb")
            except FileNotFoundError:
                continue
            with file:
                # Of the open file: a rotation meanwhile moves the name and not this.
                member = archive.gettarinfo(arcname=path.name, fileobj=file)
                archive.addfile(member, file)
                kept[path.name] = member.size
    return kept


def _check(path: Path, kept: dict[str, int]) -> None:
    """Reads every byte. Raises CorruptError where it holds anything else than was kept."""
    found: dict[str, int] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                content = archive.extractfile(member)
                size = 0
                while content is not None and (read := content.read(1 << 20)):
                    size += len(read)
                found[member.name] = size
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise CorruptError(f"the archive of the logs cannot be read back: {error}") from error
    if found != kept:
        raise CorruptError("the archive of the logs does not hold what was written")
