"""Orders that the desk's journal holds open and a venue's list does not show.

A list that answers and leaves them out proves nothing (invariant: absence from one answer never
proves an end). Each is asked for by its ClOrdID: final settles it for good, open says that the list
is wrong, and what the venue cannot tell stays in doubt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from openbell.domain.orders import ClOrdID
from openbell.venues.port import Venue, VenueError, VenueOrder

T = TypeVar("T")

AT_ONCE = 10
NAMED_MAX = 3
"""So many orders are named in one sentence."""


class KnownOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that the journal holds open."""

    cl_ord_id: ClOrdID
    symbol: str


class Asks(Protocol):
    """Asks a venue as patiently as its caller wants. Raises what the venue raises."""

    async def __call__(self, question: Callable[[], Awaitable[T]]) -> T: ...


async def ask_once(question: Callable[[], Awaitable[T]]) -> T:
    return await question()


@dataclass(frozen=True)
class Found:
    """What became of those that one list did not show."""

    open: tuple[VenueOrder, ...] = ()
    """The venue says itself that they are open."""
    in_doubt: tuple[KnownOrder, ...] = ()
    """Neither open nor ended: the venue does not know them, cannot be asked for them, or did not
    say."""
    doubt: str = ""
    """A sentence about the list and `in_doubt`; empty where there is nothing to doubt."""


class Unlisted:
    """Asks one venue, for as long as one errand lasts."""

    def __init__(self, venue: Venue, known: Sequence[KnownOrder]) -> None:
        self._venue = venue
        self._known = {order.cl_ord_id: order for order in known}
        self._ended: dict[ClOrdID, None] = {}

    @property
    def ended(self) -> tuple[ClOrdID, ...]:
        """Those that the venue, asked for them, called final."""
        return tuple(self._ended)

    async def ask(
        self,
        listed: Collection[VenueOrder],
        asks: Asks = ask_once,
        give_up_at_s: float | None = None,
    ) -> Found:
        """Of every known order that `listed` lacks. What was not answered before `give_up_at_s`, a
        time of the running event loop, is in doubt. Raises nothing for what the venue does."""
        shown = {order.cl_ord_id for order in listed}
        missing = [
            order
            for order in self._known.values()
            if order.cl_ord_id not in shown and order.cl_ord_id not in self._ended
        ]
        if not missing:
            return Found()
        if not self._venue.capabilities.lookup_by_cl_ord_id:
            why = "the venue cannot be asked for an order by its ClOrdID"
            return Found(in_doubt=tuple(missing), doubt=_doubt((), missing, {why}))
        found: dict[ClOrdID, VenueOrder] = {}
        reasons: set[str] = set()
        slots = asyncio.Semaphore(AT_ONCE)

        async def look(order: KnownOrder) -> None:
            async with slots:
                try:
                    told = await asks(lambda: self._venue.order(order.symbol, order.cl_ord_id))
                except VenueError as error:
                    reasons.add(error.message)
                    return
            if told is None:
                reasons.add("the venue knows none of that ClOrdID")
            elif told.status.is_final:
                self._ended[order.cl_ord_id] = None
            else:
                found[order.cl_ord_id] = told

        try:
            async with asyncio.timeout_at(give_up_at_s), asyncio.TaskGroup() as group:
                for order in missing:
                    group.create_task(look(order))
        except TimeoutError:
            reasons.add("not all could be asked for in time")
        doubtful = [
            order
            for order in missing
            if order.cl_ord_id not in self._ended and order.cl_ord_id not in found
        ]
        still = tuple(found.values())
        return Found(open=still, in_doubt=tuple(doubtful), doubt=_doubt(still, doubtful, reasons))


def _doubt(
    still_open: Sequence[VenueOrder], in_doubt: Sequence[KnownOrder], reasons: Collection[str]
) -> str:
    told = []
    if still_open:
        told.append(f"the list of open orders leaves out {_named(still_open)}, open when asked for")
    if in_doubt:
        why = "; ".join(sorted(reasons))
        told.append(
            f"the journal holds {_named(in_doubt)} open, the list does not show them, and their end "
            f"is not proven: {why}"
        )
    return "; ".join(told)


def _named(orders: Sequence[VenueOrder | KnownOrder]) -> str:
    names = [order.cl_ord_id for order in orders[:NAMED_MAX]]
    rest = len(orders) - len(names)
    return ", ".join(names) + (f" and {rest} more" if rest else "")
