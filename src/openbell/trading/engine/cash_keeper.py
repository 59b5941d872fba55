"""Keeps cash in the books: books its opening where there is none, and compares it now and then.

The opening is what the venue tells while nothing is under way (`domain.cash_compared.to_open`); it
goes into the journal once, as first seen. Later comparisons write nothing. A difference is told when
two looks find the same; it holds no trading and ends none: a transfer is the owner's business, and a
desk that stopped for one would stop for every deposit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial

import msgspec

from openbell.domain.cash import FIRST_SEEN, KEEPS_POSITIONS, CashBooked
from openbell.domain.cash_compared import to_open
from openbell.domain.compared import Difference
from openbell.domain.comparison import CASH
from openbell.domain.order_book import ImpossibleEventError
from openbell.domain.reconcile import Agreement
from openbell.errors import StorageError
from openbell.service.logging import get_logger
from openbell.state.journal import FencedError
from openbell.trading.engine.comparing import Compared, Comparing
from openbell.trading.engine.ledger import Ledger
from openbell.trading.engine.venue_link import VenueLink

Differing = tuple[tuple[str, Decimal], ...]
"""Currencies with by how much they differ."""

log = get_logger()

CHECK_EVERY_S = 300.0
"""A comparison costs a venue's budget one question for balances and one whole look. Ours."""
AGAIN_S = 5.0
"""The first pause where there is no opening yet, or where something differs; doubled each time up to
`CHECK_EVERY_S`. Ours."""
_READY_EVERY_S = 0.2


@dataclass(frozen=True)
class CashWord:
    """What is told of one venue's cash."""

    result: str = CASH[None]
    """As `domain.comparison.CASH`."""
    why: str = "not compared yet"

    def document(self) -> dict[str, str]:
        return {"result": self.result, "why": self.why}


@dataclass
class _Course:
    """When to look next, and what a person was told."""

    pause_s: float = AGAIN_S
    before: Differing = ()
    """What the last look found."""
    told: Differing = ()

    def heard(self, compared: Compared | None) -> None:
        if compared is None or compared.comparison.cash is None:
            self.pause_s = min(2 * self.pause_s, CHECK_EVERY_S)
            return
        found = _differing(compared)
        if found != self.before:
            # Seen once is not told: it may be a moment between two answers.
            self.before, self.pause_s = found, AGAIN_S
            return
        self.pause_s = CHECK_EVERY_S
        if found != self.told:
            self.told = found
            _tell(compared)


class CashKeeper:
    """One engine's. `tasks` must run while it does."""

    def __init__(
        self, links: Mapping[str, VenueLink], ledger: Ledger, comparing: Comparing
    ) -> None:
        self._links = links
        self._ledger = ledger
        self._comparing = comparing
        self._words: dict[str, CashWord] = {}

    def tasks(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """None for a venue that keeps positions: its cash is never compared."""
        return [
            (f"cash {name}", partial(self._keep, link))
            for name, link in self._links.items()
            if not link.venue.capabilities.positions
        ]

    def word(self, venue: str) -> CashWord:
        if self._links[venue].venue.capabilities.positions:
            return CashWord(why=KEEPS_POSITIONS)
        return self._words.get(venue, CashWord())

    async def _keep(self, link: VenueLink) -> None:
        course = _Course()
        while True:
            if self._ledger.in_office and link.reconciled:
                course.heard(await self._look(link))
                await asyncio.sleep(course.pause_s)
            else:
                await asyncio.sleep(_READY_EVERY_S)

    async def _look(self, link: VenueLink) -> Compared | None:
        """None: nothing was learned."""
        try:
            compared = await self._comparing.look(link)
            if compared.found is None:
                return None
            # Nothing is awaited between the look and this: what it saw is what is booked.
            if await self._open(link, compared):
                # It agrees by what it is; another look would only cost the venue's budget.
                agrees = msgspec.structs.replace(compared.comparison, cash=Agreement.OK)
                compared = replace(compared, comparison=agrees)
        except (StorageError, FencedError) as error:
            log.info("cash not compared", venue=link.name, why=error.message)
            return None
        self._words[link.name] = _word(compared)
        return compared

    async def _open(self, link: VenueLink, compared: Compared) -> bool:
        facts = compared.cash
        if facts is None or compared.comparison.status is not Agreement.OK:
            return False
        orders = self._ledger.books.orders.values()
        inferred = any(o.inferred_qty for o in orders if o.new.venue == link.name)
        amounts = to_open(replace(facts, clear=compared.comparison.why, inferred=inferred))
        now_ns = time.time_ns()
        events = [
            CashBooked(
                at_ns=now_ns,
                venue=link.name,
                currency=currency,
                amount=amount,
                # Before the question left: what is executed after it is not in the answer.
                as_of_ns=compared.begun_ns + (link.skew_ns or 0),
                source=FIRST_SEEN,
            )
            for currency, amount in amounts.items()
        ]
        if not events:
            return False
        try:
            await self._ledger.record(*events)
        except ImpossibleEventError as error:
            log.info("cash not opened", venue=link.name, why=error.message)
            return False
        log.info(
            "cash opened",
            venue=link.name,
            amounts={each.currency: str(each.amount) for each in events},
        )
        return True


def _differing(compared: Compared) -> Differing:
    return tuple(
        (each.currency, each.unexplained)
        for each in _of_cash(compared)
        if each.status is Agreement.MISMATCH
    )


def _of_cash(compared: Compared) -> list[Difference]:
    return [each for each in compared.comparison.differences if each.currency]


def _tell(compared: Compared) -> None:
    for each in _of_cash(compared):
        log.warning(
            "cash differs from the books", alert=True, venue=each.venue, currency=each.currency,
            kind=each.kind.value, books=str(each.books), venue_says=str(each.venue_says),
            why=each.why, mend=each.mend,
        )  # fmt: skip


def _word(compared: Compared) -> CashWord:
    comparison = compared.comparison
    rows = [row for row in comparison.balances if row.why]
    status = comparison.cash
    first = next((row for row in rows if row.status is status), None)
    why = "" if status is Agreement.OK or first is None else f"{first.currency}: {first.why}"
    return CashWord(CASH[status], why)
