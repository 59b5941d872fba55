"""Whether the desk database is still what it was, looked at from outside of the transactions.

SQLite finds a page damaged when it reads it: an engine that trades only appends, and may do so for
hours over a file that was overwritten, until the next start reads it from the beginning. So it is
looked at unasked: often at its header, which costs one `pread`, and seldom at all pages.

Invariant: no descriptor of the database is ever closed here while the process lives. POSIX takes *all*
of a process's locks off a file when it closes *any* descriptor of it
(https://www.sqlite.org/howtocorrupt.html, 2.2), so a look that opened and closed the file would
unlock it under the process's own connections.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from openbell.state.database import APPLICATION_ID

MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_PAGES_S_MAX = 30.0
"""Then a look at all pages is given up: 30 s of reading at the lowest priority."""
_STEPS = 100_000
"""Of SQLite's machine between two questions whether that time is over: some milliseconds."""
_FOUND_MAX = 3


@dataclass(frozen=True)
class PagesSeen:
    problem: str = ""
    """What is damaged; empty where nothing was found."""
    unknown: str = ""
    """Why not everything was looked at; empty where it was."""


class HeaderLook:
    """Looks at one file, again and again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._file: tuple[int, int] | None = None
        self._was_whole = False

    def look(self) -> str:
        """What is wrong; empty where nothing is, or where there was no database yet. OSError."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return "" if self._fd is None else "its file is gone, and what is written goes nowhere"
        if self._fd is None:
            self._fd = os.open(
                self._path, os.O_RDONLY | os.O_CLOEXEC
            )  # and never closed: see above
            opened = os.fstat(self._fd)
            self._file = (opened.st_dev, opened.st_ino)
        if (found.st_dev, found.st_ino) != self._file:
            return "another file has taken its place, and this process does not write into that one"
        problem = header_problem(os.pread(self._fd, _HEADER_BYTES, 0))
        if problem and not self._was_whole and found.st_size == 0:
            return ""  # it is being made
        self._was_whole = self._was_whole or not problem
        return problem


def header_problem(header: bytes) -> str:
    """What keeps these first bytes from being those of a desk database; empty where nothing does.
    Pure. The fields: https://www.sqlite.org/fileformat.html, 1.3."""
    if not header:
        return "its file is empty"
    if len(header) < _HEADER_BYTES:
        return f"its file is cut: {len(header)} bytes are left"
    if not header.startswith(MAGIC):
        return "its header is overwritten: SQLite does not know the file any more"
    (size,) = struct.unpack_from(">H", header, 16)
    (application,) = struct.unpack_from(">I", header, 68)
    sound = size == 1 or (size >= 512 and size & (size - 1) == 0)
    if not sound or header[18] not in (1, 2) or header[19] not in (1, 2):
        return "its header is overwritten: page size or version make no sense"
    if application not in (0, APPLICATION_ID):
        return "its header is overwritten: it is marked as a file of another program"
    return ""


def look_at_pages(path: Path, seconds_max: float = _PAGES_S_MAX) -> PagesSeen:
    """All pages, by SQLite's own `quick_check`, on a connection of its own that only reads and so keeps no
    writer waiting. Blocks; call it from a thread of its own, which gets the lowest priority."""
    with contextlib.suppress(
        OSError, AttributeError
    ):  # where threads have no priority of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    until_s = time.monotonic() + seconds_max
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        connection.set_progress_handler(lambda: int(time.monotonic() > until_s), _STEPS)
        rows = connection.execute(f"PRAGMA quick_check({_FOUND_MAX})").fetchall()
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return PagesSeen(problem=str(error))
        if code == sqlite3.SQLITE_INTERRUPT:
            return PagesSeen(unknown=f"not all of it was looked at within {seconds_max:g} s")
        return PagesSeen(unknown=str(error))
    finally:
        if connection is not None:
            connection.close()  # SQLite's own: it keeps the descriptor while others hold locks
    found = [str(row[0]) for row in rows]
    return PagesSeen() if found == ["ok"] else PagesSeen(problem="; ".join(found))
