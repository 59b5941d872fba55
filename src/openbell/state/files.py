"""Durable file writes: how a file that must survive is replaced or removed.

Invariant: whoever opens the path, at any moment and after any crash, finds the old content or the
new content, never a mixture and never nothing. The order of the writes is what keeps it:

    1. a temporary file in the same folder (same file system, or the rename would be a copy)
    2. write all of it
    3. fsync the temporary file            its bytes are on the disk before its name is
    4. rename it over the path             the commit point
    5. fsync the folder                    the name is on the disk

A crash before 4 leaves the old file and a temporary one (`remove_leftovers`); after 4 the new one.

Caveats
- An fsync error is fatal, never retried: Linux marks the failed pages clean, so a second fsync
  would report success for bytes that are gone (PostgreSQL's "fsyncgate", 2018). The caller gets
  StorageError and must not count the write as done.
- An error at 5 leaves the new file visible and its durability unknown: StorageError too. What a
  reader finds afterwards is still the old or the new file, whole.
- macOS: fsync stops at the drive's cache; F_FULLFSYNC is what reaches the platter or the flash.
- A file system that cannot fsync a folder (EINVAL: some network and FUSE ones) is tolerated at 5
  only: it has said that it does not offer the call, not that something was lost.
- A drive or hypervisor that lies about flushing is beyond what a program can see.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from openbell.errors import StorageError

_TEMPORARY_PREFIX = ".openbell-"
_TEMPORARY_SUFFIX = ".tmp"
_TEMPORARY = f"{_TEMPORARY_PREFIX}*{_TEMPORARY_SUFFIX}"
_LEFTOVER_AGE_SECS = 3600.0
"""Ours. No write of a desk's file takes an hour, so an older temporary belongs to a dead writer."""


def storage_error(error: OSError, doing: str, path: Path) -> StorageError:
    """`error` in our words: `cannot write halt.json: No space left on device (ENOSPC)`."""
    name = errno.errorcode.get(error.errno or 0, "EIO")
    hint = {
        "ENOSPC": f"free space on the file system of {path.parent}",
        "EDQUOT": f"raise the quota of the file system of {path.parent}",
        "EROFS": f"{path.parent} is mounted read-only",
        "EACCES": f"give this user the right to write {path}",
    }.get(name, "")
    why = error.strerror or str(error)
    return StorageError(
        f"cannot {doing} {path}: {why} ({name})", hint=hint, path=str(path), errno=name
    )


class AtomicWriter:
    """The temporary file of `replacing`; `write` takes any number of pieces."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = 0

    @property
    def inode(self) -> int:
        """Of the file itself, which keeps it when it takes its place. OSError."""
        return os.fstat(self._fd).st_ino

    def write(self, data: bytes | memoryview) -> None:
        write_all(self._fd, data)
        self.size += len(data)


@contextlib.contextmanager
def replacing(
    path: Path, *, mode: int = 0o600, keep_existing: bool = False
) -> Iterator[AtomicWriter]:
    """Write a file piece by piece; it takes `path`'s place when the block ends without an error.

    With an error in the block, or StorageError from here before the rename, `path` is untouched
    and the temporary file is gone. `keep_existing`: FileExistsError instead of replacing a file,
    also when it appeared meanwhile. For small content there is `write_atomically`.
    """
    temporary = path.parent / (
        f"{_TEMPORARY_PREFIX}{path.name}-{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY_SUFFIX}"
    )
    doing = "write"
    try:
        # O_EXCL: the name is ours alone; O_NOFOLLOW: nobody planted a link there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(temporary, flags, mode)
        try:
            try:
                os.fchmod(fd, mode)  # the umask had its say in os.open
                yield AtomicWriter(fd)
                doing = "fsync"
                fsync(fd)
            finally:
                os.close(fd)
            doing = "rename onto"
            if keep_existing:
                os.link(temporary, path)  # unlike a rename, refuses to replace
                os.unlink(temporary)  # noqa: PTH108 - every system call of this module goes by os
            else:
                os.rename(temporary, path)  # noqa: PTH104
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            raise
        doing = "fsync the folder of"
        fsync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise storage_error(error, doing, path) from error


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` by `data`, durably. StorageError: see the caveats above; never half done."""
    with replacing(path, mode=mode) as file:
        file.write(data)


def remove_durably(path: Path) -> bool:
    """Delete `path` and fsync its folder, so that no crash brings it back. False: was not there."""
    try:
        os.unlink(path)  # noqa: PTH108
        fsync_folder(path.parent)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, "remove", path) from error
    return True


def remove_leftovers(folder: Path, *, older_than_secs: float = _LEFTOVER_AGE_SECS) -> list[Path]:
    """Delete the temporary files of writers that died, and return them."""
    removed = []
    for path in _leftovers(folder.glob(_TEMPORARY), older_than_secs):
        with contextlib.suppress(FileNotFoundError):  # another one cleans up at the same time
            path.unlink()
            removed.append(path)
    return removed


def leftovers(folder: Path) -> list[Path]:
    """Temporary files of writers that died, in a folder and those within."""
    return list(_leftovers(folder.rglob(_TEMPORARY), _LEFTOVER_AGE_SECS))


def _leftovers(found: Iterable[Path], older_than_secs: float) -> Iterator[Path]:
    for path in found:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= older_than_secs:
                yield path


def write_all(fd: int, data: bytes | memoryview) -> None:
    """`os.write` until everything is written: one call may take less than it was given."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def fsync(fd: int) -> None:
    """Bytes of `fd` to the disk itself. OSError is fatal: see the caveats above."""
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as error:
            # ENOTSUP, EINVAL: a file system (network, FUSE) without that call has the plain one.
            if error.errno not in (errno.ENOTSUP, errno.EINVAL):
                raise
        else:
            return
    os.fsync(fd)


def fsync_folder(folder: Path) -> None:
    """The names in `folder` to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)
