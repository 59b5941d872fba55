"""The second lock of an emergency stop: `state/emergency-flatten.lock`, held by whoever closes positions
beside a stop that has the first.

    the first lock is ours ─▶ nobody has the second ─▶ positions are closed
                                        └ somebody has: they are not, and the statement is unknown
    we go on without it ─▶ the second is ours ─▶ the first has not changed hands ─▶ positions are closed
                              └ no: they are not             └ it has: as with the first lock, anew

What always holds: of any number of stops at most one closes positions. Whoever takes the first lock looks at
the second after that, whoever takes the second looks at the first after that; so of two at least one sees
the other.
"""

from __future__ import annotations

import threading

from openbell.config.layout import DeskLayout
from openbell.errors import ConflictError, StorageError
from openbell.kill.aside import aside
from openbell.state.lock import FileLock

LOCK_S = 0.5
"""For a disk that hangs."""


class FlattenTurn:
    def __init__(self, layout: DeskLayout) -> None:
        self._path = layout.emergency_flatten_lock
        self._lock: FileLock | None = None

    async def take(self) -> str:
        """Why it is not ours; empty: it is. It never is where the disk does not say so."""
        if self._lock is not None:
            return ""
        lock, guarded, given_up = FileLock(self._path), threading.Lock(), False

        def work() -> None:
            lock.acquire()
            with guarded:
                if given_up:  # by a disk that came back: nobody would ever give it back
                    lock.release()

        try:
            await aside(work, LOCK_S)
        except ConflictError:
            return "another stop beside it closes them"
        except StorageError as error:
            return error.message
        except TimeoutError:
            with guarded:
                given_up = True
                lock.release()
            return f"{self._path.name}: the disk does not answer"
        self._lock = lock
        return ""

    async def is_anothers(self) -> bool:
        """As far as the disk tells: what takes no lock was locked by nobody."""
        if self._lock is not None:
            return False
        try:
            await aside(lambda: FileLock(self._path).acquire().release(), LOCK_S)
        except ConflictError:
            return True
        except (StorageError, TimeoutError):
            return False
        return False

    def give_back(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
