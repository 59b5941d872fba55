"""One JSON object per line on standard output."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import BinaryIO

import orjson

lines_to: ContextVar[BinaryIO | None] = ContextVar("lines_to", default=None)
"""Where the lines of a venue go that is a guest in another's process. None: standard output."""


def log(level: str, event: str, **facts: object) -> None:
    """`{"ts": "2026-01-01T00:00:00.000000Z", "level": "info", "event": "ready", ...}`"""
    stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    line = orjson.dumps({"ts": stamp, "level": level, "event": event, **facts}, default=str)
    out = lines_to.get() or sys.stdout.buffer
    out.write(line + b"\n")
    out.flush()
