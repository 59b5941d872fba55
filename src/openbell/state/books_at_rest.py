"""The books as the journal tells them, with or without an engine that keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from openbell.domain.books import Books, BooksSnapshot
from openbell.state.journal import Journal
from openbell.state.journal_reader import JournalReader

_decoder = msgspec.msgpack.Decoder(BooksSnapshot)


@dataclass(frozen=True)
class BooksAtRest:
    """Read while no engine runs: nobody changes them."""

    books: Books
    epoch: int
    """Of the last engine; 0: there never was one, and the books are empty."""
    last_seq: int


def fold(journal: Journal | JournalReader) -> tuple[Books, int]:
    """The books after the newest entry, and its number. Raises CorruptError, StorageError."""
    newest = journal.newest_snapshot()
    books, seq = Books(), 0
    if newest is not None:
        seq = newest[0]
        books = Books.from_snapshot(_decoder.decode(newest[1]))
    for entry in journal.read(seq):
        books.apply(entry.event)
        seq = entry.seq
    return books, seq


def books_at_rest(database: Path) -> BooksAtRest:
    """Blocks. Raises NotRunningError where the desk has no database, CorruptError, StorageError."""
    reader = JournalReader.open(database)
    try:
        books, last_seq = fold(reader)
        return BooksAtRest(books, reader.current_epoch(), last_seq)
    finally:
        reader.close()
