"""The lock of deployments and configuration: a small file whose existence keeps the desk as it is.

While it is there the desk is not opened, no service is told to read its configuration again, and no
rolling restart begins. A closing sets it under its own run and releases it at its end, proven or not
(docs/decisions/lock-of-a-closing.md); a person may set and release it too. It stops no trading and
no order: for that there are halts and latches, which are files of the same kind (`halts`). As with
those, only the certainty that there is no file means that nothing is locked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from openbell.errors import StorageError
from openbell.state.files import remove_durably, write_atomically
from openbell.state.halts import make_empty

_CONTENT_BYTES_MAX = 1 << 16

ANNOUNCED = "the announced closing"
"""In the place of a run: the lock of a closing that was announced for later, until its run begins."""


@dataclass(frozen=True)
class DeskLock:
    """Who keeps the desk as it is, and why."""

    reason: str
    who: str
    at: datetime
    """Aware, UTC."""
    run: str = ""
    """The closing that set it, and releases it; empty: a person did, and does."""
    readable: bool = True
    """False: the file exists but does not say why; `reason` says what is wrong with it."""

    def __str__(self) -> str:
        by = f"{self.run} of {self.who}" if self.run else self.who
        told = f"locked by {by} since {self.at:%Y-%m-%d %H:%M:%S} UTC"
        return f"{told}: {self.reason}" if self.reason else told


class _Content(msgspec.Struct, frozen=True):
    reason: str
    who: str
    at: datetime
    run: str = ""


def read_lock(path: Path) -> DeskLock | None:
    """The lock, or None where there is no such file. Never raises: what cannot be read locks."""
    try:
        with path.open("rb") as file:
            content = file.read(_CONTENT_BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _unreadable(path, error.strerror or str(error))
    try:
        read = msgspec.json.decode(content, type=_Content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        why = f"not what was written ({error})" if content else "empty"
        return _unreadable(path, f"it is {why}")
    at = read.at if read.at.tzinfo else read.at.replace(tzinfo=UTC)
    return DeskLock(read.reason, read.who, at, read.run)


def set_lock(path: Path, lock: DeskLock) -> None:
    """Lock, durably. StorageError: the disk allows not even an empty file, and nothing is locked."""
    content = _Content(lock.reason, lock.who, lock.at, lock.run)
    try:
        write_atomically(path, msgspec.json.encode(content) + b"\n")
    except StorageError:
        if not make_empty(path):
            raise


def clear_lock(path: Path) -> bool:
    """Release, durably. False: nothing was locked. StorageError: it stays."""
    return remove_durably(path)


def _unreadable(path: Path, why: str) -> DeskLock:
    try:
        at = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except OSError:
        at = datetime.now(UTC)
    told = f"{path.name} cannot be read: {why}; counted as locked"
    return DeskLock(told, "unknown", at, readable=False)
