"""Stops one venue: cancels, and asks until it is proven, or says what is not.

    connect ─▶ list ─▶ nothing of ours ─▶ wait settle_s, look at the funds ─▶ list ─▶ verified
                ▲          │ something                                          │ something
                └── cancel ◀┴───────────────────────────────────────────────────┘

What always holds:
- An outcome never counts as an end. Accepted, rejected or unknown, the orders are asked for again.
- Verified means two complete, empty lists in a row, `settle_s` (or twice the slowest round trip)
  from the answer of the first to the question of the second, both after `quiet`: an order that was
  sent just before the engines froze may land after the cancel.
- A list proves nothing where it is incomplete, where funds are locked for orders that it does not
  show, or where an order vanished from it that nobody cancelled and that the venue still knows.
- An order that the engine's register names and no list shows is asked for, and what may still land is
  waited for (`live_orders`).
- Nothing is sent before the time that the venue named.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec

from openbell.kill import events
from openbell.kill.asking import Asking, GivenUpError
from openbell.kill.cancelling import Cancelling, say
from openbell.kill.events import Tell
from openbell.kill.live_orders import Accounting, Register
from openbell.kill.pace import Backoff, Pace
from openbell.kill.plan import Target, opening_calls
from openbell.venues.asking import EMPTY_ANSWERS, doubt_of
from openbell.venues.port import Listing, Venue, VenueAuthError, VenueError, VenueOrder

SETTLE_S_MIN = 0.1
ROUND_TRIPS = 2
"""An order takes no longer than so many of the slowest round trip that was seen, where nothing else is
known of it."""
KEY_REFUSED_MAX = 3
"""Answers in a row that refuse the key, then the venue is given up: going on gets it locked out."""
LOOKUPS = 3
"""Vanished orders of each symbol that are looked up by their ClOrdIDs, where no register names them: lists
and mass cancels go wrong by the symbol."""
UNLISTED_AFTER = 2
"""Lists in a row that fail, then orders are asked for by themselves: after the first it is better to ask for
another, which shows a thousand at once."""
POLL_S = (0.02, 1.0)
RETRY_S = (0.1, 2.0)
"""First and longest pause, while acknowledged cancels are waited for and after failures."""


class VenueStop:
    """One stop of one venue. `deadline_s` is a time of the running event loop."""

    def __init__(
        self,
        venue: Venue,
        symbols: Sequence[str],
        target: Target,
        *,
        deadline_s: float,
        settle_s: float = SETTLE_S_MIN,
        warm: bool = False,
        quiet: asyncio.Event | None = None,
        register: Register | None = None,
        window_s: float = 0.0,
        tell: Tell = lambda _: None,
    ) -> None:
        """`settle_s`: the longest order latency that was seen. `warm`: the venue is connected.
        `quiet`: set when no engine can send any more; None: that is so already. `register`: of the
        orders that engines have sent, `window_s` at most after they were in it."""
        can = venue.capabilities
        pace = Pace(can.cancels_per_s, can.cancel_burst)
        self.asking = Asking(venue, pace, deadline_s, self._waiting)
        self.live = Accounting(
            self.asking, register, target.symbol, window_s, max(settle_s, SETTLE_S_MIN)
        )
        self.verified = False
        self.remain: tuple[VenueOrder, ...] = ()
        self.spared: tuple[VenueOrder, ...] = ()
        """Of the last list: to be cancelled, and not."""
        self.why = "no answer within the time given"
        """Why it is not verified."""
        self._looked = False
        """Whether the last question for the open orders was answered."""
        self._listed = False
        self._venue = venue
        self._symbols = symbols
        self._target = target
        self._settle_s = max(settle_s, SETTLE_S_MIN)
        self._warm = warm
        self._quiet = quiet
        self._tell = tell
        self._cancelling = Cancelling(self.asking, target, tell)
        self._keys_refused = 0
        self._asked = False
        """Whether cancels were sent for what a list showed."""
        self._contradicted = ""
        """Why the last empty list was not to be believed."""
        self.cut_s = 0.0
        """The wait between two empty lists that was not waited to its end."""

    @property
    def acknowledged(self) -> int:
        return self._cancelling.acknowledged

    @property
    def looked(self) -> bool:
        """Whether `remain` is the venue's last word: it answered, and took no cancel since."""
        return self._looked and not self._cancelling.unsettled

    async def connect(self) -> None:
        """And sends what may go out before anything is listed. Raises GivenUpError."""
        can = self._venue.capabilities
        # What a mass cancel takes unseen, a venue that cannot be asked for one order says nothing of: its
        # list comes first there, and tells afterwards that they are gone.
        blind = self.live.register is not None and not can.lookup_by_cl_ord_id
        opening = [] if blind else opening_calls(can, self._target, self._symbols)
        sent = asyncio.create_task(self._cancelling.send(opening))
        try:
            await self._connect()
            await sent
        finally:
            sent.cancel()
            await asyncio.gather(sent, return_exceptions=True)

    async def _connect(self) -> None:
        retry = Backoff(*RETRY_S)
        while not self._warm:
            try:
                await self.asking.connect()
                self._warm = True
            except VenueError as error:
                self._failed(error)
                await retry.pause()

    async def until_zero(self) -> None:
        """Ends when it is verified. Raises GivenUpError; the caller ends it when time is up."""
        poll, retry = Backoff(*POLL_S), Backoff(*RETRY_S)
        self.verified = False
        empty = failures = 0
        while empty < EMPTY_ANSWERS:
            quiet = self._is_quiet
            try:
                listing = await self.look()
                doubt = self.live.doubt if listing.complete else self.why
                if quiet and not (self.remain or doubt or empty + 1 == EMPTY_ANSWERS):
                    doubt = self._contradicted = await self._settle(listing)
            except VenueError as error:
                self._failed(error)
                empty, failures = 0, failures + 1
                if failures >= UNLISTED_AFTER:
                    await self._cancel_unlisted()
                await retry.pause()
                continue
            failures = 0
            if self.remain:
                empty = 0
                if await self._cancel(listing):
                    poll.moved()
                    retry.moved()
                else:
                    await (retry if self._cancelling.refusal else poll).pause()
            elif doubt:
                empty = 0
                self._doubt(doubt)
                await retry.pause()
            elif self._quiet is not None and not quiet:
                await self._quiet.wait()
            else:
                empty += 1
        if self.live.damage:
            # What can be listed is gone; what may be on its way, or left out, nobody can name.
            self._doubt(f"the register of live orders is damaged: {self.live.damage}")
            raise GivenUpError(self.why)
        self.verified, self.why = True, ""
        say(self._tell, events.Verified(venue=self._venue.name, at_ns=time.time_ns()))

    async def look(self) -> Listing:
        """Asks for the open orders. Raises VenueError and GivenUpError."""
        looked, self._looked = self._looked, False
        try:
            listing = await self.asking.open_orders()
        except GivenUpError:
            self._looked = looked  # nothing was asked, and nothing was told since
            raise
        self._looked, self._cancelling.unsettled, self._keys_refused = True, False, 0
        before = len(self.remain)
        self._sort(listing)
        self.live.saw(listing.orders)
        # The listed ones are cancelled first: to ask for others would keep them waiting.
        if self._is_quiet and (self._asked or not self.remain):
            cancelling = self._cancelling
            hidden = await self.live.ask(cancelling.swept_ns, cancelling.acknowledged_ids)
            listing = msgspec.structs.replace(listing, orders=(*listing.orders, *hidden))
            self._sort(listing)
        self._asked = self._asked or bool(self.remain)
        self._cancelling.saw(self.remain)
        self.why = self._why_not(listing)
        name, at_ns = self._venue.name, time.time_ns()
        orders, spared = len(self.remain), len(self.spared)
        if not self._listed:
            self._listed = True
            say(self._tell, events.Listed(venue=name, at_ns=at_ns, orders=orders, spared=spared))
        elif orders != before:
            say(self._tell, events.Remaining(venue=name, at_ns=at_ns, orders=orders))
        return listing

    @property
    def _is_quiet(self) -> bool:
        return self._quiet is None or self._quiet.is_set()

    def _sort(self, listing: Listing) -> None:
        theirs: list[VenueOrder] = []
        ours: list[VenueOrder] = []
        for order in listing.orders:
            (ours if self._target.holds(order) else theirs).append(order)
        self.remain, self.spared = tuple(ours), tuple(theirs)

    def gave_up(self, why: str) -> None:
        self.why = why

    async def end(self) -> None:
        """Requests still under way are given up."""
        await self._cancelling.end()

    def _why_not(self, listing: Listing) -> str:
        if self.remain:
            return self._cancelling.refusal or "listed as open after their cancels were sent"
        if not listing.complete:
            return "the list of open orders is incomplete"
        if not self._is_quiet:
            return "none is listed, but an engine may still send"
        doubt = self._contradicted or self.live.doubt
        if not doubt and self.cut_s:
            return (
                "none is listed, but the wait for orders on their way was cut: two empty lists have to be "
                f"{self.cut_s:.3g} s apart, and there was no time"
            )
        return doubt or "one empty list proves nothing; there was no time for another"

    async def _cancel(self, listing: Listing) -> bool:
        moved = await self._cancelling.send(self._cancelling.plan(listing))
        self.why = self._cancelling.refusal or self.why
        return moved

    async def _cancel_unlisted(self) -> None:
        """No list is to be had: what the register names is asked for one by one, and cancelled. It proves
        nothing, but a venue whose lists hang is no reason to leave everything where it rests."""
        if not (self._is_quiet and self._venue.capabilities.lookup_by_cl_ord_id):
            return
        cancelling = self._cancelling
        found = await self.live.ask(cancelling.swept_ns, cancelling.acknowledged_ids)
        ours = tuple(order for order in found if self._target.holds(order))
        if ours:
            # What the last list showed stays what is told: this is no list.
            self._asked = True
            cancelling.saw(ours)
            await cancelling.send(cancelling.plan(Listing(orders=ours, complete=False)))

    async def _settle(self, listing: Listing) -> str:
        """After an empty list: waits until an order on its way must have landed, and meanwhile
        holds the list against what else the venue knows. Why it is not to be believed, or nothing.
        Raises VenueError."""
        settle_s = max(self._settle_s, ROUND_TRIPS * self.asking.slowest_s)
        self.cut_s = settle_s
        _, doubt = await asyncio.gather(asyncio.sleep(settle_s), self._contradiction(listing))
        self.cut_s = 0.0
        return doubt

    async def _contradiction(self, listing: Listing) -> str:
        if not (listing.orders or listing.elsewhere):
            doubt = doubt_of(listing, await self.asking.balances(), self._symbols)
            if doubt:
                return doubt
        if not self._venue.capabilities.lookup_by_cl_ord_id:
            return ""
        for order in self._cancelling.unasked(LOOKUPS):
            found = await self.asking.order(order)
            if found is not None and not found.status.is_final:
                return f"{order.cl_ord_id} is open, and no list shows it"
        return ""

    def _failed(self, error: VenueError) -> None:
        """Raises GivenUpError where asking on would do harm."""
        self._doubt(error.message)
        if isinstance(error, VenueAuthError):
            self._keys_refused += 1
        if self._keys_refused >= KEY_REFUSED_MAX:
            raise GivenUpError(error.message)

    def _doubt(self, why: str) -> None:
        self._looked = False
        self.why = why
        say(self._tell, events.NotKnown(venue=self._venue.name, at_ns=time.time_ns(), why=why))

    def _waiting(self, seconds: float, why: str) -> None:
        waiting = events.Waiting(
            venue=self._venue.name, at_ns=time.time_ns(), seconds=round(seconds, 3), why=why
        )
        say(self._tell, waiting)
