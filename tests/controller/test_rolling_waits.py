"""For what of its engines' venues a rolling restart waits longer than its gate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from openbell.controller.rolling import WatchedDesk
from openbell.service_client import Answer

NOTHING = {"held_for_s": 0.0, "doubt_ends_in_s": 0.0}


@pytest.mark.parametrize(
    ("engine", "standby", "waits_s"),
    [
        ([NOTHING], [NOTHING], 0.0),
        ([NOTHING, {"held_for_s": 7.0, "doubt_ends_in_s": 0.0}], [NOTHING], 7.0),
        ([{"held_for_s": 7.0, "doubt_ends_in_s": 44.5}], [NOTHING], 44.5),
        ([NOTHING], [{"held_for_s": 3.0}], 3.0),  # one of before says nothing of doubt
        (None, [NOTHING], 0.0),
    ],
)
async def test_it_waits_for_limits_and_for_orders_in_doubt_of_either_engine(
    engine: list[dict[str, float]] | None, standby: list[dict[str, float]], waits_s: float
) -> None:
    """An order without an answer as the engine was stopped ended the restart after 30 s of the 45."""
    rows = {"engine": engine, "standby": standby}

    async def get(service: str, path: str) -> Answer:
        assert path == "/v1/state"
        said = rows[service]
        return (
            Answer(None, why="it does not answer")
            if said is None
            else Answer({"venues": said}, 200)
        )

    desk: Any = SimpleNamespace(
        roles=SimpleNamespace(engine="engine", standby="standby"),
        targets=SimpleNamespace(latches=SimpleNamespace(read=tuple), halt=None),
        client=SimpleNamespace(get=get),
    )
    observer: Any = None
    assert await WatchedDesk(desk, observer).held_back_s() == waits_s
