"""Checking the audit log: whole, or what was done to it and where."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from openbell.errors import CorruptError, StorageError
from openbell.state.audit_record import EMPTY, AuditHead, AuditRecord, check_line, read_head
from openbell.state.files import storage_error
from openbell.state.lock import lock_within

_LOCK_TIMEOUT_SECS = 2.0

Finding = Literal[
    "whole",
    "torn_tail",
    "head_behind",
    "edited",
    "reordered",
    "removed",
    "truncated",
    "head_mismatch",
    "head_unreadable",
]
"""`torn_tail` and `head_behind` are what a crash leaves; the next append makes them good."""

_LEFT_BY_A_CRASH = frozenset({"torn_tail", "head_behind"})


@dataclass(frozen=True)
class AuditVerdict:
    finding: Finding
    records: int
    """Records whose chain holds, from the first."""
    problem: str
    """A sentence; empty for a whole log."""
    line: int | None = None
    """Where, counted from 1."""

    @property
    def ok(self) -> bool:
        """Nothing that was ever acknowledged is missing or changed."""
        return self.finding == "whole" or self.finding in _LEFT_BY_A_CRASH


def verify(log_path: Path, head_path: Path) -> AuditVerdict:
    """Check the whole chain, and its end against the head. StorageError: it cannot be read."""
    try:
        with log_path.open("rb") as log:
            # Between an append's two writes the log would seem to be ahead of its head.
            if not lock_within(log.fileno(), fcntl.LOCK_SH, _LOCK_TIMEOUT_SECS):
                raise StorageError(
                    f"{log_path} has been locked by a writer for {_LOCK_TIMEOUT_SECS:g} s",
                    hint=f"see which: lsof {log_path}",
                )
            return _verdict(log, head_path)
    except FileNotFoundError:
        return _verdict((), head_path)
    except OSError as error:
        raise storage_error(error, "read", log_path) from error


def _verdict(lines: Iterable[bytes], head_path: Path) -> AuditVerdict:
    try:
        head = read_head(head_path)
    except CorruptError as error:
        return AuditVerdict("head_unreadable", 0, error.message)
    return judge(lines, head)


def judge(lines: Iterable[bytes], head: AuditHead) -> AuditVerdict:
    """The verdict on a log's lines, line feeds included, with its head. Pure."""
    newest = EMPTY
    rest = iter(lines)
    torn = 0
    for number, line in enumerate(rest, start=1):
        if not line.endswith(b"\n"):
            torn = len(line)
            break
        problem, record = check_line(line[:-1])
        if record is None:
            return AuditVerdict("edited", newest.seq, f"line {number}: {problem}", number)
        if record.seq != newest.seq + 1 or record.prev != newest.hash:
            return _broken_chain(newest, record, number, rest)
        newest = AuditHead(record.seq, record.hash)
        if newest.seq == head.seq and newest != head:
            return AuditVerdict(
                "head_mismatch",
                newest.seq,
                f"record {newest.seq} is not the one its head knows: the log was rewritten",
                number,
            )
    if newest.seq < head.seq:
        missing = f"it ends with record {newest.seq}, and its head knows {head.seq}"
        return AuditVerdict("truncated", newest.seq, f"the end is missing: {missing}")
    if newest.seq > head.seq + 1:
        beyond = f"it ends with record {newest.seq}, and its head knows only {head.seq}"
        return AuditVerdict("head_mismatch", newest.seq, f"the head is old or missing: {beyond}")
    if torn:
        what = f"{torn} bytes after record {newest.seq} are no whole record"
        return AuditVerdict(
            "torn_tail", newest.seq, f"{what}: a crash while one was written", newest.seq + 1
        )
    if newest != head:
        return AuditVerdict(
            "head_behind",
            newest.seq,
            f"the head knows record {head.seq}: a crash before it learned of {newest.seq}",
        )
    return AuditVerdict("whole", newest.seq, "")


def _broken_chain(
    before: AuditHead, record: AuditRecord, number: int, rest: Iterable[bytes]
) -> AuditVerdict:
    """`record` is whole in itself but does not follow `before`: say what was done."""
    expected = before.seq + 1
    if record.seq == expected:
        return AuditVerdict(
            "edited",
            before.seq,
            f"line {number}: record {record.seq} was made to follow another record {before.seq}",
            number,
        )
    later = (check_line(line.rstrip(b"\n"))[1] for line in rest)
    if record.seq < expected or any(other and other.seq == expected for other in later):
        return AuditVerdict(
            "reordered",
            before.seq,
            f"line {number}: record {record.seq} stands where {expected} belongs",
            number,
        )
    gone = f"{expected}" if record.seq == expected + 1 else f"{expected} to {record.seq - 1}"
    return AuditVerdict(
        "removed", before.seq, f"line {number}: record {gone} is missing before it", number
    )
