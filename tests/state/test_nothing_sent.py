"""The fact that nothing can have sent an order is told where it is certain, and nowhere else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from openbell.errors import StorageError
from openbell.state.nothing_sent import (
    anchor_of,
    keep_nothing_sent,
    read_nothing_sent,
    spend_nothing_sent,
)

AT = "2026-01-31T12:00:00+00:00"
NO_STOPS = Path("/no/such/folder")
"""Of emergency stops: there was none."""


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "nothing-sent.json"
    path.parent.mkdir()
    keep_nothing_sent(path, "close-1", AT)
    return path


def test_it_is_told_until_it_is_spent(kept: Path) -> None:
    told = read_nothing_sent(kept, NO_STOPS)
    assert told is not None and (told.since, told.at) == ("close-1", AT)
    assert "since close-1, which left nothing" in told.told()
    spend_nothing_sent(kept)
    assert read_nothing_sent(kept, NO_STOPS) is None
    spend_nothing_sent(kept)  # again, before every further start


def test_no_file_tells_nothing(tmp_path: Path) -> None:
    """Of an older version, or of a desk that is open."""
    assert read_nothing_sent(tmp_path / "nothing-sent.json", NO_STOPS) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"since":"close-1"}'])
def test_what_cannot_be_read_tells_nothing(kept: Path, content: bytes) -> None:
    kept.write_bytes(content)
    assert read_nothing_sent(kept, NO_STOPS) is None


def test_a_crash_on_the_way_leaves_nothing_that_is_told(kept: Path) -> None:
    """The anchor goes first, and comes first."""
    content = kept.read_bytes()
    spend_nothing_sent(kept)
    kept.write_bytes(content)
    assert read_nothing_sent(kept, NO_STOPS) is None, "killed between the two"
    anchor_of(kept).touch()
    assert read_nothing_sent(kept, NO_STOPS) is None, (
        "a new anchor, beside what was told of the one before"
    )


def test_what_was_put_back_tells_nothing(kept: Path) -> None:
    """Copied at once, as a backup that follows a closing does it: what was started since is not in it.
    With the times of the files, as far as a program can set them."""
    saved = kept.parent.parent / "saved"
    shutil.copytree(kept.parent, saved)
    spend_nothing_sent(kept)
    for each in saved.iterdir():
        shutil.copy2(each, kept.parent)
    assert read_nothing_sent(kept, NO_STOPS) is None, (
        "an inode's number is used again, its last change is not"
    )
    shutil.rmtree(kept.parent)
    saved.rename(kept.parent)
    assert read_nothing_sent(kept, NO_STOPS) is None, (
        "nor is it the copy that came back with its folder"
    )


def test_only_what_is_missing_is_put_back_and_it_tells_nothing(kept: Path) -> None:
    """As programs do that compare the sizes and times of files first."""
    saved = kept.parent.parent / "saved"
    shutil.copytree(kept.parent, saved)
    spend_nothing_sent(kept)
    for each in saved.iterdir():
        if not (kept.parent / each.name).exists():
            shutil.copy2(each, kept.parent)
    assert read_nothing_sent(kept, NO_STOPS) is None


def test_a_second_name_kept_for_the_anchor_tells_nothing(kept: Path) -> None:
    """By a link the very same file could be put back."""
    link = kept.parent / "link"
    link.hardlink_to(anchor_of(kept))
    content = kept.read_bytes()
    spend_nothing_sent(kept)
    link.rename(anchor_of(kept))
    kept.write_bytes(content)
    assert read_nothing_sent(kept, NO_STOPS) is None


def test_what_cannot_be_taken_away_is_an_error(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever would start something that can send an order must not: tests/controller/test_specs.py."""

    def full(_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("openbell.state.files.fsync_folder", full)
    with pytest.raises(StorageError):
        spend_nothing_sent(kept)


def test_an_emergency_stop_since_then_makes_it_unknown(kept: Path) -> None:
    """One of a single venue sets no marker, and may close positions by orders of its own."""
    stops = kept.parent / "emergency"
    stops.mkdir()
    os.utime(stops, ns=(0, 0))
    assert read_nothing_sent(kept, stops) is not None, "a stop of before"
    (stops / "course.jsonl").touch()
    os.utime(stops, ns=(0, anchor_of(kept).stat().st_ctime_ns + 1))
    assert read_nothing_sent(kept, stops) is None
