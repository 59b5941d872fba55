"""The venues asked past the engine: `procedures.ports.VenueTruth` by the clerk's errands.

A venue's list of open orders is held against the journal: an order that the journal holds open and
the list does not show makes the answer unknown, unless the venue, asked for it, says that it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence

import msgspec

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.domain.orders import ClOrdID
from openbell.errors import NotRunningError, OpenbellError
from openbell.service.logging import get_logger
from openbell.state.live_orders import proven_ended
from openbell.venues.asking import VenueAnswer
from openbell.venues.clerk import Known, ask_venues, cancel_own_orders
from openbell.venues.unlisted import KnownOrder

log = get_logger()


class Clerk:
    """Sends the clerk to every venue of the desk."""

    def __init__(self, layout: DeskLayout, desk: LoadedDesk) -> None:
        self._layout = layout
        self._desk = desk
        self._ended: set[ClOrdID] = set()
        """Of the orders that the journal holds open: proven to have ended. They are not asked for
        again, since an end is for good."""

    async def look(self, *, timeout_s: float, but: Collection[str] = ()) -> Sequence[VenueAnswer]:
        known, why_not = await self._known()
        venues = [name for name in self._desk.file.venues if name not in but]
        answers = await ask_venues(self._layout, self._desk, venues, timeout_s, known)
        return self._heeded(answers, why_not)

    async def cancel(self, *, timeout_s: float, but: Collection[str] = ()) -> Sequence[VenueAnswer]:
        known, why_not = await self._known()
        venues = [name for name in self._desk.file.venues if name not in but]
        answers = await cancel_own_orders(self._layout, self._desk, venues, timeout_s, known)
        return self._heeded(answers, why_not)

    async def _known(self) -> tuple[Known, str]:
        """The open orders of the journal, by venue, and why it could not be read."""
        # Later than this module: a controller adopts its services before it loads a database.
        from openbell.state.books_at_rest import books_at_rest

        try:
            at_rest = await asyncio.to_thread(books_at_rest, self._layout.database)
        except NotRunningError:
            return {}, ""  # a desk that never had a journal sent no order
        except OpenbellError as error:
            log.error("the journal cannot be read", why=error.message, alert=True)
            return {}, error.message
        known: dict[str, list[KnownOrder]] = {}
        folder = self._layout.live_orders
        # An emergency stop that ended the engine has no journal to book it in.
        proven = {venue: proven_ended(folder, venue) for venue in self._desk.file.venues}
        for order in at_rest.books.open_orders():
            ended = order.cl_ord_id in proven.get(order.new.venue, ())
            if not ended and order.cl_ord_id not in self._ended:
                known.setdefault(order.new.venue, []).append(
                    KnownOrder(cl_ord_id=order.cl_ord_id, symbol=order.new.symbol)
                )
        return known, ""

    def _heeded(self, answers: Iterable[VenueAnswer], why_not: str) -> list[VenueAnswer]:
        found = []
        for answer in answers:
            self._ended.update(answer.ended)
            if why_not and answer.status == "ok":
                why = f"whether the journal knows of an open order is not known: {why_not}"
                answer = msgspec.structs.replace(answer, status="unknown", why=why)
            found.append(answer)
        return found
