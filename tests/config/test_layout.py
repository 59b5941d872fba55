"""The folder of the sockets is the desk's user's, or it is not used."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from openbell.config.layout import DeskLayout
from openbell.errors import RefusedError


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    made = DeskLayout(desk=tmp_path, state=tmp_path / "state")
    made.make()
    return made


def test_a_folder_of_sockets_that_is_anothers_is_refused_in_clear_words(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a temporary folder that was cleaned anybody may make it anew, and listen in it."""
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    with pytest.raises(RefusedError, match="belongs to another user") as refused:
        layout.make_run()
    assert isinstance(refused.value, OSError), "tried again by whoever keeps a socket there"
    assert "OPENBELL_STATE" in refused.value.hint


def test_a_link_that_another_made_is_refused_wherever_it_leads(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = layout.state / "kept"
    layout.run.rename(kept)
    layout.run.symlink_to(kept)
    layout.make_run()
    of_link = os.lstat(layout.run).st_ino
    found = Path.lstat

    def anothers(path: Path) -> os.stat_result:
        told = found(path)
        fields = list(told)
        fields[4] += told.st_ino == of_link
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "lstat", anothers)
    with pytest.raises(RefusedError):
        layout.make_run()


def test_a_folder_of_sockets_that_was_opened_to_others_is_closed_again(layout: DeskLayout) -> None:
    layout.run.chmod(0o777)
    layout.make_run()
    assert stat.S_IMODE(layout.run.stat().st_mode) == 0o700
