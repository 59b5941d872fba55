"""Why a desk was not opened, from the file of its target, whatever stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from openbell.state.not_opened import read_not_opened


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"not_opened":{"run":"\xff"}}', b'{"not_opened":1}']
)
def test_what_cannot_be_read_tells_nothing(tmp_path: Path, content: bytes) -> None:
    """Its own reader does; here it must not keep a status from being shown."""
    target = tmp_path / "target.json"
    target.write_bytes(content)
    assert read_not_opened(target) is None


def test_no_file_tells_nothing_and_a_whole_one_why(tmp_path: Path) -> None:
    target = tmp_path / "target.json"
    assert read_not_opened(target) is None
    target.write_text(
        '{"asked":"offline","not_opened":'
        '{"run":"open-1","step":"preflight","why":"w","who":"ann","at":"2026-01-31T12:00:00+00:00"}}'
    )
    told = read_not_opened(target)
    assert told is not None
    assert (told.run, told.step, told.who) == ("open-1", "preflight", "ann")
