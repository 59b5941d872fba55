"""One JSON object per line on standard output."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import orjson


def log(level: str, event: str, **facts: object) -> None:
    """`{"ts": "2026-01-01T00:00:00.000000Z", "level": "info", "event": "ready", ...}`"""
    stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    line = orjson.dumps({"ts": stamp, "level": level, "event": event, **facts}, default=str)
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()
