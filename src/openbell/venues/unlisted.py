"""Orders that the desk's journal holds open and a venue's list does not show.

A list that answers and leaves them out proves nothing (invariant: absence from one answer never
proves an end). Each is asked for by its ClOrdID: final settles it for good, open says that the list
is wrong, and what the venue cannot tell stays in doubt. So does what it does not know, but for an order
that never had an answer: of that one several answers, all later than it could still arrive, prove that it
never did.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from openbell.domain.orders import ClOrdID
from openbell.venues.port import Venue, VenueError, VenueOrder

T = TypeVar("T")

AT_ONCE = 10
UNKNOWN_TIMES = 3
"""So many answers prove that a venue does not know an order, as they do for the engine."""
ASK_AGAIN_S = 0.2
NAMED_MAX = 3
"""So many orders are named in one sentence."""


class KnownOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that the journal holds open."""

    cl_ord_id: ClOrdID
    symbol: str
    may_land_until_s: float | None = None
    """Monotonic, of all processes of this machine: it never had an answer, and cannot arrive any more
    later than this. None: it had one, or may be sent still; that the venue does not know it proves
    nothing."""


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
        """Those that the venue, asked for them, called final, or that never arrived there."""
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
                    told = await self._asked(order, asks)
                except VenueError as error:
                    reasons.add(error.message)
                    return
            if isinstance(told, str):
                reasons.add(told)
            elif told is None or told.status.is_final:
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

    async def _asked(self, order: KnownOrder, asks: Asks) -> VenueOrder | str | None:
        """What the venue shows of it; None: it never arrived; or why the venue's not knowing it does not
        prove that. Raises VenueError."""
        times = 0
        while True:
            asked_s = time.monotonic()
            told = await asks(lambda: self._venue.order(order.symbol, order.cl_ord_id))
            if told is not None:
                return told
            if order.may_land_until_s is None:
                return "the venue knows none of that ClOrdID"
            if asked_s < order.may_land_until_s:
                left_s = order.may_land_until_s - asked_s
                return (
                    f"the venue knows none of that ClOrdID, which may arrive for {left_s:.0f} s yet"
                )
            times += 1
            if times >= UNKNOWN_TIMES:
                return None
            await asyncio.sleep(ASK_AGAIN_S)


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
