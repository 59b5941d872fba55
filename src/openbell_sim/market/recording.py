"""Recorded Binance WebSocket messages, spot or USD-M futures.

A recording is a file of lines `<receive time> <json>`, gzipped or plain: combined stream messages
of bookTicker, depth and trade (or aggTrade), and a REST depth snapshot. It is read from its
snapshot on, at the pace of its receive times.

The recording's own update ids, trade ids and time stamps are not shown to anybody: the venue's
streams come from the venue's books, in which own orders stand too.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import orjson

from openbell.errors import ConfigError
from openbell_sim.instruments import Instrument
from openbell_sim.market.damage import Damage, unheard
from openbell_sim.market.events import BestSet, Levels, LevelsSet, MarketEvent, Snapshot, Traded
from openbell_sim.market.lines import lines
from openbell_sim.market.rows import LARGEST
from openbell_sim.market.timestamps import whole_nanoseconds

_HEAD = 3000
"""Lines read beforehand, to learn symbols and grids and to find the snapshot."""

_Message = dict[str, object]
_BROKEN = (KeyError, ValueError, TypeError, ArithmeticError)
"""What reading a message raises that Binance would not have sent."""


class Recording:
    """A market file."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError for a file that is no recording."""
        self.path = path
        head = list(itertools.islice(_messages(path, Damage(unheard)), _HEAD))
        self._head = [message for _, _, message in head]
        self.symbols: Sequence[str] = tuple(
            dict.fromkeys(symbol for m in self._head if (symbol := _symbol(m)) is not None)
        )
        if not self.symbols:
            raise ConfigError(
                f"{path} is not a recording: none of its first lines is a Binance message",
                hint="lines look like: 1723161254024619568 "
                '{"stream":"ethusdt@bookTicker","data":{...}}',
            )
        self._has_snapshot = any("lastUpdateId" in message for message in self._head)
        # Who recorded both kinds of trades has each of them twice.
        kinds = {_data(message).get("e") for message in self._head}
        self._trade = "trade" if "trade" in kinds else "aggTrade"

    def samples(self, symbol: str) -> tuple[Sequence[str], Sequence[str]]:
        found: list[tuple[str, str]] = []
        for message in self._head:
            if _symbol(message) == symbol:
                # What is broken is told when it is played.
                with contextlib.suppress(*_BROKEN):
                    found += _numbers_in(_data(message))
        return [price for price, _ in found], [qty for _, qty in found]

    def check(self, symbol: str, instrument: Instrument) -> None:
        """Raises ConfigError where the prices lie between the instrument's ticks: levels that fall
        on one tick would undo each other, for each tells a quantity of its own."""
        for price in self.samples(symbol)[0]:
            if _number(price) % instrument.tick:
                raise ConfigError(
                    f"{self.path}: a price of {symbol} is {price}, and {instrument.symbol} has a "
                    f"tick of {instrument.tick}",
                    hint="play it on a venue with finer ticks, or as trades or quotes (csv)",
                )

    def passage(
        self, instruments: Mapping[str, Instrument], damage: Damage
    ) -> Iterator[tuple[int, MarketEvent]]:
        names = {symbol: instrument.symbol for symbol, instrument in instruments.items()}
        reader = _Reader(self.symbols, names, self._trade)
        waiting = self._has_snapshot
        for number, at_ns, message in _messages(self.path, damage):
            if waiting and "lastUpdateId" not in message:
                continue
            waiting = False
            try:
                event = reader.read(message)
            except _BROKEN:
                damage.left_out(number, "it is no message that Binance sends")
                continue
            if event is not None:
                yield at_ns, event


def _messages(path: Path, damage: Damage) -> Iterator[tuple[int, int, _Message]]:
    """`(number of the line, receive time in ns, message)`"""
    for number, line in lines(path, damage):
        stamp, _, text = line.partition(b" ")
        try:
            message = orjson.loads(text)
            at_ns = whole_nanoseconds(int(stamp))
        except ValueError:
            message, at_ns = None, 0
        if isinstance(message, dict):
            yield number, at_ns, message
        else:
            damage.left_out(number, "it is not `<receive time> <json>`")


def _data(message: _Message) -> _Message:
    data = message.get("data")
    return data if isinstance(data, dict) else message


def _symbol(message: _Message) -> str | None:
    symbol = _data(message).get("s")
    return symbol if isinstance(symbol, str) else None


