"""A market out of nothing: seeded, so that the same seed gives the same market.

Each symbol's fair price is a random walk with a slow trend that turns around, pulled back to
where it began. Around it stands a book: a narrow spread, quantity that grows with the distance,
quotes that come and go; market orders arrive in clusters and prefer the side of the trend.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from openbell_sim.instruments import KNOWN, Instrument
from openbell_sim.market.events import LevelsSet, MarketEvent, Snapshot, Traded

SECOND_NS = 1_000_000_000
YEAR_S = 365 * 86400
_LEVELS = 25
"""Kept on each side."""


@dataclass(frozen=True)
class Character:
    """What distinguishes one market from another."""

    price: Decimal
    """Where the walk begins and is pulled back to."""
    typical_notional: float
    """Of one quote at the best price, in the quote currency."""
    volatility: float = 0.6
    """Per year, as a ratio. 0.5 to 0.8 is what large crypto currencies show."""
    steps_per_s: float = 6.0
    """How often the book changes."""
    trades_per_s: float = 1.5


CHARACTERS: dict[str, Character] = {
    "BTCUSDT": Character(Decimal(62000), 40_000, trades_per_s=2.5),
    "ETHUSDT": Character(Decimal(2680), 20_000, 0.7, trades_per_s=2.0),
    "LTCUSDT": Character(Decimal(68), 3_000, 0.8),
    "BNBUSDT": Character(Decimal(560), 8_000, 0.6),
}
DEFAULT_SYMBOLS = tuple(CHARACTERS)


class Generator:
    """A market source."""

    name = "generator"

    def __init__(self, symbols: Sequence[str], seed: int) -> None:
        """Raises ValueError for a symbol it knows no character of."""
        unknown = [symbol for symbol in symbols if symbol not in CHARACTERS]
        if unknown:
            raise ValueError(
                f"no generated market for {', '.join(unknown)}; there is {', '.join(CHARACTERS)}"
            )
        self.instruments = tuple(KNOWN[symbol] for symbol in symbols)
        self._seed = seed

    def events(self) -> Iterator[tuple[int, MarketEvent]]:
        walks = [_Walk(instrument, self._seed) for instrument in self.instruments]
        return heapq.merge(*(walk.events() for walk in walks), key=lambda timed: timed[0])


class _Walk:
    """The market of one symbol, in ticks and lots."""

    def __init__(self, instrument: Instrument, seed: int) -> None:
        self._instrument = instrument
        self._character = CHARACTERS[instrument.symbol]
        self._random = random.Random(f"{seed}:{instrument.symbol}")  # noqa: S311 # a market, no secret
        self._anchor = float(self._character.price / instrument.tick)
        self._fair = self._anchor
        self._trend = 0.0
        self._typical_lots = self._character.typical_notional / float(
            self._character.price * instrument.lot
        )
        self._step_s = 1 / self._character.steps_per_s
        self._sigma = self._character.volatility * math.sqrt(self._step_s / YEAR_S)
        # Deeper quotes stand a few basis points apart.
        self._gap = max(1.0, self._anchor * 0.4e-4)
        self._books: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._changes: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def events(self) -> Iterator[tuple[int, MarketEvent]]:
        self._quote()
        bids, asks = self._books
        yield 0, Snapshot(self._instrument.symbol, self._levels(bids), self._levels(asks))
        self._changes[0].clear()
        self._changes[1].clear()
        rate, trade_share = 1 / self._step_s, self._character.trades_per_s * self._step_s
        at_s = 0.0
        while True:
            at_s += self._random.expovariate(rate)
            at_ns = int(at_s * SECOND_NS)
            trades = self._trade() if self._random.random() < trade_share else []
            for trade in trades:
                yield at_ns, trade
            self._move()
            self._quote()
            bid_changes, ask_changes = self._changes
            yield (
                at_ns,
                LevelsSet(
                    self._instrument.symbol, self._levels(bid_changes), self._levels(ask_changes)
                ),
            )
            bid_changes.clear()
            ask_changes.clear()

    def _levels(self, levels: dict[int, int]) -> tuple[tuple[Decimal, Decimal], ...]:
        # Emptied levels first, so that no moment of the update is crossed.
        tick, lot = self._instrument.tick, self._instrument.lot
        ordered = sorted(levels.items(), key=lambda level: level[1] > 0)
        return tuple((price * tick, qty * lot) for price, qty in ordered)

    def _move(self) -> None:
        rnd, sigma = self._random, self._sigma
        self._trend += -self._trend * self._step_s / 40 + rnd.gauss(0, sigma * 0.012)
        pull = (self._anchor - self._fair) / self._anchor * self._step_s / 3600
        self._fair *= 1 + rnd.gauss(self._trend + pull, sigma)

    def _set(self, side: int, price: int, qty: int) -> None:
        if qty:
            self._books[side][price] = qty
        elif self._books[side].pop(price, None) is None:
            return
        self._changes[side][price] = qty

    def _lots(self, distance: float) -> int:
        """Quantity of one quote, `distance` ticks from the best."""
        growth = 1 + min(4.0, distance / self._gap / 4)
        return max(1, int(self._typical_lots * growth * self._random.lognormvariate(-0.5, 1.0)))

    def _quote(self) -> None:
        """Moves the book to the fair price: quotes it has overtaken go, new ones come."""
        rnd = self._random
        half = 0.5 if rnd.random() < 0.7 else rnd.expovariate(1 / (self._gap / 4)) + 0.5
        best = (math.floor(self._fair - half), math.ceil(self._fair + half))
        for side, sign in ((0, 1), (1, -1)):
            book, limit = self._books[side], best[side]
            for price in [price for price in book if price * sign > limit * sign]:
                self._set(side, price, 0)
            if limit not in book:
                self._set(side, limit, self._lots(0))
            while len(book) < _LEVELS:
                distance = rnd.expovariate(1 / (self._gap * _LEVELS / 2))
                price = limit - sign * (1 + int(distance))
                if price not in book:
                    self._set(side, price, self._lots(distance))
            if rnd.random() < 0.6:
                price = rnd.choice(list(book))
                self._set(side, price, self._lots(abs(limit - price)))
            for price in sorted(book, key=lambda p: p * sign)[: max(0, len(book) - _LEVELS)]:
                self._set(side, price, 0)

    def _trade(self) -> list[MarketEvent]:
        """A market order of the crowd, as its trades at each price; its quotes are reduced."""
        rnd = self._random
        lean = max(-0.3, min(0.3, self._trend / self._sigma))
        buying = rnd.random() < 0.5 + lean
        side, sign = (1, -1) if buying else (0, 1)
        left = max(1, int(self._typical_lots * 0.25 * rnd.lognormvariate(-0.5, 1.3)))
        trades: list[MarketEvent] = []
        tick, lot = self._instrument.tick, self._instrument.lot
        for price in sorted(self._books[side], key=lambda p: -p * sign)[:3]:
            lots = min(left, self._books[side][price])
            left -= lots
            self._set(side, price, self._books[side][price] - lots)
            trades.append(Traded(self._instrument.symbol, price * tick, lots * lot, buying))
            if not left:
                break
        return trades
