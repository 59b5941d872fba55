"""The public tape of one symbol: recent trades, one-minute bars, the last 24 hours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec

MINUTE_NS = 60_000_000_000
DAY_NS = 1440 * MINUTE_NS
_KEPT_TRADES = 1000
"""As many as Binance's `GET /api/v3/trades` gives at most."""
_KEPT_BARS = 2 * 1440


class PublicTrade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    symbol: str
    trade_id: int
    price: Decimal
    qty: Decimal
    aggressor_is_buyer: bool
    at_ns: int


@dataclass(slots=True)
class Bar:
    """Trades of the time from `open_ns` to the next bar."""

    open_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    taker_buy_volume: Decimal
    taker_buy_quote_volume: Decimal
    trades: int
    first_trade_id: int
    last_trade_id: int

    def add(self, trade: PublicTrade) -> None:
        """Adds a later trade."""
        price, qty = trade.price, trade.qty
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.close = price
        notional = price * qty
        self.volume += qty
        self.quote_volume += notional
        if trade.aggressor_is_buyer:
            self.taker_buy_volume += qty
            self.taker_buy_quote_volume += notional
        self.trades += 1
        self.last_trade_id = trade.trade_id

    def include(self, other: Bar) -> None:
        """Adds a later bar to this one."""
        self.high = max(self.high, other.high)
        self.low = min(self.low, other.low)
        self.close = other.close
        self.volume += other.volume
        self.quote_volume += other.quote_volume
        self.taker_buy_volume += other.taker_buy_volume
        self.taker_buy_quote_volume += other.taker_buy_quote_volume
        self.trades += other.trades
        self.last_trade_id = other.last_trade_id


class Tape:
    def __init__(self) -> None:
        self.trades: deque[PublicTrade] = deque(maxlen=_KEPT_TRADES)
        self._minutes: deque[Bar] = deque(maxlen=_KEPT_BARS)
        self._before: Callable[[], Sequence[Bar]] | None = None

    def remember(self, before: Callable[[], Sequence[Bar]]) -> None:
        """Bars of minutes from before the first trade, oldest first. They are asked for when
        somebody first wants to see bars: most venues are never asked."""
        self._before = before

    def _recall(self) -> None:
        if self._before is None:
            return
        bars, self._before = self._before(), None
        known_ns = self._minutes[0].open_ns if self._minutes else None
        older = [bar for bar in bars if known_ns is None or bar.open_ns < known_ns]
        room = _KEPT_BARS - len(self._minutes)
        self._minutes.extendleft(reversed(older[max(0, len(older) - room) :]))

    @property
    def last(self) -> PublicTrade | None:
        return self.trades[-1] if self.trades else None

    def add(self, trade: PublicTrade) -> None:
        self.trades.append(trade)
        if self._minutes and trade.at_ns < self._minutes[-1].open_ns + MINUTE_NS:
            self._minutes[-1].add(trade)
        else:
            self._minutes.append(_bar_of(trade))

    def bars(self, width_ns: int) -> Iterator[Bar]:
        """Bars of a multiple of a minute, oldest first. Times without trades have none."""
        self._recall()
        current: Bar | None = None
        for minute in self._minutes:
            open_ns = minute.open_ns - minute.open_ns % width_ns
            if current is not None and current.open_ns == open_ns:
                current.include(minute)
                continue
            if current is not None:
                yield current
            current = _copy(minute, open_ns)
        if current is not None:
            yield current

    def day(self, now_ns: int) -> Bar | None:
        """The last 24 hours as one bar; None where nothing was traded in them."""
        self._recall()
        result: Bar | None = None
        for minute in self._minutes:
            if minute.open_ns <= now_ns - DAY_NS:
                continue
            if result is None:
                result = _copy(minute, minute.open_ns)
            else:
                result.include(minute)
        return result


def _bar_of(trade: PublicTrade) -> Bar:
    notional = trade.price * trade.qty
    bought = trade.aggressor_is_buyer
    return Bar(
        open_ns=trade.at_ns - trade.at_ns % MINUTE_NS,
        open=trade.price,
        high=trade.price,
        low=trade.price,
        close=trade.price,
        volume=trade.qty,
        quote_volume=notional,
        taker_buy_volume=trade.qty if bought else Decimal(0),
        taker_buy_quote_volume=notional if bought else Decimal(0),
        trades=1,
        first_trade_id=trade.trade_id,
        last_trade_id=trade.trade_id,
    )


def _copy(bar: Bar, open_ns: int) -> Bar:
    return Bar(
        open_ns,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume,
        bar.quote_volume,
        bar.taker_buy_volume,
        bar.taker_buy_quote_volume,
        bar.trades,
        bar.first_trade_id,
        bar.last_trade_id,
    )
