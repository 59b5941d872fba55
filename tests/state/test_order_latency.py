"""The longest order latency, as it is kept for whoever stops the desk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from openbell.state.order_latency import LATENCY_MAX_S, OrderLatencies, read_order_latencies


async def _kept(path: Path, venue: str, seconds: float) -> None:
    async with asyncio.timeout(60):
        while read_order_latencies(path).get(venue) != seconds:
            await asyncio.sleep(0.005)


async def test_the_longest_is_kept_and_found_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "order-latency.json"
    first = OrderLatencies(path)
    first.saw("binance", 0.2)
    first.saw("kraken", 0.5)
    first.saw("binance", 0.9)
    await _kept(path, "binance", 0.9)
    await _kept(path, "kraken", 0.5)
    second = OrderLatencies(path)
    second.saw("binance", 0.3)
    second.saw("binance", 0.95)  # not a tenth more
    second.saw("kraken", 0.6)
    await _kept(path, "kraken", 0.6)
    assert read_order_latencies(path)["binance"] == 0.9


async def test_what_cannot_be_so_long_keeps_no_stop_waiting(tmp_path: Path) -> None:
    path = tmp_path / "order-latency.json"
    OrderLatencies(path).saw("binance", 1e6)
    await _kept(path, "binance", LATENCY_MAX_S)


@pytest.mark.parametrize("content", [b"", b"{", b'{"binance": "x"}', b'{"binance": -1}', b"[]"])
def test_a_file_that_says_nothing_tells_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "order-latency.json"
    path.write_bytes(content)
    assert read_order_latencies(path) == {}
