"""Reads a backup through: `python -m openbell.procedures.read_back FILE`.

By the checksums of its format, with a bounded part of it in memory at a time. In a process of its own,
so that a disk or a mount that hangs can be left behind. Prints one line: what was read, or why it is not
whole; exit status 0 or 1.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import sqlite3
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, cast

_CHUNK = 1 << 20


class DamagedError(Exception):
    """It is not whole; says why."""


def read_back(path: Path) -> str:
    """What was read. Raises DamagedError."""
    try:
        if path.suffix == ".zip":
            return _zip(path)
        if path.suffix in (".db", ".sqlite"):
            return _sqlite(path)
        if path.suffix == ".tar" or path.name.endswith((".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")):
            return _tar(path)
        with _plain(path) as stream:
            size = _rest(stream)
            if not size:
                raise DamagedError("nothing is in it")
            return f"{size} bytes read, checksum right"
    except (EOFError, ValueError, OSError, lzma.LZMAError, zlib.error, tarfile.TarError) as error:
        raise DamagedError(str(error) or type(error).__name__) from error
    except (sqlite3.Error, zipfile.BadZipFile) as error:
        raise DamagedError(str(error)) from error


def _plain(path: Path) -> IO[bytes]:
    """What is in it, where it is compressed."""
    match path.suffix:
        case ".gz" | ".tgz":
            return cast("IO[bytes]", gzip.open(path))
        case ".bz2":
            return cast("IO[bytes]", bz2.open(path))
        case ".xz":
            return lzma.open(path)
        case _:
            return path.open("rb")


def _rest(stream: IO[bytes]) -> int:
    size = 0
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
    return size


def _tar(path: Path) -> str:
    """Every member, and what is compressed to its end, where the checksum is."""
    count = size = 0
    with _plain(path) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                part = archive.extractfile(member) if member.isfile() else None
                count, size = count + 1, size + (_rest(part) if part else 0)
        _rest(stream)
    if not count:
        raise DamagedError("the archive is empty")
    return f"{count} members, {size} bytes read"


def _zip(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
        if bad is not None:
            raise DamagedError(f"{bad} has a wrong checksum")
        names = archive.namelist()
    if not names:
        raise DamagedError("the archive is empty")
    return f"{len(names)} members read, checksums right"


def _sqlite(path: Path) -> str:
    with contextlib.closing(
        sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    ) as db:
        said = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table'").fetchone()[0]
    if said != "ok":
        raise DamagedError(str(said))
    if not tables:
        raise DamagedError("the database is empty")
    return f"{tables} tables, integrity check ok"


def main(argv: list[str]) -> int:
    try:
        said, status = read_back(Path(argv[0])), 0
    except DamagedError as error:
        said, status = f"not whole: {error}", 1
    sys.stdout.write(f"{said}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
