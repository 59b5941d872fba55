"""A market out of nothing: seeded, so that the same seed gives the same market.

Each symbol's fair price is a random walk with a slow trend that turns around, pulled back to
where it began, livelier at some times than at others. Around it stands a book: a spread as wide
as such markets have, quantity that grows with the distance, quotes that come and go. Market
orders arrive in clusters, tend to repeat their side, and lean to the side of the trend.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal

from openbell_sim.instruments import Instrument
from openbell_sim.market.character import Character, character_of
from openbell_sim.market.events import LevelsSet, MarketEvent, Snapshot, Traded
from openbell_sim.market.past import past
from openbell_sim.tape import Bar

SECOND_NS = 1_000_000_000
_LEVELS = 25
"""Kept on each side, where the price has ticks enough."""
_CALM_S = 300.0
"""How long a lively or quiet time lasts."""
_LIVELINESS = 0.45
"""Standard deviation of the logarithm of what volatility and trading are multiplied by."""
_FOLLOWS = 0.35
"""Chance that a market order is followed at once by another one: clusters of 1.5 orders."""
_SAME_SIDE = 0.7
"""Chance that a market order repeats the side of the one before."""
_FEWEST_TICKS = 40
"""A price of fewer ticks leaves no room for a book below it."""


class Generator:
    """A market source."""

    name = "generator"

    def __init__(self, instruments: Sequence[Instrument], seed: int) -> None:
        """Raises ValueError for an instrument of which nothing tells the price, or whose price has
        too few ticks for a market."""
        self.instruments = tuple(instruments)
        self._characters = [_character(instrument) for instrument in instruments]
        self._seed = seed

    def past(self, symbol: str, *, until_ns: int, next_trade_id: int) -> list[Bar]:
        """What the market of one of its instruments did before, as one-minute bars."""
        index = [instrument.symbol for instrument in self.instruments].index(symbol)
        return past(
            self.instruments[index],
            self._characters[index],
            seed=self._seed,
            until_ns=until_ns,
            next_trade_id=next_trade_id,
        )

    def events(self) -> Iterator[tuple[int, MarketEvent]]:
        walks = [
            _Walk(instrument, character, self._seed)
            for instrument, character in zip(self.instruments, self._characters, strict=True)
        ]
        return heapq.merge(*(walk.events() for walk in walks), key=lambda timed: timed[0])


def _character(instrument: Instrument) -> Character:
    character = character_of(instrument)
    if character.price < _FEWEST_TICKS * instrument.tick:
        raise ValueError(
            f"no generated market for {instrument.symbol}: {character.price} is "
            f"fewer than {_FEWEST_TICKS} ticks of {instrument.tick}"
        )
    return character


class _Walk:
    """The market of one symbol, in ticks and lots."""

    def __init__(self, instrument: Instrument, character: Character, seed: int) -> None:
        self._instrument = instrument
        self._random = random.Random(f"{seed}:{instrument.symbol}")  # noqa: S311 # a market, no secret
        self._anchor = float(character.price / instrument.tick)
        self._fair = self._anchor
        self._trend = 0.0
        self._activity = 0.0
        """Logarithm of how lively the market is."""
        self._buying = self._random.random() < 0.5
        self._typical_lots = character.typical_notional / float(character.price * instrument.lot)
        self._round = character.lots_at_once(instrument)
        self._step_s = 1 / character.steps_per_s
        # Of the steps that do not follow a market order at once.
        self._trade_share = min(0.9, character.trades_per_s * (1 - _FOLLOWS) * self._step_s)
        self._sigma = character.volatility * math.sqrt(self._step_s / character.year_s)
        self._half_spread = character.spread * self._anchor / 2
        # Deeper quotes stand a few basis points apart; a price of few ticks has fewer quotes.
        self._gap = max(1.0, self._anchor * 0.4e-4)
        self._levels_kept = min(_LEVELS, int(self._anchor / 4))
        self._books: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._changes: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def events(self) -> Iterator[tuple[int, MarketEvent]]:
        self._quote()
        bids, asks = self._books
        yield 0, Snapshot(self._instrument.symbol, self._levels(bids), self._levels(asks))
        self._changes[0].clear()
        self._changes[1].clear()
        rnd = self._random
        at_s, follows = 0.0, False
        while True:
            lively = math.exp(self._activity)
            at_s += rnd.expovariate((20 if follows else 1) / self._step_s)
            at_ns = int(at_s * SECOND_NS)
            trades = self._trade() if follows or rnd.random() < self._trade_share * lively else []
            follows = bool(trades) and rnd.random() < _FOLLOWS
            for trade in trades:
                yield at_ns, trade
            self._move(lively)
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

    def _move(self, lively: float) -> None:
        rnd, sigma, share = self._random, self._sigma * lively, self._step_s / _CALM_S
        self._activity += -self._activity * share + rnd.gauss(0, _LIVELINESS * math.sqrt(2 * share))
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
        return self._rounded(self._typical_lots * growth * self._random.lognormvariate(-0.5, 1.0))

    def _rounded(self, lots: float) -> int:
        return max(1, int(lots / self._round)) * self._round

    def _half(self) -> float:
        """Half the spread, in ticks: mostly the usual one, sometimes wider."""
        rnd = self._random
        half = max(0.5, self._half_spread * rnd.lognormvariate(0, 0.15))
        return half if rnd.random() < 0.7 else half + rnd.expovariate(4 / self._gap)

    def _quote(self) -> None:
        """Moves the book to the fair price: quotes it has overtaken go, new ones come."""
        rnd, half = self._random, self._half()
        bid = max(2, math.floor(self._fair - half + 0.5))
        best = (bid, max(bid + 1, math.ceil(self._fair + half - 0.5)))
        for side, sign in ((0, 1), (1, -1)):
            book, limit = self._books[side], best[side]
            for price in [price for price in book if price * sign > limit * sign]:
                self._set(side, price, 0)
            if limit not in book:
                self._set(side, limit, self._lots(0))
            while len(book) < min(self._levels_kept, limit // 2):
                distance = rnd.expovariate(2 / (self._gap * self._levels_kept))
                price = limit - sign * (1 + int(distance))
                if price > 0 and price not in book:
                    self._set(side, price, self._lots(distance))
            if rnd.random() < 0.6:
                price = rnd.choice(list(book))
                self._set(side, price, self._lots(abs(limit - price)))
            surplus = max(0, len(book) - self._levels_kept)
            for price in sorted(book, key=lambda p: p * sign)[:surplus]:
                self._set(side, price, 0)

    def _trade(self) -> list[MarketEvent]:
        """A market order of the crowd, as its trades at each price; its quotes are reduced."""
        rnd = self._random
        lean = max(-0.3, min(0.3, self._trend / self._sigma))
        if rnd.random() >= _SAME_SIDE:
            self._buying = not self._buying
        if rnd.random() < abs(lean):
            self._buying = lean > 0
        side, sign = (1, -1) if self._buying else (0, 1)
        left = self._rounded(self._typical_lots * 0.25 * rnd.lognormvariate(-0.5, 1.3))
        trades: list[MarketEvent] = []
        tick, lot = self._instrument.tick, self._instrument.lot
        for price in sorted(self._books[side], key=lambda p: -p * sign)[:3]:
            lots = min(left, self._books[side][price])
            left -= lots
            self._set(side, price, self._books[side][price] - lots)
            trades.append(Traded(self._instrument.symbol, price * tick, lots * lot, self._buying))
            if not left:
                break
        return trades
