"""From an intent to a sent order.

    dedupe → last gate → OrderIntended journaled → permit, latch and halt again → send → outcome
                                         permit, latch and halt once more → first byte ┘

Invariants
- Without its intent in the journal nothing is sent.
- One intent makes at most one order, whatever is repeated, lost or restarted.
- The second look stands directly before the send, in the same step of the event loop: the journal
  takes time, and a permit may run out meanwhile.
- No order's first byte is written without leave: one that had to wait for a connection is looked at
  once more when it has one, for it may have outlived its permit, its engine's epoch or a halt.
- Before it can leave it is in the register of live orders, by which a stop of the desk knows of it.
- An order is sent once. Whatever is not a clear answer is in doubt, and asked for.

Orders are handed to the venue in the order in which they passed the gate; a cancel waits for the
outcome of its own order's send.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from typing import Protocol

from openbell.domain import ids
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    Order,
    OrderAccepted,
    OrderIntended,
    OrderRejected,
    OrdStatus,
    Purpose,
)
from openbell.domain.permit import Refusal
from openbell.errors import StorageError
from openbell.service.logging import get_logger
from openbell.state.journal import FencedError
from openbell.state.order_register import OrderRegister
from openbell.trading.engine import core, metrics
from openbell.trading.engine.gate import Gate
from openbell.trading.engine.ledger import Ledger
from openbell.trading.engine.outcomes import Outcomes
from openbell.trading.engine.overload import Overload
from openbell.trading.engine.tracker import SendClock
from openbell.trading.messages import IntentReply, SubmitIntent
from openbell.venues.port import Rejected, SubmitOutcome, Unknown, Venue
from openbell.venues.rest import THROTTLED
from openbell.venues.transport import NotSentError

log = get_logger()

SENDS_AT_ONCE = 64
"""Per venue. More would only queue in the connection, where nothing can be looked at again."""
SLOT_WAIT_S = 0.5
"""An intent that waits longer for its turn is refused: prices have moved on."""
JUST_SENT_S = 2.0
"""An order that is being sent for longer is late: a list that lacks it is told as one that lacks it."""


class SendLink(Protocol):
    """What a send needs of a venue's link."""

    @property
    def venue(self) -> Venue: ...
    @property
    def clock(self) -> SendClock: ...
    def look_soon(self, why: str) -> None: ...
    def throttled(self, symbol: str, retry_after_s: float | None) -> None: ...


