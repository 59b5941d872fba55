"""The persistent halt: a small file whose existence stops trading.

A halt (`halt.json`) is the desk's ordinary "no new orders". It outlives every process and every
restart, and a person ends it. The kill switch's latches (`latch`) are files of the same kind.

The existence of the file is the halt; its content only says who and why. Hence everything that is
not a clear "there is no such file" counts as halted: a file that is empty, torn, or not ours to
read. And hence a full disk cannot prevent one: where the content cannot be written, an empty file
is made, which takes no space.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from openbell.errors import StorageError
from openbell.state.files import fsync_folder, remove_durably, write_atomically

_log = logging.getLogger(__name__)

_CONTENT_BYTES_MAX = 1 << 16

C = TypeVar("C")


@dataclass(frozen=True)
class Halt:
    """Why new orders are stopped."""

    reason: str
    who: str
    at: datetime
    """Aware, UTC."""
    readable: bool = True
    """False: the file exists but does not say why; `reason` says what is wrong with it."""


class _Content(msgspec.Struct, frozen=True):
    reason: str
    who: str
    at: datetime


def read_halt(path: Path) -> Halt | None:
    """The halt, or None where there is no such file. Never raises: what cannot be read halts.

    A desk without a state folder was never opened and is not halted; an engine about to send asks
    `is_halted`, which takes a missing folder for a halt.
    """
    read = read_content(path, _Content)
    if isinstance(read, Illegible):
        return Halt(f"{read.why}; counted as halted", "unknown", read.at, False)
    return None if read is None else Halt(read.reason, read.who, aware(read.at))


def encode_halt(halt: Halt) -> bytes:
    """The content of a halt's file: one line of JSON."""
    return msgspec.json.encode(_Content(halt.reason, halt.who, halt.at)) + b"\n"


def set_halt(path: Path, halt: Halt) -> None:
    """Halt, durably. StorageError: the disk allows not even an empty file; the caller must stop
    trading by other means and say so."""
    try:
        write_atomically(path, encode_halt(halt))
    except StorageError as error:
        if not make_empty(path):
            raise
        _log.error("halted by %s without its reason on disk: %s", path.name, error.message)


def clear_halt(path: Path) -> bool:
    """End the halt, durably. False: there was none. StorageError: it stays."""
    return remove_durably(path)


def is_halted(path: Path) -> bool:
    """Whether the halt stops new orders: asked before every send, about 3 µs.

    Anything but the certainty that there is no halt counts as one.
    """
    try:
        os.lstat(path)  # a link that leads nowhere is a halt too
    except FileNotFoundError:
        return _folder_is_gone(path)
    except OSError:
        return True
    return True


def _folder_is_gone(path: Path) -> bool:
    """A state folder that was unmounted or moved away says nothing about the halt in it."""
    try:
        os.lstat(path.parent)
    except OSError:
        return True
    return False


def make_empty(path: Path) -> bool:
    """A file without content, which takes no space; whether it is there, durably."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        fsync_folder(path.parent)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Illegible:
    """What is known of a file that is there and does not say what it should."""

    why: str
    at: datetime
    """When it was last written, or now where that is not known either."""


def read_content(path: Path, shape: type[C]) -> C | Illegible | None:
    """Of a file whose existence alone decides; None where there is no such file. Never raises."""
    try:
        with path.open("rb") as file:
            content = file.read(_CONTENT_BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _illegible(path, error.strerror or str(error))
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        why = f"not what was written ({error})" if content else "empty"
        return _illegible(path, f"it is {why}")


def aware(at: datetime) -> datetime:
    """A time that was written without a zone was UTC."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _illegible(path: Path, why: str) -> Illegible:
    try:
        at = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except OSError:
        at = datetime.now(UTC)
    return Illegible(f"{path.name} cannot be read: {why}", at)
