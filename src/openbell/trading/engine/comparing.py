"""`POST /v1/reconcile` and `POST /v1/adopt`: books against venues, explained, and the venue's truth
booked where a person says so.

A comparison heals what asking and booking can heal, as each of the engine's own looks does; without
news it changes nothing. An adoption is bound to the differences that the person was shown: they
must be found again twice, some time apart, before anything is written, and what is written is one
journal event for each instrument or currency.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import TypeVar

import msgspec

from openbell.domain.cash import ADOPTED, Cash, CashBooked
from openbell.domain.cash_compared import CashFacts
from openbell.domain.compared import Difference, Execution, VenueComparison
from openbell.domain.differences import (
    BalanceFacts,
    More,
    classify,
    digest_of,
    to_adopt,
    unreachable,
)
from openbell.domain.external import AdoptedTrade, OfVenue, PositionAdopted
from openbell.domain.order_book import ImpossibleEventError
from openbell.domain.orders import Side
from openbell.domain.reconcile import Kind, QuarantineForeign, Reconciliation
from openbell.errors import ConflictError, RefusedError, UsageError
from openbell.service.logging import get_logger
from openbell.trading.engine.ledger import Ledger
from openbell.trading.engine.venue_link import VenueLink
from openbell.venues.port import Balance, VenueError, VenueThrottledError

log = get_logger()

T = TypeVar("T")

PATIENCE_S = 20.0
"""How long a comparison waits for room in a venue's limits; its caller waits for 30 s, and a look
is several questions."""
LOOKS = 3
"""A comparison looks so often at most, until nothing is left to heal."""
SETTLE_S = 0.2
"""Between the two looks before an adoption: longer than the clocks of venue and desk are apart after
they were compared, so that an execution is known to be of before or after it. Ours."""

_HEALED = frozenset({Kind.MISSING_FILL, Kind.UNKNOWN_ORDER, Kind.STRAY_ORDER})


class AdoptBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    digest: str
    """Of the differences that were shown."""
    by: str
    reason: str
    venues: tuple[str, ...] = ()
    approved_by: str = ""
    request: str = ""


@dataclass(frozen=True)
class Compared:
    """One venue's comparison, with what the looks on the way to it healed."""

    comparison: VenueComparison
    found: Reconciliation | None = None
    """None: the venue could not be asked."""
    mended: tuple[Difference, ...] = ()
    asked_ns: int = 0
    """Our clock before the last look."""
    done_ns: int = 0
    """And after it."""
    begun_ns: int = 0
    """And before balances were asked for."""
    cash: CashFacts | None = None
    retry_after_s: float | None = None
    """Where the venue's limits held the question back: when it lets ask again."""


