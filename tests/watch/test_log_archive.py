"""An archive of logs is whole or not there."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from openbell.errors import CorruptError, StorageError
from openbell.watch import log_archive
from openbell.watch.log_archive import archive_logs


def logs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "engine.log", tmp_path / "engine.log.1", tmp_path / "gone.log"]
    paths[0].write_text("new\n" * 1000)
    paths[1].write_text("old\n")
    return paths


def test_every_log_that_exists_is_in_it(tmp_path: Path) -> None:
    target = tmp_path / "archive" / "close-1-logs.tar.gz"
    assert archive_logs(logs(tmp_path), target) == 2
    with tarfile.open(target) as archive:
        content = archive.extractfile("engine.log")
        assert content is not None and content.read() == b"new\n" * 1000
        assert archive.getnames() == ["engine.log", "engine.log.1"]
    assert target.stat().st_mode & 0o077 == 0, "logs are nobody else's business"
    assert [each.name for each in target.parent.iterdir()] == [target.name]


def test_one_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "archive" / "logs.tar.gz"
    asked: list[bool] = []

    def stopped() -> bool:
        asked.append(True)
        return len(asked) > 1

    with pytest.raises(StorageError, match="not finished"):
        archive_logs(logs(tmp_path), target, stopped)
    assert list(target.parent.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("")
    with pytest.raises(StorageError):
        archive_logs(logs(tmp_path), tmp_path / "archive" / "logs.tar.gz")


def test_what_cannot_be_read_back_is_no_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is cut before it is read back, as a disk that loses its end would."""
    target = tmp_path / "archive" / "logs.tar.gz"
    check = log_archive._check

    def cut(path: Path, kept: dict[str, int]) -> None:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        check(path, kept)

    monkeypatch.setattr(log_archive, "_check", cut)
    with pytest.raises(CorruptError):
        archive_logs(logs(tmp_path), target)
    assert list(target.parent.iterdir()) == []
