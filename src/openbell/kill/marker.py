"""`state/emergency.json`: an emergency stop of the whole desk was begun, and nobody opened it since.

Its existence holds every start of a service except those that are the outside world (role
"venue"); its content says who, when and why. `openbell up` takes it away. Like a latch it exists
before its content is written, so a full disk costs the reason and not the hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from openbell.config.layout import DeskLayout
from openbell.state.files import fsync, fsync_folder, remove_durably, storage_error, write_all

_CONTENT_MAX = 1 << 16
OUTSIDE = frozenset({"venue"})
"""Roles of services that are not the desk: simulated venues stand for the outside world."""


def set_marker(layout: DeskLayout, reason: str, actor: str) -> str:
    """Makes it, unless it is there. What did not go well, or nothing; never raises."""
    path = layout.emergency_marker
    newest = max(course_numbers(layout.emergency), default=0)  # before the stop begins its own
    if os.path.lexists(path):  # asked first: a disk that takes no writes lets nobody try to make it
        return ""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return ""
    except OSError as error:
        return storage_error(error, "make", path).message
    problem = ""
    try:
        said = {"at": datetime.now(UTC).isoformat(), "reason": reason, "actor": actor}
        content = {**said, "pid": os.getpid(), "after": newest}
        write_all(fd, msgspec.json.encode(content) + b"\n")
        fsync(fd)
        fsync_folder(path.parent)
    except OSError as error:
        problem = storage_error(error, "write", path).message
    finally:
        os.close(fd)
    return problem


def course_numbers(folder: Path) -> Iterator[int]:
    """Of the courses in this folder, in no order. Never raises."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return
    for name in names:
        stem, _, suffix = name.partition(".")
        if suffix == "jsonl" and stem.isdecimal():
            yield int(stem)


def is_begun(layout: DeskLayout) -> bool:
    """Whether it is there. One system call; what cannot be told is no news. Never raises."""
    return os.path.lexists(layout.emergency_marker)


def read_marker(layout: DeskLayout) -> dict[str, Any] | None:
    """`{"at", "reason", "actor", "pid", "after"}`, as far as it can be read; None where there is none.
    `after`: the number of the newest course as it was made, 0 where there was none. Whatever is unclear
    counts as there."""
    try:
        with layout.emergency_marker.open("rb") as file:
            content = file.read(_CONTENT_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        return {"reason": f"unreadable: {error.strerror}", "actor": "", "at": "", "pid": 0}
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        return {"reason": "it does not say why", "actor": "", "at": "", "pid": 0}


def clear_marker(layout: DeskLayout) -> bool:
    """On a person's word. False: there was none. Raises StorageError."""
    return remove_durably(layout.emergency_marker)


def why_held(layout: DeskLayout, role: str) -> str:
    """Why a service of this role may not be started; empty where it may. One system call."""
    if role in OUTSIDE or not is_begun(layout):
        return ""
    marker = read_marker(layout) or {}
    by = f" by {marker['actor']}" if marker.get("actor") else ""
    return f"an emergency stop{by} holds it: {marker.get('reason') or 'no reason given'}"
