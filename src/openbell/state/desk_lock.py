"""The lock of deployments and configuration: a small file whose existence keeps the desk as it is.

While it is there the desk is not opened, no service is told to read its configuration again, no
strategy is enabled, no limit changed, and no rolling restart begins. A closing sets it under its own
run and releases it at its end, proven or not (docs/decisions/lock-of-a-closing.md); a person may set
and release it too. It stops no trading and no order: for that there are halts and latches, which are
files of the same kind (`halts`). As with those, only the certainty that there is no file means that
nothing is locked.

    state/lock.json      the lock; empty where a full disk took no more: then it counts as a person's
    state/lock.closing   the same of a closing, empty: so nobody has to release what nobody set
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from openbell.errors import RefusedError, StorageError
from openbell.state.files import remove_durably, write_atomically
from openbell.state.halts import Illegible, aware, make_empty, read_content

ANNOUNCED = "the announced closing"
"""In the place of a run: the lock of a closing that was announced for later, until its run begins."""
UNNAMED = "a closing"
"""In the place of a run: a full disk did not take which one it was."""


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

    def refusal(self, what: str) -> RefusedError:
        """`what` is not done, and what would release the lock."""
        if not self.run:
            hint = "`openbell unlock` releases the lock"
        elif self.run == UNNAMED:
            hint = (
                "`openbell down` goes on with the closing; `openbell unlock` releases the lock, and "
                "`openbell up` may follow"
            )
        elif self.run == ANNOUNCED:
            hint = "`openbell down --call-off` takes the closing back"
        else:
            hint = (
                f"`openbell down` goes on with the closing; `openbell procedure cancel {self.run}` "
                "takes it back, and `openbell up` may follow"
            )
        return RefusedError(
            f"{what}: the desk is {self}", hint=hint, locked_by=self.who, run=self.run or None
        )


class _Content(msgspec.Struct, frozen=True):
    reason: str
    who: str
    at: datetime
    run: str = ""


def read_lock(path: Path) -> DeskLock | None:
    """The lock, or None where there is no such file. Never raises: what cannot be read locks."""
    read = read_content(path, _Content)
    if isinstance(read, Illegible):
        return DeskLock(f"{read.why}; counted as locked", "unknown", read.at, readable=False)
    if read is not None:
        return DeskLock(read.reason, read.who, aware(read.at), read.run)
    return _of_a_closing(path)


def _of_a_closing(path: Path) -> DeskLock | None:
    """Its file is empty, so all that is known of it is since when it is there."""
    read = read_content(_empty_of_a_closing(path), _Content)
    if read is None:
        return None
    at = read.at if isinstance(read, Illegible) else aware(read.at)
    return DeskLock("the disk took no more of it", "unknown", at, UNNAMED, readable=False)


def _empty_of_a_closing(path: Path) -> Path:
    return path.with_suffix(".closing")


def set_lock(path: Path, lock: DeskLock) -> None:
    """Lock, durably. StorageError: the disk allows not even an empty file, and nothing is locked."""
    content = _Content(lock.reason, lock.who, lock.at, lock.run)
    try:
        write_atomically(path, msgspec.json.encode(content) + b"\n")
    except StorageError:
        if not make_empty(_empty_of_a_closing(path) if lock.run else path):
            raise


def clear_lock(path: Path) -> bool:
    """Release, durably. False: nothing was locked. StorageError: it stays."""
    named = remove_durably(path)
    return remove_durably(_empty_of_a_closing(path)) or named
