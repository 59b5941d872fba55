"""The kill switch's latch: files whose existence stops orders, for the desk or a part of it.

    state/latches/desk.4f1d09c2.json              the whole desk
    state/latches/venue-binance.0be2a7f1.json     orders to one venue
    state/latches/strategy-momentum.77aa01c3.json of one strategy
    state/latches/symbol-BTC%2FUSDT.9c0d33e8.json in one symbol, at every venue
    state/latch.json                              the whole desk; for hands, and where the folder fails

Invariants
- The existence of a file is the latch; its content only says who and why. It exists before its
  content is written, so engines stop before anything can go wrong.
- Whatever is unclear latches the whole desk: a file whose name says no scope, a folder that cannot
  be read or is not there. A full disk does not prevent it: an empty file takes no block.
- A release never takes away a latch set after the one it was asked for: every setting makes a file
  of its own, and a release removes the files that it was shown and no other. `latch.json`, whose name
  settings share, it first gives one that nobody else uses, and looks at it there; a setting makes it once
  more where it was taken away meanwhile. There is no lock that could make a setting wait.

A setting returns after file and folder are fsynced. A crash before that leaves a latch or none; a
crash inside it perhaps one without a reason.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

from openbell.config.layout import DeskLayout
from openbell.domain.scopes import DESK, Scope, parse_scope
from openbell.errors import ConflictError, StorageError
from openbell.state.files import fsync, fsync_folder, storage_error, write_all
from openbell.state.halts import Halt, encode_halt, read_halt, set_halt

_log = logging.getLogger(__name__)

_NONE: frozenset[Scope] = frozenset()
_DESK_ONLY = frozenset({DESK})
UNLISTED = "unlisted"
"""Id of a latch that is no file: nobody can say which there are."""


@dataclass(frozen=True)
class Latch:
    """One setting of the kill switch."""

    scope: Scope
    halt: Halt
    """Who, when and why."""
    path: Path
    id: str
    """Of this very file; set again, it has another."""

    def as_dict(self) -> dict[str, object]:
        return {
            "id": self.id,
            "scope": str(self.scope),
            "reason": self.halt.reason,
            "by": self.halt.who,
            "since": self.halt.at.isoformat(),
            "readable": self.halt.readable,
            "file": str(self.path),
        }


@dataclass(frozen=True)
class Setting:
    """What a setting came to."""

    latches: tuple[Latch, ...]
    problems: tuple[str, ...] = ()
    """What did not go as asked: a reason that is not on disk, a scope that had to be widened."""
    durable: bool = True
    """False: it holds now, but the disk did not confirm that it outlives a crash."""


class Latches:
    """One desk's latches."""

    def __init__(self, layout: DeskLayout) -> None:
        self._file = layout.latch
        self._folder = layout.latches
        self._halt = layout.halt
        # Text: asked for before every send, and a Path takes as long as the question.
        self._file_text = str(layout.latch)
        self._folder_text = str(layout.latches)

    # --- asked before every send -------------------------------------------------------------

    def scopes(self) -> frozenset[Scope]:
        """What is latched; about 4 µs. Every doubt is the whole desk."""
        try:
            os.lstat(self._file_text)
            return _DESK_ONLY
        except FileNotFoundError:
            pass
        except OSError:
            return _DESK_ONLY
        try:
            names = os.listdir(self._folder_text)  # noqa: PTH208 - a Path takes three times as long
        except OSError:
            # Not there either: an unmounted state folder says nothing about the latches in it.
            return _DESK_ONLY
        return frozenset(map(_scope_of, names)) if names else _NONE

    def covering(self, venue: str, strategy: str, symbol: str) -> Scope | None:
        """The latch that stops such an order, if one does."""
        for scope in self.scopes():
            if scope.covers(venue, strategy, symbol):
                return scope
        return None

    def on_desk(self) -> bool:
        """Whether the whole desk is latched."""
        return DESK in self.scopes()

    # --- for people --------------------------------------------------------------------------

    def read(self, *, opened: bool = True) -> tuple[Latch, ...]:
        """Every latch, oldest first. Never raises: what cannot be read is a latch that says so.

        `opened`: the desk was, so its folder of latches is there unless something is wrong; of a
        desk of which that is not known, a folder that is not there says nothing.
        """
        found = [_latch(DESK, self._file)] if os.path.lexists(self._file) else []
        try:
            names = os.listdir(self._folder)  # noqa: PTH208
        except OSError as error:
            if opened or not isinstance(error, FileNotFoundError):
                found.append(self._unreadable_folder(error))
            names = []
        found += [_latch(_scope_of(name), self._folder / name) for name in names]
        return tuple(sorted(found, key=lambda latch: (latch.halt.at, latch.id)))

    # --- setting and releasing ---------------------------------------------------------------

    def set(self, scopes: Iterable[Scope], halt: Halt) -> Setting:
        """Latch, durably. The latches of all scopes exist before the content of any is written.

        StorageError: not one file could be made, not even an empty one for the whole desk; the
        caller must stop trading by other means and say so.
        """
        made: list[tuple[Scope, Path, int]] = []
        problems: list[str] = []
        for scope in scopes:
            path, fd, problem = self._make(scope)
            made.append((scope if not problem else DESK, path, fd))
            if problem:
                problems.append(problem)
        durable = True
        for _, path, fd in made:
            while True:
                inode = os.fstat(fd).st_ino
                durable &= _fill(path, fd, encode_halt(halt), problems)
                # Only `latch.json` has a name that is not its own: a release of what it was before may
                # have taken it away between its opening and now.
                if path != self._file or _inode(path) == inode:
                    break
                fd = self._open_file()
        for folder in {path.parent for _, path, _ in made}:
            try:
                fsync_folder(folder)
            except OSError as error:
                durable = False
                problems.append(storage_error(error, "fsync", folder).message)
        for problem in problems:
            _log.error("kill switch: %s", problem)
        latches = tuple(_latch(scope, path) for scope, path, _ in made)
        return Setting(latches, tuple(dict.fromkeys(problems)), durable)

    def release(self, latches: Iterable[Latch]) -> None:
        """Take these latches away, durably; only ever on a person's word.

        ConflictError: one of them is not the file it was, so it was set again meanwhile; nothing
        was released. StorageError: what stays, stays latched.
        """
        wanted = list(latches)
        for latch in wanted:
            if latch.id == UNLISTED:
                raise StorageError(latch.halt.reason, hint="make it a folder of this user again")
            if os.path.lexists(latch.path) and _identity(latch.path) != latch.id:
                raise ConflictError(
                    f"{latch.scope} was latched again meanwhile",
                    hint="look with `openbell kill-switch status`, then ask again",
                )
        aside = [(latch, self._aside(latch)) for latch in wanted]
        for latch, path in aside:
            if (
                path is not None
                and path != latch.path
                and _identity(path, latch.path.name) != latch.id
            ):
                raise ConflictError(  # what was moved latches where it is
                    f"{latch.scope} was latched again meanwhile",
                    hint="look with `openbell kill-switch status`, then ask again",
                )
        for latch, path in aside:
            if path is None:
                continue
            try:
                os.unlink(path)  # noqa: PTH108
            except FileNotFoundError:
                continue  # released twice at the same time: it is gone, as both wanted
            except OSError as error:
                raise storage_error(error, "release", latch.path) from error
        for folder in {each.parent for latch, path in aside for each in (latch.path, path) if each}:
            try:
                fsync_folder(folder)
            except OSError as error:
                raise storage_error(error, "fsync", folder) from error

    def release_to_halt(self, latches: Iterable[Latch], word: Halt) -> bool:
        """`release`, after which orders of a desk that was latched as a whole stay halted: that its
        kill switch is released does not say that it is well. `openbell resume` looks at that.

        True: the desk is halted now. ConflictError, StorageError: as `release`.
        """
        wanted = list(latches)
        halts = any(latch.scope == DESK for latch in wanted)
        if halts and read_halt(self._halt) is None:
            set_halt(self._halt, word)
        self.release(wanted)
        return halts

    def _aside(self, latch: Latch) -> Path | None:
        """Where its file is now: under a name that nobody sets again, so that what is compared is what is
        taken away; in the folder it latches all the same. None: somebody else has released it."""
        if latch.path != self._file:
            return latch.path
        path = self._folder / f"{_stem(latch.scope)}.{secrets.token_hex(4)}.json"
        try:
            with contextlib.suppress(FileExistsError):
                self._folder.mkdir(mode=0o700)
            os.rename(latch.path, path)  # noqa: PTH104
        except OSError as error:
            if not os.path.lexists(latch.path):
                return None
            # Under a name outside of the folder it would be no latch for as long as it is looked at.
            told = storage_error(error, "release", latch.path).message
            raise StorageError(
                f"{told}: {self._folder} takes no file",
                hint=f"make {self._folder} a folder that this user can write to, then release again",
            ) from error
        return path

    def _make(self, scope: Scope) -> tuple[Path, int, str]:
        """A new file for the scope, open for writing; or the desk's own, with the problem."""
        path = self._folder / f"{_stem(scope)}.{secrets.token_hex(4)}.json"
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            try:
                return path, os.open(path, flags | os.O_EXCL, 0o600), ""
            except FileNotFoundError:
                self._folder.mkdir(mode=0o700)
                return path, os.open(path, flags | os.O_EXCL, 0o600), ""
        except OSError as error:
            told = storage_error(error, "latch in", self._folder).message
        fd = self._open_file()
        wider = "" if scope == DESK else f", so the whole desk is latched instead of {scope}"
        return self._file, fd, f"{told}: {self._file.name} is used{wider}"

    def _open_file(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self._file, flags, 0o600)
        except OSError as error:
            raise storage_error(error, "latch with", self._file) from error

    def _unreadable_folder(self, error: OSError) -> Latch:
        why = f"{self._folder} cannot be listed: {error.strerror}; counted as latched"
        at = datetime.now(UTC)
        return Latch(DESK, Halt(why, "unknown", at, False), self._folder, UNLISTED)


