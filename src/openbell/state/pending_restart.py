"""A restart of the whole desk that is under way, in a file, so that it outlives the controller.

Written before its closing begins, and taken away when its opening is in the record: from then on the
run itself says what it is part of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from openbell.errors import CorruptError, StorageError
from openbell.state.files import remove_durably
from openbell.state.struct_file import read_struct, write_struct


class PendingRestart(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, by whom, and how far it is."""

    quick: bool
    who: str
    reason: str
    orders: Literal["cancel", "keep", "keep-passive"] | None = None
    safe_mode: bool = False
    """The desk was not asked to trade before it, and is not after it."""
    force: bool = False
    """Opened in a session too."""
    closing: str = ""
    """The run that closed the desk, once it has; a closing that was cut off meanwhile is it."""
    stopped: str = ""
    """Why the desk is closed and was not opened again; empty while nothing stands in the way."""


def read_restart(path: Path) -> PendingRestart | None:
    """None where none is under way. Raises StorageError, CorruptError."""
    return read_struct(path, PendingRestart, "what was begun")


def restart_row(path: Path) -> dict[str, object] | None:
    """As `status` shows it; None where none is under way."""
    try:
        pending = read_restart(path)
    except (StorageError, CorruptError) as error:
        return {"quick": None, "by": "", "reason": "", "closing": "", "stopped": error.message}
    if pending is None:
        return None
    return {
        "quick": pending.quick,
        "by": pending.who,
        "reason": pending.reason,
        "closing": pending.closing,
        "stopped": pending.stopped,
    }


def keep_restart(path: Path, pending: PendingRestart) -> None:
    """Raises StorageError."""
    write_struct(path, pending)


def drop_restart(path: Path) -> bool:
    """Durably. False: there was none. Raises StorageError."""
    return remove_durably(path)
