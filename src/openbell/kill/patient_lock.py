"""A lock of the emergency stop, on a disk that may answer nothing.

The lock is the kernel's, and needs no disk: only to open its file does. That is done aside, once; to ask
again costs one system call. Nothing is written into the file, for a disk that takes no writes would keep
whoever holds it in the kernel; who that is, the kernel's own books say (`stuck.lock_holder`).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from openbell.errors import StorageError
from openbell.kill.aside import opened_aside
from openbell.state.files import storage_error
from openbell.state.lock import open_lock_file

OPEN_S = 0.5
"""For a disk that hangs."""


class DiskHangsError(StorageError):
    """It is not known whether anybody holds the lock."""


class PatientLock:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self.held = False

    async def take(self) -> bool:
        """False: another one holds it. Raises StorageError: it can be taken by nobody here."""
        if self.held:
            return True
        if self._fd is None:
            self._fd = await self._opened()
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise storage_error(error, "lock", self._path) from error
        self.held = True
        return True

    def give_back(self) -> None:
        """Harmless where it is not held."""
        self.held = False
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    async def _opened(self) -> int:
        try:
            return await opened_aside(lambda: open_lock_file(self._path), OPEN_S, os.close)
        except TimeoutError:  # it is an OSError as well
            raise DiskHangsError(f"{self._path.name}: the disk does not answer") from None
        except OSError as error:
            raise storage_error(error, "lock", self._path) from error
