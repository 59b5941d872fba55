"""Evidence files of a run: what a record keeps of each."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def file_facts(path: Path) -> dict[str, object]:
    """`{"path", "bytes", "sha256"}` of an evidence file; of one that cannot be read, why not."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        return {"path": str(path), "why": error.strerror or str(error)}
    return {"path": str(path), "bytes": size, "sha256": digest}
