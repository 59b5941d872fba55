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

from openbell.config.layout import DeskLayout
from openbell.errors import StorageError
from openbell.kill.patient_lock import PatientLock


class FlattenTurn:
    def __init__(self, layout: DeskLayout) -> None:
        self._path = layout.emergency_flatten_lock
        self._lock = PatientLock(self._path)

    async def take(self) -> str:
        """Why it is not ours; empty: it is. It never is where the disk does not say so."""
        try:
            ours = await self._lock.take()
        except StorageError as error:
            return error.message
        return "" if ours else "another stop beside it closes them"

    async def is_anothers(self) -> bool:
        """As far as the disk tells: what takes no lock was locked by nobody."""
        if self._lock.held:
            return False
        asked = PatientLock(self._path)
        try:
            return not await asked.take()
        except StorageError:
            return False
        finally:
            asked.give_back()

    def give_back(self) -> None:
        self._lock.give_back()
