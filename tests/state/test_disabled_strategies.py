"""Disabled strategies: in doubt, disabled."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.errors import StorageError
from openbell.state.disabled_strategies import DisabledStrategies, _file
from openbell.state.halts import Halt

HALT = Halt("odd fills", "ann", datetime(2026, 1, 31, 12, tzinfo=UTC))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "disabled-strategies"
    made.mkdir()
    return made


def test_one_lasts_until_it_is_enabled_and_is_no_other_s(folder: Path) -> None:
    disabled = DisabledStrategies(folder)
    assert disabled.why("momentum") == ""
    disabled.disable("momentum", HALT)
    seen = DisabledStrategies(folder)
    assert seen.read("momentum") == HALT
    assert seen.why("momentum") == (
        "momentum is disabled by ann since 2026-01-31 12:00:00 UTC: odd fills"
    )
    assert not seen.is_disabled("momentum2")
    assert not seen.is_disabled(""), "the desk's own orders are no strategy's"
    (row,) = seen.rows(["carry", "momentum"])
    assert (row["strategy"], row["by"], row["reason"]) == ("momentum", "ann", "odd fills")
    seen.enable("momentum")
    seen.enable("momentum")
    assert disabled.read("momentum") is None and disabled.rows(["momentum"]) == []


@given(st.binary(max_size=200))
def test_whatever_the_file_says_its_existence_disables(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "momentum.json").write_bytes(content)
        disabled = DisabledStrategies(Path(made))
        assert disabled.is_disabled("momentum")
        assert disabled.why("momentum").startswith("momentum is disabled by ")


def test_what_is_no_file_disables_too(folder: Path) -> None:
    (folder / "a.json").mkdir()
    (folder / "b.json").symlink_to(folder / "nowhere")
    disabled = DisabledStrategies(folder)
    assert "counted as halted" in disabled.why("a")
    assert disabled.is_disabled("b")
    with pytest.raises(StorageError):
        disabled.enable("a")
    assert disabled.is_disabled("a")


def test_a_folder_that_went_away_disables_all_until_it_is_back(folder: Path) -> None:
    folder.rmdir()
    disabled = DisabledStrategies(folder)
    assert "counted as disabled" in disabled.why("momentum")
    assert [row["strategy"] for row in disabled.rows(["momentum"])] == ["momentum"]
    assert disabled.rows(["momentum"], opened=False) == [], "of a desk that never was opened"
    with pytest.raises(StorageError, match="still counts as disabled"):
        disabled.enable("momentum")
    folder.write_bytes(b"")
    assert disabled.is_disabled("momentum")


def test_a_full_disk_prevents_none(small_disk: Any) -> None:
    disabled = DisabledStrategies(small_disk.folder)
    small_disk.fill()
    disabled.disable("momentum", HALT)
    assert disabled.is_disabled("momentum")


@given(st.text())
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    """It comes over the bus: a strategy's host may be anybody's program."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        assert _file(folder, name).parent == folder
        DisabledStrategies(folder).why(name)


@given(st.from_regex(r"[a-z][a-z0-9_-]{0,47}", fullmatch=True))
def test_a_desk_file_s_name_is_its_file_s(name: str) -> None:
    assert _file(Path("x"), name) == Path("x") / f"{name}.json"
