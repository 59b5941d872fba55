"""The halt: in doubt, halted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from openbell.errors import StorageError
from openbell.state import files
from openbell.state.halts import (
    Halt,
    clear_halt,
    is_halted,
    read_halt,
    set_halt,
)

HALT = Halt("daily loss", "risk-management", datetime(2026, 1, 31, 12, tzinfo=UTC))


def test_a_halt_lasts_until_it_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "halt.json"
    assert read_halt(path) is None
    set_halt(path, HALT)
    assert read_halt(path) == HALT
    assert clear_halt(path)
    assert read_halt(path) is None
    assert not clear_halt(path)


def test_a_halt_is_seen_by_its_existence(tmp_path: Path) -> None:
    path = tmp_path / "halt.json"
    assert not is_halted(path)
    set_halt(path, HALT)
    assert is_halted(path)
    clear_halt(path)
    assert not is_halted(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 64, b'{"reason": "x"', b"[]", b'{"reason":1,"who":"a","at":"b"}', b"\xff\xfe"],
)
def test_a_file_that_cannot_be_understood_counts_as_halted_and_says_so(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "halt.json"
    path.write_bytes(content)
    halt = read_halt(path)
    assert halt is not None
    assert not halt.readable
    assert "counted as halted" in halt.reason
    assert is_halted(path)


def test_what_is_not_a_file_counts_as_halted_too(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    assert read_halt(tmp_path / "folder") is not None
    assert is_halted(tmp_path / "folder")
    assert is_halted(tmp_path / "link")
    assert is_halted(tmp_path / "file" / "below-a-file")
    assert read_halt(tmp_path / "file" / "below-a-file") is not None


def test_a_state_folder_that_went_away_says_halted_to_an_engine_about_to_send(
    tmp_path: Path,
) -> None:
    assert is_halted(tmp_path / "unmounted" / "halt.json")
    assert read_halt(tmp_path / "unmounted" / "halt.json") is None


def test_a_full_disk_cannot_prevent_a_halt(small_disk: Any) -> None:
    small_disk.fill()
    path = small_disk.folder / "halt.json"
    set_halt(path, HALT)
    assert is_halted(path)
    assert read_halt(path) is not None


def test_a_halt_that_cannot_be_made_at_all_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError):
        set_halt(tmp_path / "nowhere" / "halt.json", HALT)

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fails)
    with pytest.raises(StorageError):
        set_halt(tmp_path / "halt.json", HALT)


def test_a_second_halt_that_fails_leaves_the_first_with_its_reason(small_disk: Any) -> None:
    path = small_disk.folder / "halt.json"
    set_halt(path, HALT)
    small_disk.fill()
    set_halt(path, Halt("second" * 5000, "operator", HALT.at))
    assert read_halt(path) == HALT
