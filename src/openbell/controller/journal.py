"""The desk database as the controller uses it: runs and their steps, the current epoch.

Opened when it is first needed, in a thread: a controller that comes back adopts its services
before it loads a database library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from openbell.errors import OpenbellError, StorageError
from openbell.procedures.closing.context import Earlier
from openbell.procedures.step import Outcome

if TYPE_CHECKING:
    from openbell.state.database import Database
    from openbell.state.journal_reader import JournalReader
    from openbell.state.runs import RunRecord, RunStore

log = structlog.get_logger()


class DeskDatabase:
    """Runs and epoch. Every method but `current_epoch` and `current_holder` raises StorageError or
    CorruptError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: Database | None = None
        self._reader: JournalReader | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> RunStore:
        from openbell.state.runs import RunStore

        async with self._opening:
            if self._database is None:
                self._database = await asyncio.to_thread(self._open)
        return RunStore(self._database)

    def _open(self) -> Database:
        from openbell.state.database import open_database

        return open_database(self._path)

    def current_epoch(self) -> int | None:
        """The epoch that may write now; None where it cannot be read."""
        from openbell.state.journal_reader import JournalReader

        try:
            if self._reader is None:
                self._reader = JournalReader.open(self._path)
            return self._reader.current_epoch()
        except OpenbellError as error:
            log.error("epoch unreadable", why=error.message)
            self._reader = None
            return None

    def current_holder(self) -> tuple[int | None, str]:
        """The current epoch and who signed it; None where that cannot be read."""
        from openbell.state.journal_reader import JournalReader

        try:
            if self._reader is None:
                self._reader = JournalReader.open(self._path)
            return self._reader.current_holder()
        except OpenbellError as error:
            log.error("epoch unreadable", why=error.message)
            self._reader = None
            return None, ""

    async def unfinished(self) -> tuple[RunRecord, ...]:
        store = await self.open()
        return await asyncio.to_thread(store.unfinished)

    async def newest(self) -> RunRecord | None:
        store = await self.open()
        found = await asyncio.to_thread(store.list, 1)
        return found[0] if found else None

    async def newest_of(self, kind: str, among: int) -> tuple[RunRecord, ...]:
        """Runs of one procedure among the newest so many of all, newest first."""
        store = await self.open()
        found = await asyncio.to_thread(store.list, among)
        return tuple(record for record in found if record.kind == kind)

    async def get(self, number: int) -> RunRecord:
        store = await self.open()
        return await asyncio.to_thread(store.get, number)

    async def finish(self, number: int, outcome: str) -> None:
        store = await self.open()
        await asyncio.to_thread(store.finish, number, outcome)

    async def begin(self, kind: str, who: str, why: str, params: Mapping[str, Any]) -> int:
        store = await self.open()
        return await asyncio.to_thread(store.begin, kind, who, why, params)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._database is not None:
            self._database.close()


class RunJournal:
    """`procedures.run.Journal` of one run, in the desk database."""

    def __init__(self, database: DeskDatabase, number: int) -> None:
        self._database = database
        self._number = number

    async def step_started(self, step: str, index: int) -> None:
        store = await self._database.open()
        await asyncio.to_thread(store.step_started, self._number, index, step)

    async def step_done(
        self, step: str, index: int, outcome: str, evidence: Mapping[str, object]
    ) -> None:
        store = await self._database.open()
        await asyncio.to_thread(store.step_done, self._number, index, outcome, evidence)

    async def finish(self, outcome: str) -> None:
        await self._database.finish(self._number, outcome)


class BestEffortJournal:
    """For a closing: a full disk must not keep a desk open. What cannot be written is logged."""

    def __init__(self, journal: RunJournal | None) -> None:
        """None: the run could not even be begun on disk."""
        self._journal = journal

    async def step_started(self, step: str, index: int) -> None:
        if self._journal is not None:
            try:
                await self._journal.step_started(step, index)
            except StorageError as error:
                self._give_up(error)

    async def step_done(
        self, step: str, index: int, outcome: str, evidence: Mapping[str, object]
    ) -> None:
        if self._journal is not None:
            try:
                await self._journal.step_done(step, index, outcome, evidence)
            except StorageError as error:
                self._give_up(error)

    async def finish(self, outcome: str) -> None:
        if self._journal is not None:
            try:
                await self._journal.finish(outcome)
            except StorageError as error:
                self._give_up(error)

    def _give_up(self, error: StorageError) -> None:
        # Not tried again: a gap between steps would read as steps that never began.
        self._journal = None
        log.error("the run goes on without its journal", why=error.message, alert=True)


def earlier_steps(record: RunRecord) -> dict[str, Earlier]:
    """What attempts that were cut off had found, by step; the newest of each counts."""
    found: dict[str, Earlier] = {}
    for step in record.steps:
        if step.outcome is not None:
            found[step.name] = Earlier(Outcome(step.outcome), step.facts)
    return found
