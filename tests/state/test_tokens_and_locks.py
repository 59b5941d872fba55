"""Tokens that only their owner reads; locks that say who holds them."""

from __future__ import annotations

import fcntl
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openbell.errors import ConflictError, CorruptError, RefusedError, StorageError
from openbell.state import lock as lock_module
from openbell.state.lock import FileLock, held_by
from openbell.state.tokens import read_or_make_token


def test_a_token_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "api.token"
    token = read_or_make_token(path)
    assert len(token) >= 43
    assert read_or_make_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_or_make_token(tmp_path / "another.token") != token


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o660, 0o777])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "api.token"
    token = read_or_make_token(path)
    path.chmod(mode)
    with pytest.raises(RefusedError) as raised:
        read_or_make_token(path)
    assert f"chmod 600 {path}" in raised.value.hint
    assert token not in str(raised.value.as_dict())


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"\x00" * 64, b"two words " * 8])
def test_a_file_that_holds_no_token_is_not_taken_for_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "api.token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(CorruptError):
        read_or_make_token(path)


def test_a_link_in_the_tokens_place_is_not_followed(tmp_path: Path) -> None:
    read_or_make_token(tmp_path / "real")
    (tmp_path / "api.token").symlink_to(tmp_path / "real")
    with pytest.raises(StorageError):
        read_or_make_token(tmp_path / "api.token")


def test_all_that_make_a_token_at_once_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(read_or_make_token, [tmp_path / "api.token"] * 32))
    assert len(tokens) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["api.token"]


def test_a_lock_is_held_by_one_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "controller.lock"
    with FileLock(path) as lock:
        assert lock.held
        with pytest.raises(ConflictError, match=str(os.getpid())) as raised:
            FileLock(path).acquire()
        assert raised.value.facts["pid"] == os.getpid()
    assert not lock.held
    FileLock(path).acquire().release()


HOLDS = """
    import subprocess, sys, time
    from pathlib import Path
    from openbell.state.lock import FileLock

    lock = FileLock(Path(sys.argv[1])).acquire()
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=0)
    print("held", child.pid, flush=True)
    sys.stdin.read()
"""


def test_a_lock_ends_with_its_holder_even_where_children_live_on(
    tmp_path: Path, spawn: Any
) -> None:
    path = tmp_path / "controller.lock"
    holder = spawn(HOLDS, path)
    word, _child = holder.stdout.readline().split()
    assert word == "held"
    with pytest.raises(ConflictError) as raised:
        FileLock(path).acquire()
    assert raised.value.facts["pid"] == holder.pid
    holder.kill()
    holder.wait()
    with FileLock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_who_asks_for_the_holder_keeps_nobody_from_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that looked for a controller took a part of its lock for a moment, and the controller that
    started in that moment ended: another one had the desk, it said."""
    path = tmp_path / "controller.lock"
    looks = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(looks, fcntl.LOCK_SH)
    paused: list[float] = []

    def pause(seconds: float) -> None:
        if not paused:
            os.close(looks)
        paused.append(seconds)

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=pause)
    monkeypatch.setattr(lock_module, "time", clock)
    with FileLock(path) as lock:
        assert lock.held and held_by(path) == os.getpid()
    assert len(paused) == 1


def test_a_lock_where_there_is_no_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        FileLock(tmp_path / "nowhere" / "lock").acquire()
