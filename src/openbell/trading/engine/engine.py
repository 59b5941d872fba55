"""The engine put together: its parts, its phases, its voice on the bus.

Phases: starting (books are folded from the journal), waiting_for_venue (a venue was never reached,
or none is), reconciling (books and venue are not seen to agree), ready. Of an engine that has a
standby also: standby (it follows the journal and sends nothing), retired (its epoch was handed
over; it only ends). `succession` moves it from one to the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

from openbell.config.layout import DeskLayout
from openbell.config.models import DeskFile
from openbell.domain.limits import RISK_STALE_AFTER_NS
from openbell.domain.order_book import ImpossibleEventError
from openbell.domain.orders import ClOrdID, Order, OrdStatus
from openbell.domain.permit import PermitScope, Refusal
from openbell.domain.succession import Holder
from openbell.errors import CorruptError, StorageError
from openbell.kill.beats import ACTIVE, STANDBY, STOPPED, BeatSender
from openbell.service.logging import get_logger
from openbell.state.disabled_strategies import DisabledStrategies
from openbell.state.latch import Latches
from openbell.state.order_latency import OrderLatencies
from openbell.trading.bus import MovedError, Publisher, Responder, producer_name
from openbell.trading.bus_watch import Bound, keep_reachable
from openbell.trading.engine import metrics
from openbell.trading.engine.canceller import Canceller
from openbell.trading.engine.cash_keeper import CashKeeper
from openbell.trading.engine.comparing import Comparing
from openbell.trading.engine.flatten import Flattener
from openbell.trading.engine.gate import Gate
from openbell.trading.engine.ledger import Hear, Ledger
from openbell.trading.engine.market_view import MarketView, RiskView
from openbell.trading.engine.order_desk import OrderDesk
from openbell.trading.engine.permit_client import PermitClient, PermitRequest
from openbell.trading.engine.registering import Registering
from openbell.trading.engine.venue_link import VenueLink
from openbell.trading.limits_in_force import LimitsInForce
from openbell.trading.messages import (
    ENGINE_TOPIC,
    EVENTS_SOCKET,
    INTENTS_SOCKET,
    ORDER_TOPIC,
    REPLAY_SOCKET,
    CancelIntent,
    EngineEvent,
    EngineHeartbeat,
    Intent,
    IntentReply,
    ReplayReply,
    ReplayRequest,
    SubmitIntent,
)
from openbell.venues.port import Venue

log = get_logger()

HEARTBEAT_S = 1.0
IDLE_WITHIN_S = 5.0
"""How long an end waits for answers to what was sent. What has none by then is in doubt in the
journal, and the next start asks for it."""

FOLLOW_EVERY_S = 0.05
"""How often a standby folds what the engine it stands by for has journaled."""
FORGET_EVERY_S = 60.0

Task = tuple[str, Callable[[], Awaitable[None]]]


@dataclass(frozen=True)
class Setup:
    """What an engine is made of."""

    service: str
    file: DeskFile
    layout: DeskLayout
    token: Path
    """File of the service token."""
    venues: Mapping[str, Venue]
    """Of the desk's `[venues]`, by name; not connected yet."""

    @property
    def holder(self) -> str:
        """How this process signs an epoch; `domain.succession.Holder` reads it."""
        return str(Holder(self.service, os.getpid()))


