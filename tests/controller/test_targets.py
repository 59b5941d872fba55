"""An opening that has something to see first holds trading back, on the disk, until it comes to it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from openbell.config.layout import DeskLayout
from openbell.controller.close_desk import UNRECORDED
from openbell.controller.hosting import Hosted
from openbell.controller.targets import Targets
from openbell.domain.desk_state import DeskCommand, DeskTarget
from openbell.errors import StorageError
from openbell.state.asked import closing_begun, read_asked
from openbell.state.not_opened import NotOpened
from openbell.state.not_proven import NotProven, why_closed

T, C = DeskTarget, DeskCommand


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    made = DeskLayout(desk=tmp_path, state=tmp_path / "state")
    made.make()
    return made


def test_a_desk_that_is_held_back_is_safe_until_it_may_trade(layout: DeskLayout) -> None:
    Targets(layout).command(C.OPEN, hold_back=True)
    again = Targets(layout)
    assert (again.asked, again.now, again.held_back) == (T.TRADING, T.SAFE, True)
    again.let_trade()
    assert (Targets(layout).now, Targets(layout).held_back) == (T.TRADING, False)


def test_opening_a_desk_that_trades_does_not_stop_it(layout: DeskLayout) -> None:
    targets = Targets(layout)
    targets.command(C.OPEN)
    targets.command(C.OPEN, hold_back=True)
    assert targets.now is T.TRADING


@pytest.mark.parametrize("command", [C.OPEN, C.RESUME])
def test_an_opening_without_anything_to_see_and_a_persons_word_let_it_trade(
    layout: DeskLayout, command: DeskCommand
) -> None:
    Targets(layout).command(C.OPEN, hold_back=True)
    Targets(layout).command(command)
    assert Targets(layout).now is T.TRADING


def test_an_opening_that_ended_before_it_came_to_trading_is_held_back(layout: DeskLayout) -> None:
    targets = Targets(layout)
    targets.command(C.OPEN)
    targets.hold_back()
    assert Targets(layout).now is T.SAFE
    targets.command(C.CLOSE)
    targets.command(C.CLOSED)
    assert not Targets(layout).held_back


def test_a_closing_that_is_not_proven_is_kept_until_one_is_or_the_desk_is_opened(
    layout: DeskLayout,
) -> None:
    doubt = NotProven("close-1", "failed: wire", "ann", "2026-01-31T16:00:00+00:00")
    targets = Targets(layout)
    for goes in (C.CLOSE, C.OPEN):
        targets.command(C.OPEN)
        targets.command(C.CLOSE)
        targets.command(C.CLOSED, not_proven=doubt)
        again = Targets(layout)
        assert (again.asked, again.not_proven) == (T.OFFLINE, doubt)
        assert read_asked(layout.target).not_proven == doubt
        targets.tell_not_opened(NotOpened("open-2", "preflight", "no venue", "ann", doubt.at))
        assert read_asked(layout.target).not_proven == doubt, (
            "an opening that began nothing proves nothing"
        )
        assert why_closed(targets.not_opened, targets.not_proven) == (
            "closed, not proven: close-1: failed: wire"
        )
        targets.command(goes)
        assert Targets(layout).not_proven is None
    targets.command(C.CLOSE)
    targets.command(C.CLOSED)
    assert read_asked(layout.target).not_proven is None


def test_what_cannot_be_written_lets_nothing_trade(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = Targets(layout)
    targets.command(C.OPEN, hold_back=True)

    def full(*_: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr("openbell.controller.targets.write_atomically", full)
    with pytest.raises(StorageError):
        targets.let_trade()
    assert targets.now is T.SAFE


@pytest.mark.parametrize(
    ("opened", "safe"), [(DeskCommand.OPEN, False), (DeskCommand.OPEN_SAFE, True)]
)
def test_what_a_closing_found_is_known_while_it_lasts(
    layout: DeskLayout, opened: DeskCommand, safe: bool
) -> None:
    """A restart of a desk that a closing had begun to close opened it for trading, though it had been
    in safe mode."""
    targets = Targets(layout)
    targets.command(opened)
    assert targets.opens_safe is safe
    targets.command(DeskCommand.CLOSE)
    targets.command(DeskCommand.CLOSE)  # gone on with
    assert targets.opens_safe is safe and Targets(layout).opens_safe is safe
    targets.command(DeskCommand.OPEN)  # taken back
    assert not targets.opens_safe


def test_what_a_closing_of_an_older_version_found_is_not_known_and_so_safe(
    layout: DeskLayout,
) -> None:
    layout.target.write_text('{"target":"closing"}')
    assert Targets(layout).opens_safe


def _full(*_: object) -> None:
    raise StorageError("no space left")


def _closes_on_a_full_disk(layout: DeskLayout, monkeypatch: pytest.MonkeyPatch) -> Targets:
    targets = Targets(layout)
    with monkeypatch.context() as patch:
        patch.setattr("openbell.controller.targets.write_atomically", _full)
        with pytest.raises(StorageError):
            targets.command(C.CLOSE)
    assert targets.now is T.CLOSING, "closing waits for no disk"
    return targets


@pytest.mark.parametrize("opened", [C.OPEN, C.OPEN_SAFE])
def test_a_closing_begun_on_a_full_disk_outlives_its_controller(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch, opened: DeskCommand
) -> None:
    Targets(layout).command(opened)
    _closes_on_a_full_disk(layout, monkeypatch)
    next_one = Targets(layout)
    assert (next_one.now, next_one.cut_off_closing) == (T.CLOSING, True)
    assert next_one.opens_safe is (opened is C.OPEN_SAFE), "what it found is still known"
    assert read_asked(layout.target).target is T.CLOSING
    assert next_one.command(C.HALT) is T.CLOSING
    assert next_one.cut_off_closing, "a halt neither goes on with it nor takes it back"
    again = Targets(layout)
    assert (again.now, again.cut_off_closing) == (T.CLOSING, True)
    assert again.opens_safe is (opened is C.OPEN_SAFE)
    next_one.command(C.CLOSE)
    next_one.command(C.CLOSED)
    last = Targets(layout)
    assert (last.now, last.cut_off_closing) == (T.OFFLINE, False)
    assert not closing_begun(layout.target).exists()


def test_a_closing_of_which_the_disk_took_an_empty_file_alone_is_taken_back_by_opening(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    Targets(layout).command(C.OPEN)
    _closes_on_a_full_disk(layout, monkeypatch)
    next_one = Targets(layout)
    with monkeypatch.context() as patch:
        patch.setattr("openbell.controller.targets.write_atomically", _full)
        with pytest.raises(StorageError):
            next_one.command(C.OPEN)
    assert (next_one.now, Targets(layout).now) == (T.CLOSING, T.CLOSING)
    assert next_one.cut_off_closing, "still neither gone on with nor taken back"
    next_one.command(C.OPEN)
    assert (next_one.now, Targets(layout).now) == (T.TRADING, T.TRADING)


def test_where_not_even_an_empty_file_can_be_made_the_target_is_written_over_in_place(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    Targets(layout).command(C.OPEN)
    length = layout.target.stat().st_size
    monkeypatch.setattr("openbell.controller.targets.make_empty", lambda _: False)
    targets = _closes_on_a_full_disk(layout, monkeypatch)
    assert not targets.closing_is_forgotten
    assert layout.target.stat().st_size == length, "it takes no more room"
    next_one = Targets(layout)
    assert (next_one.now, next_one.cut_off_closing) == (T.CLOSING, True), (
        "and that none is recorded"
    )
    next_one.command(C.HALT)
    assert Targets(layout).cut_off_closing
    next_one.command(C.CLOSE)
    assert (Targets(layout).now, Targets(layout).cut_off_closing) == (T.CLOSING, False)


def test_a_halt_in_the_middle_of_a_closing_without_a_record_takes_no_word_of_it_away(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was room again, and the target said `closing`: after its controller was killed nobody was told
    that this closing has no record."""
    Targets(layout).command(C.OPEN)
    targets = _closes_on_a_full_disk(layout, monkeypatch)
    targets.command(C.HALT)
    assert Targets(layout).cut_off_closing
    targets.command(C.CLOSED)
    assert (Targets(layout).now, Targets(layout).cut_off_closing) == (T.OFFLINE, False)


