"""What is known of a checkpoint, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from openbell.state import checkpoint_format as form
from openbell.state.checkpoint_format import Level

SUFFIX = ".ckpt"

Damage = Literal[
    "not_a_checkpoint",
    "zeroed",
    "cut",
    "header",
    "unknown_version",
    "section",
    "whole",
    "trailing_bytes",
]
"""What is wrong with a file, in `CorruptError.facts["damage"]`."""


@dataclass(frozen=True)
class CheckpointMeta:
    """What the writer says of a checkpoint."""

    desk: str
    level: Level
    created: datetime
    """Aware; kept to the millisecond, in UTC."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Anything short that a reader of the header should know: reason, last journal seq, ..."""


@dataclass(frozen=True)
class SectionInfo:
    name: str
    bytes: int
    stored_bytes: int
    crc64: str
    """16 hex digits, of the stored bytes."""


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint of which every byte was checked."""

    path: Path
    desk: str
    level: Level
    created: datetime
    bytes: int
    crc64: str
    """Of the whole file up to its trailer."""
    openbell: str
    facts: Mapping[str, str]
    sections: tuple[SectionInfo, ...]

    def as_dict(self) -> dict[str, Any]:
        """`{"path", "valid": true, "desk", "level", "created", "bytes", "crc64", "openbell",
        "facts", "sections": [{"name", "bytes", "stored_bytes", "crc64"}]}`"""
        return {
            "path": str(self.path),
            "valid": True,
            "desk": self.desk,
            "level": self.level,
            "created": stamp(self.created),
            "bytes": self.bytes,
            "crc64": self.crc64,
            "openbell": self.openbell,
            "facts": dict(self.facts),
            "sections": [
                {
                    "name": s.name,
                    "bytes": s.bytes,
                    "stored_bytes": s.stored_bytes,
                    "crc64": s.crc64,
                }
                for s in self.sections
            ],
        }


@dataclass(frozen=True)
class BrokenCheckpoint:
    """A file that has a checkpoint's name and is none."""

    path: Path
    bytes: int
    why: str
    modified: datetime

    def as_dict(self) -> dict[str, Any]:
        """`{"path", "valid": false, "bytes", "why"}`"""
        return {"path": str(self.path), "valid": False, "bytes": self.bytes, "why": self.why}


@dataclass(frozen=True)
class Checkpoint:
    info: CheckpointInfo
    sections: Mapping[str, bytes]


def checkpoint_name(level: Level, created: datetime, again: int = 0) -> str:
    """`20260131T120000.123Z-complete.ckpt`; `again` counts up where that is taken."""
    utc = created.astimezone(UTC)
    moment = f"{utc:%Y%m%dT%H%M%S}.{utc.microsecond // 1000:03d}Z"
    return f"{moment}-{level}{f'-{again + 1}' if again else ''}{SUFFIX}"


def info_of(path: Path, header: form.Header, size: int, whole: int) -> CheckpointInfo:
    return CheckpointInfo(
        path=path,
        desk=header.desk,
        level=header.level,
        created=datetime.fromisoformat(header.created),
        bytes=size,
        crc64=f"{whole:016x}",
        openbell=header.openbell,
        facts=header.facts,
        sections=tuple(
            SectionInfo(s.name, s.bytes, s.stored_bytes, s.crc64) for s in header.sections
        ),
    )


def stamp(moment: datetime) -> str:
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"
