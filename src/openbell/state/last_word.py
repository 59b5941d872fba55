"""What the venues said last, kept on disk while it can still be so: a simulated venue is stopped with its
desk, and then nobody else knows what rests there.

    state/last-word.json      who asked, when, which venues, and what they said
    state/last-word.anchor    empty: the file of which inode and last change (ctime) are told there

Invariants
- The anchor is made before the venues are asked, while nothing that can send an order runs. It is taken
  away, durably, before anything that can send is started, and before a simulated venue is, which may
  fill what rests. So a word that has its anchor is what the venues would say still.
- Each asking makes an anchor of its own, so a word of an earlier one is not taken for that of the last.
- An emergency stop since then makes it unknown, and so do files that were put back: `nothing_sent`.
- It counts for simulated venues alone, and only for those that are down. What an exchange holds of us
  others change too: it is always asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from openbell.config.layout import DeskLayout
from openbell.errors import CorruptError, StorageError
from openbell.state.files import remove_durably
from openbell.state.nothing_sent import (
    Anchor,
    anchor_holds,
    anchor_of,
    make_anchor,
    spend_nothing_sent,
)
from openbell.state.struct_file import read_struct, write_struct


class LastWord(msgspec.Struct, frozen=True):
    run: str
    """The closing that asked."""
    at: str
    """ISO 8601, UTC."""
    venues: tuple[str, ...]
    said: Mapping[str, Any]
    anchor: Anchor


def begin_last_word(path: Path) -> Anchor:
    """Before the venues are asked; whatever was kept before says nothing any more. Raises StorageError."""
    return make_anchor(path)


def keep_last_word(path: Path, word: LastWord) -> None:
    """Raises StorageError: then it is not known to be kept."""
    write_struct(path, word)


def read_last_word(path: Path, stops: Path) -> LastWord | None:
    """None where it is not known to be so still, for whatever reason. `stops`: the folder of emergency
    stops."""
    try:
        word = read_struct(path, LastWord, "what the venues said")
    except (StorageError, CorruptError):
        return None
    return word if word is not None and anchor_holds(path, word.anchor, stops) else None


def spend_last_word(path: Path) -> None:
    """Something is about to be started that may change it. Raises StorageError: then it must not be."""
    remove_durably(anchor_of(path))
    with contextlib.suppress(OSError):  # without its anchor it says nothing
        path.unlink()


def a_sender_starts(layout: DeskLayout) -> None:
    """Takes away, durably, what is no longer so once something that can send an order was started.
    Raises StorageError: then it must not be."""
    spend_nothing_sent(layout.nothing_sent)
    spend_last_word(layout.last_word)
