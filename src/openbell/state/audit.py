"""The audit log: who did what to the desk, in lines of JSON chained by their hashes.

    {"seq":7,"at":"...","actor":"...","action":"...","subject":"...","detail":{...},
     "prev":"<hash of line 6>","hash":"<SHA-256 of this line up to `,"hash"`>"}

The head, a second file, holds the newest record's number and hash; whoever cuts or rewrites the
log must forge both. (A copy of the head elsewhere, in a mail or another machine's log, is what
binds someone who owns this machine.)

Order of writes, under a lock on the log: (1) the line, fsync; (2) the head, atomically. The record
counts when both are done. What a crash leaves, and what the next append makes of it:
- within 1: a torn line at the end. It was never acknowledged; it is cut off, and a record
  (`audit.recovered`) says so.
- between 1 and 2: one whole record more than the head knows. It is kept, and the head catches up.
Anything else that does not fit is not a crash, and nothing is appended to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from openbell.config.redact import Redactor
from openbell.errors import CorruptError, StorageError
from openbell.state.audit_record import (
    EMPTY,
    LINE_BYTES_MAX,
    AuditHead,
    AuditRecord,
    check_line,
    last_line,
    read_head,
    seal,
)
from openbell.state.audit_verdict import AuditVerdict, verify
from openbell.state.files import fsync, fsync_folder, storage_error, write_all, write_atomically
from openbell.state.lock import lock_within

__all__ = ["AuditHead", "AuditLog", "AuditRecord", "AuditVerdict", "verify"]

_LOCK_TIMEOUT_SECS = 2.0
"""Ours. An append holds the lock for some milliseconds; a holder that was stopped must not hang
the desk: without an audit record the act is refused instead."""


class AuditLog:
    """Appends to the audit log, from any number of processes and threads."""

    def __init__(self, log_path: Path, head_path: Path, redactor: Redactor | None = None) -> None:
        self._log_path = log_path
        self._head_path = head_path
        self._redactor = redactor or Redactor()

    def append(
        self, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
    ) -> AuditRecord:
        """Record an act, before it is done; on the disk when this returns (some milliseconds).

        `detail` may hold whatever msgspec writes as JSON; known secrets in it are redacted.
        StorageError: not recorded (full disk, no right, the lock is held): an act that adds risk
        must not be done, one that removes risk goes on. CorruptError: the log and its head do not
        fit, someone must look first.
        """
        said = self._redactor.redact_value(
            {
                "actor": actor,
                "action": action,
                "subject": subject,
                "detail": msgspec.to_builtins(dict(detail or {}), str_keys=True),
            }
        )
        with self._locked() as fd:
            head = self._recover(fd)
            return self._append(fd, head, said)

    def _append(self, fd: int, head: AuditHead, said: dict[str, Any]) -> AuditRecord:
        line, record = seal(head, said)
        if len(line) > LINE_BYTES_MAX:
            raise StorageError(
                f"an audit record of {len(line)} bytes is too long; at most {LINE_BYTES_MAX}",
                hint="record a path or a digest instead of the content",
            )
        length = os.fstat(fd).st_size
        try:
            write_all(fd, line)
            fsync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, length)
            raise
        # Should this fail, the record stands although its act is refused: it says what was tried.
        self._write_head(AuditHead(record.seq, record.hash))
        return record

    def _recover(self, fd: int) -> AuditHead:
        """Make good what a crash left, as the module says; returns the head to append after."""
        head = read_head(self._head_path)
        size = os.fstat(fd).st_size
        last, torn = last_line(fd, size)
        newest = EMPTY
        if last is not None:
            problem, record = check_line(last)
            if record is None:
                raise self._refusal(f"its last record is not one: {problem}")
            newest = AuditHead(record.seq, record.hash)
            if newest.seq == head.seq + 1 and record.prev == head.hash:
                self._write_head(newest)
                head = newest
        if newest != head:
            raise self._refusal(f"it ends with record {newest.seq}, its head knows {head.seq}")
        if torn:
            os.ftruncate(fd, size - torn)
            said = {
                "actor": "openbell",
                "action": "audit.recovered",
                "subject": self._log_path.name,
                "detail": {"torn_bytes": torn, "why": "a crash while a record was written"},
            }
            recovered = self._append(fd, head, said)
            head = AuditHead(recovered.seq, recovered.hash)
        return head

    def _write_head(self, head: AuditHead) -> None:
        write_atomically(self._head_path, msgspec.json.encode(head) + b"\n")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            existed = self._log_path.exists()
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self._log_path, flags, 0o600)
            try:
                if not existed:
                    fsync_folder(self._log_path.parent)
                if not lock_within(fd, fcntl.LOCK_EX, _LOCK_TIMEOUT_SECS):
                    raise StorageError(
                        f"{self._log_path} has been locked by another process for "
                        f"{_LOCK_TIMEOUT_SECS:g} s",
                        hint=f"see which: lsof {self._log_path}",
                    )
                yield fd
            finally:
                os.close(fd)
        except OSError as error:
            raise storage_error(error, "append to", self._log_path) from error

    def _refusal(self, why: str) -> CorruptError:
        return CorruptError(
            f"nothing is added to the audit log {self._log_path}: {why}",
            hint="run `openbell audit verify`; keep both files as evidence and move them aside "
            "to begin a new log",
            path=str(self._log_path),
        )
