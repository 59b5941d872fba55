"""The longest time an order took, venue by venue: `state/order-latency.json`.

    {"binance": 0.198, "kraken": 1.32}      seconds from the send to the venue's first word, and a tenth

A stop of a desk reads it: an order that was sent just before the engines froze may land that much
later, so two empty lists have to be so far apart. It is kept over restarts and only ever grows,
which is the safe side; a person who knows better removes the file. A send during which the engine
itself stood still is not in it (`SendClock`).

The engine writes it, seldom: each that is longer is written a tenth longer than it was seen, so that the
next ones, up to there, need no write, and no wait is shorter than what was seen. On a thread, unsynced:
lost to a power cut, it is learnt anew. Where there is no file nothing longer was seen; of one that cannot
be read nobody knows what it said, so a stop takes the longest that is believed, and says so. The engine then
writes that down for each of its venues: what one order takes says nothing of the longest that was there.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

LATENCY_MAX_S = 30.0
"""What is longer is a mistake of the clock or of the venue, and would keep every stop waiting."""
LANDS_WITHIN_S = LATENCY_MAX_S
"""An order that was given up without an answer may land for so long after the last moment at which it
can have left, where its venue does not refuse late ones. The longest latency that is believed: a request
without an answer has outlived every usual one, so the longest that was seen says nothing of it. Ours, as
no venue states a bound; the engine, the closing and the emergency stop all wait by it."""
_AHEAD = 1.1
_LEAST_S = 0.02
"""Not worth a write: a stop waits 0.1 s at least."""

_MEND = f"every stop waits {LATENCY_MAX_S:g} s; remove the file, and they are learnt anew"

_log = logging.getLogger(__name__)


def lands_by_ns(sent_ns: int, quiet_ns: int, window_s: float) -> int:
    """Until when an order without an answer may land, by the clock of both times. `sent_ns`: when it was
    handed over, from when its first byte left within `window_s`, the venue's time-out, or never does;
    `quiet_ns`: since when nothing can send any more."""
    left_ns = min(sent_ns + int(window_s * 1e9), quiet_ns)
    return left_ns + int(LANDS_WITHIN_S * 1e9)


@dataclass(frozen=True, slots=True)
class SeenLatencies:
    """What the file says."""

    longest: Mapping[str, float] = field(default_factory=dict)
    """By venue, in seconds, at most LATENCY_MAX_S."""
    problem: str = ""
    """Why it is not known what it says."""

    def of(self, venue: str) -> float:
        """0: none was seen."""
        return LATENCY_MAX_S if self.problem else self.longest.get(venue, 0.0)

    @property
    def told(self) -> str:
        """The problem, with what a stop makes of it; empty where there is none."""
        if not self.problem:
            return ""
        return (
            f"the longest order latencies are not known ({self.problem}): two empty lists are "
            f"{LATENCY_MAX_S:g} s apart"
        )


def seen_latencies(path: Path) -> SeenLatencies:
    """Never raises."""
    try:
        told = msgspec.json.decode(path.read_bytes(), type=dict[str, float])
    except FileNotFoundError:
        return SeenLatencies()
    except OSError as error:
        return SeenLatencies(problem=f"{path.name} cannot be read: {error.strerror}")
    except msgspec.DecodeError:
        return SeenLatencies(problem=f"{path.name} is damaged")
    if any(seconds < 0 for seconds in told.values()):
        return SeenLatencies(problem=f"{path.name} is damaged")
    return SeenLatencies({venue: min(each, LATENCY_MAX_S) for venue, each in told.items()})


class OrderLatencies:
    """Of one engine. Use it on one event loop."""

    def __init__(self, path: Path, venues: Iterable[str]) -> None:
        """`venues`: all that it may send to."""
        self._path = path
        seen = seen_latencies(path)
        self._longest = dict(seen.longest)
        self._writing: asyncio.Future[None] | None = None
        self._changed = False
        if seen.problem:
            self._longest = dict.fromkeys(venues, LATENCY_MAX_S)
            _log.warning("the longest order latencies are not known (%s): %s", seen.problem, _MEND)
            self._write()

    def saw(self, venue: str, seconds: float) -> None:
        """An order of this venue was answered so long after it was sent."""
        seconds = min(seconds, LATENCY_MAX_S)
        if seconds <= max(_LEAST_S, self._longest.get(venue, 0.0)):
            return
        # Up to the next millisecond, as it is written: never below what was seen.
        self._longest[venue] = min(
            math.ceil(round(seconds * _AHEAD * 1000, 6)) / 1000, LATENCY_MAX_S
        )
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
