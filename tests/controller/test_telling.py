"""Who is not known to be told is named in the log, and keeps nobody else from being told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openbell.config.channels import Channel
from openbell.controller.telling import tell_people
from openbell.watch.channels import Channels


async def test_where_the_pager_is_down_the_others_are_told_and_the_log_says_who_was_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = {
        "pager": ("sh", "-c", "exit 1"),
        "hangs": ("sh", "-c", "sleep 600"),
        "gone": ("/nowhere/to/be/found",),
        "chat": ("sh", "-c", "cat > told"),
    }
    made = {
        name: Channel.model_validate(
            {"command": command, "timeout": "60s" if name == "chat" else "2s"}
        )
        for name, command in commands.items()
    }
    desk: Any = SimpleNamespace(channels=Channels(made, tmp_path, tmp_path / "state", {}))
    told = await tell_people(desk, "not_closed", "desk: NOT CLOSED", "close-3")
    outcomes = {each.channel: each.outcome for each in told}
    assert outcomes.pop("chat") == "told"
    assert (tmp_path / "told").read_text() == "desk: NOT CLOSED\n"
    assert outcomes["hangs"] == "unknown" and set(outcomes) == {"pager", "hangs", "gone"}
    assert "told" not in outcomes.values()
    lines = capsys.readouterr().out.splitlines()
    named = {name for name in commands for line in lines if "not known" in line and name in line}
    assert named == set(outcomes)
