"""Reading the order journal: from any process, while the engine writes it."""

from __future__ import annotations

import logging
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from fastcrc import crc64

from openbell.domain.external import JournalEvent
from openbell.errors import CorruptError
from openbell.state.database import Database, database_error, open_database

_log = logging.getLogger(__name__)

_PAGE = 1000
"""Entries per query of `read`: no read transaction stays open while its entries are used, since
one would keep the write-ahead log from being folded into the database."""

_decoder: msgspec.msgpack.Decoder[JournalEvent] = msgspec.msgpack.Decoder(JournalEvent)


def entry_crc(seq: int, epoch: int, at_ns: int, content: bytes) -> int:
    """CRC-64/XZ over an entry's numbers and bytes, as the signed integer SQLite stores."""
    numbers = struct.pack("<qqq", seq, epoch, at_ns)
    crc: int = crc64.xz(content, crc64.xz(numbers))
    return crc - (1 << 64) if crc >> 63 else crc


@dataclass(frozen=True)
class JournalEntry:
    seq: int
    epoch: int
    at_ns: int
    """When it was journaled; the event has its own `at_ns`, when it was learned."""
    event: JournalEvent


class JournalReader:
    """The journal as others read it: any process, while the engine writes. Not thread-safe."""

    def __init__(self, database: Database, *, owns_database: bool = True) -> None:
        self._database = database
        self._owns_database = owns_database
        self._connection = database.driver_connection()
        self._connection.execute("PRAGMA query_only=ON")

    @classmethod
    def open(cls, path: Path) -> JournalReader:
        """NotRunningError where the desk has no database yet; else as `open_database`.

        Takes no lock that the engine would wait for, nor one that a hung engine holds.
        """
        return cls(open_database(path, read_only=True))

    def read(self, after_seq: int = 0, limit: int | None = None) -> Iterator[JournalEntry]:
        """Entries with `seq > after_seq`, oldest first. Blocks while it reads (about 5 µs each).

        CorruptError: an entry is damaged, unreadable or missing; everything before it was given.
        """
        given = 0
        while limit is None or given < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - given)
            rows = self._query(
                "SELECT seq, epoch, at_ns, event, crc FROM journal "
                "WHERE seq > ? ORDER BY seq LIMIT ?",
                (after_seq, size),
            )
            for seq, epoch, at_ns, event, crc in rows:
                if seq != after_seq + 1:
                    raise self._corrupt(f"entry {after_seq + 1} is missing", after_seq + 1)
                if crc != entry_crc(seq, epoch, at_ns, event):
                    raise self._corrupt(f"entry {seq} is damaged: its CRC does not match", seq)
                try:
                    decoded = _decoder.decode(event)
                except msgspec.DecodeError as error:
                    raise self._corrupt(f"entry {seq} cannot be read: {error}", seq) from error
                yield JournalEntry(seq, epoch, at_ns, decoded)
                after_seq = seq
            given += len(rows)
            if len(rows) < size:
                return

    def last_seq(self) -> int:
        """`seq` of the newest entry; 0 for an empty journal."""
        return int(self._query("SELECT coalesce(max(seq), 0) FROM journal")[0][0])

    def current_epoch(self) -> int:
        """0 where nobody ever took over."""
        return int(self._query("SELECT coalesce(max(epoch), 0) FROM epochs")[0][0])

    def current_holder(self) -> tuple[int, str]:
        """The current epoch, and who took it; `(0, "")` where nobody ever did."""
        rows = self._query("SELECT epoch, holder FROM epochs ORDER BY epoch DESC LIMIT 1")
        return (int(rows[0][0]), str(rows[0][1])) if rows else (0, "")

    def newest_snapshot(self) -> tuple[int, bytes] | None:
        """`(seq, data)`: the state after entry `seq`. A damaged one is passed over, loudly: the
        journal behind an older one tells the same."""
        rows = self._query("SELECT seq, epoch, at_ns, data, crc FROM snapshots ORDER BY seq DESC")
        for seq, epoch, at_ns, data, crc in rows:
            if crc == entry_crc(seq, epoch, at_ns, data):
                return int(seq), data
            _log.error("snapshot at journal entry %d is damaged; an older one is used", seq)
        return None

    def newest_snapshot_seq(self) -> int:
        """After which entry the newest snapshot was taken; 0: there is none."""
        return int(self._query("SELECT coalesce(max(seq), 0) FROM snapshots")[0][0])

    def close(self) -> None:
        self._connection.close()
        if self._owns_database:
            self._database.close()

    def _query(self, sql: str, values: tuple[int, ...] = ()) -> list[Any]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise database_error(error, "read", self._database.path) from error

    def _corrupt(self, what: str, seq: int) -> CorruptError:
        return CorruptError(
            f"journal {self._database.path}: {what}",
            hint="keep the file for study; restore a checkpoint, then reconcile with the venue",
            path=str(self._database.path),
            seq=seq,
        )
