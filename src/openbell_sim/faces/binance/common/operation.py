"""One call of a face: what it weighs, who may make it, what it does. REST and the WebSocket API are
two ways to the same operations."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from openbell_sim.exchange import Exchange
from openbell_sim.faces.binance.common import errors
from openbell_sim.faces.binance.common.parameters import Parameters
from openbell_sim.faces.port import RequestKind

Json = dict[str, object]
Weight = Callable[[Parameters], int]


@dataclass(frozen=True)
class Call:
    """One call of an identified account."""

    exchange: Exchange
    account: str
    parameters: Parameters
    received_ns: int
    may_trade: bool = True

    @property
    def account_number(self) -> int:
        """The account's name as a number, which is what Binance gives its accounts."""
        return zlib.crc32(self.account.encode())

    def symbol(self) -> str:
        symbol = self.parameters.text("symbol")
        if symbol not in self.exchange.markets:
            raise errors.invalid_symbol()
        return symbol

    def symbol_or_none(self) -> str | None:
        return self.symbol() if self.parameters.has("symbol") else None

    def asking(self, values: dict[str, str]) -> Call:
        """The same call with other parameters."""
        return replace(self, parameters=Parameters(values))


Public = Callable[[Exchange, Parameters], object]
Private = Callable[[Call], object]


class Security(Enum):
    NONE = "none"
    KEY = "key"
    """A known key, no signature."""
    SIGNED = "signed"


@dataclass(frozen=True)
class Operation:
    weight: Weight
    public: Public | None = None
    private: Private | None = None
    security: Security = Security.NONE
    orders: Weight | None = None
    """How many orders it counts as; None: it places none."""
    kind: RequestKind = RequestKind.MARKET_DATA


def fixed(weight: int) -> Weight:
    return lambda _: weight


def by_symbol(one: int, every: int) -> Weight:
    """Weights with and without a `symbol`."""
    return lambda p: one if p.has("symbol") else every


def by_limit(default: int, steps: tuple[tuple[int, int], ...], most: int) -> Weight:
    """`steps` are pairs of the largest `limit` and its weight; `most` is that of all others."""

    def weight(p: Parameters) -> int:
        text = p.text_or_none("limit") or ""
        limit = int(text) if text.isdigit() else default
        return next((weight for largest, weight in steps if limit <= largest), most)

    return weight


def public(function: Public, weight: Weight) -> Operation:
    return Operation(weight, public=function)


def private(
    kind: RequestKind, function: Private, weight: Weight, *, orders: Weight | None = None
) -> Operation:
    return Operation(weight, private=function, security=Security.SIGNED, orders=orders, kind=kind)
