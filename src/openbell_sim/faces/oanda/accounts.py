"""The accounts' books, kept up with the exchange, and one call on one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from openbell_sim.exchange import Exchange
from openbell_sim.faces.oanda import errors, render
from openbell_sim.faces.oanda.book import (
    ZERO,
    Book,
    Json,
    OandaOrder,
    OrderState,
    Trade,
    Transaction,
)
from openbell_sim.faces.oanda.journal import Journal
from openbell_sim.faces.oanda.times import TimeFormat
from openbell_sim.instruments import Instrument
from openbell_sim.keys import Credentials


class Accounts:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._journal = Journal(exchange.instruments)
        self._read = 0
        self.catch_up()

    def catch_up(self) -> None:
        """Reads on in the exchange's history."""
        history = self.exchange.history
        assert history is not None, "this face reads the exchange's history"
        new = history[self._read :]
        self._read += len(new)
        self._journal.apply(new)

    def book(self, name: str) -> Book:
        """As of now."""
        self.catch_up()
        return self._journal.book(name)

    def all(self) -> list[Book]:
        self.catch_up()
        return list(self._journal.books.values())

    def pending(self, name: str) -> list[OandaOrder]:
        """Orders that still rest, oldest first. Where the exchange lost one without a word, no
        transaction tells it, and it is listed no more."""
        known = self.exchange.ledger.orders
        return [
            order for order in self.book(name).pending.values() if known[order.exchange_id].is_open
        ]

    def profit_of(self, trade: Trade) -> Decimal:
        """Unrealized, at the price that the exchange values positions at."""
        market = self.exchange.markets[trade.symbol]
        mark = market.mark()
        if mark is None:
            return ZERO
        return market.instrument.settled(trade.units * (mark - trade.price), mark)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request of an identified account."""

    accounts: Accounts
    credentials: Credentials
    parts: Mapping[str, str]
    """Of the path, by name."""
    query: Mapping[str, str]
    body: bytes
    times: TimeFormat
    received_ns: int
    base_url: str
    """Where the client reached us: links begin with it."""

    @property
    def account(self) -> str:
        return self.credentials.account

    @property
    def exchange(self) -> Exchange:
        return self.accounts.exchange

    @property
    def book(self) -> Book:
        return self.accounts.book(self.account)

    @property
    def pending(self) -> list[OandaOrder]:
        return self.accounts.pending(self.account)

    def find_order(self, specifier: str) -> OandaOrder | None:
        """None too for one that rested and was lost."""
        found = self.book.find_order(specifier)
        if found is None or found.state is not OrderState.PENDING:
            return found
        return found if self.exchange.ledger.orders[found.exchange_id].is_open else None

    def instrument(self, name: str) -> Instrument:
        """Raises OandaError."""
        item = self.exchange.instruments.get(name)
        if item is None:
            raise errors.invalid("instrument")
        return item

    def written(self, items: list[Transaction]) -> list[Json]:
        return [render.transaction(item, self.account, self.times) for item in items]

    def answer(self, **facts: object) -> Json:
        """With what every answer about an account carries."""
        return {**facts, "lastTransactionID": str(self.book.last_id)}
