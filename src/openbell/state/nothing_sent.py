"""A fact that is kept on disk: nothing that can send an order has been started since the desk was last
known to have nothing of its own at the venues.

    state/nothing-sent.json      `{"since": "close-12", "at": "...", "inode": ..., "changed_ns": ...}`
    state/nothing-sent.anchor    empty: the file of which inode and last change (ctime) are told there

Invariants
- It is written where it is true beyond doubt and nowhere else: at the end of a closing that was verified
  and left no own order and no position; and for a state folder in which there was nothing yet.
- The anchor is taken away, durably, before the first thing that can send an order is started. What
  cannot be taken away keeps that from being started. So a crash between the two leaves a desk of which
  it is not known, and never one of which it is wrongly told.
- An emergency stop since then makes it unknown: it may have closed positions by orders of its own.
- Its absence says nothing: the desk may be open, its state folder of an older version, or restored.
- Files that were put back say nothing either: what was started after they had been copied is not in
  them. No program can give a file the last change of another, so a copied anchor is not the one that is
  told of. A whole disk that is put back is not seen; with it everything else that the desk knows is of
  before.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from openbell.errors import CorruptError, StorageError
from openbell.state.files import remove_durably, storage_error, write_atomically
from openbell.state.struct_file import read_struct, write_struct


@dataclass(frozen=True)
class NothingSent:
    since: str
    """The closing that left nothing; empty: the state folder was new."""
    at: str
    """ISO 8601, UTC."""

    def as_dict(self) -> dict[str, str]:
        """As `status` shows it."""
        return {"since": self.since, "at": self.at}

    def told(self) -> str:
        """In a sentence, for whoever closes such a desk."""
        since = (
            f"{self.since}, which left nothing" if self.since else "this state folder was made"
        ) + f" ({self.at})"
        return f"nothing that can send an order was started since {since}"


class _Content(msgspec.Struct, frozen=True):
    since: str
    at: str
    inode: int
    changed_ns: int


def anchor_of(path: Path) -> Path:
    return path.with_suffix(".anchor")


class Anchor(msgspec.Struct, frozen=True):
    """Which file the anchor is, and since when."""

    inode: int
    changed_ns: int


def make_anchor(path: Path) -> Anchor:
    """Another one in the place of any there was. Raises StorageError."""
    anchor = anchor_of(path)
    write_atomically(anchor, b"")
    try:
        found = anchor.stat()
    except OSError as error:
        raise storage_error(error, "look at", anchor) from error
    return Anchor(found.st_ino, found.st_ctime_ns)


def anchor_holds(path: Path, anchor: Anchor, stops: Path) -> bool:
    """Whether it is there still, and no emergency stop was pressed since it was made. Never raises:
    what cannot be told is no."""
    try:
        found = anchor_of(path).stat()
        stopped_ns = stops.stat().st_mtime_ns if stops.exists() else 0
    except OSError:
        return False
    is_it = (found.st_ino, found.st_ctime_ns) == (anchor.inode, anchor.changed_ns)
    return is_it and stopped_ns <= anchor.changed_ns


def keep_nothing_sent(path: Path, since: str, at: str) -> None:
    """Raises StorageError: then it is not known to be kept."""
    anchor = make_anchor(path)
    write_struct(path, _Content(since, at, anchor.inode, anchor.changed_ns))


def read_nothing_sent(path: Path, stops: Path) -> NothingSent | None:
    """None where it is not known, for whatever reason. `stops`: the folder of emergency stops, of which
    one that flattened has sent orders of its own, though nothing was started."""
    try:
        content = read_struct(path, _Content, "since when nothing was sent")
    except (StorageError, CorruptError):
        return None
    if content is None:
        return None
    if not anchor_holds(path, Anchor(content.inode, content.changed_ns), stops):
        return None
    return NothingSent(content.since, content.at)


def spend_nothing_sent(path: Path) -> None:
    """Something that can send an order is about to be started. Raises StorageError: then it must not
    be."""
    remove_durably(anchor_of(path))
    with contextlib.suppress(OSError):  # without its anchor it says nothing
        path.unlink()