class Engine:
    """One engine, from `start` to `close`. What `tasks` gives must run in between."""

    def __init__(self, setup: Setup, ledger: Ledger) -> None:
        file, layout = setup.file, setup.layout
        self.setup = setup
        self.ledger = ledger
        self.changed = asyncio.Event()
        self.market = MarketView(layout.run)
        has_risk = file.service_with_role("risk") is not None
        self.risk_view = RiskView(layout.run, self.changed.set) if has_risk else None
        self.permit = PermitClient(
            socket=layout.controller_socket,
            token=setup.token,
            renew_every_s=file.permit.renew_every,
            request=self._permit_request,
            on_change=self.changed.set,
        )
        self.links = {
            name: VenueLink(
                venue,
                file.venues[name],
                ledger,
                desk_id=layout.desk_id,
                permit_ttl_s=file.permit.ttl,
                mark=partial(self.mark, name),
                is_busy=self._is_busy,
                on_change=self._link_changed,
                in_office=ledger.in_office,
            )
            for name, venue in setup.venues.items()
        }
        latencies = OrderLatencies(layout.order_latency, file.venues)
        for name, link in self.links.items():
            link.clock.tell = partial(latencies.saw, name)
        self.gate = Gate(
            limits=LimitsInForce(file.risk, layout.risk_limits),
            latches=Latches(layout),
            halt_file=layout.halt,
            disabled=DisabledStrategies.of(layout),
            permit=self.permit,
            links=self.links,
            market=self.market,
            risk_view=self.risk_view,
            stopped=self._stopped,
        )
        self.registering = Registering(layout.live_orders, file.permit.ttl)
        self.desk = OrderDesk(
            desk_id=layout.desk_id,
            ledger=ledger,
            gate=self.gate,
            links=self.links,
            register=self.registering.register,
        )
        self.canceller = Canceller(ledger, self.desk, self.links)
        self.flattener = Flattener(
            ledger, self.desk, self.canceller, self.links, self.market, self.permit
        )
        for link in self.links.values():
            link.venue.on_sent = self.desk.on_sent
        self.comparing = Comparing(self.links, ledger, self.mark)
        self.cash = CashKeeper(self.links, ledger, self.comparing)
        self.follow_problem = ""
        """Why a standby's books do not follow the journal; empty while they do."""
        self.intake = asyncio.Event()
        """Set while intents are taken; they wait otherwise."""
        self.intake.set()
        self._publisher: Publisher | None = None
        self._guard_beats = BeatSender(layout.beats_socket, "engine", setup.service)
        self._intents: Responder[Intent, IntentReply] | None = None
        self._replay: Responder[ReplayRequest, ReplayReply] | None = None
        self._closing = False
        self._left = False
        """It beats no more: it ends."""
        self._told: EngineHeartbeat | None = None

    @classmethod
    async def start(cls, setup: Setup) -> Engine:
        """Takes the epoch over, folds the books, opens the bus. StorageError, CorruptError: then
        nothing was opened."""
        engine = await cls._with(
            setup,
            lambda hear: Ledger.take_over(setup.layout.database, setup.holder, hear),
        )
        try:
            await engine.registering.open()
            engine.registering.adopt(engine.ledger.books, engine.ledger.epoch)
            engine.registering.replace(engine.ledger.epoch)
        except BaseException:
            await engine.ledger.close()
            raise
        engine.open_bus()
        return engine

    @classmethod
    async def stand_by(cls, setup: Setup) -> Engine:
        """Follows the journal; takes nothing over and opens nothing. StorageError, CorruptError."""
        engine = await cls._with(setup, lambda hear: Ledger.follow(setup.layout.database, hear))
        await engine.registering.open()
        engine.permit.give_up("standing by")
        return engine

    @classmethod
    async def try_out(cls, setup: Setup) -> Engine:
        """An engine over the books as they are, for one that only wants to see that it can be made: the
        database is not written, and `close` is all that may follow. StorageError, CorruptError."""
        engine = await cls._with(setup, lambda hear: Ledger.look_at(setup.layout.database, hear))
        engine.permit.give_up("a trial")
        return engine

    @classmethod
    async def _with(cls, setup: Setup, ledger: Callable[[Hear], Awaitable[Ledger]]) -> Engine:
        engine: Engine | None = None

        def hear(message: EngineEvent, order: Order | None) -> None:
            assert engine is not None, "nothing is recorded before the engine exists"
            engine._hear(message, order)

        engine = cls(setup, await ledger(hear))
        return engine

    def open_bus(self) -> None:
        """From now on intents come here. An engine that was bound before is not asked any more."""
        run = self.setup.layout.run
        self._publisher = Publisher(run / EVENTS_SOCKET, producer=producer_name(self.setup.service))
        self._replay = Responder(run / REPLAY_SOCKET, ReplayRequest, self._answer_replay)
        self._intents = Responder(run / INTENTS_SOCKET, Intent, self.take)

    @property
    def is_replaced_on_bus(self) -> bool:
        """Another engine takes the intents."""
        return self._intents is not None and self._intents.is_replaced

    def _on_bus(self) -> list[Bound]:
        """What is to be found there. Not of an engine that gives its office away, or has lost it: the name is
        its successor's."""
        ledger = self.ledger
        leaves = ledger.expects_successor or ledger.retired or ledger.fenced.is_set()
        if leaves or not ledger.in_office:
            return []
        mine = (self._publisher, self._replay, self._intents)
        return [each for each in mine if each is not None]

    async def leave_bus(self) -> None:
        """After another engine has bound. What waits here is sent again by its askers, to that one."""
        self.intake.set()
        for responder in (self._intents, self._replay):
            if responder is not None:
                await responder.close()
        if self._publisher is not None:
            self._publisher.close()
        self._intents = self._replay = self._publisher = None

    def tasks(self) -> list[Task]:
        """What must run until `stop`."""
        tasks: list[Task] = [
            ("permit", self.permit.run),
            ("quotes", self.market.run),
            ("heartbeat", self._beat),
            ("guard beats", self._beat_to_guard),
            ("storage", self._watch_storage),
            ("journal", self._follow_journal),
            ("bus", partial(keep_reachable, self.setup.layout, self._on_bus)),
        ]
        if self.risk_view is not None:
            tasks.append(("risk", self.risk_view.run))
        for name, link in self.links.items():
            tasks += [(f"venue {name}", link.run), (f"order stream {name}", link.listen)]
        return tasks + self.cash.tasks()

    # --- what it is asked --------------------------------------------------------------------

    async def take(self, intent: Intent) -> IntentReply:
        """An intent from the bus. MovedError once another engine takes them."""
        await self.intake.wait()
        if self.ledger.retired:
            raise MovedError("another engine takes the intents")
        if isinstance(intent, SubmitIntent):
            return await self.desk.submit(intent)
        return self._take_cancel(intent)

    def _take_cancel(self, intent: CancelIntent) -> IntentReply:
        order = self.ledger.books.orders.get(intent.cl_ord_id)
        if order is None or order.new.strategy != intent.strategy:
            return IntentReply(
                intent_id=intent.intent_id,
                taken=False,
                code="unknown_order",
                text=f"{intent.strategy} has no order {intent.cl_ord_id}",
            )
        if not order.status.is_final:
            self.canceller.start(intent.cl_ord_id, f"asked by {intent.strategy}")
        return IntentReply(intent_id=intent.intent_id, taken=True, cl_ord_id=intent.cl_ord_id)

    async def halt(self, reason: str) -> int:
        """No new order from this moment on; returns, with the number of sends that still have no
        answer, after the last one has left."""
        self.gate.halted = reason or "halted"
        self.permit.give_up(self.gate.halted)
        self.changed.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_WITHIN_S):
                await self.desk.idle()
        return self.desk.under_way

    def resume(self) -> None:
        """A permit may be asked for again; whether one is given is the controller's word."""
        self.gate.halted = ""
        self.permit.want()
        self.changed.set()

    # --- how it is ---------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        if self.ledger.retired:
            return "retired"
        if not self.ledger.in_office:
            return "standby"
        links = self.links.values()
        if not any(link.connected for link in links) or not all(
            link.connected or link.was_reconciled for link in links
        ):
            return "waiting_for_venue"
        return "ready" if self.reconciled else "reconciling"

    @property
    def reconciled(self) -> bool:
        """Every venue has been, and those that are connected are now."""
        return all(
            link.reconciled or (link.was_reconciled and not link.connected)
            for link in self.links.values()
        )

    @property
    def books_known(self) -> bool:
        """Every venue that is connected has been compared in full, though symbols may differ."""
        connected = [link for link in self.links.values() if link.connected]
        return bool(connected) and all(link.books_known for link in connected)

    @property
    def in_doubt(self) -> int:
        return len(self.ledger.books.in_doubt())

    def why_not_trading(self) -> str:
        """Why strategies' orders are not sent now; empty while they are."""
        if self.phase in ("standby", "retired"):
            return f"this engine is {self.phase}"
        stopped = self._stopped()
        if stopped is not None:
            return stopped.text
        if self.gate.latches.on_desk():
            return "the kill switch is latched"
        for name, link in self.links.items():
            if not link.connected or not link.reconciled:
                return f"{name}: {link.why_not}"
        if self.gate.is_halted():
            return f"halted: {self.gate.halted or 'by the desk'}"
        scope = self.permit.scope()
        if scope is PermitScope.NONE:
            return f"no permit: {self.permit.why_not}"
        if scope is not PermitScope.TRADE:
            return "the permit allows only to reduce"
        age_ns = self.risk_view.age_ns() if self.risk_view is not None else 0
        if age_ns is None or age_ns > RISK_STALE_AFTER_NS:
            return "risk-management was not heard lately"
        if problem := self.gate.limits.now().problem:
            return f"the limits in force are not known: {problem}"
        return ""

    def mark(self, venue: str, symbol: str) -> Decimal | None:
        return self.market.marks().get((venue, symbol))

    # --- its end -----------------------------------------------------------------------------

    async def stop(self, *, on_purpose: bool = True) -> None:
        """Takes nothing more, waits for what was sent, keeps a snapshot. Orders stay where they
        are: cancelling them is the closing's business, and a restart must not. Of one that ends
        because something failed the guard hears nothing more: unless another comes in time, its
        orders are withdrawn."""
        self._closing = True
        self.gate.halted = self.gate.halted or "the engine is stopping"
        self.permit.give_up("the engine is stopping")
        self._tell()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_WITHIN_S):
                await self.desk.idle()
                await self.canceller.idle()
        for responder in (self._intents, self._replay):
            if responder is not None:
                await responder.close()
        await self.canceller.close()
        if self.ledger.in_office and not self.ledger.fenced.is_set() and not self.ledger.retired:
            await self.ledger.probe_storage()
            self._left = True
            if on_purpose:
                # Its orders are meant to rest: without this word they would be taken for abandoned.
                self._guard_beats.send(epoch=self.ledger.epoch, stage=STOPPED)

    async def close(self) -> None:
        """After `stop`, with the tasks ended."""
        for link in self.links.values():
            await link.tracker.close()
            await link.venue.close()
        await self.ledger.close()
        if self._publisher is not None:
            self._publisher.close()
        self._guard_beats.close()

    # --- inside ------------------------------------------------------------------------------

    def _stopped(self) -> Refusal | None:
        if self.ledger.fenced.is_set() or self.ledger.retired:
            return Refusal("storage", "another engine took over: this one is fenced")
        if not self.ledger.in_office:
            return Refusal("storage", "this engine is a standby")
        if self.ledger.storage_problem:
            return Refusal("storage", self.ledger.storage_problem)
        if self._closing:
            return Refusal("stopping", "the engine is stopping")
        return None

    def _is_busy(self, cl_ord_id: ClOrdID) -> bool:
        return self.desk.is_sending(cl_ord_id) or self.canceller.is_busy(cl_ord_id)

    def _hear(self, message: EngineEvent, order: Order | None) -> None:
        if self._publisher is not None:
            self._publisher.publish(ORDER_TOPIC, message)
        if order is None:
            return
        self.registering.heard(order)
        link = self.links.get(order.new.venue)
        if link is not None:
            link.booked(order)
        if order.status is OrdStatus.UNKNOWN and link is not None:
            link.tracker.resolve(order)
        elif order.status.is_final:
            self.canceller.became_final(order.cl_ord_id)
            if link is not None:
                link.clock.forget(order.cl_ord_id)

    def _link_changed(self) -> None:
        # The controller judges by it: to wait for the next renewal would cost an opening seconds.
        self.permit.ask_now()
        self.changed.set()

    def _permit_request(self) -> PermitRequest:
        return PermitRequest(
            service=self.setup.service,
            epoch=self.ledger.epoch,
            reconciled=self.reconciled,
            phase=self.phase,
            books_known=self.books_known,
        )

    async def _answer_replay(self, request: ReplayRequest) -> ReplayReply:
        return self.ledger.replay(request)

    async def _beat(self) -> None:
        while True:
            self.changed.clear()
            self._tell()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self.changed.wait()

    async def _beat_to_guard(self) -> None:
        """From this loop, so that one that hangs is not heard; and not once another has taken over."""
        await self._guard_beats.run(self.setup.file.guard.beat_every_s, self._guard_beat)

    def _guard_beat(self) -> tuple[int, str] | None:
        ledger = self.ledger
        if ledger.fenced.is_set() or ledger.retired or self._left:
            return None
        return ledger.epoch, ACTIVE if ledger.in_office else STANDBY

    def _tell(self) -> None:
        if not self.intake.is_set():
            return  # between two engines: who listens is told when one of them trades, or will not
        why_not = self.why_not_trading()
        beat = EngineHeartbeat(
            trading=not why_not,
            why_not=why_not,
            epoch=self.ledger.epoch,
            last_journal_seq=self.ledger.last_seq,
            unreconciled=tuple(
                name
                for name, link in self.links.items()
                if not (link.connected and link.reconciled)
            ),
        )
        if self._told is None or (beat.trading, why_not) != (
            self._told.trading,
            self._told.why_not,
        ):
            log.info("trading" if beat.trading else "not trading", why_not=why_not)
        self._told = beat
        metrics.TRADING.set(beat.trading)
        if self._publisher is not None:
            self._publisher.publish(ENGINE_TOPIC, beat)

    async def _watch_storage(self) -> None:
        """Notices storage that works again, and an engine that took over while this one was idle."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self.ledger.fenced.is_set() or self.ledger.retired:
                await asyncio.Event().wait()
            if self.ledger.in_office:
                await self.look_after_storage()

    async def look_after_storage(self) -> None:
        """Once; in office."""
        ledger = self.ledger
        if ledger.storage_problem:
            if await ledger.probe_storage():
                log.info("storage works again")
                self.changed.set()
            return
        await ledger.notice_successor()
        # That took as long as the disk did. A successor that was expected fences nobody, and has removed
        # this register by now: to make it anew would be an alert, and would name it in place of its own.
        if not (ledger.fenced.is_set() or ledger.retired or ledger.expects_successor):
            self.registering.keep(ledger.epoch)

    async def _follow_journal(self) -> None:
        """While standing by: the books are those of the engine that writes."""
        forget_at_s = time.monotonic() + FORGET_EVERY_S
        while not self.ledger.in_office:
            try:
                await self.ledger.follow_on()
                self.follow_problem = ""
            except (StorageError, CorruptError, ImpossibleEventError) as error:
                if not self.follow_problem:
                    log.critical("the journal cannot be followed", alert=True, why=error.message)
                self.follow_problem = error.message
            if time.monotonic() >= forget_at_s:
                for link in self.links.values():
                    link.follow()
                self.ledger.forget()
                forget_at_s = time.monotonic() + FORGET_EVERY_S
            await asyncio.sleep(FOLLOW_EVERY_S)
        await asyncio.Event().wait()
