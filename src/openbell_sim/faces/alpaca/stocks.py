"""The stocks that the simulated venue knows, by their symbols there."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from openbell_sim.instruments import Instrument

QTY_DIGITS = 9
"""Digits after the point of a quantity: "Orders", `qty` and `notional`."""


class Listing(NamedTuple):
    """What `/v2/assets` tells besides."""

    name: str
    exchange: str


LISTINGS = {
    "AAPL": Listing("Apple Inc. Common Stock", "NASDAQ"),
    "AMZN": Listing("Amazon.com, Inc. Common Stock", "NASDAQ"),
    "GOOGL": Listing("Alphabet Inc. Class A Common Stock", "NASDAQ"),
    "IWM": Listing("iShares Russell 2000 ETF", "ARCA"),
    "JPM": Listing("JPMorgan Chase & Co.", "NYSE"),
    "MSFT": Listing("Microsoft Corporation Common Stock", "NASDAQ"),
    "NVDA": Listing("NVIDIA Corporation Common Stock", "NASDAQ"),
    "QQQ": Listing("Invesco QQQ Trust, Series 1", "NASDAQ"),
    "SPY": Listing("SPDR S&P 500 ETF Trust", "ARCA"),
    "TSLA": Listing("Tesla, Inc. Common Stock", "NASDAQ"),
}


def _stock(symbol: str, price: str) -> Instrument:
    return Instrument(
        symbol=symbol,
        base=symbol,
        quote="USD",
        tick=Decimal("0.01"),  # Regulation NMS, Rule 612, from one dollar on
        lot=Decimal(1).scaleb(-QTY_DIGITS),
        min_qty=Decimal(1).scaleb(-QTY_DIGITS),
        max_qty=Decimal(1_000_000),
        min_price=Decimal("0.01"),
        min_notional=Decimal(1),  # "cost basis must be >= minimal amount of order 1"
        max_notional=Decimal(1_000_000_000),
        margin_rate=Decimal("0.5"),  # Regulation T: `multiplier` 2
        reference_price=Decimal(price),
        # Alpaca states no collar for limit orders.
        collar_up=Decimal(1000),
        collar_down=Decimal(0),
    )


STOCKS = {
    symbol: _stock(symbol, price)
    for symbol, price in {
        "AAPL": "226.50",
        "AMZN": "183.20",
        "GOOGL": "166.80",
        "IWM": "216.40",
        "JPM": "212.10",
        "MSFT": "416.80",
        "NVDA": "121.40",
        "QQQ": "481.30",
        "SPY": "561.60",
        "TSLA": "221.70",
    }.items()
}
