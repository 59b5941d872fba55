"""A book made up around the best prices, where only trades or only best quotes are recorded.

Made up are the quantities that are not recorded, and all that stands behind the best prices: as
large and as far apart as is usual for what is traded (`character`). The same file gives the same
book.
"""

from __future__ import annotations

import random
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from openbell_sim.instruments import Instrument
from openbell_sim.market.character import character_of
from openbell_sim.market.events import Levels, MarketEvent, Snapshot, Traded
from openbell_sim.market.rows import QuoteRow, Row, TradeRow

_LEVELS = 8
"""On each side, the best one included."""


class Ladder:
    """One symbol's book through one pass of a file."""

    def __init__(self, instrument: Instrument, first: Row) -> None:
        price = first.price if isinstance(first, TradeRow) else first.bid
        character = character_of(instrument, price)
        self._instrument = instrument
        self._random = random.Random(instrument.symbol)  # noqa: S311 # a market, no secret
        self._typical = character.typical_notional / float(price * instrument.lot)
        self._round = character.lots_at_once(instrument)
        ticks = float(price / instrument.tick)
        self._spread = max(1, round(character.spread * ticks))
        self._gap = max(1, round(ticks * 0.4e-4))
        self._depth: tuple[dict[int, int], dict[int, int]] = ({}, {})
        """Lots behind the best prices, by price in ticks."""
        self._last: TradeRow | None = None
        self._buying = True

    def events(self, row: Row) -> list[MarketEvent]:
        return self._quoted(row) if isinstance(row, QuoteRow) else self._traded(row)

    def _quoted(self, row: QuoteRow) -> list[MarketEvent]:
        # Rounded outwards, and a tick apart where bid and ask are the same.
        bid = self._ticks(row.bid, ROUND_FLOOR)
        ask = max(bid + 1, self._ticks(row.ask, ROUND_CEILING))
        return [self._book(bid, ask, row.bid_qty, row.ask_qty)]

    def _traded(self, row: TradeRow) -> list[MarketEvent]:
        if row.buying is not None:
            self._buying = row.buying
        elif self._last is not None and row.price != self._last.price:
            # The tick rule (Lee and Ready, 1991): a rise was bought, a fall was sold.
            self._buying = row.price > self._last.price
        self._last = row
        at = max(1, self._ticks(row.price, ROUND_FLOOR))
        lots = max(1, int(row.qty / self._instrument.lot))
        traded = Traded(
            self._instrument.symbol,
            self._instrument.price(at),
            self._instrument.quantity(lots),
            self._buying,
        )
        bid, ask = (at - self._spread, at) if self._buying else (at, at + self._spread)
        # The book goes first: the made-up quantity at better prices must not keep own orders there
        # from a trade that went past them.
        return [self._book(bid, ask, None, None), traded]

    def _ticks(self, price: Decimal, rounding: str) -> int:
        return int((price / self._instrument.tick).to_integral_value(rounding))

    def _book(
        self, bid: int, ask: int, bid_qty: Decimal | None, ask_qty: Decimal | None
    ) -> Snapshot:
        return Snapshot(
            self._instrument.symbol, self._side(0, bid, bid_qty), self._side(1, ask, ask_qty)
        )

    def _side(self, side: int, best: int, qty: Decimal | None) -> Levels:
        """Prices behind the best one stay where they are while the best one moves."""
        gap, sign = self._gap, 1 if side == 0 else -1
        first = (best - 1) // gap if side == 0 else -(-(best + 1) // gap)
        known, depth = self._depth[side], {}
        for step in range(_LEVELS - 1):
            price = (first - sign * step) * gap
            if price > 0:
                depth[price] = known.get(price) or self._lots(step + 1)
        known.clear()
        known.update(depth)
        lots = self._lots(0) if qty is None else max(1, int(qty / self._instrument.lot))
        levels = {best: lots, **depth} if best > 0 else depth
        return tuple(
            (self._instrument.price(price), self._instrument.quantity(lots))
            for price, lots in levels.items()
        )

    def _lots(self, step: int) -> int:
        growth = 1 + min(4.0, step / 2)
        lots = self._typical * growth * self._random.lognormvariate(-0.5, 0.7)
        return max(1, int(lots / self._round)) * self._round
