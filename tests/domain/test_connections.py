"""Connections: what services say, put together."""

from __future__ import annotations

import pytest

from openbell.domain.connections import (
    LinkState,
    Said,
    connections,
    engine_said,
    feeds_said,
)

FEEDS = [
    {"venue": "a", "symbol": "X/Y", "connected": True},
    {"venue": "a", "symbol": "Z/Y", "connected": True},
    {"venue": "b", "symbol": "X/Y", "connected": True},
    {"venue": "b", "symbol": "Z/Y", "connected": False, "why": "cut"},
]
ENGINE = [
    {"name": "a", "connected": True, "streaming": True},
    {"name": "b", "connected": True, "streaming": False, "why_not": "no events"},
]


def test_a_venue_is_as_good_as_its_worst_part() -> None:
    a, b = connections(["a", "b"], feeds_said(FEEDS), *engine_said(ENGINE))
    assert (a.market_data, a.order_entry, a.order_events, a.why) == (*["connected"] * 3, "")
    assert a.is_sound
    assert (b.market_data, b.order_entry, b.order_events) == ("down", "connected", "down")
    assert b.why == "cut; no events"
    assert not b.is_sound


def test_a_venue_that_a_service_does_not_name_is_down() -> None:
    (row,) = connections(["c"], feeds_said(FEEDS), *engine_said(ENGINE))
    assert {row.market_data, row.order_entry, row.order_events} == {LinkState.DOWN}


def test_order_events_that_stay_down_have_a_reason_of_their_own() -> None:
    """The venue was connected and compared, so its own reason was empty, and "-" was shown."""
    rows = [
        {
            "name": "a",
            "connected": True,
            "streaming": False,
            "why_not": "",
            "stream_why": "cut off",
        },
        {"name": "b", "connected": True, "streaming": False, "why_not": ""},
    ]
    a, b = connections(["a", "b"], Said(state=LinkState.NONE), *engine_said(rows))
    assert (a.why, b.why) == ("cut off", "no order event stream")


@pytest.mark.parametrize(
    ("state", "sound"),
    [("closed", True), ("none", True), ("unknown", False), ("down", False), ("connected", True)],
)
def test_closed_is_no_fault_and_unknown_is_no_success(state: str, sound: bool) -> None:
    said = Said(state=LinkState(state))
    (row,) = connections(["a"], said, said, said)
    assert row.is_sound is sound
