"""Which code a process runs, and by which limits: hashes, taken when it starts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import openbell
from openbell.config.models import DeskFile


def code_hash() -> str:
    """Over every Python file of the package as it is on the disk now, hex. Blocks for some
    milliseconds."""
    folder = Path(openbell.__file__).parent
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        whole.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode())
        whole.update(content)
    return whole.hexdigest()


def limits_hash(file: DeskFile) -> str:
    """Over everything that holds orders back, hex."""
    text = file.risk.model_dump_json() + file.permit.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()
