"""What the venues said last counts only while nothing has run that could change it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openbell.config.layout import DeskLayout
from openbell.state.last_word import (
    LastWord,
    a_sender_starts,
    begin_last_word,
    keep_last_word,
    read_last_word,
)
from openbell.state.nothing_sent import Anchor, anchor_of, keep_nothing_sent, read_nothing_sent


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    return layout


def word(anchor: Anchor, run: str = "close-1") -> LastWord:
    return LastWord(run, "2026-01-31T16:00:00+00:00", ("sim",), {"source": "venue"}, anchor)


def kept(layout: DeskLayout) -> LastWord | None:
    return read_last_word(layout.last_word, layout.emergency)


def test_it_is_read_as_it_was_kept_until_a_sender_starts(layout: DeskLayout) -> None:
    keep_nothing_sent(layout.nothing_sent, "close-1", "then")
    said = word(begin_last_word(layout.last_word))
    keep_last_word(layout.last_word, said)
    assert kept(layout) == said
    a_sender_starts(layout)
    assert kept(layout) is None
    assert read_nothing_sent(layout.nothing_sent, layout.emergency) is None
    a_sender_starts(layout)  # again, before every further start


def test_a_sender_that_starts_while_the_venues_are_asked_spends_it(layout: DeskLayout) -> None:
    anchor = begin_last_word(layout.last_word)
    a_sender_starts(layout)
    keep_last_word(layout.last_word, word(anchor))
    assert kept(layout) is None


def test_a_word_of_an_earlier_asking_is_not_that_of_a_later_one(layout: DeskLayout) -> None:
    """Asked, an engine started and stopped, and killed while the venues were asked again."""
    keep_last_word(layout.last_word, word(begin_last_word(layout.last_word)))
    content = layout.last_word.read_bytes()
    a_sender_starts(layout)
    begin_last_word(layout.last_word)
    layout.last_word.write_bytes(content)
    assert kept(layout) is None


def test_an_emergency_stop_since_then_makes_it_unknown(layout: DeskLayout) -> None:
    layout.emergency.mkdir(exist_ok=True)
    keep_last_word(layout.last_word, word(begin_last_word(layout.last_word)))
    assert kept(layout) is not None
    changed_ns = anchor_of(layout.last_word).stat().st_ctime_ns
    os.utime(layout.emergency, ns=(0, changed_ns + 1))
    assert kept(layout) is None


def test_a_file_that_cannot_be_read_says_nothing(layout: DeskLayout) -> None:
    assert kept(layout) is None
    begin_last_word(layout.last_word)
    layout.last_word.write_bytes(b"{")
    assert kept(layout) is None
