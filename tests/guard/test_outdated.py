"""A guard that goes by an older desk file stops nothing by it, and is replaced; so is one with
credentials that were exchanged."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.controller.guard_keeper import GuardKeeper
from openbell.controller.run_board import LiveRun
from openbell.domain.desk_state import DeskTarget
from openbell.errors import RefusedError
from openbell.guard.stopping import Stopping
from openbell.kill.request import EmergencyRequest

DESK = """
[desk]
name = "d"
[services.one]
command = ["true"]
"""
VENUE = '[venues.a]\nurl = "http://127.0.0.1:1"\nsymbols = ["BTC/USDT"]\n'


@pytest.mark.parametrize(
    ("text", "outdated"),
    [(DESK, False), (DESK + "# a word\n", False), (DESK + "[venues", False), (DESK + VENUE, True)],
)
async def test_a_stop_by_a_desk_file_that_changed_is_refused(
    tmp_path: Any, text: str, outdated: bool
) -> None:
    (tmp_path / "desk.toml").write_text(DESK)
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    stopping = Stopping(layout, load_desk(tmp_path), {}, {})
    (tmp_path / "desk.toml").write_text(text)
    answers = stopping.answers(EmergencyRequest(reason="try", actor="ann").to_wire())
    if outdated:
        with pytest.raises(RefusedError, match="has changed"):
            await anext(answers)
    else:
        assert await anext(answers) == {"event": "taken"}
        await stopping.finish()


async def test_a_guard_is_replaced_at_any_beat_that_shows_older_settings() -> None:
    desk: Any = SimpleNamespace(desk=SimpleNamespace(digest="new"), renewals=0)
    keeper = GuardKeeper(desk)
    asked: list[str] = []

    async def ask(do: str, **_: object) -> dict[str, Any]:
        asked.append(do)
        return {}

    keeper._ask = ask  # type: ignore[method-assign]

    async def beat(digest: str) -> list[str]:
        line = json.dumps({"event": "beat", "digest": digest}).encode()
        assert await keeper._hear(line, 1, said_hello=True)
        return asked

    assert await beat("new") == []
    assert await beat("old") == ["end"]
    assert await beat("old") == ["end"], "once for each file"
    desk.desk.digest = "newer"
    assert await beat("new") == ["end", "end"]
    assert await beat("newer") == ["end", "end"]
    desk.renewals = 1
    assert await beat("newer") == ["end", "end", "end"], "it has the credentials of before"
    assert await beat("newer") == ["end", "end", "end"], "once for each renewal"


async def test_the_controller_says_that_it_closes_for_as_long_as_that_run_goes_on() -> None:
    """One that was broken off in a controller that lives leaves the guard to withdraw what rests."""
    run = LiveRun("close-1", "close", "ann", {}, 0)
    board = SimpleNamespace(newest=run)
    target = SimpleNamespace(asked=DeskTarget.CLOSING)
    desk: Any = SimpleNamespace(
        desk=SimpleNamespace(file=SimpleNamespace(venues={"v": None})),
        renewals=0,
        board=board,
        targets=target,
    )
    keeper = GuardKeeper(desk)
    assert not keeper.holds
    await keeper.hold()
    assert keeper.holds
    run.emit({"event": "failed"})
    assert not keeper.holds
    board.newest = LiveRun("open-2", "open", "ann", {}, 0)
    assert not keeper.holds, "of another run"
    board.newest = LiveRun("close-3", "close", "ann", {}, 0)
    await keeper.resumed()
    assert not keeper.holds
