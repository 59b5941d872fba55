"""market-data as a process, against the simulated venue."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbell.domain.market import Quote
from openbell.service.context import ServiceContext
from openbell.services.market_data import open_feed
from openbell.trading.bus import Subscriber
from openbell.trading.feeds import FeedError
from openbell.trading.messages import (
    INSTRUMENTS_TOPIC,
    MARKET_SOCKET,
    QUOTE_TOPIC,
    Instruments,
)

SECRET = "FX_TOKEN"
DESK = """
[desk]
name = "fx"

[venues.fx]
adapter = "oanda"
environment = "practice"
secret_env = "FX_TOKEN"
url = "http://127.0.0.1:1"
symbols = ["EUR/USD"]

[services.market-data]
command = ["{python}", "-m", "openbell.services.market_data"]
venues = ["fx"]
"""


async def test_it_publishes_what_the_venue_quotes_and_says_how_fresh_it_is(
    desk: Any, await_that: Callable[..., Any]
) -> None:
    desk.start_venue()
    desk.start("market-data")
    market = Subscriber(
        desk.layout.run / MARKET_SOCKET, {QUOTE_TOPIC: Quote, INSTRUMENTS_TOPIC: Instruments}
    )
    seen: set[str] = set()
    wanted = {"BTC/USDT", "ETH/USDT", "LTC/USDT"}
    while not (wanted <= seen and "rules" in seen):
        body = (await market.receive()).body
        if isinstance(body, Instruments):
            assert {rules.symbol for rules in body.rules} == wanted
            seen.add("rules")
        else:
            assert body.is_sound
            seen.add(body.symbol)
    market.close()
    _, feeds = desk.ask("market-data", "/v1/feeds")
    assert wanted <= {feed["symbol"] for feed in feeds["feeds"]}
    assert all(feed["connected"] for feed in feeds["feeds"])
    _, snapshot = desk.ask("market-data", "/v1/snapshot")
    assert wanted <= {quote["symbol"] for quote in snapshot["quotes"]}
    status, health = desk.ask("market-data", "/health")
    assert (status, health["status"]) == (200, "ok")
    assert desk.end("market-data") == 0


async def test_with_the_venue_down_it_is_ready_and_says_degraded_and_recovers_by_itself(
    desk: Any, await_that: Callable[..., Any]
) -> None:
    desk.start("market-data")
    await desk.ready("market-data")
    status, health = desk.ask("market-data", "/health")
    assert (status, health["status"]) == (200, "degraded")
    assert "binance is not connected" in health["checks"]["feeds"]["detail"]
    desk.start_venue()
    await await_that(
        lambda: desk.ask("market-data", "/health")[1]["status"] == "ok", "the feed connected"
    )
    desk.end("venue-sim", signal.SIGKILL)
    await await_that(
        lambda: desk.ask("market-data", "/health")[1]["status"] == "degraded", "the loss was seen"
    )


@pytest.mark.parametrize(
    ("given", "why"), [({SECRET: "token"}, "cannot connect"), ({}, "given no credentials of fx")]
)
async def test_a_feed_is_handed_the_credentials_that_the_service_was_given(
    tmp_path: Path, given: dict[str, str], why: str
) -> None:
    (tmp_path / "desk.toml").write_text(DESK)
    context = ServiceContext.from_environment({"OPENBELL_DESK": str(tmp_path), **given})
    with pytest.raises(FeedError, match=why):
        await open_feed(context, "fx").connect()
