"""What is connected to a venue is closed only where its process is seen to be gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openbell.config.loader import parse_desk
from openbell.domain.service_state import ServiceState
from openbell.procedures.closing.connections import links_after
from openbell.procedures.closing.picture import Picture
from openbell.procedures.ports import Facts

DESK = b"""
[desk]
name = "two"
[venues.one]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
[venues.two]
url = "http://127.0.0.1:2"
symbols = ["BTC/USDT"]
[services.feed]
command = ["true"]
port = 9001
role = "market-data"
venues = ["one", "two"]
[services.engine]
command = ["true"]
port = 9002
role = "engine"
venues = ["one"]
[services.recorder]
command = ["true"]
venues = ["two"]
"""


def facts(make_view: Any, **states: ServiceState) -> Facts:
    stopped = dict.fromkeys(("feed", "engine", "recorder"), ServiceState.STOPPED)
    return Facts({name: make_view(name, state) for name, state in (stopped | states).items()})


def test_each_venue_says_what_is_still_connected(make_view: Any) -> None:
    desk = parse_desk(DESK, Path("desk.toml"))
    up = facts(make_view, recorder=ServiceState.READY)
    one, two = links_after(desk, up, "cancel", Picture(source="venue"))
    left = "no order of ours"
    assert one == {
        "venue": "one", "market_data": "CLOSED", "order_entry": "CLOSED", "other": "", "left": left,
    }  # fmt: skip
    assert two == {
        "venue": "two", "market_data": "CLOSED", "order_entry": "", "other": "OPEN: recorder",
        "left": left,
    }  # fmt: skip


ORDERS = ({"venue": "one"}, {"venue": "one"})


@pytest.mark.parametrize(
    ("orders", "final", "left"),
    [
        ("cancel", None, ["not known", "not known"]),
        ("cancel", Picture(source="none", unknown=("no route",)), ["not known", "not known"]),
        (
            "cancel",
            Picture(source="venue", orders=ORDERS, unknown=("two: no route",)),
            ["2 orders NOT CANCELLED", "not known"],
        ),
        ("keep", Picture(source="venue", orders=ORDERS), ["2 orders kept", "no order of ours"]),
    ],
)
def test_how_it_was_left_is_the_venues_word(
    make_view: Any, orders: Any, final: Picture | None, left: list[str]
) -> None:
    rows = links_after(parse_desk(DESK, Path("desk.toml")), facts(make_view), orders, final)
    assert [row["left"] for row in rows] == left
