"""One venue as the engine lives with it: connect, listen, look, lose it, come back.

    waiting ──connected──▶ looking ──books equal the venue──▶ reconciled
       ▲                      ▲  a mismatch that asking does not heal │
       └──── cannot be asked ─┴───────────────────────────────────────┘

A venue that cannot be asked is down: its orders are unknown, not gone; no new order is sent; and
when it is back, books and venue must agree before the next one is.

A venue whose limits let nothing be asked for a while answers, and is not down: what was connected
stays so. It says until when it is held back, and asks again then.

The link of a standby is connected and hears the venue, but looks at nothing and books nothing until
`take_office`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from decimal import Decimal

from openbell.config.models import Venue as VenueConfig
from openbell.config.secrets import venue_variables
from openbell.domain.flattening import Flatness, is_flat
from openbell.domain.market import InstrumentRules
from openbell.domain.orders import ClOrdID, Order, OrdStatus
from openbell.domain.reconcile import (
    Agreement,
    OrderFinding,
    PositionFinding,
    Reconciliation,
)
from openbell.errors import OpenbellError
from openbell.service.logging import get_logger
from openbell.state.journal import FencedError
from openbell.trading.engine import metrics
from openbell.trading.engine.difference_keeper import (
    LOOKS_BEFORE_MISMATCH,
    UNCLEAR_AT_MOST_S,
    DifferenceKeeper,
    findings_of,
)
from openbell.trading.engine.holding_back import HoldingBack
from openbell.trading.engine.ledger import Ledger
from openbell.trading.engine.look_pace import LOOK_AT_LEAST_S, LookPace
from openbell.trading.engine.reconciler import Reconciler, Seen
from openbell.trading.engine.tracker import SendClock, Tracker
from openbell.trading.engine.venue_lost import lost_by
from openbell.trading.engine.venue_lost import told as told_error
from openbell.venues.port import (
    OrderReport,
    StreamDown,
    StreamEvent,
    StreamUp,
    Venue,
    VenueAuthError,
    VenueError,
    VenueThrottledError,
)
from openbell.venues.problem import NONSENSE

log = get_logger()

RECONNECT_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STRANGE = (*NONSENSE, TypeError, OSError)
"""What an adapter may let through. A venue that cannot be understood is down, like one that cannot
be reached: the desk must not trade on blind."""
WARM_CHECK_S = 5.0
"""How often a standby sees whether its connection still works."""
FIRST_LOOK_AFTER_S = 0.1
"""After a hand-over in which books and venue agreed: the orders that waited go first, over the connection
that is there."""
HEARD_LATELY_S = 2.0
"""So much of the venue's order events a standby keeps: what the engine before it heard in its last
moments, and may not have journaled."""


class VenueLink:
    def __init__(
        self,
        venue: Venue,
        config: VenueConfig,
        ledger: Ledger,
        *,
        desk_id: str,
        permit_ttl_s: float,
        mark: Callable[[str], Decimal | None],
        is_busy: Callable[[ClOrdID], bool],
        on_change: Callable[[], None],
        in_office: bool = True,
    ) -> None:
        self.venue = venue
        self.config = config
        self.clock = SendClock(
            window_s=config.timeout,
            permit_ttl_s=permit_ttl_s,
            refuses_late_by_s=venue.capabilities.refuses_late_by_s,
        )
        self.tracker = Tracker(
            venue, ledger, self.clock, desk_id=desk_id, mark=mark, on_strange=self.look_soon
        )
        self.connected = False
        self.reconciled = False
        self.was_reconciled = False
        """Ever, since this engine started."""
        self.why_not = "not connected yet"
        self.refused = False
        """The venue answered, and refused the credentials, when it was asked last."""
        self.skew_ns: int | None = None
        """The venue's clock less ours; None where it tells no time, or none yet."""
        self.streaming = False
        self.stream_why = "order events are not asked for yet"
        """Why they do not come; empty while they do."""
        self.open_orders: int | None = None
        """Own ones at the venue; None: not known now."""
        self.positions: dict[str, Decimal] | None = None
        self.last: Reconciliation | None = None
        self._ledger = ledger
        self._mark = mark
        self._on_change = on_change
        self._reconciler = Reconciler(
            venue,
            config.symbols,
            ledger,
            self.tracker,
            desk_id=desk_id,
            tolerance=self._lot,
            skew_ns=lambda: self.skew_ns or 0,
            is_busy=is_busy,
        )
        self._office = asyncio.Event()
        """Set while this engine is the one that trades."""
        self._office_s = time.monotonic()
        """When it was taken."""
        if in_office:
            self._office.set()
        self._never_left: frozenset[ClOrdID] = frozenset()
        """Orders that the engine before is proven not to have sent."""
        self._lately: deque[tuple[float, OrderReport]] = deque()
        """Order events that a standby heard within `HEARD_LATELY_S`."""
        self._wake = asyncio.Event()
        self._known = asyncio.Event()
        """Set by the first connection: an adapter reads events with what `connect` loaded."""
        self._looking = asyncio.Lock()
        self._differences = DifferenceKeeper()
        self._pace = LookPace(config.poll_every, len(config.symbols), venue.capabilities.costs)
        self._deep_seen = False
        """Whether executions were compared since the venue was connected."""
        self.limits = HoldingBack(venue.name, on_change)

    @property
    def name(self) -> str:
        return self.venue.name

    @property
    def look_room_s(self) -> float:
        return self._pace.room_s

    @property
    def foreign(self) -> int:
        return len(self._reconciler.foreign)

    @property
    def seen(self) -> Seen | None:
        """Both sides of the last look."""
        return self._reconciler.seen

    @property
    def differs_s(self) -> float:
        """For how long every look found something that differs; 0: the last one did not."""
        return self._differences.lasting_s

    @property
    def books_known(self) -> bool:
        """Whether the last look, which may have found differences, was at everything."""
        return self.connected and self._deep_seen and self.last is not None and self.last.complete

    def differing(self) -> dict[str, str]:
        """Symbols in which books and venue are not seen to agree, each with the first reason; of no
        meaning unless `books_known`."""
        if self.reconciled or self.last is None:
            return {}
        reasons: dict[str, str] = {}
        findings: tuple[OrderFinding | PositionFinding, ...] = (
            *self.last.orders,
            *self.last.positions,
        )
        for finding in findings:
            if finding.status is not Agreement.OK:
                reasons.setdefault(finding.symbol, finding.why)
        return reasons

    def stands(self) -> dict[str, str]:
        """Symbols whose position is seen to differ, each with what; told one look before trading stops
        for it. What only one look found may pass while the desk trades."""
        if not self.connected:
            return {}
        return self._differences.positions(LOOKS_BEFORE_MISMATCH - 1 if self.reconciled else 1)

    @property
    def differs_why(self) -> str:
        """What differs, once it stood in enough looks that nothing under way will clear it up; empty
        where nothing does."""
        return self._differences.certain if self.connected and not self.reconciled else ""

    def differs(self, symbol: str) -> str:
        """Why books and venue are not known to agree in this symbol; empty where they are."""
        if not self.reconciled and not self.books_known:
            return self.why_not
        return self.differing().get(symbol, "")

    def rules(self, symbol: str) -> InstrumentRules | None:
        """None before the first connection, and for symbols that the desk does not trade."""
        try:
            return self.venue.rules(symbol)
        except KeyError:
            return None

    def is_open(self, symbol: str, quantity: Decimal) -> bool:
        """Whether so much of a position is more than dust."""
        rules = self.rules(symbol)
        if rules is None:
            return quantity != 0
        return is_flat(quantity, rules, self._mark(symbol)) is Flatness.OPEN

    def throttled(self, symbol: str, retry_after_s: float | None) -> None:
        """The venue wants fewer orders in this symbol, for so long."""
        self.limits.orders(symbol, retry_after_s)

    def orders_wait_s(self, symbol: str) -> float:
        """How long no new order in this symbol is of any use; 0: none."""
        return self.limits.orders_wait_s(symbol)

    def look_soon(self, why: str) -> None:
        """Something only a look at the whole venue can clear up."""
        log.info("looking at the venue", venue=self.name, why=why)
        self._pace.news(deep=True)
        self._wake.set()

    def booked(self, order: Order) -> None:
        """An event of one of its orders was journaled: may be what was not clear now is. While one
        is in doubt no look finds agreement, and what looks may cost is kept for when none is."""
        if not self.reconciled and not self._has_doubts():
            self._pace.news(deep=False)
            self._wake.set()

    def _has_doubts(self) -> bool:
        return any(each.new.venue == self.name for each in self._ledger.books.in_doubt())

    def follow(self) -> None:
        """What a standby's books need to keep follows what the engine needs them for."""
        self._reconciler.begin_anew()

    def take_office(
        self,
        *,
        agreed: bool,
        predecessor_gone: bool,
        never_left: frozenset[ClOrdID] = frozenset(),
    ) -> None:
        """From now on this engine trades. `agreed`: the engine before it, which handed over and
        left nothing under way, saw books and venue agree; then they agree here, since the books are
        the same ones, provided nothing of the venue's own word was missed. They are compared a tenth
        of a second later; at once where they are not known to agree. `predecessor_gone`: it is seen
        to have ended, and sends nothing late. `never_left`: orders in the books that it did not live
        to send."""
        self._never_left = never_left
        self._reconciler.begin_anew()
        self.clock.begin(permit_ttl_s=0.0 if predecessor_gone else None)
        hears = self.streaming or not self.venue.capabilities.order_stream
        if agreed and self.connected and hears:
            self.reconciled = self.was_reconciled = True
            self._deep_seen = True
            self.why_not = ""
        elif self.connected:
            self.why_not = "books and venue are not compared yet"
        self._pace.news(deep=True)
        self._office_s = time.monotonic()
        self._office.set()

    async def run(self) -> None:
        """Keeps the link for ever."""
        attempt = 0
        resumed = False
        while True:
            try:
                await self._connect()
                await self._stand_by()
                if not resumed:
                    await self._doubt_what_was_under_way()
                    await self._hear_lately()
                    resumed = True
                    if self.reconciled:
                        await asyncio.sleep(FIRST_LOOK_AFTER_S)
                attempt = 0
                await self._stay()
            except FencedError:
                await asyncio.Event().wait()  # another engine trades; this one only ends
            except VenueThrottledError as error:
                self._not_connected(self.limits.questions(error))
                await asyncio.sleep(max(error.retry_after_s, RECONNECT_S[0]))
            except (VenueError, *STRANGE) as error:
                self._down(told_error(self.name, error))
                pause_s = RECONNECT_S[min(attempt, len(RECONNECT_S) - 1)]
                attempt += 1
                await asyncio.sleep(pause_s)

    async def listen(self) -> None:
        """Hears the venue's pushed order events, from the first connection on, for ever."""
        await self._known.wait()
        if not self.venue.capabilities.order_stream:
            await self._office.wait()  # it would be asked for them, by two engines
        while True:
            try:
                async for event in self.venue.stream():
                    await self._heard(event)
            except FencedError:
                await asyncio.Event().wait()
            except (VenueError, *STRANGE) as error:
                await self._heard(StreamDown(why=told_error(self.name, error).message))
            await asyncio.sleep(RECONNECT_S[-1])

    async def _heard(self, event: StreamEvent) -> None:
        match event:
            case StreamUp():
                self.streaming, self.stream_why = True, ""
                if self._office.is_set():
                    self.look_soon("the order stream is up; what came before it may be missed")
            case StreamDown():
                self.streaming = False
                self.stream_why = f"order events: {event.why or 'the stream is down'}"
                log.warning("order stream down", venue=self.name, why=event.why)
            case OrderReport() if not self._office.is_set():
                self._note_lately(event)
            case OrderReport():
                await self.tracker.hear(event)

    def _note_lately(self, event: OrderReport) -> None:
        now_s = time.monotonic()
        self._lately.append((now_s, event))
        while self._lately[0][0] < now_s - HEARD_LATELY_S:
            self._lately.popleft()

    async def _hear_lately(self) -> None:
        """However long it took to come here: the engine before had its last moments before the
        office was taken."""
        horizon_s = self._office_s - HEARD_LATELY_S
        while self._lately:
            heard_s, event = self._lately.popleft()
            if heard_s >= horizon_s:
                await self.tracker.hear(event)

    async def _stand_by(self) -> None:
        """Returns once in office. VenueError where the venue is lost meanwhile."""
        if not self._office.is_set():
            self.why_not = "standing by"
        while not self._office.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WARM_CHECK_S):
                    await self._office.wait()
                return
            await self._measure_skew()

    async def look(self, *, deep: bool = True) -> Reconciliation:
        """Compares and heals once. VenueError where the venue cannot be asked."""
        async with self._looking:
            self._pace.began(deep=deep, now_s=time.monotonic())
            found = await self._reconciler.look(deep=deep)
            self._judge(found, deep=deep)
            if found.actions:
                self._pace.asked(self._reconciler.asks(found), time.monotonic())
                await self._reconciler.heal(found)
            return found

    async def _connect(self) -> None:
        await self.venue.connect()
        self._known.set()
        self.skew_ns = None
        await self._measure_skew()
        self.connected = True
        self.why_not = "books and venue are not compared yet"
        self._differences.begin_anew()
        self._pace.news(deep=True)
        self._deep_seen = False
        metrics.VENUE_UP.labels(self.name).set(1)
        log.info("venue connected", venue=self.name, skew_ns=self.skew_ns)
        self._on_change()

    async def _measure_skew(self) -> None:
        """Stays as it was while the venue's limits hold the question back: that is no reason to
        take the venue for lost."""
        if not self.venue.capabilities.server_time:
            return
        before_ns = time.time_ns()
        try:
            venue_ns = await self.venue.server_time_ns()
        except VenueThrottledError as error:
            self.limits.questions(error)
            return
        self.skew_ns = venue_ns - (before_ns + time.time_ns()) // 2

    async def _stay(self) -> None:
        while True:
            self._wake.clear()
            deep = await self._turn()
            if self.skew_ns is None:
                await self._measure_skew()
            try:
                found = await self.look(deep=deep)
            except VenueThrottledError as error:
                # It answers, so it is not down; but nothing can be verified meanwhile.
                log.warning("venue throttles", venue=self.name, why=error.message)
                until = self.limits.questions(error)
                if not self.reconciled:
                    self._not_reconciled(f"books and venue are not compared yet: {until}", tell=0)
                self._check_clarity()
                await asyncio.sleep(max(error.retry_after_s, self._pace.room_s))
                continue
            differs = found.status is Agreement.MISMATCH or self._differences.stands
            pause_s = self._pace.pause_s(
                deep=deep,
                settled=self.reconciled and not differs,
                differs=differs,
                urgent=self.reconciled and differs,
                now_s=time.monotonic(),
            )
            if not self.reconciled and self._has_doubts():
                pause_s = max(pause_s, LOOK_AT_LEAST_S)  # the last one that is resolved wakes it
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    async def _turn(self) -> bool:
        """Waits until a look may begin; whether it is to be a deep one."""
        while True:
            now_s = time.monotonic()
            deep = self._pace.is_deep(now_s)
            wait_s = self._pace.wait_s(deep=deep, now_s=now_s)
            if wait_s <= 0:
                return deep
            await asyncio.sleep(wait_s)

    def _judge(self, found: Reconciliation, *, deep: bool) -> None:
        self.last = found
        self._deep_seen |= deep and found.complete
        self._note(found)
        self._differences.saw(found)
        metrics.MISMATCHES.labels(self.name).set(len(findings_of(found, Agreement.MISMATCH)))
        if found.ok:
            if self._deep_seen:
                self._reconciled()
            else:
                self._pace.news(deep=True)
            return
        looks = self._differences.looks
        if looks:
            if looks >= LOOKS_BEFORE_MISMATCH or not self.reconciled:
                self._not_reconciled(self._differences.first, tell=looks)
            if self.reconciled:
                self._judge_standing()
            return
        if not self._judge_standing() and not self.reconciled:
            self.why_not = _unknown_why(found)
        self._check_clarity()

    def _judge_standing(self) -> bool:
        """Whether something is proven to differ though no looks in a row found it."""
        why = self._differences.standing
        if why:
            tell = LOOKS_BEFORE_MISMATCH if self.reconciled else 0
            self._not_reconciled(why, tell=tell)
        return bool(why)

    def _note(self, found: Reconciliation) -> None:
        if found.complete:
            self.positions = {
                p.symbol: p.venue_says for p in found.positions if p.venue_says is not None
            }
        open_here = self._ledger.books.open_orders(venue=self.name)
        self.open_orders = sum(1 for o in open_here if o.status is not OrdStatus.PENDING_NEW)

    def _check_clarity(self) -> None:
        if not self.reconciled:
            return
        if old := self._differences.unclear():
            why = f"{', '.join(old)} not seen to agree for {UNCLEAR_AT_MOST_S:.0f} s"
            self._not_reconciled(why, tell=LOOKS_BEFORE_MISMATCH)

    def _reconciled(self) -> None:
        if not self.reconciled:
            log.info("books and venue agree", venue=self.name)
            self.reconciled = self.was_reconciled = True
            self.why_not = ""
            self._on_change()

    def _not_reconciled(self, why: str, *, tell: int) -> None:
        """`tell`: said aloud the first time that it has stood long enough not to be a passing one."""
        if self.reconciled or tell == LOOKS_BEFORE_MISMATCH:
            log.error("books and venue differ: no trading", alert=True, venue=self.name, why=why)
        changed = self.reconciled or self.why_not != why
        self.reconciled = False
        self.why_not = why
        if changed:
            self._on_change()

    def _down(self, error: OpenbellError) -> None:
        what, mend = lost_by(error, self.name, venue_variables(self.name, self.config))
        self.refused = isinstance(error, VenueAuthError)
        if self.connected or not self.why_not.startswith(what):
            log.error(f"venue: {what}", alert=True, venue=self.name, why=error.message, hint=mend)
        why = f"{what}: {error.message}"
        self._not_connected(f"{why}; {mend}" if mend else why)

    def _not_connected(self, why: str) -> None:
        self.connected = self.reconciled = self._deep_seen = False
        self.why_not = why
        self.open_orders, self.positions = None, None
        metrics.VENUE_UP.labels(self.name).set(0)
        self._on_change()

    async def _doubt_what_was_under_way(self) -> None:
        """Sends and cancels whose answers an earlier engine did not live to journal. Being in doubt
        is what makes them be asked for, see `Tracker.resolve`. An order that is proven never to have left
        it is not in doubt: it has ended."""
        under_way = (OrdStatus.PENDING_NEW, OrdStatus.PENDING_CANCEL)
        open_orders = self._ledger.books.open_orders(venue=self.name)
        for order in open_orders:
            if order.status is OrdStatus.UNKNOWN:
                self.tracker.resolve(order)
        pending = [order for order in open_orders if order.status in under_way]
        unsent = [order for order in pending if order.cl_ord_id in self._never_left]
        await self.tracker.end_unsent(unsent)
        await self.tracker.doubt_all(
            [order for order in pending if order.cl_ord_id not in self._never_left],
            "the engine ended before the answer",
        )

    def _lot(self, symbol: str) -> Decimal | None:
        rules = self.rules(symbol)
        return rules.lot_size if rules is not None else None


def _unknown_why(found: Reconciliation) -> str:
    if not found.complete:
        return "the venue's answer was not complete"
    unclear = findings_of(found, Agreement.UNKNOWN)
    return f"{unclear[0].symbol}: {unclear[0].why}" if unclear else "not compared yet"
