"""Perpetual contracts, on the grids that Binance publishes for them (`GET /fapi/v1/exchangeInfo`).

Every account trades at 20 times leverage, Binance's default: 5 % of a position's value are held.
"""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.instruments import Instrument

LEVERAGE = 20


def _perpetual(base: str, tick: str, lot: str, min_notional: str) -> Instrument:
    return Instrument(
        symbol=f"{base}USDT",
        base=base,
        quote="USDT",
        settle="USDT",
        margin_rate=1 / Decimal(LEVERAGE),
        tick=Decimal(tick),
        lot=Decimal(lot),
        min_qty=Decimal(lot),
        min_price=Decimal(tick),
        min_notional=Decimal(min_notional),
        max_notional=Decimal(100_000_000),
    )


PERPETUALS = {
    instrument.symbol: instrument
    for instrument in (
        _perpetual("BTC", "0.10", "0.001", "100"),
        _perpetual("ETH", "0.01", "0.001", "20"),
        _perpetual("BNB", "0.010", "0.01", "5"),
        _perpetual("SOL", "0.0100", "0.01", "5"),
        _perpetual("LTC", "0.01", "0.001", "20"),
        _perpetual("XRP", "0.0001", "0.1", "5"),
    )
}
