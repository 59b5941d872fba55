"""Rows of text files: csv, lines of JSON objects, one JSON document.

`kraken_http_trades.json` and its like are the answer of Kraken's `GET /0/public/Trades`:
`{"result": {PAIR: [[price, volume, time, side, order type, misc, id], ...], "last": ...}}`.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from openbell.errors import ConfigError
from openbell_sim.market.damage import Damage, unheard
from openbell_sim.market.lines import lines, opened

_KRAKEN = ("price", "volume", "time", "side", "ordertype", "misc", "id", "pair")

# Numbers keep their digits: a price of 0.1 is not the float next to it.
_decoder = msgspec.json.Decoder(float_hook=Decimal)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError)


class CsvRows:
    """With a header. Commas, semicolons or tabs between the values."""

    def __init__(self, path: Path) -> None:
        self._path = path
        first = next(_texts(path, Damage(unheard)), "")
        self._delimiter = max(",;\t", key=first.count)
        self.names = next(csv.reader([first.lstrip("\ufeff")], delimiter=self._delimiter), [])

    def rows(self, damage: Damage) -> Iterator[tuple[int, Sequence[object]]]:
        reader = csv.reader(_texts(self._path, damage), delimiter=self._delimiter)
        while True:
            try:
                values = next(reader, None)
            except csv.Error as error:
                damage.left_out(reader.line_num, f"it is no csv ({error})")
                continue
            if values is None:
                return
            if reader.line_num > 1:
                yield reader.line_num, values


def _texts(path: Path, damage: Damage) -> Iterator[str]:
    return (line.decode(errors="replace") for _, line in lines(path, damage))


class JsonLineRows:
    """A JSON object in each line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        first = next(self._objects(Damage(unheard)), None)
        self.names = () if first is None else tuple(first[1])

    def _objects(self, damage: Damage) -> Iterator[tuple[int, Mapping[str, object]]]:
        for number, line in lines(self._path, damage):
            try:
                value = _decoder.decode(line)
            except _UNREADABLE:
                value = None
            if isinstance(value, dict):
                yield number, value
            else:
                damage.left_out(number, "it is no JSON object")

    def rows(self, damage: Damage) -> Iterator[tuple[int, Sequence[object]]]:
        for number, value in self._objects(damage):
            yield number, [value.get(name) for name in self.names]


class JsonRows:
    """One JSON document, held in memory: Kraken's answer, or a list of objects."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError."""
        try:
            with opened(path) as file:
                document = _decoder.decode(file.read())
        except (OSError, EOFError, zlib.error, *_UNREADABLE) as error:
            raise ConfigError(f"{path} cannot be read as JSON: {error}") from error
        result = document.get("result") if isinstance(document, dict) else None
        if isinstance(result, dict):
            self.names: Sequence[str] = _KRAKEN
            self._rows = _of_kraken(result)
            return
        objects = _objects(document)
        self.names = tuple(objects[0]) if objects else ()
        self._rows = [[value.get(name) for name in self.names] for value in objects]

    def rows(self, damage: Damage) -> Iterator[tuple[int, Sequence[object]]]:
        return iter(enumerate(self._rows, 1))


def _of_kraken(result: Mapping[str, object]) -> list[list[object]]:
    """In the order of their times: an answer with several pairs has them one after the other."""
    found = [
        [*trade, *[None] * (7 - len(trade)), pair]
        for pair, trades in result.items()
        if isinstance(trades, list)
        for trade in trades
        if isinstance(trade, list) and len(trade) in (6, 7)
    ]
    return sorted(found, key=lambda row: row[2] if isinstance(row[2], int | Decimal) else 0)


def _objects(document: object) -> list[dict[str, object]]:
    """The list of objects that the document is, or has as its only list."""
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        document = lists[0] if len(lists) == 1 else []
    if not isinstance(document, list):
        return []
    return [value for value in document if isinstance(value, dict)]
