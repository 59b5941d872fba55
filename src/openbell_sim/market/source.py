"""The port of market sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from openbell_sim.instruments import Instrument
from openbell_sim.market.events import MarketEvent


class MarketSource(Protocol):
    """Something that knows what the crowd does in some symbols.

    A source knows no clock: it says how long after its beginning each event happens, and the
    driver plays it when that time has come. Its instruments are known before its events are read.
    """

    @property
    def name(self) -> str:
        """For people: a file name, `generator`, ..."""
        ...

    @property
    def instruments(self) -> Sequence[Instrument]: ...

    def events(self) -> Iterator[tuple[int, MarketEvent]]:
        """`(offset_ns, event)` with offsets that never fall. May go on for ever. Reading one must
        be quick: it happens on the venue's event loop."""
        ...
