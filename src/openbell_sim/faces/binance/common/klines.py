"""Bars as Binance gives them: the intervals, and what a stream of one of them has to tell."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from openbell_sim.exchange import Exchange, Market
from openbell_sim.faces.binance.common.errors import BinanceError
from openbell_sim.faces.binance.common.parameters import Parameters
from openbell_sim.tape import MINUTE_NS, Bar

INTERVALS_NS = {
    name: minutes * MINUTE_NS
    for name, minutes in {
        "1m": 1,
        "3m": 3,
        "5m": 5,
        "15m": 15,
        "30m": 30,
        "1h": 60,
        "2h": 120,
        "4h": 240,
        "6h": 360,
        "8h": 480,
        "12h": 720,
        "1d": 1440,
    }.items()
}


def chosen_bars(market: Market, p: Parameters, most: int) -> tuple[list[Bar], int]:
    """The bars that a call asks for, and their width in ns. Raises BinanceError."""
    width_ns = INTERVALS_NS.get(p.text("interval"))
    if width_ns is None:
        raise BinanceError(-1120, "Invalid interval.")
    limit = p.limit(500, most)
    start, end = p.integer_or_none("startTime"), p.integer_or_none("endTime")
    bars = [
        bar
        for bar in market.tape.bars(width_ns)
        if (start is None or bar.open_ns // 1_000_000 >= start)
        and (end is None or bar.open_ns // 1_000_000 <= end)
    ]
    return bars[:limit] if start is not None else bars[-limit:], width_ns


def asked_market(exchange: Exchange, p: Parameters, name: str = "symbol") -> Market:
    """The market that a call names. Raises BinanceError."""
    market = exchange.markets.get(p.text(name))
    if market is None:
        raise BinanceError(-1121, "Invalid symbol.")
    return market


class KlineStream:
    """Tells the running bar while it changes, and each bar once more when it has ended. A time
    without trades has no bar."""

    def __init__(self, market: Market, interval: str, now_ns: int) -> None:
        """Bars that have ended by `now_ns` are not told."""
        self.market = market
        self.interval = interval
        self._width_ns = INTERVALS_NS[interval]
        self._ended_ns = now_ns - self._width_ns
        """Bars that were opened by then have been told as ended."""
        self._told: tuple[int, int] | None = None
        """When the running bar was opened, and how many trades were told of it."""

    def due(self, now_ns: int) -> Iterator[tuple[Bar, bool]]:
        """Bars to be told now, each with whether it has ended."""
        for bar in deque(self.market.tape.bars(self._width_ns), maxlen=2):
            if now_ns >= bar.open_ns + self._width_ns:
                if bar.open_ns > self._ended_ns:
                    self._ended_ns = bar.open_ns
                    yield bar, True
            elif self._told != (bar.open_ns, bar.trades):
                self._told = bar.open_ns, bar.trades
                yield bar, False
