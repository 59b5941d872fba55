"""The kill switch's own log: acts that the audit log did not take, or that no controller saw.

One JSON object a line, appended and fsynced. It takes no lock and needs no head, so what blocks
the audit log does not block it; nor does it prove that no line was taken out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from openbell.state.files import fsync, fsync_folder, storage_error, write_all


def append_act(path: Path, actor: str, action: str, detail: Mapping[str, object]) -> None:
    """Raises StorageError: not on the disk."""
    said = {"at": datetime.now(UTC).isoformat(), "actor": actor, "action": action, **detail}
    line = msgspec.json.encode(said) + b"\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        is_new = not path.exists()
        fd = os.open(path, flags, 0o600)
        try:
            write_all(fd, line)
            fsync(fd)
        finally:
            os.close(fd)
        if is_new:
            fsync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, "append to", path) from error
