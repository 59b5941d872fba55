"""What is traded at this face, and what TradeLocker says of it.

Lot sizes, steps and minima are those that TradeLocker's brokers usually have for these: a lot of a
currency pair is 100,000 of its base currency, a lot of an index is one unit. Ids 206 and 278 are
the ones of its demo server; all others are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from openbell_sim.instruments import Instrument

HOME = "USD"
"""Currency of every account here."""
LOT_STEP = Decimal("0.01")
"""Smallest order too, in lots."""
MAX_LOT = Decimal(100)
INFO_ROUTE, TRADE_ROUTE = 452, 1152263
"""Connections for market data and for orders. Both are the same for every instrument here; at
TradeLocker they may differ by instrument and by user."""


@dataclass(frozen=True)
class Listing:
    """An instrument as TradeLocker lists it."""

    tradable_id: int
    """`tradableInstrumentId`: what every call names it by."""
    instrument_id: int
    type: str
    description: str
    contract_size: Decimal
    """`lotSize`: units of one lot."""

    def lots(self, units: Decimal) -> Decimal:
        return units / self.contract_size

    def units(self, lots: Decimal) -> Decimal:
        return lots * self.contract_size


_FOREX, _INDEX = Decimal(100_000), Decimal(1)
_LISTINGS = {
    "EURUSD": Listing(278, 315, "FOREX", "Euro vs US Dollar", _FOREX),
    "GBPUSD": Listing(279, 316, "FOREX", "British Pound vs US Dollar", _FOREX),
    "USDJPY": Listing(280, 317, "FOREX", "US Dollar vs Japanese Yen", _FOREX),
    "AUDUSD": Listing(281, 318, "FOREX", "Australian Dollar vs US Dollar", _FOREX),
    "NAS100": Listing(817, 820, "INDICES", "Nasdaq 100 in US Dollar", _INDEX),
}


def _instrument(symbol: str, base: str, quote: str, tick: str, price: str, rate: str) -> Instrument:
    listing = _LISTINGS[symbol]
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        tick=Decimal(tick),
        lot=listing.units(LOT_STEP),
        min_qty=listing.units(LOT_STEP),
        max_qty=listing.units(MAX_LOT),
        min_price=Decimal(tick),
        margin_rate=Decimal(rate),
        settle=HOME,
        reference_price=Decimal(price),
        min_notional=Decimal(0),
        max_notional=Decimal(10) ** 12,
        # TradeLocker documents no collar: a limit order may stand anywhere.
        collar_up=Decimal(1_000_000),
        collar_down=Decimal(0),
    )


# Margin as ESMA allows retail clients: 30:1 on major pairs, 20:1 on others and on major indices.
KNOWN: Mapping[str, Instrument] = {
    item.symbol: item
    for item in (
        _instrument("EURUSD", "EUR", "USD", "0.00001", "1.08500", "0.0333"),
        _instrument("GBPUSD", "GBP", "USD", "0.00001", "1.27000", "0.0333"),
        _instrument("USDJPY", "USD", "JPY", "0.001", "150.000", "0.0333"),
        _instrument("AUDUSD", "AUD", "USD", "0.00001", "0.66000", "0.05"),
        _instrument("NAS100", "NAS100", "USD", "0.1", "18400.0", "0.05"),
    )
}


def listing(symbol: str) -> Listing:
    return _LISTINGS[symbol]
