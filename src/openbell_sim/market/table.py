"""A market file of trades or quotes in rows, whatever holds the rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from openbell.errors import ConfigError
from openbell_sim.instruments import Instrument
from openbell_sim.market.damage import Damage
from openbell_sim.market.events import MarketEvent
from openbell_sim.market.ladder import Ladder
from openbell_sim.market.rows import Columns, Row, TradeRow

_HEAD = 3000
"""Rows read beforehand, to learn the symbols and grids."""


class Rows(Protocol):
    """Raw rows under names."""

    @property
    def names(self) -> Sequence[str]: ...

    def rows(self, damage: Damage) -> Iterator[tuple[int, Sequence[object]]]:
        """`(number from 1, values in the order of names)`"""
        ...


class Table:
    """A market file."""

    def __init__(self, path: Path, rows: Rows) -> None:
        """Raises ConfigError where none of the first rows can be used."""
        self.path = path
        self._rows = rows
        try:
            Columns(rows.names)
        except ValueError as error:
            raise ConfigError(f"{path} is no table of trades or quotes: {error}") from error
        told: list[str] = []
        head = itertools.islice(self._read(Damage(told.append)), _HEAD)
        self._samples: dict[str, list[Row]] = {}
        for _, row in head:
            self._samples.setdefault(row.symbol, []).append(row)
        if not self._samples:
            why = "; ".join(told) or "there are none"
            raise ConfigError(f"{path}: none of its rows can be used: {why}")

    @property
    def symbols(self) -> Sequence[str]:
        return tuple(self._samples)

    def samples(self, symbol: str) -> tuple[Sequence[str], Sequence[str]]:
        prices: list[str] = []
        quantities: list[str] = []
        for row in self._samples[symbol]:
            if isinstance(row, TradeRow):
                prices.append(f"{row.price:f}")
                quantities.append(f"{row.qty:f}")
            else:
                prices += [f"{row.bid:f}", f"{row.ask:f}"]
                quantities += [f"{qty:f}" for qty in (row.bid_qty, row.ask_qty) if qty is not None]
        return prices, quantities

    def check(self, symbol: str, instrument: Instrument) -> None:
        """Prices between two ticks are rounded: any instrument will do."""

    def _read(self, damage: Damage) -> Iterator[tuple[int, Row]]:
        columns = Columns(self._rows.names)
        for number, values in self._rows.rows(damage):
            try:
                row = columns.row(values)
            except ValueError as error:
                damage.left_out(number, str(error))
                continue
            yield number, row

    def passage(
        self, instruments: Mapping[str, Instrument], damage: Damage
    ) -> Iterator[tuple[int, MarketEvent]]:
        ladders: dict[str, Ladder] = {}
        for number, row in self._read(damage):
            instrument = instruments.get(row.symbol)
            if instrument is None:
                if row.symbol not in self._samples:
                    damage.left_out(number, f"its symbol is in none of the first {_HEAD} rows")
                continue
            ladder = ladders.get(row.symbol)
            if ladder is None:
                ladder = ladders[row.symbol] = Ladder(instrument, row)
            for event in ladder.events(row):
                yield row.at_ns, event
