"""A venue whose limits let nothing be asked for a while answers: what is connected stays so."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from openbell.trading.engine import holding_back, venue_link
from openbell.trading.engine.holding_back import HoldingBack
from openbell.trading.engine.venue_link import VenueLink
from openbell.venues.port import (
    VenueAuthError,
    VenueError,
    VenueRefusedError,
    VenueThrottledError,
    VenueUnavailableError,
)

HELD = re.compile(r"^held back by the venue's limits until \d\d:\d\d:\d\d UTC$")


def throttled(retry_after_s: float) -> Callable[..., Any]:
    async def answer(*_: Any, **__: Any) -> Any:
        raise VenueThrottledError("held back", retry_after_s=retry_after_s)

    return answer


@asynccontextmanager
async def standing_by(desk: Any) -> AsyncIterator[VenueLink]:
    """The link of a standby, running."""
    link = VenueLink(
        desk.venue,
        desk.engine.links["fake"].config,
        desk.engine.ledger,
        desk_id=desk.layout.desk_id,
        permit_ttl_s=1,
        mark=lambda _: None,
        is_busy=lambda _: False,
        on_change=lambda: None,
        in_office=False,
    )
    running = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_what_was_held_back_is_told_with_its_end_and_a_while_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(holding_back.time, "monotonic", lambda: now_s)
    limits = HoldingBack("fake", lambda: None)
    assert limits.why == ""
    limits.questions(VenueThrottledError("too many", retry_after_s=60.0))
    assert re.fullmatch(r"too many \(until \d\d:\d\d:\d\d UTC\)", limits.why)
    now_s += 59
    assert "(until " in limits.why and limits.left_s == 1
    now_s += 1
    assert limits.why == "" and limits.left_s == 0
    limits.orders("X/Y", 2.0)
    now_s += 3
    assert "(last until " in limits.why and limits.orders_wait_s("X/Y") == 0
    now_s += holding_back.HELD_BACK_S
    assert limits.why == ""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            VenueAuthError("fake: -2015 Invalid API-key"),
            (
                r"credentials refused by fake: check OPENBELL_\w+_KEY and \w+_SECRET: .* -2015 "
                r".*; mend them in \.env, and"
            ),
        ),
        (
            VenueRefusedError("fake does not trade X", hint="mend symbols in [venues.fake]"),
            r"refuses to serve the desk: fake does not trade X; mend symbols in \[venues.fake\]",
        ),
        (VenueUnavailableError("fake: HTTP 503"), "cannot be reached: fake: HTTP 503"),
    ],
)
async def test_a_venue_that_is_lost_says_what_is_to_be_done_about_it(
    desk: Any, monkeypatch: pytest.MonkeyPatch, error: VenueError, told: str
) -> None:
    """A key that was revoked is no outage: waiting does not bring it back."""

    async def refused() -> None:
        raise error

    await desk.start()
    monkeypatch.setattr(desk.venue, "connect", refused)
    async with standing_by(desk) as link:
        await desk.until(lambda: re.match(told, link.why_not))
        assert not link.connected
        assert link.refused is isinstance(error, VenueAuthError)


async def test_a_connection_that_is_held_back_says_until_when_and_is_made_then(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.start()
    connect = desk.venue.connect
    monkeypatch.setattr(desk.venue, "connect", throttled(0.5))
    async with standing_by(desk) as link:
        await desk.until(lambda: HELD.match(link.why_not))
        assert not link.connected and 0 < link.limits.left_s <= 0.5
        monkeypatch.setattr(desk.venue, "connect", connect)
        await desk.until(lambda: link.connected)
        assert link.limits.left_s == 0


async def test_a_standby_whose_warm_check_is_held_back_stays_connected_and_promotable(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for lost, and nobody was promoted until the venue's minute was over."""
    await desk.start()
    monkeypatch.setattr(venue_link, "WARM_CHECK_S", 0.02)
    lost = []
    monkeypatch.setattr(VenueLink, "_not_connected", lambda *_: lost.append(1))
    async with standing_by(desk) as link:
        await desk.until(lambda: link.connected)
        monkeypatch.setattr(desk.venue, "server_time_ns", throttled(60.0))
        await desk.until(lambda: link.limits.left_s > 0)
        for _ in range(3):
            link.limits._asks_again_s = 0.0
            await desk.until(lambda: link.limits.left_s > 0)
        assert link.connected and not lost


async def test_an_engine_whose_first_look_is_held_back_is_connected_and_says_until_when(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = desk.venue.server_time_ns, desk.venue.open_orders
    monkeypatch.setattr(desk.venue, "server_time_ns", throttled(0.2))
    monkeypatch.setattr(desk.venue, "open_orders", throttled(0.2))
    engine = await desk.start(until_trading=False)
    link = engine.links["fake"]
    await desk.until(lambda: "held back" in link.why_not)
    assert link.connected and link.skew_ns is None
    assert re.search(r"not compared yet: held back .* until \d\d:\d\d:\d\d", link.why_not)
    assert desk.api.state({})["venues"][0]["held_for_s"] > 0
    monkeypatch.setattr(desk.venue, "server_time_ns", ask[0])
    monkeypatch.setattr(desk.venue, "open_orders", ask[1])
    await desk.until(lambda: not engine.why_not_trading())
    assert link.skew_ns is not None
