"""A cgroup of a test's own, where the machine lets us make one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from openbell.runtime import limits


@contextlib.contextmanager
def delegated_cgroup(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What is started meanwhile by this process has a cgroup in it. Skips where there is none."""
    mount = limits._cgroup2_mount() if sys.platform == "linux" else None
    if mount is None:
        pytest.skip("there is no cgroup v2")
    folder = mount / f"openbell-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    monkeypatch.setenv("OPENBELL_CGROUP", str(folder))
    try:
        yield folder
    finally:
        for inner in folder.iterdir():
            if inner.is_dir():
                inner.rmdir()
        folder.rmdir()
