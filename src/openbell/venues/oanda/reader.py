"""Keeps a history up with the venue: forward to now, backward as far as an order needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from openbell.venues.oanda.history import CutError, History
from openbell.venues.oanda.wire import Transaction, TransactionPages, Transactions, unix_time
from openbell.venues.port import VenueUnavailableError

PAGE = 1000
"""Transactions in one answer at most: "Transaction Endpoints", `pageSize`."""

AskTransactions = Callable[[str], Awaitable[Transactions]]
"""`sinceid?id=7` or `idrange?from=1&to=7`. Raises VenueError."""
AskPages = Callable[[str], Awaitable[TransactionPages]]
"""`?from=...`. Raises VenueError."""


class Reader:
    """Every call raises VenueError, also where what the venue lists has holes."""

    def __init__(
        self, name: str, history: History, ask: AskTransactions, ask_pages: AskPages
    ) -> None:
        self.history = history
        self._name = name
        self._ask = ask
        self._ask_pages = ask_pages
        self._lock = asyncio.Lock()
        self._covered_ns: int | None = None
        """Everything from this time on is known."""

    async def catch_up(self) -> list[Transaction]:
        """Reads on until nothing is newer; what was new."""
        history, new = self.history, []
        async with self._lock:
            while True:
                answer = await self._ask(f"sinceid?id={history.top}")
                self._take(history.extend, answer.transactions)
                new += answer.transactions
                if history.top >= int(answer.last_transaction_id):
                    return new
                if not answer.transactions:
                    raise self._cut("its end is missing")

    async def know(self, number: int) -> None:
        """Knows an order, and the trade that it hangs on."""
        await self.look_back(number)
        await self.look_back(self.history.needs(number))

    async def look_back(self, number: int) -> None:
        """Knows everything from this transaction on."""
        history = self.history
        async with self._lock:
            while history.floor >= max(number, 1):
                first = max(1, history.floor - PAGE + 1)
                answer = await self._ask(f"idrange?from={first}&to={history.floor}")
                if len(answer.transactions) != history.floor - first + 1:
                    raise self._cut("it is shorter than its range")
                self._take(history.prepend, answer.transactions)

    async def look_back_to(self, since_ns: int) -> None:
        """Knows everything from this time on."""
        if self._covered_ns is not None and self._covered_ns <= since_ns:
            return
        if since_ns <= 0:
            await self.look_back(1)
        else:
            pages = await self._ask_pages(f"?from={unix_time(since_ns)}&pageSize={PAGE}")
            try:
                first = pages.first_number
            except ValueError as error:
                raise self._cut(str(error)) from error
            if first is not None:
                await self.look_back(first)
        self._covered_ns = since_ns

    def _take(
        self, take: Callable[[list[Transaction]], None], transactions: list[Transaction]
    ) -> None:
        try:
            take(transactions)
        except CutError as error:
            raise self._cut(str(error)) from error

    def _cut(self, why: str) -> VenueUnavailableError:
        return VenueUnavailableError(f"{self._name}: a cut list of transactions: {why}")
