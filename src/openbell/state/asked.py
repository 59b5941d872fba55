"""What a desk was last asked to be, and how that ended, for whoever looks at its files alone.

    state/target.json     what it was asked to be
    state/closing-begun   a closing was begun; there where target.json could not be made to say so

A full disk takes no new target.json, but an empty file, which needs no block. So that a closing is not
forgotten with the controller that carries it out, its existence alone means that one was begun, whatever
target.json says; it goes when that could be written again. Where not even a file can be made,
target.json is written over in place (`say_closing_in_place`).
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from openbell.domain.desk_state import DeskTarget
from openbell.errors import CorruptError, StorageError
from openbell.state.files import fsync
from openbell.state.not_opened import NotOpened
from openbell.state.not_proven import NotProven
from openbell.state.struct_file import read_struct


class Asked(msgspec.Struct, frozen=True):
    """Of one look at the file of the target."""

    target: DeskTarget | None
    """None: it cannot be read."""
    not_opened: NotOpened | None = None
    """The last opening, where it began nothing."""
    not_proven: NotProven | None = None
    """The last closing, where it closed the desk and did not prove it."""

    @property
    def is_closed(self) -> bool:
        """It was closed, and proven to be."""
        return self.target is DeskTarget.OFFLINE and self.not_proven is None


class _Part(msgspec.Struct, frozen=True, omit_defaults=True):
    target: DeskTarget
    unrecorded: bool = False
    """The disk took no record of it."""


def closing_begun(target: Path) -> Path:
    return target.with_name("closing-begun")


def is_closing_begun(target: Path) -> bool:
    """Whatever is not the certainty that there is no such file beside the target's counts as one."""
    try:
        os.lstat(closing_begun(target))
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def say_closing_in_place(target: Path) -> bool:
    """Whether `target` now says that a closing was begun, written over what is there: that takes neither a
    block nor a name. It is no atomic write. One that is cut off leaves what was there, or what cannot be
    read, and a desk of which it is not known what it was asked to be does not trade; then this is False."""
    content, least = (
        msgspec.json.encode(_Part(DeskTarget.CLOSING, unrecorded=each)) for each in (True, False)
    )
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            length = os.fstat(fd).st_size
            if length <= len(least):
                return False
            content = content if length > len(content) else least
            written = os.pwrite(fd, content.ljust(length - 1) + b"\n", 0)
            fsync(fd)
        finally:
            os.close(fd)
    except (OSError, StorageError):
        return False
    return written == length


def read_asked(target: Path) -> Asked:
    """Offline where there is no file: nobody asked for anything. What cannot be read tells nothing."""
    if is_closing_begun(target):
        return Asked(DeskTarget.CLOSING)
    try:
        return read_struct(target, Asked, "what was asked for") or Asked(DeskTarget.OFFLINE)
    except (StorageError, CorruptError):
        return Asked(None)
