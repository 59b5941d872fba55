"""A feed that is kept running through cuts, and says how it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from openbell.trading.feeds import make_feed
from openbell.trading.feeds.runner import FeedRunner
from openbell.trading.messages import Instruments


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def published() -> list[tuple[str, msgspec.Struct]]:
    return []


@pytest.fixture
async def runner(venue: Any, published: list[tuple[str, msgspec.Struct]]) -> Any:
    declared = venue.declared()
    runner = FeedRunner(
        "sim",
        declared.symbols,
        lambda: make_feed("sim", declared),
        lambda topic, body: published.append((topic, body)),
    )
    running = asyncio.create_task(runner.run())
    yield runner
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_quotes_and_rules_are_published_by_symbol(
    venue: Any, runner: FeedRunner, published: list[tuple[str, msgspec.Struct]]
) -> None:
    await venue.connected.wait()
    await venue.quote("btcusdt", "1", "2")
    await until(lambda: "quote/sim/BTC/USDT" in [topic for topic, _ in published])
    rules = next(body for topic, body in published if topic == "instruments/sim")
    assert isinstance(rules, Instruments)
    assert len(rules.rules) == 2
    assert runner.stale(60) == "sim: last quote of ETH/USDT never"
    assert [status.messages for status in runner.status()] == [1, 0]


async def test_it_connects_again_by_itself_after_a_cut(venue: Any, runner: FeedRunner) -> None:
    await venue.connected.wait()
    await venue.quote("btcusdt", "1", "2")
    await until(runner.quotes)
    await venue.cut()
    await venue.connected.wait()
    await venue.quote("btcusdt", "3", "4")
    await until(lambda: runner.quotes()[0].bid_px == 3)
    assert runner.reconnects >= 1
    assert runner.connected


async def test_a_venue_that_goes_away_is_told_and_found_again(
    venue: Any, runner: FeedRunner
) -> None:
    await venue.connected.wait()
    await venue.stop()
    await until(lambda: "cannot connect" in runner.stale(60))
    assert not any(status.connected for status in runner.status())
    await venue.start()
    await until(lambda: runner.connected)
