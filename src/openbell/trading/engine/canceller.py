"""Cancels: always allowed, never behind submits, and not called done before the order is final.

No permit, limit, halt or latch holds a cancel back, and neither does a full disk: what makes the
desk's risk smaller is tried even where its intent cannot be journaled. Only a fenced engine sends
nothing at all; its successor cancels.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import structlog

from openbell.domain.orders import (
    CancelIntended,
    CancelRejected,
    ClOrdID,
    OrderInDoubt,
    OrdStatus,
)
from openbell.errors import StorageError
from openbell.state.journal import FencedError
from openbell.trading.engine import metrics
from openbell.trading.engine.ledger import Ledger
from openbell.trading.engine.order_desk import OrderDesk
from openbell.trading.engine.tracker import Tracker
from openbell.venues.port import Accepted, CancelOutcome, Rejected, Unknown, Venue, VenueError

log = structlog.get_logger(__name__)

CANCELS_AT_ONCE = 32
"""Per venue, beside the submits' own slots."""
PUSHED_WITHIN_S = 0.5
"""After an acknowledged cancel its end is usually pushed within milliseconds; then it is asked for."""


class CancelLink(Protocol):
    """What a cancel needs of a venue's link."""

    @property
    def venue(self) -> Venue: ...
    @property
    def tracker(self) -> Tracker: ...


class CancelResult(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    symbol: str
    cl_ord_id: ClOrdID
    outcome: str
    """The order's final status (`CANCELED`, `FILLED`, ...), or `ACKNOWLEDGED` (and not seen to be
    gone), `REJECTED` (and still open), `UNKNOWN`."""
    text: str = ""


class Canceller:
    def __init__(self, ledger: Ledger, desk: OrderDesk, links: Mapping[str, CancelLink]) -> None:
        self._ledger = ledger
        self._desk = desk
        self._links = links
        self._slots = {name: asyncio.Semaphore(CANCELS_AT_ONCE) for name in links}
        self._under_way: dict[ClOrdID, asyncio.Task[None]] = {}
        self._waiting: dict[ClOrdID, asyncio.Event] = {}

    def is_busy(self, cl_ord_id: ClOrdID) -> bool:
        return cl_ord_id in self._under_way

    async def idle(self) -> None:
        """Returns when every cancel that was sent has its answer."""
        while self._under_way:
            await asyncio.wait(self._under_way.values())

    def became_final(self, cl_ord_id: ClOrdID) -> None:
        """Told of every order that ends."""
        waiting = self._waiting.get(cl_ord_id)
        if waiting is not None:
            waiting.set()

    def start(self, cl_ord_id: ClOrdID, reason: str) -> asyncio.Task[None]:
        """Sends the cancel, once at a time per order; the task ends with the venue's answer."""
        task = self._under_way.get(cl_ord_id)
        if task is None:
            task = asyncio.create_task(self._cancel(cl_ord_id, reason))
            self._under_way[cl_ord_id] = task
            task.add_done_callback(lambda _: self._under_way.pop(cl_ord_id))
            task.add_done_callback(_tell_of_defect)
        return task

    async def cancel(
        self, cl_ord_ids: Sequence[ClOrdID], reason: str, *, timeout_s: float
    ) -> list[CancelResult]:
        """Cancels them in this order, and answers when each is final or the time is over."""
        return list(
            await asyncio.gather(*(self._see_through(key, reason, timeout_s) for key in cl_ord_ids))
        )

    async def wait_final(self, cl_ord_id: ClOrdID, timeout_s: float) -> OrdStatus:
        """The order's status, when it is final or the time is over."""
        event = self._waiting.setdefault(cl_ord_id, asyncio.Event())
        try:
            async with asyncio.timeout(timeout_s):
                while not self._status(cl_ord_id).is_final:
                    event.clear()
                    await event.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting.pop(cl_ord_id, None)
        return self._status(cl_ord_id)

    def _status(self, cl_ord_id: ClOrdID) -> OrdStatus:
        return self._ledger.books.orders[cl_ord_id].status

    async def _see_through(self, cl_ord_id: ClOrdID, reason: str, timeout_s: float) -> CancelResult:
        deadline = time.monotonic() + timeout_s
        await asyncio.wait({self.start(cl_ord_id, reason)}, timeout=timeout_s)
        order = self._ledger.books.orders[cl_ord_id]
        status = order.status
        while not status.is_final and time.monotonic() < deadline:
            left_s = deadline - time.monotonic()
            status = await self.wait_final(cl_ord_id, min(PUSHED_WITHIN_S, left_s))
            if not status.is_final and status is not OrdStatus.UNKNOWN:
                try:
                    await self._links[order.new.venue].tracker.ask(order.new.symbol, cl_ord_id)
                except VenueError as error:
                    log.warning("cancel not verified", cl_ord_id=cl_ord_id, why=error.message)
                status = self._status(cl_ord_id)
                if (
                    not status.is_final
                    and not self._ledger.books.orders[cl_ord_id].cancel_requested
                ):
                    break  # the venue refused, and still holds it
        order = self._ledger.books.orders[cl_ord_id]
        return CancelResult(
            venue=order.new.venue,
            symbol=order.new.symbol,
            cl_ord_id=cl_ord_id,
            outcome=_outcome(order.status),
            text=order.text,
        )

    async def _cancel(self, cl_ord_id: ClOrdID, reason: str) -> None:
        # A cancel that overtakes its own order finds nothing to cancel.
        await self._desk.outcome_of_send(cl_ord_id)
        order = self._ledger.books.orders[cl_ord_id]
        if order.status.is_final:
            return
        intended = CancelIntended(cl_ord_id=cl_ord_id, at_ns=time.time_ns(), reason=reason)
        try:
            await self._ledger.record(intended)
        except StorageError as error:
            log.error("cancel sent without its intent on disk", alert=True, why=error.message)
        except FencedError:
            return
        new = order.new
        async with self._slots[new.venue]:
            if self._ledger.fenced.is_set():
                return
            metrics.CANCELS.labels(new.venue).inc()
            try:
                outcome: CancelOutcome = await self._links[new.venue].venue.cancel(
                    new.symbol, cl_ord_id
                )
            except Exception as error:
                log.critical("the adapter raised on a cancel", alert=True, exc_info=error)
                outcome = Unknown(why=f"the adapter raised {type(error).__name__}")
        now_ns = time.time_ns()
        match outcome:
            case Accepted():
                pass  # acknowledged; that it is gone is told by the stream, or asked for
            case Rejected():
                await self._ledger.record_surely(
                    CancelRejected(
                        cl_ord_id=cl_ord_id, at_ns=now_ns, code=outcome.code, text=outcome.text
                    )
                )
            case Unknown():
                await self._ledger.record_surely(
                    OrderInDoubt(cl_ord_id=cl_ord_id, at_ns=now_ns, why=f"cancel: {outcome.why}")
                )


def _outcome(status: OrdStatus) -> str:
    if status.is_final or status is OrdStatus.UNKNOWN:
        return status.value
    return "ACKNOWLEDGED" if status is OrdStatus.PENDING_CANCEL else "REJECTED"


def _tell_of_defect(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, FencedError):
        log.critical("a cancel failed", alert=True, exc_info=error)
