"""The venues asked past the engine: `procedures.ports.VenueTruth` by the clerk's errands.

A venue's list of open orders is held against the journal: an order that the journal holds open and
the list does not show makes the answer unknown, unless the venue, asked for it, says that it ended.

One that never had an answer, and that the venue does not know, has never arrived once its time is over: its
venue's time-out from when it was handed over, or the moment from which nothing could be sent, whichever
is sooner, and `LANDS_WITHIN_S` after that. These are the rules of an emergency stop (`kill.live_orders`), and
hold while nothing of the desk can send and while the register of live orders can be read in full.

That moment is the first look of those that all found the desk quiet, with nothing started in between. A
controller lives through many sessions, and the end of an earlier one says nothing of this one: so the moment
is forgotten at a look that does not confirm it, where something that can send starts (`a_sender_starts`), and
where the register has an order that was handed over since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

import msgspec

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.domain.orders import ClOrdID, Order
from openbell.errors import NotRunningError, OpenbellError
from openbell.runtime.processes import this_boot
from openbell.service.logging import get_logger
from openbell.state.live_orders import Sent, proven_ended, read_live_orders
from openbell.state.order_latency import LANDS_WITHIN_S, lands_by_ns
from openbell.venues.asking import VenueAnswer
from openbell.venues.clerk import Known, ask_venues, cancel_own_orders
from openbell.venues.unlisted import KnownOrder

log = get_logger()


class Clerk:
    """Sends the clerk to every venue of the desk."""

    def __init__(
        self,
        layout: DeskLayout,
        desk: LoadedDesk,
        is_quiet: Callable[[], Awaitable[bool]],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_quiet`: nothing of the desk that could send an order lives."""
        self._layout = layout
        self._desk = desk
        self._is_quiet = is_quiet
        self._clock_s = clock_s
        self._quiet_since_s: float | None = None
        """When it was first seen to be, without anything in between."""
        self._starts = 0
        self._ended: set[ClOrdID] = set()
        """Of the orders that the journal holds open: proven to have ended. They are not asked for
        again, since an end is for good."""

    def a_sender_starts(self) -> None:
        """Told where something that can send an order starts, however soon it ends again."""
        self._starts += 1
        self._quiet_since_s = None

    async def look(
        self, *, timeout_s: float, but: Collection[str] = (), fills_since_ns: int | None = None
    ) -> Sequence[VenueAnswer]:
        known, why_not = await self._known()
        venues = [name for name in self._desk.file.venues if name not in but]
        answers = await ask_venues(
            self._layout, self._desk, venues, timeout_s, known, fills_since_ns=fills_since_ns
        )
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
            self._quiet_since_s = None
            return {}, ""  # a desk that never had a journal sent no order
        except OpenbellError as error:
            self._quiet_since_s = None
            log.error("the journal cannot be read", why=error.message, alert=True)
            return {}, error.message
        folder = self._layout.live_orders
        # An emergency stop that ended the engine has no journal to book it in.
        proven = {venue: proven_ended(folder, venue) for venue in self._desk.file.venues}
        doubtful = [
            order
            for order in at_rest.books.open_orders()
            if order.cl_ord_id not in proven.get(order.new.venue, ())
            and order.cl_ord_id not in self._ended
        ]
        unanswered = [order for order in doubtful if not order.venue_order_id and not order.cum_qty]
        until_s = await self._may_land_until_s(unanswered)
        known: dict[str, list[KnownOrder]] = {}
        for order in doubtful:
            known.setdefault(order.new.venue, []).append(
                KnownOrder(
                    cl_ord_id=order.cl_ord_id,
                    symbol=order.new.symbol,
                    may_land_until_s=until_s.get(order.cl_ord_id),
                )
            )
        return known, ""

    async def _may_land_until_s(self, unanswered: Sequence[Order]) -> dict[ClOrdID, float]:
        """Of orders without an answer in the journal; none where something may send still, or where the
        register may lack some of them."""
        if not unanswered:
            self._quiet_since_s = None  # nobody asked whether it still is
            return {}
        starts = self._starts
        if not await self._is_quiet() or self._starts != starts:
            self._quiet_since_s = None
            return {}
        since_s = self._clock_s() if self._quiet_since_s is None else self._quiet_since_s
        self._quiet_since_s = since_s
        register = await asyncio.to_thread(read_live_orders, self._layout.live_orders, this_boot())
        if self._starts != starts:
            return {}
        if any(order.sent_ns / 1e9 > since_s for order in register.orders):
            # Something ran since, which nobody told of: an engine that a person had started.
            self._quiet_since_s = since_s = self._clock_s()
        if register.damage:
            log.error("orders may have landed that the register lacks", why=register.damage)
            return {}
        written = {order.cl_ord_id: order for order in register.orders}
        until_s: dict[ClOrdID, float] = {}
        for order in unanswered:
            slot = written.get(order.cl_ord_id)
            if slot is not None and slot.sent is Sent.OPEN:
                continue  # the venue had it, though the journal was not told
            if slot is None:
                until_s[order.cl_ord_id] = since_s + LANDS_WITHIN_S
            else:
                window_s = self._desk.file.venues[order.new.venue].timeout
                by_ns = lands_by_ns(slot.sent_ns, int(since_s * 1e9), window_s)
                until_s[order.cl_ord_id] = by_ns / 1e9
        return until_s

    def _heeded(self, answers: Iterable[VenueAnswer], why_not: str) -> list[VenueAnswer]:
        found = []
        for answer in answers:
            self._ended.update(answer.ended)
            if why_not and answer.status == "ok":
                why = f"whether the journal knows of an open order is not known: {why_not}"
                answer = msgspec.structs.replace(answer, status="unknown", why=why)
            found.append(answer)
        return found
