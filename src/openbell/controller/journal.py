"""The desk database as the controller uses it: runs and their steps, the current epoch.

Opened when it is first needed, in a thread: a controller that comes back adopts its services
before it loads a database library.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from openbell.errors import OpenbellError
from openbell.procedures.closing.context import Earlier
from openbell.procedures.ports import EarlierEffect
from openbell.procedures.step import Outcome
from openbell.service.logging import get_logger

if TYPE_CHECKING:
    from openbell.state.audit_record import AuditHead
    from openbell.state.database import Database
    from openbell.state.journal_reader import JournalReader
    from openbell.state.new_run import NewRun
    from openbell.state.requests import RequestStore
    from openbell.state.runs import RunRecord, RunStore

log = get_logger()

FACTS_BYTES_MAX = 64 << 10
"""Of what a step observed, in the run's record."""


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

    async def requests(self) -> RequestStore:
        from openbell.state.requests import RequestStore

        await self.open()
        assert self._database is not None, "it was just opened"
        return RequestStore(self._database)

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

    async def as_asked_last(self, number: int) -> RunRecord:
        """The run with what it was asked for by whoever went on with it last."""
        store = await self.open()
        return await asyncio.to_thread(store.as_asked_last, number)

    async def begun_under(self, number: int) -> Mapping[str, Mapping[str, Any]]:
        """By step: what the desk said of it when the run was begun; empty where that was not kept."""
        store = await self.open()
        return await asyncio.to_thread(store.begun_under, number)

    async def finish(
        self, number: int, outcome: str, detail: Mapping[str, Any] | None = None
    ) -> AuditHead:
        """The head of the run's record, whole now."""
        store = await self.open()
        return await asyncio.to_thread(store.finish, number, outcome, detail)

    async def begin(self, new: NewRun) -> int:
        """Its number."""
        store = await self.open()
        return await asyncio.to_thread(store.begin, new)

    async def note(
        self, number: int, actor: str, action: str, subject: str, detail: Mapping[str, Any]
    ) -> None:
        """Into the run's record."""
        store = await self.open()
        await asyncio.to_thread(store.note, number, actor, action, subject, detail)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._database is not None:
            self._database.close()


class RunJournal:
    """`procedures.run.Journal` and `procedures.ports.Effects` of one run, in the desk database."""

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

    async def step_planned(
        self, step: str, index: int, facts: object, plan: Sequence[str], reason: str
    ) -> None:
        detail = {"before": facts_told(facts), "plan": list(plan), "reason": reason}
        await self._database.note(self._number, "controller", "step.planned", step, detail)

    async def intend(self, effect: str, what: str) -> bool:
        store = await self._database.open()
        await asyncio.to_thread(store.intend, self._number, effect, what)
        return True

    async def settle(self, effect: str, outcome: EarlierEffect) -> None:
        store = await self._database.open()
        await asyncio.to_thread(store.settle, self._number, effect, str(outcome))

    async def earlier(self, effect: str) -> EarlierEffect:
        store = await self._database.open()
        found = await asyncio.to_thread(store.effect, self._number, effect)
        if found is None:
            return EarlierEffect.NONE
        return EarlierEffect.IN_DOUBT if found.outcome is None else EarlierEffect(found.outcome)

    async def intended(self, effect: str) -> str:
        store = await self._database.open()
        found = await asyncio.to_thread(store.effect, self._number, effect)
        return "" if found is None else found.what

    async def finish(self, outcome: str, detail: Mapping[str, Any] | None = None) -> AuditHead:
        return await self._database.finish(self._number, outcome, detail)


def facts_told(facts: object) -> object:
    """Facts as a record keeps them; of what is too long, its size and digest. Never raises: what
    cannot be written down must not keep a step from its work."""
    try:
        told = msgspec.to_builtins(facts, enc_hook=str, str_keys=True)
        written = msgspec.json.encode(told)
    except (TypeError, ValueError, OverflowError) as error:
        log.warning("facts cannot be told", kind=type(facts).__name__, why=str(error))
        return {"untold": type(facts).__name__}
    if len(written) <= FACTS_BYTES_MAX:
        return told
    return {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}


class BestEffortJournal:
    """For a closing: neither a full disk nor a damaged database must keep a desk open. What cannot be
    written is logged.

    Steps are not written any more once one could not be. Effects are asked for and written on, each for
    itself: a full disk can still be read, and what was brought about before must not be again because
    of it."""

    def __init__(self, journal: RunJournal | None, cut_off: RunJournal | None = None) -> None:
        """None: the run could not even be begun on disk. `cut_off`: the run that it goes on with,
        though that could not be written; its effects are this one's."""
        self._journal = journal
        self._effects = journal or cut_off

    async def step_started(self, step: str, index: int) -> None:
        if self._journal is not None:
            try:
                await self._journal.step_started(step, index)
            except OpenbellError as error:
                self._give_up(error)

    async def step_done(
        self, step: str, index: int, outcome: str, evidence: Mapping[str, object]
    ) -> None:
        if self._journal is not None:
            try:
                await self._journal.step_done(step, index, outcome, evidence)
            except OpenbellError as error:
                self._give_up(error)

    async def step_planned(
        self, step: str, index: int, facts: object, plan: Sequence[str], reason: str
    ) -> None:
        if self._journal is not None:
            try:
                await self._journal.step_planned(step, index, facts, plan, reason)
            except OpenbellError as error:
                self._give_up(error)

    async def intend(self, effect: str, what: str) -> bool:
        """Whether it is on the disk."""
        if self._effects is None:
            return False
        try:
            return await self._effects.intend(effect, what)
        except OpenbellError as error:
            self._give_up(error)
            return False

    async def settle(self, effect: str, outcome: EarlierEffect) -> None:
        if self._effects is not None:
            try:
                await self._effects.settle(effect, outcome)
            except OpenbellError as error:
                self._give_up(error)

    async def earlier(self, effect: str) -> EarlierEffect:
        """Where that cannot be read, it may have been brought about. A run that has never been on the
        disk goes on with none."""
        if self._effects is None:
            return EarlierEffect.NONE
        try:
            return await self._effects.earlier(effect)
        except OpenbellError as error:
            self._give_up(error)
            return EarlierEffect.IN_DOUBT

    async def intended(self, effect: str) -> str:
        if self._effects is None:
            return ""
        try:
            return await self._effects.intended(effect)
        except OpenbellError as error:
            self._give_up(error)
            return ""

    async def finish(
        self, outcome: str, detail: Mapping[str, Any] | None = None
    ) -> AuditHead | None:
        if self._journal is not None:
            try:
                return await self._journal.finish(outcome, detail)
            except OpenbellError as error:
                self._give_up(error)
        return None

    def _give_up(self, error: OpenbellError) -> None:
        # Steps are not tried again: a gap between them would read as steps that never began.
        self._journal = None
        log.error("the run goes on without its journal", why=error.message, alert=True)


def earlier_steps(record: RunRecord) -> dict[str, Earlier]:
    """What attempts that were cut off had found, by step; the newest of each counts."""
    found: dict[str, Earlier] = {}
    for step in record.steps:
        if step.outcome is not None:
            found[step.name] = Earlier(Outcome(step.outcome), step.facts)
    return found
