"""Cancels: always allowed, never behind submits, and not called done before the order is final.

No permit, limit, halt or latch holds a cancel back, and neither does a full disk: what makes the
desk's risk smaller is tried even where its intent cannot be journaled. Only a fenced engine sends
nothing at all; its successor cancels.

A venue may want fewer requests. A cancel that it throttles stays under way and is sent again after
the time it named; one that it refuses is not sent again at once, however often it is asked for, see
`cancel_pace`. What a person or a closing asks for waits for neither, and goes in batches where the
venue takes some: they cost one request, and Kraken carries them out beyond its rate limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from openbell.domain.orders import (
    CancelIntended,
    CancelRejected,
    ClOrdID,
    OrderInDoubt,
    OrdStatus,
)
from openbell.errors import StorageError
from openbell.service.logging import get_logger
from openbell.state.journal import FencedError
from openbell.trading.engine import metrics
from openbell.trading.engine.cancel_pace import CancelPace
from openbell.trading.engine.ledger import Ledger
from openbell.trading.engine.order_desk import OrderDesk
from openbell.trading.engine.tracker import Tracker
from openbell.venues.port import Accepted, CancelOutcome, Rejected, Unknown, Venue, VenueError
from openbell.venues.rest import THROTTLED

log = get_logger()

CANCELS_AT_ONCE = 32
"""Per venue, beside the submits' own slots."""
IDLE_POLL_S = 0.05
PUSHED_WITHIN_S = 0.5
"""After an acknowledged cancel its end is usually pushed within milliseconds; then it is asked for."""


