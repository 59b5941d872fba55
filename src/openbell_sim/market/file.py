"""The port of files with a market in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from openbell_sim.instruments import Instrument
from openbell_sim.market.damage import Damage
from openbell_sim.market.events import MarketEvent

UNNAMED = ""
"""The symbol of a file that names none."""


class MarketFile(Protocol):
    """Recorded events of some symbols. Once opened, a file is never a reason to fail: what cannot
    be used of it is left out, and `Damage` told."""

    path: Path

    @property
    def symbols(self) -> Sequence[str]:
        """As the file names them; `UNNAMED` alone where it does not."""
        ...

    def samples(self, symbol: str) -> tuple[Sequence[str], Sequence[str]]:
        """Some of its prices and quantities: what a grid can be inferred from."""
        ...

    def check(self, symbol: str, instrument: Instrument) -> None:
        """Raises ConfigError where the symbol's data cannot be this instrument's market."""
        ...

    def passage(
        self, instruments: Mapping[str, Instrument], damage: Damage
    ) -> Iterator[tuple[int, MarketEvent]]:
        """`(recorded_ns, event)` from the first to the last. `instruments` says what the file's
        symbols are at this venue; others are left out. Times may step back."""
        ...
