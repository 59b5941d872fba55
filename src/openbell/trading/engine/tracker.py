"""Brings the books up to what the venue says of single orders: pushed, polled or asked for.

Whatever was heard, `book` computes the difference to the books and journals it, so hearing the
same thing twice, or in another order, changes nothing. Orders in doubt are asked for until the
venue has told what became of them; they are never sent again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from openbell.domain.ids import is_own, parse
from openbell.domain.order_book import ImpossibleEventError
from openbell.domain.orders import ClOrdID, Order, OrderInDoubt, OrderRejected, OrdStatus
from openbell.service.logging import get_logger
from openbell.state.journal import FencedError
from openbell.state.order_latency import LANDS_WITHIN_S
from openbell.trading.engine import core, metrics
from openbell.trading.engine.ledger import Ledger
from openbell.venues.port import (
    OrderReport,
    Venue,
    VenueError,
    VenueFill,
    VenueOrder,
    VenueThrottledError,
)

log = get_logger()

LOST_BY_VENUE = "lost_by_venue"

FILLS_AGAIN_S = (0.05, 0.1, 0.3, 1.0)
"""Pauses before askings for fills that the venue has counted but not listed; then they are
inferred. Ours: a second is ten times what a venue's trade list usually lags behind, and the first
lets one that is pushed arrive unasked."""
PUSHED_WITHIN_S = 0.1
"""What became of an order in doubt may be pushed in this time, and need not be asked for. Ours."""
ASK_AGAIN_S = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Back-off of asking for an order in doubt; the last one goes on."""
STALL_TICK_S = 0.05
"""How often, while an answer is waited for, it is seen whether the event loop turns."""
STALLED_S = 0.1
"""So late a tick means that this process stood still: what an order took then says nothing of its
venue. A stop of a venue waits as long at least; ours."""
ASKING_AT_ONCE = 8
HEARING_AT_ONCE = 256


@dataclass
class SendClock:
    """When orders were handed to a venue, and how long its answers took: says from when on an
    order that is not there can be taken to have never arrived."""

    window_s: float
    """The venue's time-out of desk.toml: an order's first byte has left within it, or never does."""
    permit_ttl_s: float
    refuses_late_by_s: float | None = None
    """As the venue's `Capabilities` say it. None: an order may land long after it was given up, and the
    latencies that were seen say nothing of it."""
    begun_s: float = field(default_factory=time.monotonic)
    longest_s: float = 0.0
    tell: Callable[[float], None] = lambda _: None
    """Told how long each order took that the venue answered, unless this process stood still
    meanwhile: it is kept for every later stop."""
    _sent_s: dict[ClOrdID, float] = field(default_factory=dict)
    _waiting: set[ClOrdID] = field(default_factory=set)
    _tick: asyncio.TimerHandle | None = None
    _tick_at_s: float = 0.0
    _stalled_until_s: float = 0.0

    def begin(self, *, permit_ttl_s: float | None = None) -> None:
        """An engine takes office now; `permit_ttl_s` where the permit of the one before it lives for
        another time than was assumed, such as none at all."""
        self.begun_s = time.monotonic()
        if permit_ttl_s is not None:
            self.permit_ttl_s = permit_ttl_s

    def sent(self, cl_ord_id: ClOrdID) -> None:
        self._sent_s[cl_ord_id] = time.monotonic()
        self._waiting.add(cl_ord_id)
        if self._tick is None:
            self._tick_later()

    def answered(self, cl_ord_id: ClOrdID, *, known: bool) -> None:
        """`known`: by the venue; else by a time-out, which says nothing of how long an order takes."""
        self._waiting.discard(cl_ord_id)
        sent_s = self._sent_s.get(cl_ord_id)
        if sent_s is not None:
            now_s = time.monotonic()
            # With a stall: the order's bytes may have left only after it.
            self.longest_s = max(self.longest_s, now_s - sent_s)
            self._note_stall(now_s)
            if known and self._stalled_until_s < sent_s:
                self.tell(now_s - sent_s)

    def forget(self, cl_ord_id: ClOrdID) -> None:
        self._sent_s.pop(cl_ord_id, None)
        self._waiting.discard(cl_ord_id)

    def _tick_later(self) -> None:
        self._tick_at_s = time.monotonic() + STALL_TICK_S
        self._tick = asyncio.get_running_loop().call_later(STALL_TICK_S, self._ticked)

    def _ticked(self) -> None:
        self._note_stall(time.monotonic())
        self._tick = None
        if self._waiting:
            self._tick_later()

    def _note_stall(self, now_s: float) -> None:
        if self._tick is not None and now_s > self._tick_at_s + STALLED_S:
            self._stalled_until_s = now_s

    def cannot_arrive_after_s(self, cl_ord_id: ClOrdID, epoch: int) -> float:
        """Monotonic time. An earlier engine that was only suspended might send for as long as its
        last permit lives, and gets no new one under its epoch; so that time counts as well."""
        sent_s = self._sent_s.get(cl_ord_id)
        if sent_s is None:
            own = parse(cl_ord_id)
            earlier = own is None or own.epoch != epoch
            sent_s = self.begun_s + (self.permit_ttl_s if earlier else 0.0)
        if self.refuses_late_by_s is None:
            return sent_s + self.window_s + max(self.longest_s, LANDS_WITHIN_S)
        return sent_s + self.window_s + self.refuses_late_by_s + self.longest_s