def desk_halt(latches: Iterable[Latch]) -> Halt | None:
    """Who latched the whole desk first, and why; None where only parts of it are."""
    return next((latch.halt for latch in latches if latch.scope == DESK), None)


def latches_document(latches: Iterable[Latch]) -> dict[str, object]:
    """`{"active", "desk", "scopes", "latches"}`: as the API and the command line show them."""
    found = list(latches)
    scopes = sorted({latch.scope for latch in found})
    return {
        "active": bool(found),
        "desk": DESK in scopes,
        "scopes": [str(scope) for scope in scopes],
        "latches": [latch.as_dict() for latch in found],
    }


def latch_note(latches: Iterable[Latch]) -> str:
    """In a sentence what is latched, by whom, since when and why; empty where nothing is."""
    return "; ".join(
        f"the kill switch is latched{'' if latch.scope == DESK else f' for {latch.scope}'} "
        f"by {latch.halt.who} since {latch.halt.at:%Y-%m-%d %H:%M:%S} UTC: {latch.halt.reason}"
        for latch in latches
    )


def _fill(path: Path, fd: int, content: bytes, problems: list[str]) -> bool:
    """Write who and why into the latch, which holds without it. False: not known to last."""
    try:
        try:
            if os.fstat(fd).st_size:
                # `latch.json` of an earlier setting: its reason stays, and it is another file now.
                os.utime(fd)
            else:
                write_all(fd, content)
        except OSError as error:
            problems.append(storage_error(error, "write the reason into", path).message)
        try:
            fsync(fd)
        except OSError as error:
            problems.append(storage_error(error, "fsync", path).message)
            return False
    finally:
        os.close(fd)
    return True


def _stem(scope: Scope) -> str:
    name = quote(scope.name, safe="").replace(".", "%2E")
    return f"{scope.kind}-{name}" if name else str(scope.kind)


@functools.lru_cache(maxsize=4096)
def _scope_of(file_name: str) -> Scope:
    """The scope a file's name says; the whole desk where it says none."""
    kind, _, name = file_name.partition(".")[0].partition("-")
    try:
        return parse_scope(f"{kind}:{unquote(name)}" if name else kind)
    except ValueError:
        return DESK


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def _latch(scope: Scope, path: Path) -> Latch:
    return Latch(scope, read_halt(path) or _gone(path), path, _identity(path))


def _gone(path: Path) -> Halt:
    return Halt(f"{path.name} was released while it was read", "unknown", datetime.now(UTC), False)


def _identity(path: Path, name: str = "") -> str:
    """Of the file that has this name now: a file made later in its place has another. `name`: the one
    that it had."""
    try:
        facts = path.lstat()
    except OSError:
        return "gone"
    text = f"{name or path.name}:{facts.st_ino}:{facts.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]
