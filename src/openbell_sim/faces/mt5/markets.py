"""Currency pairs as brokers of MetaTrader 5 usually list them: a lot is 100,000 of the base."""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.instruments import Instrument

CONTRACT_SIZE = Decimal(100_000)
VOLUME_STEP = Decimal("0.01")
VOLUME_MAX = Decimal(100)
_MARGIN = Decimal("0.0333")
"""30:1, what ESMA allows retail clients on major pairs."""


def _pair(base: str, quote: str, digits: int, price: str) -> Instrument:
    tick = Decimal(1).scaleb(-digits)
    return Instrument(
        symbol=base + quote,
        base=base,
        quote=quote,
        tick=tick,
        lot=VOLUME_STEP * CONTRACT_SIZE,
        min_qty=VOLUME_STEP * CONTRACT_SIZE,
        max_qty=VOLUME_MAX * CONTRACT_SIZE,
        min_price=tick,
        max_price=Decimal(100_000),
        min_notional=Decimal(0),
        max_notional=Decimal(10) ** 12,
        margin_rate=_MARGIN,
        settle="USD",
        reference_price=Decimal(price),
    )


PAIRS = {
    pair.symbol: pair
    for pair in (
        _pair("EUR", "USD", 5, "1.09150"),
        _pair("GBP", "USD", 5, "1.27400"),
        _pair("AUD", "USD", 5, "0.65900"),
        _pair("USD", "JPY", 3, "146.850"),
    )
}