class Tracker:
    """One venue's orders."""

    def __init__(
        self,
        venue: Venue,
        ledger: Ledger,
        clock: SendClock,
        *,
        desk_id: str,
        mark: Callable[[str], Decimal | None],
        on_strange: Callable[[str], None],
    ) -> None:
        self._venue = venue
        self._ledger = ledger
        self._clock = clock
        self._desk_id = desk_id
        self._mark = mark
        self._on_strange = on_strange
        """Told of what only a whole reconciliation can clear up."""
        self._locks: dict[ClOrdID, tuple[asyncio.Lock, int]] = {}
        self._resolving: dict[ClOrdID, asyncio.Task[None]] = {}
        self._asking = asyncio.Semaphore(ASKING_AT_ONCE)
        self._hearing = asyncio.Semaphore(HEARING_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def hear(self, report: OrderReport) -> None:
        """A pushed report. Returns as soon as it is in line behind earlier ones of its order."""
        if report.order.cl_ord_id not in self._ledger.books.orders:
            if is_own(report.order.cl_ord_id, self._desk_id):
                self._on_strange(f"{report.order.cl_ord_id} is told of and not in the books")
            return
        await self._hearing.acquire()
        fills = (report.fill,) if report.fill is not None else ()
        task = self.aside(self.book(report.order, fills), report.order.cl_ord_id)
        task.add_done_callback(lambda _: self._hearing.release())

    async def ask(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        """Asks the venue for an order and books the answer. None: it knows none. VenueError."""
        async with self._asking:
            seen = await self._venue.order(symbol, cl_ord_id)
        if seen is not None and cl_ord_id in self._ledger.books.orders:
            await self.book(seen)
        return seen

    async def book(self, seen: VenueOrder, fills: Sequence[VenueFill] = ()) -> None:
        """Journals what `seen` adds to the books, its fills first."""
        try:
            if not await self._book(seen, fills):
                await self._fetch_fills(seen)
        except ImpossibleEventError as error:
            log.critical("the venue contradicts the books", alert=True, why=error.message)
            self._on_strange(error.message)

    async def _book(self, seen: VenueOrder, fills: Sequence[VenueFill]) -> bool:
        """Whether no fill is missing."""
        async with self._alone(seen.cl_ord_id):
            change = self._change(seen, fills)
            await self._ledger.record_surely(*change.events)
            return not change.missing

    async def _fetch_fills(self, seen: VenueOrder) -> None:
        """Asks for fills that the venue counted and did not tell. Between the askings other word of
        the order is booked: the fill may be pushed meanwhile."""
        for pause_s in FILLS_AGAIN_S:
            await asyncio.sleep(pause_s)
            if await self._book(seen, ()):
                return
            try:
                async with self._asking:
                    listed = await self._venue.fills(
                        seen.symbol, venue_order_id=seen.venue_order_id
                    )
            except VenueThrottledError as error:
                # To wait would leave the position wrong; the next look replaces the inference.
                log.warning("fills not told", cl_ord_id=seen.cl_ord_id, why=error.message)
                break
            except VenueError as error:
                log.warning("fills not told", cl_ord_id=seen.cl_ord_id, why=error.message)
                continue
            if await self._book(seen, listed):
                return
        async with self._alone(seen.cl_ord_id):
            if self._change(seen, ()).missing:
                await self._infer(seen)
            await self._ledger.record_surely(*self._change(seen, ()).events)

    def _change(self, seen: VenueOrder, fills: Sequence[VenueFill]) -> core.CatchUp:
        order = self._ledger.books.orders[seen.cl_ord_id]
        return core.catch_up(
            order,
            seen,
            fills,
            now_ns=time.time_ns(),
            fee_in_kind=not self._venue.capabilities.positions,
        )

    async def _infer(self, seen: VenueOrder) -> None:
        order = self._ledger.books.orders[seen.cl_ord_id]
        price = order.new.price or seen.price or self._mark(seen.symbol)
        if price is None:
            # Without any price nothing can be booked; the order stays open here, the books differ
            # from the venue, and reconciliation holds trading until the fills are told.
            self._on_strange(f"{seen.cl_ord_id} has fills that cannot be priced")
            return
        log.warning("fill inferred", cl_ord_id=seen.cl_ord_id, cum_qty=str(seen.cum_qty))
        await self._ledger.record_surely(*core.infer(order, seen, price, now_ns=time.time_ns()))

    def resolve(self, order: Order) -> None:
        """Ask for an order in doubt until it no longer is; nothing if that is under way."""
        cl_ord_id = order.cl_ord_id
        if cl_ord_id not in self._resolving:
            task = self.aside(self._resolve(order), cl_ord_id)
            self._resolving[cl_ord_id] = task
            task.add_done_callback(lambda _: self._resolved(cl_ord_id))
            metrics.IN_DOUBT.set(len(self._resolving))

    def is_resolving(self, cl_ord_id: ClOrdID) -> bool:
        """Whether the venue is asked for it already, until it tells."""
        return cl_ord_id in self._resolving

    def _resolved(self, cl_ord_id: ClOrdID) -> None:
        del self._resolving[cl_ord_id]
        metrics.IN_DOUBT.set(len(self._resolving))
        if self._closed:
            return  # an asking that closing ended would begin anew, and nobody would end that one
        order = self._ledger.books.orders.get(cl_ord_id)
        if order is not None and order.status is OrdStatus.UNKNOWN:
            self.resolve(order)  # came into doubt again while the last answer was booked

    async def _resolve(self, order: Order) -> None:
        """Found: booked. Not found: only many empty answers, the last of them late enough, prove
        that it is not there."""
        symbol, cl_ord_id = order.new.symbol, order.cl_ord_id
        times, attempt = 0, 0
        if self._venue.capabilities.order_stream:
            await asyncio.sleep(PUSHED_WITHIN_S)
        while self._ledger.books.orders[cl_ord_id].status is OrdStatus.UNKNOWN:
            asked_s = time.monotonic()
            pause_s = ASK_AGAIN_S[min(attempt, len(ASK_AGAIN_S) - 1)]
            attempt += 1
            try:
                seen = await self.ask(symbol, cl_ord_id)
            except VenueThrottledError as error:
                await asyncio.sleep(max(error.retry_after_s, pause_s))
                continue
            except VenueError:
                await asyncio.sleep(pause_s)
                continue
            if seen is not None:
                times = 0
            else:
                times += 1
                late = self._clock.cannot_arrive_after_s(cl_ord_id, self._ledger.epoch)
                if core.absence_proves(core.NotFound(times=times, settled=asked_s >= late)):
                    absent = _absent(order)
                    await self._ledger.record_surely(absent)
                    if absent.code == LOST_BY_VENUE:
                        # It may have protected a position, and nobody was told that it rests no more.
                        log.error(
                            "the venue lost an order that it had accepted", alert=True,
                            venue=order.new.venue, symbol=symbol, cl_ord_id=cl_ord_id,
                            side=str(order.new.side), price=order.new.price,
                        )  # fmt: skip
                    return
                # The first answer that can prove it is the one asked for then: nothing is traded
                # before, so it is not waited for as long as the back-off says.
                pause_s = min(pause_s, max(late - time.monotonic(), ASK_AGAIN_S[0]))
            if self._ledger.books.orders[cl_ord_id].status is OrdStatus.UNKNOWN:
                await asyncio.sleep(pause_s)

    async def doubt(self, order: Order, why: str) -> None:
        """Marks an open order as one that must be asked for; that starts the asking."""
        known = self._ledger.books.orders[order.cl_ord_id]
        if known.status.is_final or known.status is OrdStatus.UNKNOWN:
            return
        await self._ledger.record_surely(
            OrderInDoubt(cl_ord_id=order.cl_ord_id, at_ns=time.time_ns(), why=why)
        )

    async def doubt_all(self, orders: Sequence[Order], why: str) -> None:
        """As `doubt`, of orders of which nothing is under way here, in one append."""
        now_ns = time.time_ns()
        await self._ledger.record_surely(
            *(OrderInDoubt(cl_ord_id=each.cl_ord_id, at_ns=now_ns, why=why) for each in orders)
        )

    async def end_unsent(self, orders: Sequence[Order]) -> None:
        """Of an earlier engine that is proven to have ended before it could send them."""
        now_ns = time.time_ns()
        await self._ledger.record_surely(
            *(
                OrderRejected(
                    cl_ord_id=each.cl_ord_id,
                    at_ns=now_ns,
                    code="never_sent",
                    text="the engine ended between its intent and its first byte",
                )
                for each in orders
            )
        )

    @property
    def in_doubt(self) -> int:
        return len(self._resolving)

    @property
    def doubt_ends_in_s(self) -> float:
        """In how long the last of the orders in doubt can be taken for one that never arrived; 0: none is in
        doubt, or the venue's answers are all that is waited for."""
        epoch = self._ledger.epoch
        ends_s = (self._clock.cannot_arrive_after_s(each, epoch) for each in self._resolving)
        return max(0.0, max(ends_s, default=0.0) - time.monotonic())

    def aside(self, work: Awaitable[None], about: str) -> asyncio.Task[None]:
        """Runs beside the caller; a defect in it is an alert, and calls for reconciliation."""
        task = asyncio.ensure_future(_run(work))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, about))
        return task

    def _ended(self, task: asyncio.Task[None], about: str) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, FencedError):
            log.critical("work on an order failed", alert=True, about=about, exc_info=error)
            self._on_strange(f"work on {about} failed: {type(error).__name__}")

    async def close(self) -> None:
        """Ends what runs aside. An order in doubt stays so in the journal; the next engine asks."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def _alone(self, cl_ord_id: ClOrdID) -> AsyncIterator[None]:
        """One at a time per order, in the order of asking: each must see what the last one booked."""
        lock, users = self._locks.get(cl_ord_id, (asyncio.Lock(), 0))
        self._locks[cl_ord_id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(cl_ord_id)
            if users > 1:
                self._locks[cl_ord_id] = (lock, users - 1)


async def _run(work: Awaitable[None]) -> None:
    await work


def _absent(order: Order) -> OrderRejected:
    arrived = bool(order.venue_order_id) or order.cum_qty > 0
    return OrderRejected(
        cl_ord_id=order.cl_ord_id,
        at_ns=time.time_ns(),
        code=LOST_BY_VENUE if arrived else "never_arrived",
        text="the venue said so several times, later than it could still have arrived",
    )
