"""The longest order latencies, read for a stop: from a disk that may hang."""

from __future__ import annotations

from pathlib import Path

from openbell.kill.aside import aside
from openbell.state.order_latency import SeenLatencies, seen_latencies


async def read_latencies(path: Path, within_s: float) -> SeenLatencies:
    """Never raises: what is not known is told, and the longest that is believed is taken."""
    try:
        return await aside(lambda: seen_latencies(path), within_s)
    except TimeoutError:
        return SeenLatencies(problem="the disk does not answer")
