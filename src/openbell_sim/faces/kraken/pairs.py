"""What Kraken calls its assets and pairs, which is several names each.

An asset has an id (`XXBT`), an alternative name (`XBT`) and a name on WebSocket v2 (`BTC`). A pair
has an id (`XXBTZUSD`), an alternative name (`XBTUSD`), a `wsname` (`XBT/USD`) and a name on
WebSocket v2 (`BTC/USD`). The exchange behind the face knows pairs and currencies by their
alternative names.

Source: docs.kraken.com, "Get Asset Info", "Get Tradable Asset Pairs", "Spot WebSocket: v2 vs v1"
and support.kraken.com, "Bitcoin currency code (XBT vs BTC)". Steps and minima are of the size that
Kraken publishes; they change there now and then.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from openbell_sim.instruments import Instrument

_LEGACY_IDS = {
    "XBT": "XXBT",
    "ETH": "XETH",
    "LTC": "XLTC",
    "XRP": "XXRP",
    "XDG": "XXDG",
    "USD": "ZUSD",
    "EUR": "ZEUR",
    "GBP": "ZGBP",
}
"""Ids of assets that are older than the plain names."""
_V2_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
_SHORT_PAIR_IDS = {"XDGUSD"}
"""Pairs of two legacy assets that are nevertheless listed under their alternative name."""
_FIAT = {"USD", "EUR", "GBP"}
LOT = Decimal("0.00000001")
NO_MAXIMUM = Decimal(10) ** 12
"""Kraken states no largest volume and no largest cost."""


@dataclass(frozen=True)
class Asset:
    altname: str

    @property
    def id(self) -> str:
        return _LEGACY_IDS.get(self.altname, self.altname)

    @property
    def v2(self) -> str:
        return _V2_NAMES.get(self.altname, self.altname)

    @property
    def decimals(self) -> int:
        """Of balances and ledgers."""
        return 4 if self.altname in _FIAT else 10

    @property
    def display_decimals(self) -> int:
        return 2 if self.altname in _FIAT else 5


@dataclass(frozen=True)
class Pair:
    instrument: Instrument

    @property
    def altname(self) -> str:
        return self.instrument.symbol

    @property
    def base(self) -> Asset:
        return Asset(self.instrument.base)

    @property
    def quote(self) -> Asset:
        return Asset(self.instrument.quote)

    @property
    def id(self) -> str:
        both_legacy = {self.base.altname, self.quote.altname} <= _LEGACY_IDS.keys()
        if both_legacy and self.altname not in _SHORT_PAIR_IDS:
            return self.base.id + self.quote.id
        return self.altname

    @property
    def wsname(self) -> str:
        return f"{self.base.altname}/{self.quote.altname}"

    @property
    def v2(self) -> str:
        return f"{self.base.v2}/{self.quote.v2}"

    @functools.cached_property
    def price_decimals(self) -> int:
        return decimals_of(self.instrument.tick)

    @functools.cached_property
    def lot_decimals(self) -> int:
        return decimals_of(self.instrument.lot)


class Pairs:
    """The venue's pairs by whichever name a client uses."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self.all = [Pair(instrument) for instrument in instruments]
        self.by_symbol = {pair.altname: pair for pair in self.all}
        self.by_v2 = {pair.v2: pair for pair in self.all}
        self._by_name = {
            name: pair for pair in self.all for name in (pair.id, pair.altname, pair.wsname)
        }

    def find(self, name: str) -> Pair | None:
        """By id, alternative name or wsname, as REST takes them."""
        return self._by_name.get(name)

    @property
    def assets(self) -> list[Asset]:
        """Sorted by name."""
        return sorted(
            {asset for pair in self.all for asset in (pair.base, pair.quote)},
            key=lambda asset: asset.altname,
        )


def decimals_of(step: Decimal) -> int:
    exponent = step.normalize().as_tuple().exponent
    return max(0, -int(exponent))


def _listed(base: str, quote: str, tick: str, ordermin: str) -> Instrument:
    return Instrument(
        symbol=base + quote,
        base=base,
        quote=quote,
        tick=Decimal(tick),
        lot=LOT,
        min_qty=Decimal(ordermin),
        max_qty=NO_MAXIMUM,
        min_price=Decimal(tick),
        max_price=Decimal(10_000_000),
        min_notional=Decimal("0.5"),
        max_notional=NO_MAXIMUM,
    )


KNOWN = {
    instrument.symbol: instrument
    for instrument in (
        _listed("XBT", "USD", "0.1", "0.00005"),
        _listed("ETH", "USD", "0.01", "0.001"),
        _listed("SOL", "USD", "0.01", "0.02"),
        _listed("XRP", "USD", "0.00001", "2"),
        _listed("LTC", "USD", "0.01", "0.04"),
        _listed("ADA", "USD", "0.000001", "4.4"),
        _listed("XDG", "USD", "0.0000001", "13"),
        _listed("XBT", "EUR", "0.1", "0.00005"),
        _listed("ETH", "EUR", "0.01", "0.001"),
        _listed("XBT", "USDT", "0.1", "0.00005"),
        _listed("ETH", "USDT", "0.01", "0.001"),
    )
}