def _raw_levels(value: object) -> list[tuple[str, str]]:
    return [(price, qty) for price, qty in value] if isinstance(value, list) else []


def _numbers_in(data: _Message) -> list[tuple[str, str]]:
    """`[(price, quantity), ...]` as text, checked."""
    pairs = [level for side in "ab" for level in _raw_levels(data.get(side))]
    if "p" in data and "q" in data:
        pairs.append((str(data["p"]), str(data["q"])))
    for text in itertools.chain.from_iterable(pairs):
        _number(text)
    return pairs


def _number(text: object) -> Decimal:
    """Raises ValueError or ArithmeticError for what is none, negative or endless."""
    number = Decimal(str(text))
    # A comparison with NaN raises too.
    if not 0 <= number < LARGEST:
        raise ValueError
    return number


def _level(price: object, qty: object) -> tuple[Decimal, Decimal]:
    level = (_number(price), _number(qty))
    if not level[0]:
        raise ValueError
    return level


def _levels(value: object, keep: Callable[[Decimal], bool] | None = None) -> Levels:
    # Emptied levels first, so that no moment of the update is crossed.
    levels = [_level(price, qty) for price, qty in _raw_levels(value)]
    levels.sort(key=lambda level: bool(level[1]))
    return tuple(level for level in levels if keep is None or keep(level[0]))


@dataclass
class _Seen:
    """What was read last of one symbol."""

    name: str | None
    """At this venue; None: left out."""
    update_id: int = 0
    """Of the snapshot or depth update."""
    best_id: int = 0
    bid: Decimal = field(default_factory=Decimal)
    ask: Decimal = field(default_factory=Decimal)


class _Reader:
    """One pass through the messages."""

    def __init__(self, symbols: Iterable[str], names: Mapping[str, str], trade: str) -> None:
        self._seen = {symbol: _Seen(names.get(symbol)) for symbol in symbols}
        self._trade = trade

    def read(self, message: _Message) -> MarketEvent | None:
        """Raises one of `_BROKEN` for a broken message."""
        data = _data(message)
        if "lastUpdateId" in data:
            return self._snapshot(data)
        seen = self._seen.get(str(data.get("s")))
        if seen is None or seen.name is None:
            return None
        kind = data.get("e")
        if kind == "depthUpdate":
            return _depth(data, seen, seen.name)
        if kind == self._trade:
            return _trade(data, seen.name)
        if kind in ("trade", "aggTrade"):
            return None
        if "B" in data and "A" in data:
            return _best(data, seen, seen.name)
        return None

    def _snapshot(self, data: _Message) -> MarketEvent | None:
        """A snapshot does not name its symbol: it is the one whose updates it fits best."""
        update_id = int(str(data["lastUpdateId"]))
        seen = min(self._seen.values(), key=lambda seen: abs(seen.update_id - update_id))
        bids, asks = _levels(data["bids"]), _levels(data["asks"])
        seen.update_id = update_id
        return None if seen.name is None else Snapshot(seen.name, bids, asks)


def _depth(data: _Message, seen: _Seen, name: str) -> MarketEvent | None:
    update_id = int(str(data["u"]))
    if update_id <= seen.update_id:
        return None
    if update_id >= seen.best_id:
        event = LevelsSet(name, _levels(data.get("b")), _levels(data.get("a")))
    else:
        # The best prices are known from a later moment than this update's; it must not undo them.
        bid, ask = seen.bid, seen.ask
        event = LevelsSet(
            name,
            _levels(data.get("b"), lambda price: price < bid),
            _levels(data.get("a"), lambda price: price > ask),
        )
    seen.update_id = update_id
    return event


def _best(data: _Message, seen: _Seen, name: str) -> MarketEvent | None:
    update_id = int(str(data["u"]))
    if update_id <= max(seen.update_id, seen.best_id):
        return None
    bid, ask = _level(data["b"], data["B"]), _level(data["a"], data["A"])
    seen.best_id, seen.bid, seen.ask = update_id, bid[0], ask[0]
    return BestSet(name, bid, ask)


def _trade(data: _Message, name: str) -> MarketEvent | None:
    price, qty = _number(data["p"]), _number(data["q"])
    if not price or not qty:
        # USD-M sends trades of the insurance fund without a price or quantity of the market.
        return None
    return Traded(name, price, qty, not data.get("m"))
