"""Files of lines, plain or gzipped, read as far as they can be."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from openbell_sim.market.damage import Damage

_GZIP = b"\x1f\x8b"
_LONGEST = 16 << 20
"""Bytes of a line. A depth snapshot has some hundred thousand; a file without line ends must not
fill the memory."""


def opened(path: Path) -> io.BufferedIOBase:
    """Raises OSError."""
    file = path.open("rb")
    try:
        if file.read(2) != _GZIP:
            file.seek(0)
            return file
    except OSError:
        file.close()
        raise
    file.close()
    return gzip.open(path, "rb")


def lines(path: Path, damage: Damage) -> Iterator[tuple[int, bytes]]:
    """`(number from 1, line)`; empty ones are left out."""
    try:
        with opened(path) as file:
            number = 0
            while line := file.readline(_LONGEST):
                number += 1
                if not line.isspace():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        damage.cut_short(str(error) or type(error).__name__)
