"""A disk that answers nothing: a file system of its own, frozen by the kernel. Whatever would write to it
waits there, uninterruptibly, until it is thawed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_TOOLS = ("losetup", "mkfs.ext4", "mount", "umount", "fsfreeze")


@dataclass
class Disk:
    folder: Path
    frozen: bool = False

    def freeze(self) -> None:
        _run("fsfreeze", "-f", str(self.folder))
        self.frozen = True

    def thaw(self) -> None:
        if self.frozen:
            _run("fsfreeze", "-u", str(self.folder))
            self.frozen = False


@contextlib.contextmanager
def own_disk(folder: Path) -> Iterator[Disk]:
    """Skips, saying so, where this user may make none."""
    lacking = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if lacking or os.getuid() != 0:
        pytest.skip(f"a disk that hangs: needs root and {', '.join(lacking) or 'loop devices'}")
    image, mounted = folder / "disk.img", folder / "disk"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    mounted.mkdir()
    try:
        _run("mkfs.ext4", "-q", "-F", str(image))
        _run("mount", "-o", "loop", str(image), str(mounted))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"a disk that hangs: no loop device here ({error.stderr.strip()})")
    disk = Disk(mounted)
    try:
        yield disk
    finally:
        disk.thaw()
        # Lazily: a process that was killed in the middle may not have let go of it yet.
        _run("umount", "-l", str(mounted))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
