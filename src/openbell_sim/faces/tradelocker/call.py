"""One request of an identified user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar
from zlib import crc32

import msgspec

from openbell_sim.exchange import Exchange
from openbell_sim.faces.tradelocker import errors
from openbell_sim.faces.tradelocker.book import Book
from openbell_sim.faces.tradelocker.limits import Limits
from openbell_sim.faces.tradelocker.markets import INFO_ROUTE, TRADE_ROUTE, listing
from openbell_sim.faces.tradelocker.protections import Protections
from openbell_sim.instruments import Instrument
from openbell_sim.keys import Credentials

T = TypeVar("T")

ACC_NUM = "1"
"""Every user has one account here."""


def account_id(name: str) -> str:
    """Of an account of the exchange: the same at every start."""
    return str(1_000_000 + crc32(name.encode()) % 9_000_000)


@dataclass(frozen=True, kw_only=True)
class Call:
    exchange: Exchange
    book: Book
    protections: Protections
    limits: Limits
    credentials: Credentials
    parts: Mapping[str, str]
    """Of the path, by name."""
    query: Mapping[str, str]
    body: bytes
    received_ns: int

    @property
    def account(self) -> str:
        return self.credentials.account

    def decoded(self, shape: type[T]) -> T:
        """The body; numbers may come as text. Raises TradeLockerError."""
        try:
            return msgspec.json.decode(self.body or b"{}", type=shape)
        except msgspec.MsgspecError as error:
            raise errors.malformed(str(error)) from None

    def number(self, name: str, *, of: Mapping[str, str] | None = None) -> int | None:
        """A parameter of the query, None where it is missing. Raises TradeLockerError."""
        given = (self.query if of is None else of).get(name)
        if given is None:
            return None
        if not given.isdecimal():
            raise errors.malformed(f"{name} must be a number")
        return int(given)

    def instrument(self, tradable_id: int | None) -> Instrument:
        """Raises TradeLockerError."""
        for item in self.exchange.instruments.values():
            if listing(item.symbol).tradable_id == tradable_id:
                return item
        raise errors.not_found("Instrument")

    def quoted(self) -> Instrument:
        """The instrument of a question about its market, which takes the INFO route. Raises
        TradeLockerError."""
        item = self.instrument(self.number("tradableInstrumentId"))
        if self.number("routeId") != INFO_ROUTE:
            raise errors.malformed("routeId is no INFO route of this instrument")
        return item

    def filtered(self) -> str | None:
        """The symbol that the query filters by; None: all. Raises TradeLockerError."""
        wanted = self.number("tradableInstrumentId")
        return None if wanted is None else self.instrument(wanted).symbol


def check_trade_route(route: int) -> None:
    """Raises TradeLockerError."""
    if route != TRADE_ROUTE:
        raise errors.TradeLockerError("Invalid routeId: not a TRADE route of this instrument")