class Comparing:
    """Compares an engine's venues, and adopts."""

    def __init__(
        self,
        links: Mapping[str, VenueLink],
        ledger: Ledger,
        mark: Callable[[str, str], Decimal | None],
    ) -> None:
        self._links = links
        self._ledger = ledger
        self._mark = mark
        self._adopting = asyncio.Lock()

    async def compare(self, venues: Sequence[str] = ()) -> list[Compared]:
        """All of the desk's venues where none is named. Raises UsageError for one it has not."""
        return list(await asyncio.gather(*(self._settled(link) for link in self._named(venues))))

    async def adopt(self, body: AdoptBody) -> tuple[tuple[Difference, ...], list[Compared]]:
        """Books what was shown, and compares again.

        ConflictError: what differs is not, or no longer, what was shown; nothing was booked.
        RefusedError: something has no price to be booked at. StorageError, FencedError.
        """
        if not body.by or not body.reason.strip():
            raise UsageError("an adoption needs a name and a reason")
        async with self._adopting:
            before = await self.compare(body.venues)
            self._as_shown(before, body)
            await asyncio.sleep(SETTLE_S)
            again = await self.compare(body.venues)
            wanted = self._as_shown(again, body)
            as_of_ns = {
                one.comparison.venue: (one.done_ns + two.asked_ns) // 2 + self._skew_ns(two)
                for one, two in zip(before, again, strict=True)
            }
            prices = [await self._price(difference) for difference in wanted]
            now_ns = time.time_ns()
            events = [
                self._event(difference, price, as_of_ns[difference.venue], now_ns, body)
                for difference, price in zip(wanted, prices, strict=True)
            ]
            try:
                await self._ledger.record(*events)
            except ImpossibleEventError as error:
                raise ConflictError(
                    f"not adopted: {error.message}", hint="look again with `openbell reconcile`"
                ) from error
            for event in events:
                log.warning(
                    "adopted from the venue", alert=True, by=event.by,
                    approved_by=event.approved_by, reason=event.reason, **_said(event),
                )  # fmt: skip
            return wanted, await self.compare(body.venues)

    # --- looking -----------------------------------------------------------------------------

    async def _settled(self, link: VenueLink) -> Compared:
        shown: dict[tuple[str, str, Kind], Difference] = {}
        for attempt in range(LOOKS):
            now = await self.look(link)
            current = {_key(each): each for each in now.comparison.differences}
            shown |= {key: each for key, each in current.items() if each.kind in _HEALED}
            if now.found is None or attempt == LOOKS - 1 or not _is_worth_another(now):
                break
        mended = tuple(each for key, each in shown.items() if key not in current)
        return replace(now, mended=mended)

    async def look(self, link: VenueLink) -> Compared:
        """Once. StorageError, FencedError: what it found could not be booked."""
        begun_ns = time.time_ns()
        before = self._ledger.books.cash_at(link.name)
        balances = await asked(link.venue.balances, PATIENCE_S)
        if isinstance(balances, VenueError):
            return self._unreachable(link, balances)
        found = await asked(partial(link.look), PATIENCE_S, link.look_room_s)
        if isinstance(found, VenueError):
            return self._unreachable(link, found)
        # Nothing was awaited since the look: what was seen is what it saw.
        seen = link.seen
        assert seen is not None, "a look leaves what it saw"
        spot = not link.venue.capabilities.positions
        cash = self._cash_facts(link, balances, before)
        comparison = classify(
            seen.ours,
            seen.venue,
            found,
            More(
                adopted=self._ledger.books.adopted_at(link.name),
                fee_in_kind=spot,
                balances=[
                    BalanceFacts(currency=b.currency, free=b.free, locked=b.locked)
                    for b in balances.values()
                ],
                holdings=dict(link.config.holdings) if spot else None,
                agreed_ns=seen.agreed_ns,
                stood_s=link.differs_s,
                cash=cash,
            ),
        )
        return Compared(
            comparison,
            found,
            asked_ns=seen.venue.asked_ns,
            done_ns=time.time_ns(),
            begun_ns=begun_ns,
            cash=cash,
        )

    def _cash_facts(
        self, link: VenueLink, balances: Mapping[str, Balance], before: Mapping[str, Cash]
    ) -> CashFacts:
        """`before`: the books' cash before the balances were asked for."""
        now = self._ledger.books.cash_at(link.name)
        return CashFacts(
            symbols=link.config.symbols,
            books=now,
            venue={balance.currency: balance.total for balance in balances.values()},
            keeps_positions=link.venue.capabilities.positions,
            fee_currency=link.config.fee_currency,
            still=now == before,
        )

    def _unreachable(self, link: VenueLink, error: VenueError) -> Compared:
        held = self._ledger.books.quantities(link.name)
        retry_after_s = error.retry_after_s if isinstance(error, VenueThrottledError) else None
        return Compared(unreachable(link.name, error.message, held), retry_after_s=retry_after_s)

    def _named(self, venues: Sequence[str]) -> list[VenueLink]:
        for name in venues:
            if name not in self._links:
                known = ", ".join(self._links)
                raise UsageError(f'the desk has no venue "{name}"', hint=f"its venues: {known}")
        return [link for name, link in self._links.items() if not venues or name in venues]

    # --- adopting ----------------------------------------------------------------------------

    def _as_shown(self, compared: Sequence[Compared], body: AdoptBody) -> tuple[Difference, ...]:
        wanted = to_adopt(each.comparison for each in compared)
        if not wanted or digest_of(wanted) != body.digest:
            raise ConflictError(
                "what differs has changed since it was shown; nothing was adopted",
                hint="look again with `openbell reconcile`",
            )
        return wanted

    def _skew_ns(self, compared: Compared) -> int:
        return self._links[compared.comparison.venue].skew_ns or 0

    async def _price(self, difference: Difference) -> Decimal:
        """At which what no execution explains is booked; 0 where there is none of it."""
        if not difference.unexplained or difference.currency:
            return Decimal(0)
        mark = self._mark(difference.venue, difference.symbol)
        if mark is None:
            try:
                mark = (await self._links[difference.venue].venue.quote(difference.symbol)).mid
            except VenueError:
                mark = difference.executions[-1].px if difference.executions else None
        if mark is None or not mark.is_finite() or mark <= 0:
            raise RefusedError(
                f"{difference.venue} {difference.symbol} has no price: nothing was adopted",
                hint="adopt when the venue quotes it",
            )
        return mark

    def _event(
        self, difference: Difference, price: Decimal, as_of_ns: int, now_ns: int, body: AdoptBody
    ) -> OfVenue:
        assert difference.books is not None and difference.venue_says is not None
        if difference.currency:
            return CashBooked(
                at_ns=now_ns,
                venue=difference.venue,
                currency=difference.currency,
                amount=difference.venue_says,
                as_of_ns=as_of_ns,
                source=ADOPTED,
                books=difference.books,
                by=body.by,
                approved_by=body.approved_by,
                reason=body.reason,
                request=body.request,
            )
        return PositionAdopted(
            at_ns=now_ns,
            venue=difference.venue,
            symbol=difference.symbol,
            books_qty=difference.books,
            venue_qty=difference.venue_says,
            as_of_ns=as_of_ns,
            trades=tuple(map(_trade, difference.executions)),
            rest=difference.unexplained,
            rest_px=price,
            fee_in_kind=not self._links[difference.venue].venue.capabilities.positions,
            by=body.by,
            approved_by=body.approved_by,
            reason=body.reason,
            request=body.request,
        )


