"""Checkpoints: one file with the desk's whole state, believed only where every byte is proven.

A checkpoint is written to a temporary name, synced, and given its own name last, so one that has a
name is complete; a file that exists is never overwritten. `.env` and credentials never enter one:
desk.toml holds no secret, and callers pass text through `redact` where it might.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import zstandard

import openbell
from openbell.errors import CorruptError, RefusedError, StorageError, UsageError
from openbell.state import checkpoint_format as form
from openbell.state.checkpoint_info import (
    SUFFIX,
    BrokenCheckpoint,
    Checkpoint,
    CheckpointInfo,
    CheckpointMeta,
    Damage,
    SectionInfo,
    checkpoint_name,
    info_of,
    stamp,
)
from openbell.state.checkpoint_reader import read_proven
from openbell.state.files import remove_leftovers, replacing

__all__ = [
    "SECTIONS",
    "SUFFIX",
    "BrokenCheckpoint",
    "Checkpoint",
    "CheckpointInfo",
    "CheckpointMeta",
    "Damage",
    "SectionInfo",
    "checkpoint_name",
    "list_checkpoints",
    "newest_valid",
    "read_checkpoint",
    "save_checkpoint",
    "validate",
    "write_checkpoint",
]

_log = logging.getLogger(__name__)

SECTIONS = ("trading", "configuration", "strategies", "market_data", "logs")

_NAMED_BY_TIME = re.compile(r"\d{8}T\d{6}\.\d{3}Z-")

_ZSTD_LEVEL = 1
"""The fastest: a closing desk waits for its checkpoint."""


def save_checkpoint(
    folder: Path, sections: Mapping[str, bytes], meta: CheckpointMeta
) -> CheckpointInfo:
    """Write a checkpoint into `folder` under a name of its own. StorageError."""
    remove_leftovers(folder)
    again = 0
    while True:
        path = folder / checkpoint_name(meta.level, meta.created, again)
        try:
            return _write(path, sections, meta)
        except FileExistsError:  # of the same millisecond
            again += 1


def write_checkpoint(
    path: Path, sections: Mapping[str, bytes], meta: CheckpointMeta
) -> CheckpointInfo:
    """Write a checkpoint to `path`. RefusedError where a file is there; StorageError: not written.

    `sections` by name (of `SECTIONS`; any may be left out), each with its content, msgpack or JSON.
    """
    try:
        return _write(path, sections, meta)
    except FileExistsError as error:
        raise RefusedError(
            f"{path} exists, and a checkpoint is never overwritten",
            hint="name another path",
            path=str(path),
        ) from error


def validate(path: Path) -> CheckpointInfo:
    """Check every byte, decompressing too, without holding the content. CorruptError says what is
    wrong; StorageError: it cannot be read."""
    return read_proven(path, lambda _name, _piece: None)


def read_checkpoint(path: Path) -> Checkpoint:
    """The whole content, once all of it is proven. Errors as `validate`."""
    pieces: dict[str, list[bytes]] = {}
    info = read_proven(path, lambda name, piece: pieces.setdefault(name, []).append(piece))
    return Checkpoint(info, {s.name: b"".join(pieces.get(s.name, ())) for s in info.sections})


def list_checkpoints(folder: Path) -> list[CheckpointInfo | BrokenCheckpoint]:
    """Every checkpoint in `folder`, newest first, each checked; empty where there is no folder."""
    found = [_examine(path) for path in folder.glob(f"*{SUFFIX}") if path.is_file()]
    return sorted(found, key=_age, reverse=True)


def newest_valid(
    folder: Path, on_broken: Callable[[BrokenCheckpoint], None] | None = None
) -> CheckpointInfo | None:
    """The newest checkpoint that can be believed; None where there is none.

    Every newer one that cannot be is logged as an error, and given to `on_broken`: whoever
    restores must know that the desk's newest state is not what is restored.
    """
    paths = [path for path in folder.glob(f"*{SUFFIX}") if path.is_file()]
    # By the time in the name, so that only those passed over are read besides the one found.
    for path in sorted(paths, key=_moment_by_name, reverse=True):
        examined = _examine(path)
        if isinstance(examined, CheckpointInfo):
            return examined
        _log.error("passing over a broken checkpoint: %s: %s", path, examined.why)
        if on_broken is not None:
            on_broken(examined)
    return None


def _write(path: Path, sections: Mapping[str, bytes], meta: CheckpointMeta) -> CheckpointInfo:
    unknown = sections.keys() - set(SECTIONS)
    if unknown:
        raise ValueError(f"not sections of a checkpoint: {', '.join(sorted(unknown))}")
    created = meta.created.astimezone(UTC)
    created = created.replace(microsecond=created.microsecond // 1000 * 1000)
    compressor = zstandard.ZstdCompressor(
        level=_ZSTD_LEVEL, write_checksum=True, write_content_size=True
    )
    # Only the compressed forms are held besides what the caller holds already.
    frames = {name: compressor.compress(sections[name]) for name in SECTIONS if name in sections}
    table = [
        form.SectionHeader(name, len(sections[name]), len(frame), f"{form.crc(frame):016x}")
        for name, frame in frames.items()
    ]
    header = form.Header(
        desk=meta.desk,
        level=meta.level,
        created=stamp(created),
        openbell=openbell.__version__,
        facts=dict(meta.facts),
        sections=table,
    )
    packed = msgspec.json.encode(header)
    size = form.PREAMBLE_BYTES + len(packed) + header.stored_bytes + form.TRAILER_BYTES
    whole: int | None = None
    with replacing(path, keep_existing=True) as file:
        for piece in (form.pack_preamble(packed, size), packed, *frames.values()):
            whole = form.crc(piece, whole)
            file.write(piece)
        assert whole is not None
        file.write(form.pack_trailer(whole))
    return info_of(path, header, size, whole)


def _examine(path: Path) -> CheckpointInfo | BrokenCheckpoint:
    try:
        return validate(path)
    except (CorruptError, StorageError, UsageError) as error:
        why = str(error.facts.get("why", error.message))
    try:
        status = path.stat()
    except OSError:
        return BrokenCheckpoint(path, 0, why, datetime.now(UTC))
    return BrokenCheckpoint(path, status.st_size, why, datetime.fromtimestamp(status.st_mtime, UTC))


def _age(found: CheckpointInfo | BrokenCheckpoint) -> datetime:
    return found.created if isinstance(found, CheckpointInfo) else found.modified


def _moment_by_name(path: Path) -> tuple[str, int]:
    """The time in a checkpoint's name, or of its last change where a person named it."""
    changed_ns = path.stat().st_mtime_ns
    if _NAMED_BY_TIME.match(path.name):
        return path.name[:20], changed_ns
    changed = datetime.fromtimestamp(changed_ns / 1e9, UTC)
    return checkpoint_name("complete", changed)[:20], changed_ns
