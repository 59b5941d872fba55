"""A wall clock that a test can set, for processes that it starts. Their monotonic clock is not touched.

Set is what Python code reads (`time.time`, `time.time_ns`), which is all that Openbell's own code reads.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_WIDTH = 32
# Found by the interpreter at its start, before any module of the process.
_SITE = """
import os, time

_offset = os.open(os.path.join(os.path.dirname(__file__), "offset_ns"), os.O_RDONLY)
_true_ns = time.time_ns


def _set_ns():
    return _true_ns() + int(os.pread(_offset, 32, 0))


time.time_ns = _set_ns
time.time = lambda: _set_ns() / 1e9
"""


class WallClock:
    """`environment` goes to the processes; `set_ahead` to all of them at once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._file = folder / "offset_ns"
        self._file.touch()
        (folder / "sitecustomize.py").write_text(_SITE)
        self.environment = {"PYTHONPATH": str(folder)}
        self.offset_ns = 0
        self.set_ahead(0)

    def set_ahead(self, seconds: float) -> None:
        """From now on it shows so much more than the true time; negative: less."""
        self.offset_ns = int(seconds * 1e9)
        file = os.open(self._file, os.O_WRONLY)
        try:
            os.pwrite(file, str(self.offset_ns).ljust(_WIDTH).encode(), 0)
        finally:
            os.close(file)

    def now_ns(self) -> int:
        return time.time_ns() + self.offset_ns
