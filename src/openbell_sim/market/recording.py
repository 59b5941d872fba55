"""Recorded Binance WebSocket data, played again and again.

A recording is a gzip file of lines `<receive time, ns> <json>`, spot or USD-M futures: combined
stream messages of bookTicker, depth and trade, and a REST depth snapshot. It is played from its
snapshot on, at the pace of its receive times; after its end it begins anew, and time goes on.

The recording's own update ids, trade ids and time stamps are not shown to anybody: the venue's
streams come from the venue's books, in which own orders stand too.
"""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import orjson

from openbell.errors import ConfigError
from openbell_sim.instruments import KNOWN, Instrument, inferred
from openbell_sim.market.events import BestSet, Levels, LevelsSet, MarketEvent, Snapshot, Traded

_HEAD = 3000
"""Lines read beforehand, to learn symbols and grids and to find the snapshot."""
_PAUSE_NS = 100_000_000
"""Between the last line of one pass and the first of the next."""

_Message = dict[str, object]


class Recording:
    """A market source."""

    def __init__(self, path: Path, warn: Callable[[str], None] = lambda _: None) -> None:
        """Raises ConfigError for a file that is no recording. `warn` hears of damage that is met
        later, when the file is played."""
        self.path = path
        self._warn = warn
        head = list(itertools.islice(_lines(path, self._refuse), _HEAD))
        messages = [message for _, message in head]
        symbols = dict.fromkeys(symbol for m in messages if (symbol := _symbol(m)) is not None)
        if not symbols:
            raise ConfigError(
                f"{path} is not a recording: none of its first lines is a Binance message",
                hint="lines look like: 1723161254024619568 "
                '{"stream":"ethusdt@bookTicker","data":{...}}',
            )
        try:
            self.instruments = tuple(_instrument(symbol, messages) for symbol in symbols)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error
        self._has_snapshot = any("lastUpdateId" in message for message in messages)

    @property
    def name(self) -> str:
        return self.path.name

    def _refuse(self, text: str) -> None:
        raise ConfigError(f"{self.path} cannot be read as a recording: {text}")

    def events(self) -> Iterator[tuple[int, MarketEvent]]:
        offset_ns = 0
        while True:
            first_ns = last_ns = None
            reader = _Reader([instrument.symbol for instrument in self.instruments])
            waiting = self._has_snapshot
            for at_ns, message in _lines(self.path, self._warn):
                if waiting and "lastUpdateId" not in message:
                    continue
                waiting = False
                if first_ns is None:
                    first_ns = last_ns = at_ns
                # Receive times of several sockets may step back a little.
                last_ns = max(last_ns or at_ns, at_ns)
                event = reader.read(message)
                if event is not None:
                    yield offset_ns + last_ns - first_ns, event
            if first_ns is None or last_ns is None:
                return
            offset_ns += last_ns - first_ns + _PAUSE_NS


def _lines(path: Path, damaged: Callable[[str], None]) -> Iterator[tuple[int, _Message]]:
    """The lines that can be read; of others `damaged` hears once."""
    broken = 0
    try:
        with gzip.open(path, "rb") as file:
            for line in file:
                stamp, _, text = line.partition(b" ")
                try:
                    message = orjson.loads(text)
                    at_ns = int(stamp)
                except ValueError:
                    broken += 1
                    continue
                if isinstance(message, dict):
                    yield at_ns, message
    except (OSError, EOFError, zlib.error) as error:
        damaged(str(error))
    if broken:
        damaged(f"{broken} lines are not `<ns> <json>`")


def _data(message: _Message) -> _Message:
    data = message.get("data")
    return data if isinstance(data, dict) else message


def _symbol(message: _Message) -> str | None:
    symbol = _data(message).get("s")
    return symbol if isinstance(symbol, str) else None


def _instrument(symbol: str, messages: Iterable[_Message]) -> Instrument:
    if symbol in KNOWN:
        return KNOWN[symbol]
    mine = [_data(message) for message in messages if _symbol(message) == symbol]
    levels = [level for data in mine for side in "ab" for level in _raw_levels(data.get(side))]
    trades = [(str(data["p"]), str(data["q"])) for data in mine if "q" in data and "p" in data]
    prices, quantities = zip(*(levels + trades), strict=True) if levels or trades else ((), ())
    return inferred(symbol, prices, quantities)


def _raw_levels(value: object) -> list[tuple[str, str]]:
    return [(price, qty) for price, qty in value] if isinstance(value, list) else []


def _levels(value: object, keep: Callable[[Decimal], bool] | None = None) -> Levels:
    # Emptied levels first, so that no moment of the update is crossed.
    levels = [(Decimal(price), Decimal(qty)) for price, qty in _raw_levels(value)]
    levels.sort(key=lambda level: bool(level[1]))
    return tuple(level for level in levels if keep is None or keep(level[0]))


@dataclass
class _Seen:
    """What was read last of one symbol."""

    update_id: int = 0
    """Of the snapshot or depth update."""
    best_id: int = 0
    bid: Decimal = field(default_factory=Decimal)
    ask: Decimal = field(default_factory=Decimal)


class _Reader:
    """One pass through the messages."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self._seen = {symbol: _Seen() for symbol in symbols}

    def read(self, message: _Message) -> MarketEvent | None:
        data = _data(message)
        if "lastUpdateId" in data:
            return self._snapshot(data)
        seen = self._seen.get(str(data.get("s")))
        if seen is None:
            return None
        if data.get("e") == "depthUpdate":
            return _depth(data, seen)
        if data.get("e") in ("trade", "aggTrade"):
            return _trade(data)
        if "B" in data and "A" in data:
            return _best(data, seen)
        return None

    def _snapshot(self, data: _Message) -> MarketEvent:
        """A snapshot does not name its symbol: it is the one whose updates it fits best."""
        update_id = int(str(data["lastUpdateId"]))
        symbol = min(self._seen, key=lambda s: abs(self._seen[s].update_id - update_id))
        self._seen[symbol].update_id = update_id
        return Snapshot(symbol, _levels(data.get("bids")), _levels(data.get("asks")))


def _depth(data: _Message, seen: _Seen) -> MarketEvent | None:
    update_id = int(str(data["u"]))
    if update_id <= seen.update_id:
        return None
    seen.update_id = update_id
    symbol = str(data["s"])
    if update_id >= seen.best_id:
        return LevelsSet(symbol, _levels(data.get("b")), _levels(data.get("a")))
    # The best prices are known from a later moment than this update's; it must not undo them.
    bid, ask = seen.bid, seen.ask
    return LevelsSet(
        symbol,
        _levels(data.get("b"), lambda price: price < bid),
        _levels(data.get("a"), lambda price: price > ask),
    )


def _best(data: _Message, seen: _Seen) -> MarketEvent | None:
    update_id = int(str(data["u"]))
    if update_id <= max(seen.update_id, seen.best_id):
        return None
    seen.best_id = update_id
    seen.bid, seen.ask = Decimal(str(data["b"])), Decimal(str(data["a"]))
    return BestSet(
        str(data["s"]),
        (seen.bid, Decimal(str(data["B"]))),
        (seen.ask, Decimal(str(data["A"]))),
    )


def _trade(data: _Message) -> MarketEvent | None:
    price, qty = Decimal(str(data["p"])), Decimal(str(data["q"]))
    if not price or not qty:
        # USD-M sends trades of the insurance fund without a price or quantity of the market.
        return None
    return Traded(str(data["s"]), price, qty, not data.get("m"))
