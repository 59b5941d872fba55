"""A line of progress says how far it is, and only something worth a line gets one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from openbell.cli.command import Terminal
from openbell.cli.progress import event_line, follow
from openbell.errors import NotRunningError, UnverifiedError


@pytest.mark.parametrize(
    ("count", "target", "line"),
    [
        (2, 5, "      orders: 2 of 5"),
        (4, 0, "      orders: 4 left"),
        (0, 0, "      orders: none left"),
        (None, None, "      orders"),
        (3, None, "      orders"),
    ],
)
def test_counts_read_by_their_direction(count: int | None, target: int | None, line: str) -> None:
    event = {"event": "progress", "message": "orders", "count": count, "target": target}
    assert event_line(event) == line


def test_a_service_on_its_way_gets_no_line() -> None:
    event = {"event": "service", "service": "a", "state": "starting"}
    assert event_line(event) == ""


class Told:
    """A run as its controller tells it; `cut_off` is raised after its second event."""

    def __init__(self, cut_off: Exception | None = None) -> None:
        self.asked: list[str] = []
        self._cut_off = cut_off

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        self.asked.append(path)
        for seq in range(1, 4):
            yield {"event": "progress", "seq": seq, "message": "x", "count": seq, "target": 3}
            if seq == 2 and self._cut_off is not None:
                raise self._cut_off
        yield {"event": "failed", "seq": 4, "outcome": "not_verified"}


@contextlib.contextmanager
def no_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard output is a pipe whose reader has gone, as `head` does. No fixture: what is captured of
    a test takes the place of what its fixtures put there."""
    read, write = os.pipe()
    os.close(read)
    with monkeypatch.context() as patch, contextlib.suppress(BrokenPipeError):
        with os.fdopen(write, "w") as stream:
            patch.setattr("sys.stdout", stream)
            yield


def test_a_run_is_followed_to_its_end_though_nobody_reads_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`openbell down --yes | head` said that the controller had gone away, and to run it again, while the
    closing came to its end."""
    terminal, told = Terminal(None, as_json=False), Told()
    with no_reader(monkeypatch):
        last = follow(terminal, told, "close-2")  # type: ignore[arg-type]
        terminal.show({}, "CLOSING STATEMENT")  # nor does what comes after it end the command early
    assert last["outcome"] == "not_verified"
    assert told.asked == ["runs/close-2/events?after=0"]


def test_a_command_that_follows_no_run_ends_with_its_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = False
    with no_reader(monkeypatch):
        try:
            Terminal(None, as_json=False).say("a line of a log")
        except BrokenPipeError:
            ended = True
    assert ended


def test_a_controller_that_goes_away_is_told_as_such() -> None:
    told = Told(NotRunningError("no controller answers"))
    with pytest.raises(UnverifiedError, match="went away in the middle of close-2"):
        follow(Terminal(None, as_json=False), told, "close-2")  # type: ignore[arg-type]
