"""What is connected to a venue is closed only where its process is seen to be gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openbell.config.loader import parse_desk
from openbell.domain.service_state import ServiceState
from openbell.procedures.closing.connections import links_after, links_now
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
    one, two = links_after(desk, up, lambda _: False, Picture(source="venue"))
    left = "no order of ours"
    assert one == {
        "venue": "one", "market_data": "CLOSED", "order_entry": "CLOSED", "other": "", "left": left,
    }  # fmt: skip
    assert two == {
        "venue": "two", "market_data": "CLOSED", "order_entry": "", "other": "OPEN: recorder",
        "left": left,
    }  # fmt: skip


ORDERS = ({"venue": "one", "cl_ord_id": "a"}, {"venue": "one", "cl_ord_id": "b"})


@pytest.mark.parametrize(
    ("kept", "final", "left"),
    [
        ("", None, ["not known", "not known"]),
        ("", Picture(source="none", unknown=("no route",)), ["not known", "not known"]),
        (
            "",
            Picture(source="venue", orders=ORDERS, unknown=("two: no route",)),
            ["2 orders NOT CANCELLED", "not known"],
        ),
        ("ab", Picture(source="venue", orders=ORDERS), ["2 orders kept", "no order of ours"]),
        (
            "a",
            Picture(source="venue", orders=ORDERS),
            ["1 order kept, 1 order NOT CANCELLED", "no order of ours"],
        ),
    ],
)
def test_how_it_was_left_is_the_venues_word(
    make_view: Any, kept: str, final: Picture | None, left: list[str]
) -> None:
    desk = parse_desk(DESK, Path("desk.toml"))
    rows = links_after(desk, facts(make_view), lambda row: row["cl_ord_id"] in kept, final)
    assert [row["left"] for row in rows] == left


def test_a_process_that_was_stopped_since_is_open_no_more_and_what_was_left_stays_told(
    make_view: Any,
) -> None:
    """The statement showed as open the simulated venue that the last step of its closing had stopped."""
    desk = parse_desk(DESK, Path("desk.toml"))
    up = facts(make_view, recorder=ServiceState.READY)
    before = links_after(desk, up, lambda _: True, Picture(source="venue"))
    assert before[1]["other"] == "OPEN: recorder"
    after = links_now(desk, facts(make_view), before)
    assert [row["other"] for row in after] == ["", "CLOSED"]
    assert [row["left"] for row in after] == ["no order of ours", "no order of ours"]
