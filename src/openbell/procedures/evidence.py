"""Evidence files of a run: what a record keeps of each."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_facts(path: Path) -> dict[str, object]:
    """`{"path", "bytes", "sha256"}` of an evidence file; of one that cannot be read, why not."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return {"path": str(path), "why": error.strerror or str(error)}
    digest = hashlib.sha256(content).hexdigest()
    return {"path": str(path), "bytes": len(content), "sha256": digest}
