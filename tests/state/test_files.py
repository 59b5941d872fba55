"""Durable writes, interrupted and refused at every system call."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbell.errors import StorageError
from openbell.state import files
from openbell.state.files import (
    remove_durably,
    remove_leftovers,
    replacing,
    write_atomically,
)

CALLS = ("open", "fchmod", "write", "fsync", "close", "rename")
"""The system calls of `write_atomically`, by their names in `os`."""


class CallCounter:
    """Counts the calls of `os`, and fails the one it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch, fail_at: int = 0, error: int = 0) -> None:
        self.names: list[str] = []
        self.fail_at = fail_at
        self.error = error
        for name in CALLS:
            patch.setattr(files.os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.names.append(name)
            if len(self.names) == self.fail_at:
                if name == "close":
                    real(*arguments)  # the descriptor is gone, whatever close says
                raise OSError(self.error, os.strerror(self.error))
            return real(*arguments, **named)

        return call


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


EXPECTED = ["open", "fchmod", "write", "fsync", "close", "rename", "open", "fsync", "close"]


def test_a_write_makes_its_system_calls_in_the_order_that_survives_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        counter = CallCounter(patch)
        write_atomically(tmp_path / "file", b"new")
    assert counter.names == EXPECTED
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("fail_at", range(1, len(EXPECTED) + 1))
def test_an_error_at_any_system_call_leaves_the_old_or_the_new_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int, error: int
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with monkeypatch.context() as patch:
        CallCounter(patch, fail_at, error)
        with pytest.raises(StorageError) as raised:
            write_atomically(path, b"new")
    renamed = fail_at > EXPECTED.index("rename") + 1
    assert path.read_bytes() == (b"new" if renamed else b"old")
    assert names_in(tmp_path) == ["file"]
    assert raised.value.facts["errno"] == errno.errorcode[error]


KILLED_AT = """
    import os, signal, sys
    from pathlib import Path
    from openbell.state import files

    path, fatal_call = Path(sys.argv[1]), int(sys.argv[2])
    calls = 0

    def counted(real):
        def call(*arguments, **named):
            global calls
            calls += 1
            if calls == fatal_call:
                if real is os_write:
                    real(arguments[0], arguments[1][:2])  # in the middle of it
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)
        return call

    os_write = os.write
    for name in ("open", "fchmod", "write", "fsync", "close", "rename"):
        setattr(files.os, name, counted(getattr(os, name)))
    files.write_atomically(path, b"new")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_before_any_system_call_leaves_the_old_or_the_new_file(
    tmp_path: Path, spawn: Any
) -> None:
    calls = range(1, len(EXPECTED) + 2)
    paths = {call: tmp_path / str(call) / "file" for call in calls}
    processes = {}
    for call, path in paths.items():
        path.parent.mkdir()
        write_atomically(path, b"old")
        processes[call] = spawn(KILLED_AT, path, call)
    for call, process in processes.items():
        assert process.wait(60) == -9, process.communicate()
        renamed = call > EXPECTED.index("rename") + 1
        assert paths[call].read_bytes() == (b"new" if renamed else b"old")
        left = remove_leftovers(paths[call].parent, older_than_secs=0)
        assert len(left) <= 1
        assert names_in(paths[call].parent) == ["file"]


def test_the_mode_is_kept_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_atomically(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", lambda fd, data: real(fd, data[:3]))
        write_atomically(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_an_error_of_the_caller_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_an_existing_file_is_kept_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(FileExistsError), replacing(path, keep_existing=True) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "log").symlink_to(victim)
    write_atomically(tmp_path / "log", b"replaces the link itself")
    assert victim.read_bytes() == b"precious"


def test_a_full_disk_is_refused_and_leaves_the_old_file(small_disk: Any) -> None:
    path = small_disk.folder / "file"
    write_atomically(path, b"old" * 1000)
    small_disk.fill()
    with pytest.raises(StorageError) as raised:
        write_atomically(path, b"new" * 100_000)
    assert raised.value.facts["errno"] == "ENOSPC"
    assert str(small_disk.folder) in raised.value.hint
    assert path.read_bytes() == b"old" * 1000
    small_disk.empty()
    write_atomically(path, b"new" * 1000)
    assert path.read_bytes() == b"new" * 1000


def test_removing_says_whether_there_was_something(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"x")
    assert remove_durably(tmp_path / "file")
    assert not remove_durably(tmp_path / "file")


def test_a_living_writers_temporary_file_is_not_swept(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as file:
        file.write(b"x")
        assert remove_leftovers(tmp_path) == []
    assert (tmp_path / "file").read_bytes() == b"x"
