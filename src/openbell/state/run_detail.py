"""What a line of a run's record keeps of facts that are too long for it. Pure.

A record is of facts, not of files: its lines are bounded. Of a step with ten thousand rows the line still
says how it ended, when, and with which files; only the rows are left out, told by their size and digest.
They themselves stay in the run's steps, where the digest shows that they are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from openbell.state.audit_record import LINE_BYTES_MAX

DETAIL_BYTES_MAX = LINE_BYTES_MAX // 2
"""Leaves room for the rest of the line: actor, action and subject, which are names."""
_DEPTH = 3
"""`detail`, `after` and what a step calls its table."""
_MARK_BYTES = 120
"""What takes the place of a value is about as long."""


def shortened(detail: Mapping[str, Any], most_bytes: int) -> dict[str, Any]:
    """`detail` with its longest values replaced by `{"too_long_bytes", "sha256"}`, no more of them than it
    takes to be at most `most_bytes` long as JSON. The digest is of the value as JSON."""
    for depth in range(_DEPTH, 0, -1):
        kept = {key: _copied(value, depth - 1) for key, value in detail.items()}
        if _shorten(kept, depth, most_bytes):
            return kept
    return _mark(detail)


def _shorten(kept: dict[str, Any], depth: int, most_bytes: int) -> bool:
    """In place. False where so deep there are only short values, though many."""
    while (excess := len(msgspec.json.encode(kept)) - most_bytes) > 0:
        of_all = list(_values(kept, depth))
        size, holder, key = max(of_all, key=lambda each: _least_loss(each[0], excess))
        if size <= _MARK_BYTES:
            return False
        holder[key] = _mark(holder[key])
    return True


def _least_loss(size: int, excess: int) -> tuple[bool, int]:
    """Of those which are enough alone the shortest, else the longest."""
    return (True, -size) if size - _MARK_BYTES >= excess else (False, size)


def _mark(value: Any) -> dict[str, Any]:
    text = msgspec.json.encode(value)
    return {"too_long_bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}


def _copied(value: Any, depth: int) -> Any:
    if depth == 0 or not isinstance(value, Mapping):
        return value
    return {key: _copied(each, depth - 1) for key, each in value.items()}


def _values(holder: dict[str, Any], depth: int) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Those that many levels down, or that hold no others, with their length and where they stand."""
    for key, value in holder.items():
        if depth > 1 and isinstance(value, dict) and value and "too_long_bytes" not in value:
            yield from _values(value, depth - 1)
        else:
            yield len(msgspec.json.encode(value)), holder, key