def test_a_target_too_short_to_tell_more_is_written_over_with_the_closing_alone(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.target.write_text('{"target":"trading"}\n')
    monkeypatch.setattr("openbell.controller.targets.make_empty", lambda _: False)
    assert not _closes_on_a_full_disk(layout, monkeypatch).closing_is_forgotten
    assert layout.target.read_text() == '{"target":"closing"}\n'
    assert Targets(layout).now is T.CLOSING


def test_a_closing_that_nothing_on_the_disk_can_tell_of_says_so(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    Targets(layout).command(C.OPEN)
    monkeypatch.setattr("openbell.controller.targets.make_empty", lambda _: False)
    monkeypatch.setattr("openbell.controller.targets.say_closing_in_place", lambda _: False)
    targets = _closes_on_a_full_disk(layout, monkeypatch)
    assert targets.closing_is_forgotten
    targets.command(C.CLOSE)
    assert not targets.closing_is_forgotten, "asked again where there is room"
    assert Targets(layout).now is T.CLOSING


@pytest.fixture
def forgotten(layout: DeskLayout, monkeypatch: pytest.MonkeyPatch) -> Targets:
    """A desk that traded and is being closed, of which its disk tells nothing; there is room again."""
    Targets(layout).command(C.OPEN)
    with monkeypatch.context() as patch:
        patch.setattr("openbell.controller.targets.make_empty", lambda _: False)
        patch.setattr("openbell.controller.targets.say_closing_in_place", lambda _: False)
        targets = _closes_on_a_full_disk(layout, patch)
        targets.keep_closing_again()
        assert targets.closing_is_forgotten, "still no room"
    assert Targets(layout).now is T.TRADING, "so would the next controller see it"
    return targets


def test_a_closing_that_was_forgotten_is_kept_as_soon_as_there_is_room(
    layout: DeskLayout, forgotten: Targets
) -> None:
    """Nothing tried again: room that came while the desk was being closed was of no use."""
    forgotten.keep_closing_again()
    assert not forgotten.closing_is_forgotten
    next_one = Targets(layout)
    assert (next_one.now, next_one.cut_off_closing) == (T.CLOSING, True)


async def test_the_controller_tries_unasked_to_keep_it(
    layout: DeskLayout, forgotten: Targets
) -> None:
    logs = SimpleNamespace(rotate_at=1 << 30, keep=1)
    desk = SimpleNamespace(
        targets=forgotten,
        layout=layout,
        permits=SimpleNamespace(note_lapse=lambda: None),
        desk=SimpleNamespace(file=SimpleNamespace(logs=logs)),
    )
    hosted = Hosted(cast(Any, desk), cast(Any, None), cast(Any, None), ("", ""))
    housekeeping = asyncio.create_task(hosted._keep_house(0.005))
    async with asyncio.timeout(60):
        while forgotten.closing_is_forgotten:
            assert not housekeeping.done()
            await asyncio.sleep(0.005)
    housekeeping.cancel()
    assert Targets(layout).now is T.CLOSING


def test_the_end_of_a_closing_that_was_forgotten_is_no_desk_that_trades(
    layout: DeskLayout, forgotten: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target still said trading, and the closing's end did not fit on the disk either."""
    with monkeypatch.context() as patch:
        patch.setattr("openbell.controller.targets.write_atomically", _full)
        with pytest.raises(StorageError):
            forgotten.command(C.CLOSED)
    assert forgotten.now is T.OFFLINE and not forgotten.closing_is_forgotten
    assert Targets(layout).now is T.CLOSING


def test_what_is_told_of_a_closing_without_a_record_is_true_of_one_that_has_ended(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that had ended on a disk still full all channels were told that its controller was killed."""
    Targets(layout).command(C.OPEN)
    targets = _closes_on_a_full_disk(layout, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr("openbell.controller.targets.write_atomically", _full)
        with pytest.raises(StorageError):
            targets.command(C.CLOSED)
    assert Targets(layout).cut_off_closing
    assert "killed" not in UNRECORDED and "nor of an end" in UNRECORDED


def test_a_target_of_which_a_write_in_place_was_cut_short_lets_nothing_trade(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    Targets(layout).command(C.OPEN)
    write = os.pwrite
    monkeypatch.setattr("openbell.controller.targets.make_empty", lambda _: False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:13], at))
        targets = _closes_on_a_full_disk(layout, patch)
    assert targets.closing_is_forgotten, (
        "what the next controller makes of it is not known to be right"
    )
    assert Targets(layout).now is not T.TRADING and read_asked(layout.target).target is None
    targets.keep_closing_again()
    assert not targets.closing_is_forgotten and Targets(layout).now is T.CLOSING
