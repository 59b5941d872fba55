"""The longest time an order took, venue by venue: `state/order-latency.json`.

    {"binance": 0.18, "kraken": 1.2}        seconds from the send to the venue's first word

A stop of a desk reads it: an order that was sent just before the engines froze may land that much
later, so two empty lists have to be so far apart. It is kept over restarts and only ever grows,
which is the safe side; a person who knows better removes the file. A send during which the engine
itself stood still is not in it (`SendClock`).

The engine writes it, seldom (where it grew by a tenth), on a thread, unsynced: lost to a power cut,
it is learnt anew. Whoever cannot read it goes by what it sees itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import msgspec

LATENCY_MAX_S = 30.0
"""What is longer is a mistake of the clock or of the venue, and would keep every stop waiting."""
_GROWN = 1.1
_LEAST_S = 0.02
"""Not worth a write: a stop waits 0.1 s at least."""

_log = logging.getLogger(__name__)


def read_order_latencies(path: Path) -> dict[str, float]:
    """By venue, in seconds, at most LATENCY_MAX_S; empty where there is no file that can be read."""
    try:
        told = msgspec.json.decode(path.read_bytes(), type=dict[str, float])
    except (OSError, msgspec.DecodeError):
        return {}
    return {venue: min(seconds, LATENCY_MAX_S) for venue, seconds in told.items() if seconds > 0}


class OrderLatencies:
    """Of one engine. Use it on one event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._longest = read_order_latencies(path)
        self._writing: asyncio.Future[None] | None = None
        self._changed = False

    def saw(self, venue: str, seconds: float) -> None:
        """An order of this venue was answered so long after it was sent."""
        seconds = min(seconds, LATENCY_MAX_S)
        if seconds < max(_LEAST_S, self._longest.get(venue, 0.0) * _GROWN):
            return
        self._longest[venue] = seconds
        self._changed = True
        if self._writing is None:
            self._write()

    def _write(self) -> None:
        self._changed = False
        content = msgspec.json.encode({v: round(s, 3) for v, s in self._longest.items()})
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(None, _write, self._path, content + b"\n")
        self._writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Future[None]) -> None:
        self._writing = None
        if writing.cancelled():
            return
        if (error := writing.exception()) is not None:
            _log.warning("the longest order latency is not kept: %s", error)
        elif self._changed:
            self._write()


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
