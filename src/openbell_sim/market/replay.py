"""Files played one after the other, again and again: time goes on where a file ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openbell_sim.instruments import Instrument
from openbell_sim.market.damage import Damage, unheard
from openbell_sim.market.events import MarketEvent
from openbell_sim.market.file import MarketFile

_PAUSE_NS = 100_000_000
"""Between the last event of a file and the first of the next."""

Warn = Callable[[Path, str], None]
"""Hears of what of a file cannot be used."""


@dataclass(frozen=True)
class Part:
    file: MarketFile
    instruments: Mapping[str, Instrument]
    """What the file's symbols are at this venue; others are left out."""


class Replay:
    """A market source. Its parts have the same symbols."""

    def __init__(self, parts: Sequence[Part], warn: Warn) -> None:
        self._parts = parts
        self._warn = warn
        self.instruments = tuple(parts[0].instruments.values())

    @property
    def name(self) -> str:
        return "+".join(part.file.path.name for part in self._parts)

    def events(self) -> Iterator[tuple[int, MarketEvent]]:
        offset_ns, first_pass = 0, True
        while True:
            began_ns = offset_ns
            for part in self._parts:
                damage = Damage(self._tell(part) if first_pass else unheard)
                start_ns = latest_ns = None
                for at_ns, event in part.file.passage(part.instruments, damage):
                    if start_ns is None:
                        start_ns = at_ns
                    # Receive times of several sockets may step back a little.
                    latest_ns = max(latest_ns or at_ns, at_ns)
                    yield offset_ns + latest_ns - start_ns, event
                damage.close()
                if start_ns is not None and latest_ns is not None:
                    offset_ns += latest_ns - start_ns + _PAUSE_NS
            if offset_ns == began_ns:
                return  # nothing is left in the files
            first_pass = False

    def _tell(self, part: Part) -> Callable[[str], None]:
        return lambda text: self._warn(part.file.path, text)
