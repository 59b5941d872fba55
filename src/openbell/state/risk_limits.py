"""What was made tighter of the desk's limits while it runs: a small file that every gate reads.

`risk-limits.json` holds the changes in force: one of people, and that of a closing under its run.
The engine, its standby and risk-management look at the file itself, before every order, so a change
needs no message that could be lost, outlives every process, and is there for whoever takes over.

The file stays when nothing is changed any more: its version only ever goes up, so that a process which
names the version it applies cannot mean another one. A file that cannot be read says that there may
be limits nobody knows: then no gate lets a position grow (docs/decisions/limits-in-a-file.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import msgspec

from openbell.state.files import write_atomically
from openbell.state.halts import Illegible, aware, read_content

_WRITING = threading.Lock()
"""Only the controller writes, but from several threads: each change is made of what was there."""


class LimitsChange(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that somebody made tighter, and why."""

    limits: Mapping[str, Decimal]
    """By name, as in `domain.risk_limits`."""
    reason: str
    who: str
    at: datetime
    """Aware, UTC."""
    run: str = ""
    """The closing that made it, whose it is until the next opening; empty: people did."""


class _Content(msgspec.Struct, frozen=True):
    version: int
    changes: tuple[LimitsChange, ...]


@dataclass(frozen=True)
class Changes:
    """What is in force besides desk.toml."""

    version: int = 0
    """0: nothing was ever changed."""
    changes: tuple[LimitsChange, ...] = ()
    problem: str = ""
    """Why it is not known what is in force; empty where it is."""

    def of(self, run: str) -> LimitsChange | None:
        """The change of this closing, or of people where it is empty."""
        return next((each for each in self.changes if each.run == run), None)

    @property
    def limits(self) -> tuple[Mapping[str, Decimal], ...]:
        return tuple(each.limits for each in self.changes)


def read_changes(path: Path) -> Changes:
    """Never raises: what cannot be read is a problem, and no absence of changes."""
    read = read_content(path, _Content)
    if isinstance(read, Illegible):
        return Changes(problem=read.why)
    if read is None:
        return Changes()
    unsound = [
        name
        for change in read.changes
        for name, value in change.limits.items()
        if not value.is_finite() or value < 0
    ]
    if unsound:
        return Changes(problem=f"{path.name}: no limits: {', '.join(unsound)}")
    changes = tuple(msgspec.structs.replace(each, at=aware(each.at)) for each in read.changes)
    return Changes(read.version, changes)


def change_limits(path: Path, changed: Callable[[Changes], tuple[LimitsChange, ...]]) -> Changes:
    """Writes what `changed` makes of the changes in force, durably, under the next version; nothing
    where it makes the same. Raises StorageError: then the old or the new ones are in force."""
    with _WRITING:
        before = read_changes(path)
        after = changed(before)
        if after == before.changes and not before.problem:
            return before
        content = _Content(before.version + 1, after)
        write_atomically(path, msgspec.json.encode(content) + b"\n")
        return Changes(content.version, after)


@dataclass
class _Seen:
    stamp: tuple[int, int, int] | None = None
    changes: Changes = field(default_factory=Changes)


class ChangesOnDisk:
    """The changes as they are now; asked before every order, about 4 µs while nothing changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _Seen()

    def now(self) -> Changes:
        stamp = self._stamp()
        if stamp is None or stamp != self._seen.stamp:
            # The stamp from before the read: what was replaced in between is read again.
            self._seen = _Seen(stamp, read_changes(self._path))
        return self._seen.changes

    def _stamp(self) -> tuple[int, int, int] | None:
        """Which file it is; every write makes another one. None: ask by reading."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return (0, 0, 0)
        except OSError:
            return None
        return (found.st_ino, found.st_mtime_ns, found.st_size)
