"""What is traded at this face, and how OANDA writes its numbers.

Precision, minima and maxima as OANDA's instruments call gives them for these pairs; margin rates
are those of a European retail account (3.33 % for majors) and 5 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from openbell_sim.instruments import Instrument

HOME = "USD"
"""Currency of every account here."""


@dataclass(frozen=True)
class Listing:
    """What OANDA says of an instrument besides the exchange's own facts."""

    pip_location: int
    """A pip is ten to this power."""
    precision: int
    """Decimals of its prices."""
    units_precision: int = 0

    def price(self, price: Decimal) -> str:
        return f"{price:.{self.precision}f}"

    def units(self, units: Decimal) -> str:
        return f"{units:.{self.units_precision}f}"


def listing(item: Instrument) -> Listing:
    """Fractional pips: one decimal beyond the pip."""
    digits = max(0, -_exponent(item.tick))
    return Listing(
        pip_location=1 - digits,
        precision=digits,
        units_precision=max(0, -_exponent(item.lot)),
    )


def _exponent(step: Decimal) -> int:
    return int(step.normalize().as_tuple().exponent)


def _pair(symbol: str, tick: str, price: str, margin_rate: str) -> Instrument:
    base, _, quote = symbol.partition("_")
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        tick=Decimal(tick),
        lot=Decimal(1),
        min_qty=Decimal(1),
        max_qty=Decimal(100_000_000),
        min_price=Decimal(tick),
        margin_rate=Decimal(margin_rate),
        settle=HOME,
        reference_price=Decimal(price),
        min_notional=Decimal(0),
        max_notional=Decimal(100_000_000_000),
        # OANDA has no collar: a limit order may stand anywhere.
        collar_up=Decimal(1_000_000),
        collar_down=Decimal(0),
    )


KNOWN: dict[str, Instrument] = {
    item.symbol: item
    for item in (
        _pair("EUR_USD", "0.00001", "1.08500", "0.0333"),
        _pair("GBP_USD", "0.00001", "1.27000", "0.05"),
        _pair("USD_JPY", "0.001", "150.000", "0.0333"),
        _pair("AUD_USD", "0.00001", "0.66000", "0.05"),
    )
}


def money(amount: Decimal) -> str:
    """Four decimals, as OANDA writes amounts of an account."""
    return f"{amount:.4f}"
