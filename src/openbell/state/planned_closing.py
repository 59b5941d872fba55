"""A closing that was announced for later, in a file, so that it outlives the controller."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from openbell.errors import CorruptError
from openbell.state.files import remove_durably
from openbell.state.struct_file import read_struct, write_struct


class PlannedClosing(msgspec.Struct, frozen=True, kw_only=True):
    """When, by whom, and what is to be done with orders and positions."""

    at: datetime
    """Aware, UTC."""
    who: str
    reason: str
    announced: datetime
    flatten: Literal["aggressive", "conservative", "keep"] | None = None
    orders: Literal["cancel", "keep", "keep-passive"] | None = None
    timeout_s: float | None = None
    force: bool = False


def read_planned(path: Path) -> PlannedClosing | None:
    """None where nothing is announced. Raises StorageError, CorruptError."""
    planned = read_struct(path, PlannedClosing, "what was announced")
    if planned is not None and planned.at.tzinfo is None:
        raise CorruptError(f"{path.name} does not say in which time zone")
    return planned


def keep_planned(path: Path, planned: PlannedClosing) -> None:
    """Raises StorageError: nothing is announced then."""
    write_struct(path, planned)


def drop_planned(path: Path) -> bool:
    """Durably. False: there was none. Raises StorageError."""
    return remove_durably(path)
