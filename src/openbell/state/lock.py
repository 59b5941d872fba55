"""A file that at most one process holds, and that says which.

The lock is the kernel's (flock): it ends with its holder, however that dies, so nothing is ever
stale. The pid in the file is for people only and decides nothing. The file is never deleted: a
deleted one could be held by two, one by the old inode and one by the new.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from openbell.errors import ConflictError
from openbell.state.files import storage_error

_POLL_SECS = 0.005
"""flock knows "now" and "for ever", nothing between."""
_LOOKED_AT_SECS = 0.5
"""For whoever only asks who holds a lock (`held_by`) and has a part of it for a moment: of a busy machine."""


class FileLock:
    """An exclusive lock on `path`, between processes as well as between threads.

        with FileLock(layout.controller_lock):
            ...

    Not inherited by children: their `exec` closes it (O_CLOEXEC).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> FileLock:
        """Take it, or raise ConflictError naming the holder, after half a second: whoever asks who holds it
        has a part of it for a moment, and is no holder. StorageError: no such folder, no right to it."""
        try:
            fd = open_lock_file(self.path)
        except OSError as error:
            raise storage_error(error, "lock", self.path) from error
        try:
            is_got = lock_within(fd, fcntl.LOCK_EX, _LOOKED_AT_SECS)
        except OSError as error:
            os.close(fd)
            raise storage_error(error, "lock", self.path) from error
        if not is_got:
            holder = _holder(fd)
            os.close(fd)
            who = f"process {holder}" if holder else "another process"
            raise ConflictError(
                f"{self.path.name} is held by {who}",
                hint="wait until it has finished",
                path=str(self.path),
                pid=holder,
            )
        # Only a courtesy to whoever is refused: on a full disk the lock holds without it.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd
        return self

    def release(self) -> None:
        """Give it back. Harmless where it is not held."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    @property
    def held(self) -> bool:
        return self._fd is not None

    def __enter__(self) -> FileLock:
        return self if self.held else self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def held_by(path: Path) -> int | None:
    """The process that holds the lock of this file; None where none does, or it cannot be told. It holds
    nothing back: it asks the kernel only where the process that the file names is there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        holder = _holder(fd)
        if holder is None or holder <= 0:
            return None
        os.kill(holder, 0)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def open_lock_file(path: Path) -> int:
    """Makes it only where it is not there: to make it waits for a disk that takes no writes, to open it
    does not. Raises OSError."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, 0o600)


def lock_within(fd: int, operation: int, timeout_secs: float) -> bool:
    """flock an open file (`fcntl.LOCK_EX` or `LOCK_SH`), waiting up to a time-out. False: not got.

    For locks held for about a millisecond, where a holder that was stopped must not stop us.
    """
    deadline = time.monotonic() + timeout_secs
    while True:
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECS)
        else:
            return True


def _holder(fd: int) -> int | None:
    """None between a new holder's lock and its writing, or where the file holds something else."""
    try:
        return int(os.pread(fd, 32, 0))
    except (ValueError, OSError):
        return None
