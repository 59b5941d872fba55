"""What a desk was asked for, from the file of its target, whatever stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from openbell.domain.desk_state import DeskTarget
from openbell.state.asked import Asked, read_asked

WHOLE = (
    '{"target":"offline","not_opened":'
    '{"run":"open-1","step":"preflight","why":"w","who":"ann","at":"2026-01-31T12:00:00+00:00"},'
    '"not_proven":{"run":"close-1","why":"w","who":"ann","at":"2026-01-31T12:00:00+00:00"}}'
)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"\xff", b"{}", b'{"target":"closed"}',
        b'{"target":"offline","not_opened":{"run":"\xff"}}', b'{"target":"offline","not_opened":1}',
        b'{"target":"offline","not_proven":{"run":"close-1"}}',
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_not_taken_for_closed(tmp_path: Path, content: bytes) -> None:
    target = tmp_path / "target.json"
    target.write_bytes(content)
    assert read_asked(target) == Asked(None)
    assert not read_asked(target).is_closed


def test_no_file_is_a_desk_that_nobody_opened(tmp_path: Path) -> None:
    assert read_asked(tmp_path / "target.json").is_closed


def test_a_whole_file_tells_all_in_one_look(tmp_path: Path) -> None:
    target = tmp_path / "target.json"
    target.write_text(WHOLE)
    told = read_asked(target)
    assert told.target is DeskTarget.OFFLINE and not told.is_closed
    assert told.not_opened is not None and told.not_proven is not None
    assert (told.not_opened.run, told.not_opened.step, told.not_opened.who) == (
        "open-1", "preflight", "ann",
    )  # fmt: skip
    assert told.not_proven.run == "close-1"
