"""What the link of a standby heard just before it took office is booked then."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from openbell.trading.engine import venue_link
from openbell.trading.engine.venue_link import HEARD_LATELY_S, VenueLink


async def test_events_from_just_before_office_are_booked_however_long_the_venue_kept_it_waiting(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await desk.start()
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(
        venue_link, "time", SimpleNamespace(monotonic=lambda: clock.now_s, time_ns=lambda: 0)
    )
    link = VenueLink(
        desk.venue,
        engine.links["fake"].config,
        engine.ledger,
        desk_id=desk.layout.desk_id,
        permit_ttl_s=1,
        mark=lambda _: None,
        is_busy=lambda _: False,
        on_change=lambda: None,
        in_office=False,
    )
    heard: list[object] = []

    async def hear(report: object) -> None:
        heard.append(report)

    monkeypatch.setattr(link.tracker, "hear", hear)
    old, last = SimpleNamespace(), SimpleNamespace()
    link._note_lately(old)  # type: ignore[arg-type]
    clock.now_s += HEARD_LATELY_S * 0.75
    link._note_lately(last)  # type: ignore[arg-type]
    clock.now_s += HEARD_LATELY_S * 0.75
    link.take_office(agreed=False, predecessor_gone=True)
    clock.now_s += 10 * HEARD_LATELY_S  # the venue is asked for the time meanwhile
    await asyncio.wait_for(link._hear_lately(), 60)
    assert heard == [last]
