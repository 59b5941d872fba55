"""What a desk was last asked to be, for whoever looks at its files alone."""

from __future__ import annotations

from pathlib import Path

import msgspec

from openbell.domain.desk_state import DeskTarget
from openbell.errors import CorruptError, StorageError
from openbell.state.struct_file import read_struct


class _Part(msgspec.Struct, frozen=True):
    target: DeskTarget


def read_asked(target: Path) -> DeskTarget | None:
    """Offline where there is no file: nobody asked for anything. None where it cannot be read."""
    try:
        part = read_struct(target, _Part, "what was asked for")
    except (StorageError, CorruptError):
        return None
    return DeskTarget.OFFLINE if part is None else part.target
