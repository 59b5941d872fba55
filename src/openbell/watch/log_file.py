"""Reading one log file from its end or from a moment: a binary search for a time stamp.

A log of many gigabytes is answered in milliseconds: to find where the last five minutes begin,
some thirty lines are looked at. The search relies on time stamps that do not go back; a clock
that was set back by an hour hides at most that hour.

Files are read in blocks and not mapped into memory: logs are rotated by cutting them, and touching
a mapped page behind a file's new end kills the process (SIGBUS).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openbell.watch.log_line import LogLine, parse_line, time_of

_MAX_LINE_BYTES = 64 << 10
"""Of one line, more is cut off: one endless line must not fill the memory."""

_SEARCH_BYTES = 1 << 20
"""How far from a probed place a line with a time is looked for."""

_BLOCK_BYTES = 64 << 10
_BLOCKS_KEPT = 64


class FileBytes:
    """The bytes a file had when it was opened, read when they are looked at.

    What is appended later is not seen. What is cut off meanwhile reads as empty lines.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._length = os.fstat(descriptor).st_size
        self._blocks: dict[int, bytes] = {}

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, end: int) -> bytes:
        """Bytes `start` to `end`, as slicing would give them."""
        start, end = max(start, 0), min(end, self._length)
        if start >= end:
            return b""
        first, last = start // _BLOCK_BYTES, (end - 1) // _BLOCK_BYTES
        joined = b"".join(self._block(number) for number in range(first, last + 1))
        return joined[start - first * _BLOCK_BYTES : end - first * _BLOCK_BYTES]

    def next_newline(self, start: int) -> int:
        """Offset of the first line end at or after `start`; the length where there is none."""
        number = start // _BLOCK_BYTES
        while number * _BLOCK_BYTES < self._length:
            base = number * _BLOCK_BYTES
            found = self._block(number).find(b"\n", max(start - base, 0))
            if found >= 0:
                return base + found
            number += 1
        return self._length

    def line_start(self, offset: int) -> int:
        """Where the line that holds byte `offset` begins."""
        number = max(offset - 1, 0) // _BLOCK_BYTES
        while number >= 0:
            base = number * _BLOCK_BYTES
            found = self._block(number).rfind(b"\n", 0, max(offset - base, 0))
            if found >= 0:
                return base + found + 1
            number -= 1
        return 0

    def _block(self, number: int) -> bytes:
        block = self._blocks.get(number)
        if block is None:
            start = number * _BLOCK_BYTES
            wanted = min(_BLOCK_BYTES, self._length - start)
            # Padded, so that offsets hold where the file was cut in between.
            block = os.pread(self._descriptor, wanted, start).ljust(wanted, b"\n")
            if len(self._blocks) >= _BLOCKS_KEPT:
                self._blocks.pop(next(iter(self._blocks)))
            self._blocks[number] = block
        return block


@contextmanager
def opened(path: Path) -> Iterator[FileBytes | None]:
    """The file as it is now; None where it does not exist."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        yield FileBytes(descriptor)
    finally:
        os.close(descriptor)


def first_at_or_after(data: FileBytes, since_ns: int) -> int:
    """Offset of the first line written at `since_ns` or later; the length where there is none.

    Lines that tell no time belong to the line before them. A file in which none tells a time is
    kept whole: it cannot be shown to be older.
    """
    low, high = 0, len(data)
    # Invariant: every stamped line that starts before `low` is older than `since_ns`, every one
    # that starts at or after `high` is not.
    while low < high:
        middle = data.line_start((low + high) // 2)
        found = _stamped_line_from(data, middle, high)
        if found is not None and found[2] < since_ns:
            low = found[1]
        elif middle > low:
            high = middle  # also where no line there tells a time: those belong to one before
        else:
            break
    return _skip_unstamped(data, low)


def _skip_unstamped(data: FileBytes, offset: int) -> int:
    """Past lines that continue an older line; none are skipped at the file's very start."""
    if offset == 0:
        return 0
    found = _stamped_line_from(data, offset, len(data))
    return len(data) if found is None else found[0]


def _line(data: FileBytes, start: int, end: int) -> bytes:
    return data.read(start, min(end, start + _MAX_LINE_BYTES)).rstrip()


def _stamped_line_from(data: FileBytes, start: int, limit: int) -> tuple[int, int, int] | None:
    """`(start, end, time)` of the first line from `start` on, before `limit`, that tells a time."""
    reach = min(limit, start + _SEARCH_BYTES)
    while start < reach:
        end = min(data.next_newline(start) + 1, len(data))
        at_ns = time_of(_line(data, start, end))
        if at_ns is not None:
            return start, end, at_ns
        start = end
    return None


def lines_backward(data: FileBytes, lowest: int, service: str) -> Iterator[LogLine]:
    """The lines from the end back to offset `lowest`, newest first."""
    end = len(data)
    waiting: list[bytes] = []  # lines without a time, newest first, until their line is found
    while end > lowest:
        start = max(data.line_start(end - 1), lowest)
        raw = _line(data, start, end)
        end = start
        if not raw:
            continue
        at_ns = time_of(raw)
        if at_ns is None and len(waiting) < _MAX_WAITING:
            waiting.append(raw)
            continue
        for kept in waiting:
            yield parse_line(kept, service, at_ns)
        waiting.clear()
        yield parse_line(raw, service, at_ns)
    inherited = _time_before(data, lowest)
    for kept in waiting:
        yield parse_line(kept, service, inherited)


_MAX_WAITING = 10_000
"""Lines without a time that are held until one with a time is found before them."""


def _time_before(data: FileBytes, offset: int) -> int | None:
    """The time of the nearest earlier line that tells one, looked for in a bounded stretch."""
    lowest = max(0, offset - _SEARCH_BYTES)
    end = offset
    while end > lowest:
        start = data.line_start(end - 1)
        at_ns = time_of(_line(data, start, end))
        if at_ns is not None:
            return at_ns
        end = start
    return None
