"""The last beat of an engine: that it ends on purpose it says only where somebody wanted it."""

from __future__ import annotations

from typing import Any

import pytest

from openbell.kill.beats import ACTIVE, STOPPED, Beat, BeatReceiver


@pytest.mark.parametrize("on_purpose", [True, False])
async def test_an_engine_says_that_it_left_only_where_it_was_asked_to(
    desk: Any, on_purpose: bool
) -> None:
    """One whose server had died said so too: nothing was armed for its orders any more."""
    beats: list[Beat] = []
    receiver = BeatReceiver(desk.layout.beats_socket, lambda beat, _: beats.append(beat))
    receiver.open()
    try:
        engine = await desk.start()
        await desk.until(lambda: beats)
        assert {beat.stage for beat in beats} == {ACTIVE}
        await engine.stop(on_purpose=on_purpose)
        if on_purpose:
            await desk.until(lambda: beats[-1].stage == STOPPED)
        assert engine._guard_beat() is None, "and it beats no more"
        receiver._read()
        assert (STOPPED in {beat.stage for beat in beats}) is on_purpose
        await desk.stop(engine)
    finally:
        receiver.close()
