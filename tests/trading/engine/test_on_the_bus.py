"""An engine stays to be found on the bus for as long as the office is its own."""

from __future__ import annotations

from typing import Any

import pytest

from openbell.trading import bus_watch
from openbell.trading.messages import EVENTS_SOCKET, INTENTS_SOCKET, REPLAY_SOCKET


async def test_an_engine_whose_sockets_were_cleaned_away_is_found_again(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_watch, "LOOK_S", 0.005)
    engine = await desk.start(until_trading=False)
    paths = [desk.layout.run / name for name in (EVENTS_SOCKET, REPLAY_SOCKET, INTENTS_SOCKET)]
    for path in paths:
        path.unlink()
    await desk.until(lambda: all(path.exists() for path in paths))
    assert len(engine._on_bus()) == len(paths)
    for given_away in ("expects_successor", "retired"):
        with monkeypatch.context() as patch:
            patch.setattr(engine.ledger, given_away, True)
            assert engine._on_bus() == [], "the name is its successor's"
    engine.ledger.fenced.set()
    assert engine._on_bus() == []