class OrderDesk:
    """Takes intents. Safe to call from many tasks at once."""

    def __init__(
        self,
        *,
        desk_id: str,
        ledger: Ledger,
        gate: Gate,
        links: Mapping[str, SendLink],
        register: OrderRegister,
    ) -> None:
        self.last_sent_ns = 0
        """Wall clock, of the last order handed to a venue."""
        self.outcomes = Outcomes()
        self._overload = Overload()
        self._desk_id = desk_id
        self._ledger = ledger
        self._gate = gate
        self._links = links
        self._register = register
        self._counter = itertools.count(1)
        self._answers: dict[tuple[str, str], asyncio.Future[IntentReply]] = {}
        self._pending: dict[ClOrdID, NewOrder] = {}
        self._sending: dict[ClOrdID, asyncio.Task[None]] = {}
        self._arrived_ns: dict[ClOrdID, int] = {}
        self._slots = {name: asyncio.Semaphore(SENDS_AT_ONCE) for name in links}

    async def submit(
        self, intent: SubmitIntent, *, purpose: Purpose = Purpose.TRADE
    ) -> IntentReply:
        """Answers once the order has been handed to its venue, or why it was not."""
        key = (intent.strategy, intent.intent_id)
        known = self._ledger.books.order_of_intent(*key)
        if known is not None:
            return IntentReply(intent_id=intent.intent_id, taken=True, cl_ord_id=known)
        answer = self._answers.get(key)
        if answer is None:
            answer = asyncio.ensure_future(self._submit(intent, purpose, time.monotonic_ns()))
            self._answers[key] = answer
            answer.add_done_callback(lambda _: self._answers.pop(key))
        return await asyncio.shield(answer)

    async def _submit(self, intent: SubmitIntent, purpose: Purpose, arrived_ns: int) -> IntentReply:
        slots = self._slots.get(intent.venue)
        if slots is None:
            return _refused(intent, Refusal("bad_order", f"the desk has no venue {intent.venue}"))
        try:
            async with asyncio.timeout(SLOT_WAIT_S if slots.locked() else None):
                await slots.acquire()
        except TimeoutError:
            busy = f"{SENDS_AT_ONCE} orders wait for {intent.venue} to answer"
            return self._overloaded(intent, Refusal("limit_rate", busy))
        task: asyncio.Task[None] | None = None
        order: NewOrder | None = None
        try:
            order = self._order(intent, purpose)
            refusal = self._gate.refuses(order, self._ledger.books, self._pending.values())
            if refusal is not None:
                if refusal.code == "limit_rate":
                    return self._overloaded(intent, refusal)
                return _refused(intent, refusal)
            self._gate.note_sent()
            self._pending[order.cl_ord_id] = order
            try:
                await self._ledger.record(
                    OrderIntended(cl_ord_id=order.cl_ord_id, at_ns=time.time_ns(), order=order)
                )
            except (StorageError, FencedError) as error:
                return _refused(intent, Refusal("storage", error.message))
            finally:
                del self._pending[order.cl_ord_id]
            self._arrived_ns[order.cl_ord_id] = arrived_ns
            left: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._send(order, left, slots))
            self._sending[order.cl_ord_id] = task
            refusal = await left
        finally:
            if task is None:
                slots.release()
                if order is not None:
                    self._gate.forget(order.cl_ord_id)
        if refusal is not None:
            return _refused(intent, refusal, order.cl_ord_id)
        return IntentReply(intent_id=intent.intent_id, taken=True, cl_ord_id=order.cl_ord_id)

    def _overloaded(self, intent: SubmitIntent, refusal: Refusal) -> IntentReply:
        if count := self._overload.refused(time.monotonic()):
            log.error(
                "more orders are asked for than may be sent",
                alert=True, refused=count, why=refusal.text, strategy=intent.strategy,
            )  # fmt: skip
        return _refused(intent, refusal)

    async def _send(
        self, order: NewOrder, left: asyncio.Future[Refusal | None], slots: asyncio.Semaphore
    ) -> None:
        link = self._links[order.venue]
        try:
            refusal = self._unregistered(order) or self._gate.still_refuses(order)
            # Nothing may stand between this look and the send.
            if refusal is None:
                link.clock.sent(order.cl_ord_id)
                outcome = await self._hand_over(link.venue, order, left)
                link.clock.answered(order.cl_ord_id, known=not isinstance(outcome, Unknown))
                if isinstance(outcome, Rejected) and outcome.code == THROTTLED:
                    link.throttled(order.symbol, outcome.retry_after_s)
                event = core.of_submit(order.cl_ord_id, outcome, now_ns=time.time_ns())
            else:
                left.set_result(refusal)
                event = OrderRejected(
                    cl_ord_id=order.cl_ord_id,
                    at_ns=time.time_ns(),
                    code="never_sent",
                    text=f"{refusal.code}: {refusal.text}",
                )
            metrics.OUTCOMES.labels(order.venue, type(event).__name__).inc()
            self.outcomes.note(event)
            known = self._ledger.books.orders[order.cl_ord_id]
            if isinstance(event, OrderAccepted) and _is_past_acceptance(known):
                return  # the event stream was faster
            await self._ledger.record_surely(event)
        except FencedError:
            link.look_soon("fenced")
        finally:
            slots.release()
            del self._sending[order.cl_ord_id]
            self._arrived_ns.pop(order.cl_ord_id, None)
            self._gate.forget(order.cl_ord_id)
            if not left.done():
                left.cancel()

    def _unregistered(self, order: NewOrder) -> Refusal | None:
        """Why the register of live orders does not have it: a stop would not know of it."""
        try:
            self._register.intended(order)
        except StorageError as error:
            log.critical("not registered, so not sent", alert=True, why=error.message)
            return Refusal("storage", error.message)
        return None

    async def _hand_over(
        self, venue: Venue, order: NewOrder, left: asyncio.Future[Refusal | None]
    ) -> SubmitOutcome:
        self.last_sent_ns = time.time_ns()
        metrics.SENT.labels(order.venue).inc()
        begun = time.perf_counter()
        # The reply need not wait for the venue: the callback runs as soon as this task waits.
        asyncio.get_running_loop().call_soon(_set, left)
        try:
            outcome = await venue.submit(order)
        except Exception as error:
            log.critical("the adapter raised on a submit", alert=True, exc_info=error)
            outcome = Unknown(why=f"the adapter raised {type(error).__name__}")
        metrics.ROUND_TRIP.observe(time.perf_counter() - begun)
        return outcome

    def on_sent(self, cl_ord_id: ClOrdID, at_ns: int) -> None:
        """Called by an adapter directly before an order's first byte is written.

        Raises NotSentError, and nothing is written, where it may no longer be sent: it may have
        waited for a connection (a venue may allow two new ones a second).
        """
        sending = self._ledger.books.orders.get(cl_ord_id)
        if sending is None:
            raise NotSentError("it is in no book")
        refusal = self._gate.still_refuses(sending.new)
        if refusal is not None:
            raise NotSentError(refusal.text)
        if not (self._register.leaving(sending.new) or sending.status.is_final):
            # The register was lost while it waited, and could not be made anew.
            raise NotSentError("it is not in the register of live orders")
        arrived_ns = self._arrived_ns.get(cl_ord_id)
        if arrived_ns is not None:
            metrics.INTENT_TO_SENT.observe((at_ns - arrived_ns) / 1e9)

    @property
    def under_way(self) -> int:
        """Orders that were handed to a venue and have no answer yet."""
        return len(self._sending)

    def is_sending(self, cl_ord_id: ClOrdID) -> bool:
        """Whether it is on its way to the venue: from before its intent is journaled, and so before
        it is in the books, until the answer to the send is."""
        return cl_ord_id in self._sending or cl_ord_id in self._pending

    def is_just_being_sent(self, cl_ord_id: ClOrdID) -> bool:
        """As `is_sending`, and for so short a time that it need not be in any list yet."""
        arrived_ns = self._arrived_ns.get(cl_ord_id)
        if arrived_ns is None:
            return self.is_sending(cl_ord_id)
        return time.monotonic_ns() - arrived_ns < JUST_SENT_S * 1e9

    async def outcome_of_send(self, cl_ord_id: ClOrdID) -> None:
        """Returns when no send of this order is under way."""
        task = self._sending.get(cl_ord_id)
        if task is not None:
            await asyncio.wait({task})

    async def idle(self) -> None:
        """Returns when nothing is on its way from the gate to a venue. Whoever wants it to stay so
        closes the gate first."""
        while self._answers or self._sending:
            await asyncio.gather(
                *self._answers.values(), *self._sending.values(), return_exceptions=True
            )

    def _order(self, intent: SubmitIntent, purpose: Purpose) -> NewOrder:
        number = next(self._counter)
        return intent.order(ids.mint(self._desk_id, self._ledger.epoch, number), purpose)


def _is_past_acceptance(order: Order) -> bool:
    return bool(order.venue_order_id) and order.status not in (
        OrdStatus.PENDING_NEW,
        OrdStatus.UNKNOWN,
        OrdStatus.REJECTED,
    )


def _set(left: asyncio.Future[Refusal | None]) -> None:
    if not left.done():
        left.set_result(None)


def _refused(
    intent: SubmitIntent, refusal: Refusal, cl_ord_id: ClOrdID | None = None
) -> IntentReply:
    metrics.REFUSED.labels(refusal.code).inc()
    return IntentReply(
        intent_id=intent.intent_id,
        taken=False,
        cl_ord_id=cl_ord_id,
        code=refusal.code,
        text=refusal.text,
    )
