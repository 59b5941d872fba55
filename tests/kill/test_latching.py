"""An emergency stop latches first, whatever else cannot be made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openbell.config.layout import DeskLayout
from openbell.kill.latching import latch_now
from openbell.kill.request import EmergencyRequest
from openbell.state.latch import Latches


def test_a_folder_of_sockets_that_is_anothers_keeps_no_latch_from_being_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made that folder in a cleaned temporary folder would have kept the stop from latching."""
    layout = DeskLayout(desk=tmp_path, state=tmp_path / "state")
    layout.make()
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    with pytest.raises(PermissionError):
        layout.make_run()
    assert latch_now(layout, EmergencyRequest())
    assert Latches(layout).on_desk()
