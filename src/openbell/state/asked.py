"""What a desk was last asked to be, and how that ended, for whoever looks at its files alone."""

from __future__ import annotations

from pathlib import Path

import msgspec

from openbell.domain.desk_state import DeskTarget
from openbell.errors import CorruptError, StorageError
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


def read_asked(target: Path) -> Asked:
    """Offline where there is no file: nobody asked for anything. What cannot be read tells nothing."""
    try:
        return read_struct(target, Asked, "what was asked for") or Asked(DeskTarget.OFFLINE)
    except (StorageError, CorruptError):
        return Asked(None)
