"""The file of limits made tighter: its version only goes up, and what cannot be read is told."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openbell.errors import StorageError
from openbell.state import risk_limits
from openbell.state.risk_limits import Changes, ChangesOnDisk, LimitsChange, change_limits

NAN = (
    b'{"version": 1, "changes": [{"limits": {"max_total_exposure": "NaN"}, "reason": "",'
    b' "who": "", "at": "2026-01-31T12:00:00Z"}]}'
)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def change(value: str, run: str = "") -> LimitsChange:
    limits = {"max_total_exposure": Decimal(value)}
    return LimitsChange(limits=limits, reason="storm", who="ann", at=NOW, run=run)


def test_versions_go_up_and_never_back(tmp_path: Path) -> None:
    path = tmp_path / "risk-limits.json"
    seen = ChangesOnDisk(path)
    assert seen.now() == Changes()
    assert change_limits(path, lambda _: (change("5"),)).version == 1
    assert (seen.now().version, seen.now().of("")) == (1, change("5"))
    assert change_limits(path, lambda was: was.changes).version == 1, "the same is not written"
    change_limits(path, lambda was: (*was.changes, change("4", "close-1")))
    assert seen.now().of("close-1") == change("4", "close-1")
    change_limits(path, lambda _: ())
    assert seen.now() == Changes(version=3), "nothing is changed any more, and it stays version 3"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"version": 1}',
        NAN,
    ],
)
def test_what_cannot_be_read_is_a_problem_and_no_absence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "risk-limits.json"
    seen = ChangesOnDisk(path)
    change_limits(path, lambda _: (change("5"),))
    assert not seen.now().problem
    path.write_bytes(content)
    assert seen.now().problem
    change_limits(path, lambda _: (change("3"),))
    assert not seen.now().problem, "a new change mends it"


def test_a_full_disk_leaves_what_was_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "risk-limits.json"
    change_limits(path, lambda _: (change("5"),))

    def full(*_: Any) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(risk_limits, "write_atomically", full)
    with pytest.raises(StorageError):
        change_limits(path, lambda _: ())
    assert ChangesOnDisk(path).now().of("") == change("5")
