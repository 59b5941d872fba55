"""The order journal: what was intended and what became of it, in order, under an epoch.

Invariants
- An append that returned is on the disk; one that raised was not reported, and its caller sends
  nothing. (After an input/output error at the commit itself an entry may turn out to exist: an
  intent without an outcome, which is in doubt and is asked for. The safe direction.)
- Exactly one epoch is current. `take_over` makes the next one in the transaction that claims it,
  never below the wall clock's seconds: a database that was lost, or restored from an older copy,
  forgets which epochs were in office, and ClOrdIDs made from one of them again would name orders
  that the venue knows. Only a clock that was set back as well could repeat one.
- From a take-over on, every append under an older one is refused by the database itself
  (`migrations`: journal_is_fenced). So a writer that slept through its replacement cannot trade.
- `seq` counts 1, 2, 3, ... without a gap: a reader that has N and sees N + 2 knows what it missed.
- Every entry carries its own CRC-64: SQLite has none on its pages, and one flipped bit in a
  quantity would otherwise be believed.

Group commit: appends that wait while another is being committed share the next transaction. There
is no batching delay; a lone append goes at once. Commits run in a thread of the journal's own, so
that the event loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec

from openbell.domain.external import JournalEvent
from openbell.errors import ConflictError, OpenbellError, StorageError
from openbell.state.database import Database, database_error, open_database, result_code
from openbell.state.journal_reader import JournalEntry, JournalReader, entry_crc

__all__ = ["SNAPSHOTS_KEPT", "FencedError", "Journal", "JournalEntry", "JournalReader"]

SNAPSHOTS_KEPT = 3
"""Ours: the newest, and two to fall back to where it is damaged."""

_FATAL = frozenset(
    {
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)
"""After these nothing this process still holds of the file can be believed: see `files`."""

_INSERT_ENTRY = "INSERT INTO journal (seq, epoch, at_ns, event, crc) VALUES (?, ?, ?, ?, ?)"
_INSERT_SNAPSHOT = (
    "INSERT OR REPLACE INTO snapshots (seq, epoch, at_ns, data, crc) VALUES (?, ?, ?, ?, ?)"
)
_DROP_OLD_SNAPSHOTS = (
    "DELETE FROM snapshots WHERE seq NOT IN (SELECT seq FROM snapshots ORDER BY seq DESC LIMIT ?)"
)

_log = logging.getLogger(__name__)
_encoder = msgspec.msgpack.Encoder()

_Row = tuple[int, int, int, bytes, int]
"""seq, epoch, at_ns, content, crc"""


class FencedError(ConflictError):
    """Another writer took over: this one may send nothing any more and must end."""

    code: ClassVar[str] = "fenced"


@dataclass(frozen=True)
class _Request:
    """What one caller wants committed, on its way to the writer thread."""

    done: asyncio.Future[int]
    loop: asyncio.AbstractEventLoop
    events: Sequence[bytes] = ()
    """Encoded, to be journaled."""
    snapshot: tuple[int, bytes] | None = None
    """Or: `(seq, data)` to be kept."""


class Journal:
    """The journal as its one writer holds it. Made by `take_over`."""

    epoch: int

    def __init__(self, database: Database, epoch: int, last_seq: int) -> None:
        self.epoch = epoch
        self._database = database
        self._reader = JournalReader(database, owns_database=False)
        self._last_seq = last_seq
        self._unusable: OpenbellError | None = None
        self._closing = False
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()

    @classmethod
    async def take_over(
        cls,
        path: Path,
        holder: str,
        *,
        after_epoch: int | None = None,
        opened: Database | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> Journal:
        """Open the journal in the desk database at `path` and become its only writer.

        Every earlier holder is fenced from this moment on. `holder` names who it is, such as
        `execution-engine pid 4711`; `now_ns` is the wall clock. `after_epoch`: only while that one
        is current, else ConflictError and nothing was taken. `opened`: the same database, opened and
        noted as such before, which saves the time; it is closed with this journal, or with an error.
        Errors as `open_database`.
        StorageError ("locked") also where the holder was stopped in the middle of a commit: kill
        it, then take over.
        """
        return await asyncio.to_thread(cls._take_over, path, holder, after_epoch, opened, now_ns)

    @classmethod
    def _take_over(
        cls,
        path: Path,
        holder: str,
        after_epoch: int | None,
        opened: Database | None,
        now_ns: Callable[[], int],
    ) -> Journal:
        database = _unchanged(opened) or open_database(path)
        try:
            with database.writing() as connection:
                current = connection.exec_driver_sql(
                    "SELECT coalesce(max(epoch), 0) FROM epochs"
                ).scalar_one()
                if after_epoch not in (None, current):
                    raise ConflictError(
                        f"epoch {current} is current, not {after_epoch}: another engine took over",
                        epoch=current,
                    )
                taken_ns = now_ns()
                epoch = connection.exec_driver_sql(
                    "INSERT INTO epochs (epoch, holder, taken_ns) "
                    "SELECT max(coalesce(max(epoch), 0) + 1, ?), ?, ? FROM epochs RETURNING epoch",
                    (taken_ns // 1_000_000_000, holder, taken_ns),
                ).scalar_one()
                # Read under the same lock: nobody can append between the claim and this.
                last_seq = connection.exec_driver_sql(
                    "SELECT coalesce(max(seq), 0) FROM journal"
                ).scalar_one()
            return cls(database, epoch, last_seq)
        except BaseException:
            database.close()
            raise

    async def append(self, events: Sequence[JournalEvent]) -> int:
        """Commit `events`, in order, all or none; returns the `seq` of the last.

        FencedError: another writer took over. StorageError: full disk, input/output error, closed.
        Whichever it is, nothing may be sent. After a full disk the next append works as soon as
        there is space; after a failed fsync or a damaged file this journal refuses everything
        until it is taken over anew. Cancelled while waiting: committed or not, ask the journal.
        """
        if not events:
            return self._last_seq
        loop = asyncio.get_running_loop()
        encoded = [_encoder.encode(event) for event in events]
        return await self._ask(_Request(loop.create_future(), loop, events=encoded))

    async def save_snapshot(self, seq: int, data: bytes) -> None:
        """Keep `data` as the state after entry `seq`, so that the next start replays only what
        follows. The newest `SNAPSHOTS_KEPT` are kept. Errors as `append`."""
        if not 0 <= seq <= self._last_seq:
            raise ValueError(f"snapshot after entry {seq}; the journal ends at {self._last_seq}")
        loop = asyncio.get_running_loop()
        await self._ask(_Request(loop.create_future(), loop, snapshot=(seq, data)))

    def read(self, after_seq: int = 0, limit: int | None = None) -> Iterator[JournalEntry]:
        """As `JournalReader.read`."""
        return self._reader.read(after_seq, limit)

    def newest_snapshot(self) -> tuple[int, bytes] | None:
        """As `JournalReader.newest_snapshot`."""
        return self._reader.newest_snapshot()

    def last_seq(self) -> int:
        """`seq` of the newest committed entry; 0 for an empty journal."""
        return self._last_seq

    async def close(self) -> None:
        """Commit what was asked for, then close. Closing twice is harmless."""
        if not self._closing:
            self._closing = True
            self._requests.put(None)
        await asyncio.to_thread(self._writer.join)
        self._reader.close()
        self._database.close()

    async def _ask(self, request: _Request) -> int:
        if self._closing:
            raise StorageError("the journal is closed")
        if self._unusable is not None:
            raise _copy(self._unusable)
        self._requests.put(request)
        return await request.done

    # What follows runs in the writer thread.

    def _write(self) -> None:
        connection = self._database.driver_connection()
        batch: list[_Request] = []
        try:
            more = True
            while more:
                batch, more = self._next_batch()
                if batch:
                    _settle(batch, self._attempt(connection, batch))
        except BaseException as error:
            # A defect of ours. Whoever waits must learn that nothing is committed any more.
            self._unusable = StorageError(f"the journal's writer failed: {error!r}")
            with contextlib.suppress(queue.Empty):
                while (request := self._requests.get_nowait()) is not None:
                    batch.append(request)
            _settle(batch, self._unusable)
            raise
        finally:
            connection.close()

    def _next_batch(self) -> tuple[list[_Request], bool]:
        """Waits for one request, then takes all that are there. False: close afterwards."""
        batch: list[_Request] = []
        request = self._requests.get()
        while request is not None:
            batch.append(request)
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _attempt(
        self, connection: sqlite3.Connection, batch: Sequence[_Request]
    ) -> list[int] | OpenbellError:
        """Commit the batch: what each request is answered, or the error that all of them get."""
        if self._unusable is not None:
            return self._unusable
        try:
            return self._commit(connection, batch)
        except sqlite3.Error as error:
            return self._after_failure(connection, error)

    def _commit(self, connection: sqlite3.Connection, batch: Sequence[_Request]) -> list[int]:
        at_ns = time.time_ns()
        seq = self._last_seq
        entries: list[_Row] = []
        snapshots: list[_Row] = []
        answers = []
        for request in batch:
            for event in request.events:
                seq += 1
                entries.append(self._row(seq, at_ns, event))
            if request.snapshot is not None:
                snapshots.append(self._row(request.snapshot[0], at_ns, request.snapshot[1]))
            answers.append(seq)
        if len(entries) == 1 and not snapshots:
            # The usual case. A statement alone is a transaction, and one call into the driver
            # gives up and takes back the interpreter's lock once instead of three times.
            connection.execute(_INSERT_ENTRY, entries[0])
        else:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT_ENTRY, entries)
            if snapshots:
                connection.executemany(_INSERT_SNAPSHOT, snapshots)
                connection.execute(_DROP_OLD_SNAPSHOTS, (SNAPSHOTS_KEPT,))
            connection.execute("COMMIT")
        self._last_seq = seq
        return answers

    def _row(self, seq: int, at_ns: int, content: bytes) -> _Row:
        return seq, self.epoch, at_ns, content, entry_crc(seq, self.epoch, at_ns, content)

    def _after_failure(self, connection: sqlite3.Connection, error: sqlite3.Error) -> OpenbellError:
        """Sort the error, roll back, and see where the journal really ends."""
        if isinstance(error, sqlite3.IntegrityError) and str(error) == "fenced":
            outcome: OpenbellError = FencedError(
                f"epoch {self.epoch} is over: another engine took over the journal",
                hint="end this engine; the other one trades",
                epoch=self.epoch,
            )
            self._unusable = outcome
        else:
            outcome = database_error(error, "append to the journal in", self._database.path)
            if result_code(error) in _FATAL:
                self._unusable = outcome
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            # An error at the commit may have come after it: the next entry must not take its seq.
            self._last_seq = connection.execute(
                "SELECT coalesce(max(seq), 0) FROM journal"
            ).fetchone()[0]
        except sqlite3.Error as second:
            self._unusable = database_error(second, "roll back", self._database.path)
        return outcome


def _unchanged(opened: Database | None) -> Database | None:
    """None, and it is closed, where the database is to be opened anew."""
    if opened is None:
        return None
    try:
        if opened.is_unchanged():
            return opened
    except OpenbellError as error:
        _log.warning("what was opened before is opened anew: %s", error.message)
    opened.close()
    return None


def _settle(batch: Sequence[_Request], outcome: list[int] | OpenbellError) -> None:
    """Tell every caller, in its own event loop, with one wake-up for each loop."""
    answers: Sequence[int | OpenbellError]
    answers = [outcome] * len(batch) if isinstance(outcome, OpenbellError) else outcome
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Request, int | OpenbellError]]] = {}
    for request, answer in zip(batch, answers, strict=True):
        by_loop.setdefault(request.loop, []).append((request, answer))
    for loop, answered in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_answer, answered)


def _answer(answered: Sequence[tuple[_Request, int | OpenbellError]]) -> None:
    for request, answer in answered:
        if request.done.done():  # cancelled meanwhile
            continue
        if isinstance(answer, OpenbellError):
            request.done.set_exception(_copy(answer))
        else:
            request.done.set_result(answer)


def _copy(error: OpenbellError) -> OpenbellError:
    """An error raised in several tasks must not be one object: each raise adds to its traceback."""
    return type(error)(error.message, hint=error.hint, **error.facts)
