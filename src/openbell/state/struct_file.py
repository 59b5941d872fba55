"""A small file that holds one struct as JSON, or is not there.

For what has to be told when it cannot be read. Where the existence of the file alone decides, its
content is read by `halts.read_content`, which never raises.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from openbell.errors import CorruptError
from openbell.state.files import storage_error, write_atomically

S = TypeVar("S", bound=msgspec.Struct)


def read_struct(path: Path, shape: type[S], says: str) -> S | None:
    """None where there is no such file. `says`: what it is there to say, for the error. Raises
    StorageError, CorruptError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, "read", path) from error
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptError(f"{path.name} does not say {says}: {error}") from error


def write_struct(path: Path, content: msgspec.Struct) -> None:
    """Durably, in the place of what was there. Raises StorageError."""
    write_atomically(path, msgspec.json.encode(content) + b"\n")
