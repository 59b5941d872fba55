"""The longest order latency, as it is kept for whoever stops the desk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from openbell.state.order_latency import LATENCY_MAX_S, OrderLatencies, seen_latencies

VENUES = ("binance", "kraken")


async def _kept(path: Path, venue: str, seconds: float) -> None:
    async with asyncio.timeout(60):
        while seen_latencies(path).longest.get(venue) != seconds:
            await asyncio.sleep(0.005)


async def test_the_longest_is_kept_and_found_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "order-latency.json"
    first = OrderLatencies(path, VENUES)
    first.saw("binance", 0.2)
    first.saw("kraken", 0.5)
    first.saw("binance", 0.9)
    await _kept(path, "binance", 0.99)
    await _kept(path, "kraken", 0.55)
    second = OrderLatencies(path, VENUES)
    second.saw("binance", 0.3)
    second.saw("binance", 0.95)  # what is kept reaches
    second.saw("kraken", 0.6)
    await _kept(path, "kraken", 0.66)
    assert seen_latencies(path).of("binance") == 0.99


@pytest.mark.parametrize("step", [1.001, 1.05, 1.099, 1.2])
async def test_no_stop_waits_less_than_the_longest_that_was_seen(
    tmp_path: Path, step: float
) -> None:
    """One less than a tenth above the one before it was not kept: a stop waited up to 10 % less."""
    path = tmp_path / "order-latency.json"
    latencies = OrderLatencies(path, VENUES)
    seen = 0.0213
    for _ in range(30):
        latencies.saw("binance", seen)
        async with asyncio.timeout(60):
            while seen_latencies(path).of("binance") < min(seen, LATENCY_MAX_S):
                await asyncio.sleep(0.001)
        seen *= step


async def test_what_cannot_be_so_long_keeps_no_stop_waiting(tmp_path: Path) -> None:
    path = tmp_path / "order-latency.json"
    OrderLatencies(path, VENUES).saw("binance", 1e6)
    await _kept(path, "binance", LATENCY_MAX_S)


@pytest.mark.parametrize("content", [b"", b"{", b'{"binance": "x"}', b'{"binance": -1}', b"[]"])
async def test_a_file_that_says_nothing_is_told_and_the_longest_is_taken_until_a_person_removes_it(
    tmp_path: Path, content: bytes
) -> None:
    """The first order that was answered mended it with its own time: the stop waited 0.1 s at each venue,
    also where thirty had been seen."""
    path = tmp_path / "order-latency.json"
    path.write_bytes(content)
    seen = seen_latencies(path)
    assert seen.of("binance") == LATENCY_MAX_S
    assert "damaged" in seen.told and "30 s" in seen.told
    latencies = OrderLatencies(path, VENUES)
    latencies.saw("binance", 0.001)
    for venue in VENUES:
        await _kept(path, venue, LATENCY_MAX_S)
    assert seen_latencies(path).told == ""
    again = OrderLatencies(path, VENUES)
    again.saw("kraken", 0.5)
    assert [seen_latencies(path).of(venue) for venue in VENUES] == [LATENCY_MAX_S, LATENCY_MAX_S]


def test_where_there_is_no_file_none_was_seen_and_one_that_cannot_be_read_is_told(
    tmp_path: Path,
) -> None:
    seen = seen_latencies(tmp_path / "order-latency.json")
    assert (seen.of("binance"), seen.told) == (0.0, "")
    unread = seen_latencies(tmp_path)  # a folder
    assert unread.of("binance") == LATENCY_MAX_S
    assert "cannot be read" in unread.told
