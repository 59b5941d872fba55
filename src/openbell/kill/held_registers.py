"""Registers of live orders that processes of the desk have mapped, found by the processes themselves.

A mapped file outlives its path for as long as a process has it: whoever removes the folder, or copies an
older one into its place, takes nothing from a stop that froze the engine. Linux only; elsewhere, and of
another user's process, nothing is found.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from openbell.state.live_orders import MAGIC, SUFFIX, HeldRegister

_PROC = Path("/proc")
_DELETED = " (deleted)"


def held_registers(pids: Iterable[int]) -> Iterator[HeldRegister]:
    """Of these processes, each of which was seen to be the desk's. Whoever takes one closes it. Never
    raises; a process that has ended holds none. Blocks for as long as a disk that hangs."""
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in list((_PROC / str(pid) / "fd").iterdir()):
                held = _held(entry)
                if held is not None:
                    yield held


def _held(entry: Path) -> HeldRegister | None:
    try:
        name = os.readlink(entry).removesuffix(_DELETED)  # noqa: PTH115 - not a path any more
        if not name.endswith(SUFFIX):
            return None
        fd = _opened(entry)
    except OSError:
        return None
    try:
        if os.pread(fd, len(MAGIC), 0) == MAGIC:
            return HeldRegister(name, fd)
    except OSError:
        pass
    os.close(fd)
    return None


def _opened(entry: Path) -> int:
    """Without a time of access, which a disk would have to take: only the file's owner may leave it out."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    with contextlib.suppress(PermissionError):
        return os.open(entry, flags | getattr(os, "O_NOATIME", 0))
    return os.open(entry, flags)
