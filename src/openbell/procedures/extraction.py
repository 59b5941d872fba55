"""What a desk holds, taken from its journal and its logs: the last resort where no checkpoint can be
had.

The journal knows every order and fill of the desk, whoever runs; the newest lines of the logs stand
beside it for whatever the journal does not tell, or cannot. It is one text file of JSON, for people
and for scripts: nothing restores it by itself, and it is never called a checkpoint.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.config.redact import Redactor
from openbell.errors import OpenbellError, RefusedError, StorageError
from openbell.procedures.checkpointing import books_snapshot
from openbell.state.files import write_atomically
from openbell.watch.logs import CONTROLLER, log_paths, text_since

LOGS_WITHIN_NS = 3600 * 1_000_000_000
LOG_BYTES_MAX = 256 << 10
"""Of each log: this has to fit where a checkpoint did not."""


@dataclass(frozen=True)
class Extraction:
    path: str | None
    """None: no folder took it."""
    books: Mapping[str, Any] | None
    """As the checkpoint's `trading`; None: the journal cannot be read."""
    why: str
    """Why there are no books, and why a folder did not take it."""


def extracted_state(
    desk: LoadedDesk, layout: DeskLayout, redactor: Redactor
) -> tuple[dict[str, Any], str]:
    """The document, and why it has no books; empty where it has. Blocks, and never raises for
    what cannot be had: that is said in it."""
    books: Mapping[str, Any] | None = None
    why = ""
    try:
        books = books_snapshot(layout.database)
    except OpenbellError as error:
        why = f"the journal: {error.message}"
    since = time.time_ns() - LOGS_WITHIN_NS
    logs: dict[str, object] = {}
    for name, path in log_paths(layout, [*desk.file.services, CONTROLLER]).items():
        try:
            logs[name] = text_since(path, since, LOG_BYTES_MAX).decode("utf-8", "replace")
        except OSError as error:
            logs[name] = {"why": error.strerror or str(error)}
    document = {
        "what": "state extracted from journal and logs; not a checkpoint",
        "desk": desk.file.desk.name,
        "extracted": datetime.now(UTC).isoformat(),
        "desk_toml_digest": desk.digest,
        "trading": books,
        "trading_missing": why or None,
        "logs": logs,
    }
    return dict(redactor.redact_value(document)), why


def extract_state(
    desk: LoadedDesk, layout: DeskLayout, redactor: Redactor, name: str, folders: Iterable[Path]
) -> Extraction:
    """Writes the document as `name` into the first folder that takes it. Blocks."""
    document, why = extracted_state(desk, layout, redactor)
    text = orjson.dumps(document, default=str, option=orjson.OPT_INDENT_2) + b"\n"
    troubles = [why] if why else []
    books = document["trading"]
    for folder in folders:
        path = folder / name
        try:
            make_private(folder)
            write_atomically(path, text)
        except OpenbellError as error:
            troubles.append(error.message)
            continue
        return Extraction(str(path), books, "; ".join(troubles))
    return Extraction(None, books, "; ".join(troubles))


def make_private(folder: Path) -> None:
    """Makes the folder, mode 700. Raises StorageError where it cannot be made, RefusedError where
    it is another user's, a link, or open to others: what a desk holds is nobody else's business."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise StorageError(
            f"cannot make {folder}: {error.strerror or error}", path=str(folder)
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise RefusedError(
            f"{folder} is not a folder of this user alone",
            hint=f"chmod 700 {folder}, or name another",
        )


def other_folders(desk: LoadedDesk, layout: DeskLayout) -> tuple[Path, ...]:
    """Where a checkpoint goes that the state folder does not take: as `[closing]` says, and then the
    temporary folder, which may be gone after a reboot but is better than nothing."""
    named = (desk.folder / folder for folder in desk.file.closing.checkpoint_elsewhere)
    spare = Path(tempfile.gettempdir()) / f"openbell-{os.getuid()}-{layout.desk_id}-checkpoints"
    return (*named, spare)
