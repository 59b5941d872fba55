"""Lines and head of the audit log, as bytes and as values; see `audit` for what they are for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from openbell.errors import CorruptError
from openbell.state.files import storage_error

GENESIS = "0" * 64
"""`prev` of the first record."""

LINE_BYTES_MAX = 1 << 20
"""Ours: a record is a fact, not a file. Bounds what reading the end of the log can take."""

_HASH_MARK = b',"hash":"'
_LINE_END_BYTES = len(_HASH_MARK) + 64 + len(b'"}')


class AuditRecord(msgspec.Struct, frozen=True):
    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    prev: str
    hash: str


class AuditHead(msgspec.Struct, frozen=True):
    """The newest record, as the head file has it."""

    seq: int
    hash: str


EMPTY = AuditHead(0, GENESIS)


def read_head(path: Path) -> AuditHead:
    """`EMPTY` where there is none. CorruptError, StorageError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return EMPTY
    except OSError as error:
        raise storage_error(error, "read", path) from error
    try:
        return msgspec.json.decode(content, type=AuditHead)
    except msgspec.DecodeError as error:
        raise CorruptError(f"{path} is not the head of an audit log: {error}") from error


def check_line(line: bytes) -> tuple[str, AuditRecord | None]:
    """A line without its line feed: `("", record)`, or what is wrong with it and None."""
    try:
        record = msgspec.json.decode(line, type=AuditRecord)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"it is no record ({error})", None
    body, mark = line[:-_LINE_END_BYTES], line[-_LINE_END_BYTES:]
    if mark != _line_end(record.hash) or hashlib.sha256(body).hexdigest() != record.hash:
        return "its content does not match its hash", None
    return "", record


def seal(head: AuditHead, said: Mapping[str, Any]) -> tuple[bytes, AuditRecord]:
    """The next line, line feed included, and the record it holds."""
    unsealed = {"seq": head.seq + 1, "at": datetime.now(UTC), **said, "prev": head.hash}
    body = msgspec.json.encode(unsealed)[:-1]
    line = body + _line_end(hashlib.sha256(body).hexdigest())
    return line + b"\n", msgspec.json.decode(line, type=AuditRecord)


def _line_end(digest: str) -> bytes:
    return _HASH_MARK + digest.encode() + b'"}'


def last_line(fd: int, size: int) -> tuple[bytes | None, int]:
    """The last whole line without its line feed, and how many bytes follow it (a torn line)."""
    start = max(0, size - 2 * LINE_BYTES_MAX)
    # The usual case needs one small read; the loop ends at the bound.
    begin = max(start, size - 4096)
    while True:
        tail = os.pread(fd, size - begin, begin)
        end = tail.rfind(b"\n")
        before = tail.rfind(b"\n", 0, end) if end >= 0 else -1
        if before >= 0 or begin == start:
            break
        begin = max(start, size - 2 * (size - begin))
    if end < 0:
        return None, size
    return tail[before + 1 : end], len(tail) - end - 1
