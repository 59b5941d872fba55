"""The lock of deployments: in doubt, locked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from openbell.errors import StorageError
from openbell.state import desk_lock
from openbell.state.desk_lock import UNNAMED, DeskLock, clear_lock, read_lock, set_lock

LOCK = DeskLock("end of day", "ann", datetime(2026, 1, 31, 12, tzinfo=UTC), "close-3")


def test_a_lock_lasts_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    assert read_lock(path) is None
    set_lock(path, LOCK)
    assert read_lock(path) == LOCK
    assert str(LOCK) == "locked by close-3 of ann since 2026-01-31 12:00:00 UTC: end of day"
    assert clear_lock(path)
    assert read_lock(path) is None
    assert not clear_lock(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"reason": 1}'])
def test_what_cannot_be_read_locks(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lock.json"
    path.write_bytes(content)
    lock = read_lock(path)
    assert lock is not None and not lock.readable and "counted as locked" in lock.reason


def test_a_full_disk_locks_without_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(desk_lock, "write_atomically", full)
    path = tmp_path / "lock.json"
    set_lock(path, DeskLock("audit", "joe", LOCK.at))
    lock = read_lock(path)
    assert lock is not None and not lock.readable and not lock.run


def test_the_lock_of_a_closing_on_a_full_disk_is_no_persons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was an empty lock.json, which counts as a person's: the desk could not be opened again until
    somebody released what nobody had set."""

    def full(*_: Any) -> None:
        raise StorageError("no space left")

    path = tmp_path / "lock.json"
    with monkeypatch.context() as patch:
        patch.setattr(desk_lock, "write_atomically", full)
        set_lock(path, LOCK)
    lock = read_lock(path)
    assert lock is not None and (lock.run, lock.readable) == (UNNAMED, False)
    assert "openbell down" in lock.refusal("not opened").hint
    persons = DeskLock("audit", "joe", LOCK.at)
    set_lock(path, persons)
    assert read_lock(path) == persons, "a person's stands before it"
    assert clear_lock(path)
    assert read_lock(path) is None


def test_that_nothing_could_be_locked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError):
        set_lock(tmp_path / "gone" / "lock.json", LOCK)
    assert read_lock(tmp_path / "gone" / "lock.json") is None
