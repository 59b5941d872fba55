"""What is traded, on which grid, within which bounds.

Quantities and prices cross the edge of the matching engine here: Decimal outside, whole lots and
ticks inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

_SMALLEST = Decimal("0.00000001")
"""Of an amount that was converted, and so has no end of digits."""


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    symbol: str
    """The venue's own: `BTCUSDT`."""
    base: str
    quote: str
    tick: Decimal
    """Price step, in the quote currency."""
    lot: Decimal
    """Quantity step, in the base currency."""
    min_qty: Decimal
    max_qty: Decimal = Decimal(9000)
    min_price: Decimal
    max_price: Decimal = Decimal(1000000)
    margin_rate: Decimal | None = None
    """None: settled on the spot, both currencies change hands. Else a position is kept, and this
    share of its value is held for it."""
    settle: str = ""
    """Currency of a margined instrument's profits, losses and fees; empty: the quote currency. It
    is the base or the quote currency."""
    reference_price: Decimal | None = None
    """Where a generated market begins, in the quote currency."""
    min_notional: Decimal = Decimal(5)
    """In the quote currency. 5 USDT is what Binance asks of these pairs."""
    max_notional: Decimal = Decimal(9000000)
    collar_up: Decimal = Decimal(5)
    collar_down: Decimal = Decimal("0.2")
    """A limit price must lie within these multiples of the last price (Binance's
    PERCENT_PRICE_BY_SIDE)."""

    def ticks(self, price: Decimal) -> int:
        """Raises ValueError for a price off the grid."""
        return _steps(price, self.tick)

    def lots(self, quantity: Decimal) -> int:
        """Raises ValueError for a quantity off the grid."""
        return _steps(quantity, self.lot)

    def price(self, ticks: int) -> Decimal:
        return ticks * self.tick

    def quantity(self, lots: int) -> Decimal:
        return lots * self.lot

    @property
    def unit(self) -> Decimal:
        """Value of one lot at one tick, in the quote currency."""
        return self.tick * self.lot

    @property
    def currencies(self) -> tuple[str, ...]:
        return self.base, self.quote, self.settle_currency

    @property
    def settle_currency(self) -> str:
        return self.settle or self.quote

    @property
    def settles_in_base(self) -> bool:
        """As `USD/JPY` does for an account in USD."""
        return self.settle == self.base

    def value(self, quantity: Decimal, price: Decimal) -> Decimal:
        """Of a quantity, in the settlement currency."""
        return quantity if self.settle == self.base else quantity * price

    def settled(self, amount: Decimal, price: Decimal) -> Decimal:
        """An amount of quote currency in the settlement currency, at the instrument's price."""
        return (amount / price).quantize(_SMALLEST) if self.settle == self.base else amount


def _steps(value: Decimal, step: Decimal) -> int:
    steps, rest = divmod(value, step)
    if rest:
        raise ValueError(f"{value} is not a multiple of {step}")
    return int(steps)


def spot(symbol: str, base: str, quote: str, tick: str, lot: str) -> Instrument:
    """An instrument whose minima are one step, as on Binance."""
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        tick=Decimal(tick),
        lot=Decimal(lot),
        min_qty=Decimal(lot),
        min_price=Decimal(tick),
    )


# Grids as Binance publishes them for these pairs.
KNOWN: dict[str, Instrument] = {
    instrument.symbol: instrument
    for instrument in (
        spot("BTCUSDT", "BTC", "USDT", "0.01", "0.00001"),
        spot("ETHUSDT", "ETH", "USDT", "0.01", "0.0001"),
        spot("LTCUSDT", "LTC", "USDT", "0.01", "0.001"),
        spot("BNBUSDT", "BNB", "USDT", "0.01", "0.001"),
        spot("SOLUSDT", "SOL", "USDT", "0.01", "0.001"),
        spot("XRPUSDT", "XRP", "USDT", "0.0001", "0.1"),
    )
}

_QUOTES = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "EUR")


def inferred(symbol: str, prices: Iterable[str], quantities: Iterable[str]) -> Instrument:
    """An instrument for a recorded symbol that is not known: the coarsest decimal grid on which
    all of the recorded numbers lie. Raises ValueError where the quote currency is not known."""
    quote = next((q for q in _QUOTES if symbol.endswith(q) and symbol != q), None)
    if quote is None:
        raise ValueError(f"which currency is {symbol} quoted in? Known are {', '.join(_QUOTES)}")
    return spot(symbol, symbol.removesuffix(quote), quote, _grid(prices), _grid(quantities))


def _grid(numbers: Iterable[str]) -> str:
    digits = max((len(n.partition(".")[2].rstrip("0")) for n in numbers), default=0)
    return str(Decimal(1).scaleb(-digits))