class CancelLink(Protocol):
    """What a cancel needs of a venue's link."""

    @property
    def venue(self) -> Venue: ...
    @property
    def tracker(self) -> Tracker: ...
    def throttled(self, symbol: str, retry_after_s: float | None) -> None: ...


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
        self._pace = CancelPace()
        self._under_way: dict[ClOrdID, asyncio.Task[None]] = {}
        """Also those that wait for their time."""
        self._sending: set[ClOrdID] = set()
        self._urgent: dict[ClOrdID, asyncio.Event] = {}
        self._waiting: dict[ClOrdID, asyncio.Event] = {}

    def is_busy(self, cl_ord_id: ClOrdID) -> bool:
        """Whether a cancel of it was sent and has no answer yet."""
        return cl_ord_id in self._sending

    async def idle(self) -> None:
        """Returns when every cancel that was sent has its answer."""
        while sent := [self._under_way[key] for key in self._sending]:
            await asyncio.wait(sent, timeout=IDLE_POLL_S)

    async def close(self) -> None:
        """Gives up what waits for its time."""
        tasks = set(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def became_final(self, cl_ord_id: ClOrdID) -> None:
        """Told of every order that ends."""
        self._pace.forget(cl_ord_id)
        for events in (self._waiting, self._urgent):
            if cl_ord_id in events:
                events[cl_ord_id].set()

    def start(self, cl_ord_id: ClOrdID, reason: str) -> asyncio.Task[None]:
        """Sends the cancel when it is time, once at a time per order; the task ends with an answer
        other than that the venue wants fewer requests."""
        task = self._under_way.get(cl_ord_id)
        return task if task is not None else self._start((cl_ord_id,), reason, urgent=False)

    def _start(self, keys: tuple[ClOrdID, ...], reason: str, *, urgent: bool) -> asyncio.Task[None]:
        hurry = asyncio.Event()
        if urgent:
            hurry.set()
        task = asyncio.create_task(self._cancel(keys, reason, hurry))
        for key in keys:
            self._under_way[key], self._urgent[key] = task, hurry
        task.add_done_callback(lambda _: self._ended(keys))
        task.add_done_callback(_tell_of_defect)
        return task

    def _ended(self, keys: Iterable[ClOrdID]) -> None:
        for key in keys:
            del self._under_way[key], self._urgent[key]

    async def cancel(
        self, cl_ord_ids: Sequence[ClOrdID], reason: str, *, timeout_s: float
    ) -> list[CancelResult]:
        """Cancels them in this order, and answers when each is final or the time is over."""
        for batch in self._batches(cl_ord_ids):
            self._start(batch, reason, urgent=True)
        return list(
            await asyncio.gather(*(self._see_through(key, reason, timeout_s) for key in cl_ord_ids))
        )

    def _batches(self, cl_ord_ids: Iterable[ClOrdID]) -> list[tuple[ClOrdID, ...]]:
        """Those whose cancel is not under way, by venue and symbol; the others are hurried up."""
        by_symbol: dict[tuple[str, str], list[ClOrdID]] = {}
        for key in dict.fromkeys(cl_ord_ids):
            if key in self._urgent:
                self._urgent[key].set()
            else:
                new = self._ledger.books.orders[key].new
                by_symbol.setdefault((new.venue, new.symbol), []).append(key)
        batches: list[tuple[ClOrdID, ...]] = []
        for (venue, _), keys in by_symbol.items():
            most = max(1, self._links[venue].venue.capabilities.batch_cancel)
            batches += [tuple(keys[n : n + most]) for n in range(0, len(keys), most)]
        return batches

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

    async def _cancel(self, keys: tuple[ClOrdID, ...], reason: str, hurry: asyncio.Event) -> None:
        """All of one symbol; several only where the venue takes batches."""
        for key in keys:
            # A cancel that overtakes its own order finds nothing to cancel.
            await self._desk.outcome_of_send(key)
        intended: set[ClOrdID] = set()
        while not self._ledger.fenced.is_set():
            open_keys = [key for key in keys if not self._status(key).is_final]
            if not open_keys:
                return
            urgent = hurry.is_set()
            wait_s = max(self._pace.wait_s(key, time.monotonic()) for key in open_keys)
            if wait_s > 0 and not urgent:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await hurry.wait()
                continue
            hurry.clear()
            if not await self._intend([key for key in open_keys if key not in intended], reason):
                return
            intended.update(open_keys)
            keys = await self._send(open_keys, in_batch=urgent)

    async def _intend(self, keys: Iterable[ClOrdID], reason: str) -> bool:
        """False: this engine is fenced."""
        now_ns = time.time_ns()
        events = [CancelIntended(cl_ord_id=key, at_ns=now_ns, reason=reason) for key in keys]
        try:
            await self._ledger.record(*events)
        except StorageError as error:
            log.error("cancel sent without its intent on disk", alert=True, why=error.message)
        except FencedError:
            return False
        return True

    async def _send(self, keys: list[ClOrdID], *, in_batch: bool) -> tuple[ClOrdID, ...]:
        """Once. Those that the venue throttled: to be sent again."""
        new = self._ledger.books.orders[keys[0]].new
        link = self._links[new.venue]
        async with self._slots[new.venue]:
            if self._ledger.fenced.is_set():
                return ()
            metrics.CANCELS.labels(new.venue).inc()
            self._sending.update(keys)
            try:
                outcomes = await _ask(link.venue, new.symbol, keys, in_batch=in_batch)
            except Exception as error:
                log.critical("the adapter raised on a cancel", alert=True, exc_info=error)
                raised: CancelOutcome = Unknown(why=f"the adapter raised {type(error).__name__}")
                outcomes = [raised for _ in keys]
            finally:
                self._sending.difference_update(keys)
        throttled = []
        for key, outcome in zip(keys, outcomes, strict=True):
            if isinstance(outcome, Rejected) and outcome.code == THROTTLED:
                # It was not looked at: the order rests as before, and its cancel is still wanted.
                throttled.append(key)
                link.throttled(new.symbol, outcome.retry_after_s)
                self._pace.refused(key, time.monotonic(), retry_after_s=outcome.retry_after_s)
            else:
                await self._book(key, outcome)
        return tuple(throttled)

    async def _book(self, key: ClOrdID, outcome: CancelOutcome) -> None:
        now_ns = time.time_ns()
        match outcome:
            case Accepted():
                # Acknowledged; that it is gone is told by the stream, or asked for.
                self._pace.refused(key, time.monotonic())
            case Rejected():
                self._pace.refused(key, time.monotonic())
                await self._ledger.record_surely(
                    CancelRejected(
                        cl_ord_id=key, at_ns=now_ns, code=outcome.code, text=outcome.text
                    )
                )
            case Unknown():
                self._pace.refused(key, time.monotonic())
                await self._ledger.record_surely(
                    OrderInDoubt(cl_ord_id=key, at_ns=now_ns, why=f"cancel: {outcome.why}")
                )


async def _ask(
    venue: Venue, symbol: str, keys: Sequence[ClOrdID], *, in_batch: bool
) -> list[CancelOutcome]:
    if len(keys) > 1 or (in_batch and venue.capabilities.batch_cancel):
        return await venue.cancel_many(symbol, keys)
    return [await venue.cancel(symbol, keys[0])]


def _outcome(status: OrdStatus) -> str:
    if status.is_final or status is OrdStatus.UNKNOWN:
        return status.value
    return "ACKNOWLEDGED" if status is OrdStatus.PENDING_CANCEL else "REJECTED"


def _tell_of_defect(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, FencedError):
        log.critical("a cancel failed", alert=True, exc_info=error)
