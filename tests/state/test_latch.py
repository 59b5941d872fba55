"""The kill switch's files: a file is a latch, a doubt is one for the whole desk, and no release takes
away what was set after it."""

from __future__ import annotations

import errno
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.config.layout import DeskLayout
from openbell.domain.scopes import DESK, Scope, ScopeKind, parse_scope
from openbell.errors import ConflictError, StorageError
from openbell.state import latch as latch_module
from openbell.state.halts import Halt
from openbell.state.latch import Latches

HALT = Halt("daily loss", "eve", datetime(2026, 1, 31, 12, tzinfo=UTC))
SCOPES = ["desk", "venue:binance", "strategy:momentum-2", "symbol:BTC/USDT"]
ORDER = ("binance", "momentum-2", "BTC/USDT")
OTHER = ("kraken", "stat_arb", "ETH/USDT")


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    made = DeskLayout(desk=tmp_path, state=tmp_path / "state")
    made.make()
    return made


@pytest.fixture
def latches(layout: DeskLayout) -> Latches:
    return Latches(layout)


@pytest.mark.parametrize("text", SCOPES)
def test_a_scope_stops_its_orders_and_no_other(latches: Latches, text: str) -> None:
    scope = parse_scope(text)
    setting = latches.set([scope], HALT)
    assert setting.durable and not setting.problems
    assert latches.covering(*ORDER) == scope
    assert latches.covering(*OTHER) == (DESK if text == "desk" else None)
    assert latches.on_desk() == (text == "desk")
    (latch,) = latches.read()
    assert (latch.scope, latch.halt) == (scope, HALT)
    latches.release([latch])
    assert latches.covering(*ORDER) is None
    assert latches.read() == ()


NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,47}", fullmatch=True)
SYMBOLS = st.from_regex(r"[A-Z0-9]{2,12}/[A-Z0-9]{2,12}", fullmatch=True)


@given(
    st.builds(Scope, st.sampled_from([ScopeKind.VENUE, ScopeKind.STRATEGY]), NAMES)
    | st.builds(Scope, st.just(ScopeKind.SYMBOL), SYMBOLS)
    | st.just(DESK)
)
def test_a_file_name_says_its_scope_whatever_it_is(scope: Scope) -> None:
    assert latch_module._scope_of(f"{latch_module._stem(scope)}.0be2a7f1.json") == scope
    assert parse_scope(str(scope)) == scope


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b'{"reason": "x"', b"\xff\xfe"])
@pytest.mark.parametrize("text", SCOPES)
def test_a_torn_or_empty_file_is_a_latch_that_says_so(
    layout: DeskLayout, latches: Latches, text: str, content: bytes
) -> None:
    (latch,) = latches.set([parse_scope(text)], HALT).latches
    latch.path.write_bytes(content)
    (read,) = latches.read()
    assert read.scope == parse_scope(text)
    assert not read.halt.readable
    assert "counted as halted" in read.halt.reason
    assert latches.covering(*ORDER) == parse_scope(text)


@pytest.mark.parametrize(
    "name",
    [
        "x",
        ".DS_Store",
        "venue-",
        "venue-Binance.json",
        "symbol-BTC.json",
        "desk-x",
        "account-a.json",
    ],
)
def test_a_name_that_says_no_scope_latches_the_whole_desk(
    layout: DeskLayout, latches: Latches, name: str
) -> None:
    (layout.latches / name).touch()
    assert latches.covering(*OTHER) == DESK
    (read,) = latches.read()
    assert read.scope == DESK


def test_a_hand_made_file_needs_no_more_than_the_scope_s_name(
    layout: DeskLayout, latches: Latches
) -> None:
    (layout.latches / "venue-binance").touch()
    assert latches.covering(*ORDER) == parse_scope("venue:binance")
    assert latches.covering(*OTHER) is None


def test_the_file_beside_the_folder_latches_the_desk_even_as_a_link_to_nowhere(
    layout: DeskLayout, latches: Latches
) -> None:
    layout.latch.symlink_to(layout.state / "nowhere")
    assert latches.on_desk()
    (latch,) = latches.read()
    latches.release([latch])
    assert not latches.on_desk()