async def asked(
    ask: Callable[[], Awaitable[T]], patience_s: float, room_s: float = 0.0
) -> T | VenueError:
    """The answer; one that the venue's limits hold back for a moment is waited for,
    `room_s` at least."""
    until_s = time.monotonic() + patience_s
    while True:
        try:
            return await ask()
        except VenueThrottledError as error:
            wait_s = max(error.retry_after_s, room_s)
            if time.monotonic() + wait_s > until_s:
                return error
            await asyncio.sleep(wait_s)
        except VenueError as error:
            return error


def _is_worth_another(compared: Compared) -> bool:
    assert compared.found is not None
    heals = any(not isinstance(each, QuarantineForeign) for each in compared.found.actions)
    return heals or any(each.kind is Kind.MOVING for each in compared.comparison.differences)


def _key(difference: Difference) -> tuple[str, str, Kind]:
    return difference.symbol, difference.cl_ord_id, difference.kind


def _said(event: OfVenue) -> dict[str, object]:
    if isinstance(event, CashBooked):
        return {
            "venue": event.venue, "currency": event.currency, "books": str(event.books),
            "venue_says": str(event.amount),
        }  # fmt: skip
    return {
        "venue": event.venue, "symbol": event.symbol, "books": str(event.books_qty),
        "venue_says": str(event.venue_qty), "exec_ids": [trade.exec_id for trade in event.trades],
    }  # fmt: skip


def _trade(execution: Execution) -> AdoptedTrade:
    return AdoptedTrade(
        exec_id=execution.exec_id,
        venue_order_id=execution.venue_order_id,
        side=Side(execution.side),
        qty=execution.qty,
        px=execution.px,
        fee=execution.fee,
        fee_currency=execution.fee_currency,
        venue_time_ns=execution.venue_time_ns,
    )
