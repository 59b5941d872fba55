"""What a generated market did before anybody looked: one-minute bars that lead to its first price.

Bots warm their indicators up on history and do nothing until they have it; a venue that has only
just started would keep them waiting for hours.
"""

from __future__ import annotations

import math
import random
from decimal import Decimal

from openbell_sim.instruments import Instrument
from openbell_sim.market.character import Character
from openbell_sim.tape import MINUTE_NS, Bar

MINUTES = 1440
"""A day: what a 24-hour ticker and a thousand bars of a minute need."""
_ORDERS_PER_CLUSTER = 1.5
_WICK = 0.6
"""How far a bar's ends reach beyond its open and close, in standard deviations of a minute."""


def past(
    instrument: Instrument,
    character: Character,
    *,
    seed: int,
    until_ns: int,
    next_trade_id: int,
    minutes: int = MINUTES,
) -> list[Bar]:
    """Whole minutes that ended before `until_ns`, oldest first; the last closes at the
    character's price. The same arguments give the same bars."""
    rnd = random.Random(f"{seed}:{instrument.symbol}:past")  # noqa: S311 # a market, no secret
    sigma = character.volatility * math.sqrt(60 / character.year_s)
    per_minute = max(1.0, character.trades_per_s * 60 * _ORDERS_PER_CLUSTER)
    lots_a_trade = character.typical_notional / float(character.price * instrument.lot) / 4
    close = float(character.price)
    open_ns = until_ns - until_ns % MINUTE_NS
    bars: list[Bar] = []
    for _ in range(minutes):
        open_ns -= MINUTE_NS
        start = close / (1 + rnd.gauss(0, sigma))
        trades = max(1, round(rnd.gauss(per_minute, math.sqrt(per_minute))))
        next_trade_id -= trades
        high = max(start, close) * (1 + abs(rnd.gauss(0, sigma * _WICK)))
        low = min(start, close) * (1 - abs(rnd.gauss(0, sigma * _WICK)))
        lots = max(trades, round(trades * lots_a_trade * rnd.lognormvariate(-0.1, 0.4)))
        volume = lots * instrument.lot
        middle = _on_grid(instrument, (start + close) / 2)
        bought = round(lots * min(0.95, max(0.05, rnd.gauss(0.5, 0.1)))) * instrument.lot
        bars.append(
            Bar(
                open_ns=open_ns,
                open=_on_grid(instrument, start),
                high=_on_grid(instrument, high),
                low=_on_grid(instrument, low),
                close=_on_grid(instrument, close),
                volume=volume,
                quote_volume=volume * middle,
                taker_buy_volume=bought,
                taker_buy_quote_volume=bought * middle,
                trades=trades,
                first_trade_id=next_trade_id,
                last_trade_id=next_trade_id + trades - 1,
            )
        )
        close = start
    bars.reverse()
    return bars


def _on_grid(instrument: Instrument, price: float) -> Decimal:
    return max(1, round(price / float(instrument.tick))) * instrument.tick