def test_a_folder_that_cannot_be_read_or_is_gone_latches_the_desk(
    layout: DeskLayout, latches: Latches
) -> None:
    layout.latches.rmdir()
    assert latches.on_desk()
    (latch,) = latches.read()
    assert "cannot be listed" in latch.halt.reason
    assert latches.read(opened=False) == ()
    layout.latches.write_text("not a folder")
    assert latches.on_desk()
    assert latches.read(opened=False) != ()
    with pytest.raises(StorageError, match="cannot be listed"):
        latches.release(latches.read())
    assert Latches(DeskLayout(desk=layout.desk, state=layout.state / "unmounted")).on_desk()


def test_a_folder_without_the_right_to_list_it_latches_the_desk(
    latches: Latches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_: object) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(latch_module.os, "listdir", refuses)
    assert latches.covering(*OTHER) == DESK
    assert "Permission denied" in latches.read()[0].halt.reason


def test_a_full_disk_costs_the_reason_and_not_the_latch(small_disk: Any) -> None:
    layout = DeskLayout(desk=small_disk.folder, state=small_disk.folder / "state")
    layout.make()
    small_disk.fill()
    latches = Latches(layout)
    setting = latches.set([parse_scope("venue:binance")], HALT)
    assert latches.covering(*ORDER) == parse_scope("venue:binance")
    assert latches.covering(*OTHER) is None
    assert setting.durable
    assert "No space left" in setting.problems[0]


def test_a_folder_that_takes_no_file_latches_the_whole_desk_instead(
    layout: DeskLayout, latches: Latches
) -> None:
    layout.latches.rmdir()
    layout.latches.write_text("not a folder")
    setting = latches.set([parse_scope("venue:binance")], HALT)
    assert [latch.scope for latch in setting.latches] == [DESK]
    assert "the whole desk is latched instead of venue:binance" in setting.problems[0]
    assert layout.latch.exists()
    again = latches.set([DESK], Halt("second", "bob", HALT.at))
    assert again.latches[0].halt == HALT, "the first reason stays"
    assert again.latches[0].id != setting.latches[0].id


