"""What a market source says, in neutral words. Quantities are absolute, prices Decimal.

A source is the authority over the crowd's quantity at each price; a trade adds the information
who was matched (see `matching.book`).
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

Levels = tuple[tuple[Decimal, Decimal], ...]
"""`((price, quantity), ...)`"""


class Snapshot(msgspec.Struct, frozen=True, tag="snapshot"):
    """The crowd's whole book; what is not in it is gone."""

    symbol: str
    bids: Levels
    asks: Levels


class LevelsSet(msgspec.Struct, frozen=True, tag="levels"):
    """New quantities at some prices; 0 empties a level."""

    symbol: str
    bids: Levels
    asks: Levels


class BestSet(msgspec.Struct, frozen=True, tag="best"):
    """The crowd's best prices; crowd quantity better than these is gone."""

    symbol: str
    bid: tuple[Decimal, Decimal]
    ask: tuple[Decimal, Decimal]


class Traded(msgspec.Struct, frozen=True, tag="traded"):
    symbol: str
    price: Decimal
    qty: Decimal
    aggressor_is_buyer: bool


MarketEvent = Snapshot | LevelsSet | BestSet | Traded
