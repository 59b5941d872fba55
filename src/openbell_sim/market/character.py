"""What distinguishes one generated market from another, derived from its instrument.

The numbers are orders of magnitude as these markets show them, not a model of any one day: how
wide, how deep, how lively and how volatile a currency pair, a share or a coin is.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from openbell_sim.instruments import Instrument

_CALENDAR_YEAR_S = 365 * 86400.0
_FX_YEAR_S = 260 * 86400.0
"""Five days a week, around the clock."""
_STOCK_YEAR_S = 252 * 6.5 * 3600
"""NYSE and Nasdaq: 252 days of 6.5 hours."""


@dataclass(frozen=True)
class Character:
    price: Decimal
    """Where the walk begins and is pulled back to, in the quote currency."""
    typical_notional: float
    """Of one quote at the best price, in the quote currency."""
    volatility: float
    """Per year of trading time, as a ratio."""
    year_s: float = _CALENDAR_YEAR_S
    """Seconds of trading time in a year: what `volatility` is spread over."""
    spread: float = 0.0
    """Usual, as a ratio of the price; one tick where that is wider."""
    steps_per_s: float = 6.0
    """How often the book changes."""
    trades_per_s: float = 1.5
    """Market orders of the crowd."""
    round_lot: Decimal = Decimal(0)
    """The crowd's quantities are multiples of it, in the base currency, however fine the
    instrument's own lot is."""

    def lots_at_once(self, instrument: Instrument) -> int:
        """`round_lot` in the instrument's lots, at least one."""
        return max(1, int(self.round_lot / instrument.lot))


@dataclass(frozen=True)
class _Coin:
    usd: float
    """A plausible price."""
    notional_usd: float
    volatility: float
    trades_per_s: float = 1.5


# Large coins trade one tick wide on large venues; 0.5 to 0.9 is their yearly volatility.
_COINS = {
    "BTC": _Coin(62_000, 40_000, 0.6, 2.5),
    "ETH": _Coin(2_680, 20_000, 0.7, 2.0),
    "LTC": _Coin(68, 3_000, 0.8),
    "BNB": _Coin(560, 8_000, 0.6),
    "SOL": _Coin(155, 8_000, 0.9, 2.0),
    "XRP": _Coin(0.58, 6_000, 0.9),
    "ADA": _Coin(0.36, 3_000, 0.9),
    "DOGE": _Coin(0.11, 4_000, 1.0),
    "DOT": _Coin(4.6, 2_000, 0.9, 1.0),
    "LINK": _Coin(10.6, 2_500, 0.9, 1.0),
    "AVAX": _Coin(24, 2_500, 0.9, 1.0),
    "BCH": _Coin(340, 2_500, 0.9, 1.0),
    "UNI": _Coin(6.3, 1_500, 0.9, 0.7),
    "AAVE": _Coin(95, 1_500, 0.9, 0.7),
}
_SMALL_COIN = _Coin(1, 1_500, 1.0, 0.7)
_COIN_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
"""Kraken's own names."""
_STABLE = {"USDT", "USDC", "FDUSD", "DAI", "PYUSD"}

# A unit in US dollars, roughly: scales sizes, and gives a price where the instrument has none.
_FIAT = {
    "USD": 1.0,
    "EUR": 1.09,
    "GBP": 1.27,
    "CHF": 1.15,
    "AUD": 0.66,
    "CAD": 0.73,
    "NZD": 0.60,
    "JPY": 0.0068,
    "SEK": 0.095,
    "NOK": 0.093,
    "DKK": 0.146,
    "SGD": 0.75,
    "HKD": 0.128,
    "PLN": 0.25,
    "CZK": 0.043,
    "HUF": 0.0028,
    "MXN": 0.053,
    "ZAR": 0.055,
    "TRY": 0.030,
    "CNH": 0.139,
}
_MAJORS = {"USD", "EUR", "GBP", "CHF", "AUD", "CAD", "NZD", "JPY"}
_METALS = {"XAU": 2_430.0, "XAG": 27.5, "XPT": 930.0, "XPD": 900.0}


def character_of(instrument: Instrument, price: Decimal | None = None) -> Character:
    """By the kind of what is traded, at this price or the instrument's own. Raises ValueError
    where nothing tells a price."""
    base, quote = (_COIN_NAMES.get(name, name) for name in (instrument.base, instrument.quote))
    price = price or instrument.reference_price or _price(instrument, base, quote)
    usd = _usd(quote) or 1.0
    if base in _COINS or quote in _COINS or quote in _STABLE:
        coin = _COINS.get(base, _SMALL_COIN)
        return Character(
            price, coin.notional_usd / usd, coin.volatility, trades_per_s=coin.trades_per_s
        )
    if base in _FIAT and quote in _FIAT:
        # Retail spreads of majors are near 1.2 pips of EUR/USD; a quote is good for about a million.
        major = base in _MAJORS and quote in _MAJORS
        return Character(
            price,
            typical_notional=1_000_000 / usd,
            volatility=0.08 if major else 0.12,
            year_s=_FX_YEAR_S,
            spread=1.1e-4 if major else 3.0e-4,
            trades_per_s=0.6,
            round_lot=Decimal(1000),
        )
    if base in _METALS:
        return Character(
            price,
            typical_notional=300_000 / usd,
            volatility=0.16,
            year_s=_FX_YEAR_S,
            spread=1.5e-4,
            trades_per_s=0.8,
            round_lot=Decimal(1),
        )
    # Shares of large companies: a cent wide below some 200 dollars, a few hundred shares deep.
    return Character(
        price,
        typical_notional=40_000 / usd,
        volatility=0.3,
        year_s=_STOCK_YEAR_S,
        spread=0.5e-4,
        trades_per_s=3.0,
        round_lot=Decimal(1),
    )


def _usd(name: str) -> float | None:
    if name in _STABLE:
        return 1.0
    if name in _COINS:
        return _COINS[name].usd
    return _FIAT.get(name) or _METALS.get(name)


def _price(instrument: Instrument, base: str, quote: str) -> Decimal:
    worth, unit = _usd(base), _usd(quote)
    if worth is None or unit is None:
        raise ValueError(
            f"no generated market for {instrument.symbol}: nothing tells the price of "
            f"{instrument.base} in {instrument.quote}"
        )
    # Through text, so that the price is the number that stands above: 2680, not 2680.0000000001.
    price = Decimal(f"{worth / unit:.8g}")
    return round(price / instrument.tick) * instrument.tick
