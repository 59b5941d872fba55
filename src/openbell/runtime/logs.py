"""A service's output: straight into a file, so that it never waits for a reader.

The file is opened O_APPEND and handed to the service, which keeps it across our death. Rotation
therefore copies the file aside and cuts it (the service goes on writing at its new end). Lines
written in the instant between the end of the copy and the cut are lost; everything before is kept.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_TAIL_BYTES = 64 << 10
_LINE_MAX_BYTES = 64 << 10
"""A longer line is given out in pieces: one that never ends must not fill the memory."""
_COPY_STEP_BYTES = 1 << 20


def open_for_append(path: Path) -> int:
    """A descriptor for a service's output and error output; mode 600, made where it is missing."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def size_of(path: Path) -> int:
    """Bytes; 0 where there is no such file."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - asked for every service every few seconds
    except FileNotFoundError:
        return 0


def tail(path: Path, lines: int, since_offset: int = 0) -> tuple[str, ...]:
    """The last lines written at or after an offset; an offset beyond the end means that the file
    was cut since, and all of it is newer. Empty where there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = since_offset if since_offset <= size else 0
            skipped = size - begin > _TAIL_BYTES
            file.seek(size - _TAIL_BYTES if skipped else begin)
            text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ()
    found = text.splitlines()
    if skipped and len(found) > 1:
        found = found[1:]  # most likely cut in the middle
    return tuple(found[-lines:])


class NewLines:
    """The lines that were added since the last look, whole ones only."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset
        self._rest = b""

    def read(self) -> Iterator[str]:
        """Looks once. A file smaller than before was cut: it is read from its begin."""
        if size_of(self._path) < self._offset:
            self._offset, self._rest = 0, b""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                while chunk := file.read(_LINE_MAX_BYTES):
                    self._offset += len(chunk)
                    *whole, self._rest = (self._rest + chunk).split(b"\n")
                    if len(self._rest) > _LINE_MAX_BYTES:
                        whole.append(self._rest)
                        self._rest = b""
                    for line in whole:
                        yield line.decode("utf-8", "replace")
        except FileNotFoundError:
            return


def rotate(path: Path, keep: int, rotate_at: int) -> None:
    """Moves the copies up (`.1` is the newest, `keep` of them stay), copies the file to `.1` and
    cuts it. Raises OSError, and then the file itself is whole.

    A copy holds at most the last `2 * rotate_at` bytes and what was added while they were copied,
    up to as much again: a service that floods its log must keep neither the disk nor this busy. A
    copy says in a line of its own how much it leaves out. Blocks: call it from a thread.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}.{keep}")  # noqa: PTH108 - numbered names are strings
    for number in range(keep - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}.{number}", f"{path}.{number + 1}")  # noqa: PTH105 - as above
    with path.open("r+b") as source:
        target = os.open(f"{path}.1", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(target, "wb") as copy:
            skipped = max(os.fstat(source.fileno()).st_size - 2 * rotate_at, 0)
            if skipped:
                source.seek(skipped)
                skipped += len(source.readline())
                copy.write(_left_out(skipped))
            while copy.tell() < 4 * rotate_at and (chunk := source.read(_COPY_STEP_BYTES)):
                copy.write(chunk)
            if added := os.fstat(source.fileno()).st_size - source.tell():
                copy.write(b"\n" + _left_out(added))
        source.truncate(0)


def _left_out(size: int) -> bytes:
    return f"[openbell: {size} bytes were left out here: more than a copy may hold]\n".encode()