def test_where_nothing_can_be_made_it_is_an_error(
    latches: Latches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(latch_module.os, "open", refuses)
    with pytest.raises(StorageError):
        latches.set([DESK], HALT)


def test_an_fsync_that_fails_leaves_a_latch_of_which_it_is_not_known_that_it_lasts(
    latches: Latches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(latch_module, "fsync", fails)
    setting = latches.set([DESK], HALT)
    assert not setting.durable
    assert latches.on_desk()


def test_engines_see_the_latch_before_anything_is_written_or_synced(
    latches: Latches, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    write = latch_module.write_all

    def looks(fd: int, data: bytes) -> None:
        seen.append(latches.covering(*ORDER) is not None and latches.covering(*OTHER) is not None)
        write(fd, data)

    monkeypatch.setattr(latch_module, "write_all", looks)
    latches.set([parse_scope("venue:binance"), parse_scope("venue:kraken")], HALT)
    assert seen == [True, True]


def test_a_release_takes_away_what_it_was_shown_and_nothing_set_since(latches: Latches) -> None:
    shown = latches.set([DESK], HALT).latches
    second = Halt("again", "bob", HALT.at)
    (later,) = latches.set([DESK], second).latches
    latches.release(shown)
    assert latches.on_desk()
    assert latches.read() == (later,)
    latches.release(shown)  # twice is once
    assert latches.read() == (later,)


def test_a_file_made_again_under_the_same_name_is_not_the_one_that_was_shown(
    layout: DeskLayout, latches: Latches
) -> None:
    layout.latch.touch()
    shown = latches.read()
    layout.latch.unlink()
    layout.latch.write_text("again")
    os.utime(layout.latch, ns=(time.time_ns(), time.time_ns() + 1))
    with pytest.raises(ConflictError, match="latched again"):
        latches.release(shown)
    assert latches.on_desk()


def test_a_setting_that_comes_between_a_releases_look_and_its_removal_stays(
    layout: DeskLayout, latches: Latches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both go by the name `latch.json`: it was looked at, set again, and then removed by its name."""
    setter = without_folder(layout)
    setter.set([DESK], HALT)
    shown = [latch for latch in latches.read() if latch.path == layout.latch]
    rename = os.rename

    def late(*paths: Any) -> None:
        monkeypatch.setattr(latch_module.os, "rename", rename)
        # File times are those of the kernel's last tick: it has to be another than that of the first.
        before = layout.latch.stat().st_mtime_ns
        while layout.latch.stat().st_mtime_ns == before:
            setter.set([DESK], Halt("again", "bob", HALT.at))
        rename(*paths)

    monkeypatch.setattr(latch_module.os, "rename", late)
    with pytest.raises(ConflictError, match="latched again"):
        latches.release(shown)
    assert latches.on_desk()
    latches.release(latches.read())
    assert not latches.on_desk()


def test_a_latch_is_not_released_where_it_could_not_be_looked_at_without_being_none(
    layout: DeskLayout, latches: Latches
) -> None:
    """Out of the folder, moved aside, it would stop nobody for that moment, or for good after a kill."""
    homeless = without_folder(layout)
    homeless.set([DESK], HALT)
    shown = [latch for latch in latches.read() if latch.path == layout.latch]
    with pytest.raises(StorageError, match="takes no file"):
        homeless.release(shown)
    assert latches.on_desk() and [each.path for each in latches.read()] == [layout.latch]
    latches.release(shown)
    assert not latches.on_desk()


def test_a_setting_whose_file_is_released_before_it_is_written_is_made_once_more(
    layout: DeskLayout, latches: Latches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had opened the file of an earlier setting, which a person was releasing."""
    setter = without_folder(layout)
    setter.set([DESK], HALT)
    shown = latches.read()
    fill = latch_module._fill

    def late(*arguments: Any) -> bool:
        monkeypatch.setattr(latch_module, "_fill", fill)
        latches.release(shown)
        assert not latches.on_desk()
        return fill(*arguments)

    monkeypatch.setattr(latch_module, "_fill", late)
    (made,) = setter.set([DESK], Halt("again", "bob", HALT.at)).latches
    assert latches.on_desk()
    assert latches.read() == (made,)
    assert made.halt.reason == "again"


def without_folder(layout: DeskLayout) -> Latches:
    """Of a process whose folder of latches takes no file."""
    found = Latches(layout)
    found._folder = layout.state / "no-folder"
    found._folder.touch()
    return found


def test_an_older_copy_of_its_files_lifts_no_latch_and_brings_back_released_ones(
    latches: Latches, layout: DeskLayout, tmp_path: Path
) -> None:
    """As a backup of the state folder is restored: file by file, over what is there."""
    latches.set((Scope(ScopeKind.VENUE, "kraken"),), HALT)
    copy = shutil.copytree(layout.latches, tmp_path / "copy")
    latches.release(latches.read())
    latches.set((DESK,), HALT)
    shutil.copytree(copy, layout.latches, dirs_exist_ok=True)
    assert latches.scopes() == {DESK, Scope(ScopeKind.VENUE, "kraken")}
    # And where nothing but the copy is left, what it holds is held, and the reason is told.
    shutil.rmtree(layout.latches)
    assert latches.on_desk(), "a folder that is gone is a doubt"
    shutil.copytree(copy, layout.latches)
    (latch,) = latches.read()
    assert (str(latch.scope), latch.halt.reason) == ("venue:kraken", "daily loss")
    assert latch.halt.readable


def test_what_cannot_be_removed_stays_latched_and_is_an_error(
    layout: DeskLayout, latches: Latches
) -> None:
    (layout.latches / "desk.json").mkdir()
    with pytest.raises(StorageError):
        latches.release(latches.read())
    assert latches.on_desk()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Desk",
        "desk:",
        "desk:x",
        "venue",
        "venue:",
        "venue:A",
        "symbol:BTC",
        "order:1",
        "venue:../x",
    ],
)
def test_what_is_no_scope_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no scope"):
        parse_scope(text)
