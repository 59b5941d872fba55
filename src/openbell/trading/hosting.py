"""The strategies of one process: facts folded once, events dealt to their strategy, intents sent.

The shell around `host.StrategyHost`: it owns the clock, the bus and the queues.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from openbell.config.models import Strategy as Declared
from openbell.domain.cash import CashBooked
from openbell.domain.external import PositionAdopted
from openbell.domain.market import Quote, Trade
from openbell.domain.orders import ClOrdID, OrderFilled
from openbell.service.logging import get_logger
from openbell.trading.bus import BadMessageError, NoReplyError, Requester, Subscriber
from openbell.trading.event_feed import KEEP_FINAL_NS, EngineEventFeed
from openbell.trading.host import DeskFacts, StrategyHost, StrategyState
from openbell.trading.loading import load_strategy
from openbell.trading.messages import (
    CancelIntent,
    EngineEvent,
    EngineHeartbeat,
    Instruments,
    Intent,
    IntentReply,
    SubmitIntent,
)

log = get_logger()

REPLY_TIMEOUT_S = 2.0
REPLY_ATTEMPTS = 2
"""Repeating is harmless: the engine makes at most one order of an intent."""
SUBMIT_AGE_MAX_S = 1.0
"""A new order that waited longer for its turn was decided on another market, and is not sent."""
ENGINE_SILENCE_S = 3.0
"""The engine is heard once a second."""


class StrategyHosts:
    """All hosts, by name."""

    def __init__(
        self,
        declared: Mapping[str, Declared],
        requester: Requester[Intent, IntentReply],
        *,
        run: str,
        why_disabled: Callable[[str], str],
    ) -> None:
        """`why_disabled`: asked by a strategy's name; empty where it is enabled."""
        self.facts = DeskFacts()
        self._requester = requester
        self._why_disabled = why_disabled
        self._engine_heard_at: float | None = None
        self._caught_up = False
        self._contradiction = ""
        self._announced: dict[str, StrategyState] = {}
        self._queues: dict[str, asyncio.Queue[tuple[float, Intent]]] = {}
        self._cancelling: set[ClOrdID] = set()
        """Orders whose cancel is queued or being asked for: a strategy that asks again at every
        quote adds nothing, and would fill the queue for as long as the engine is away."""
        self.hosts: dict[str, StrategyHost] = {}
        for name, strategy in declared.items():
            if strategy.enabled:
                self.hosts[name] = StrategyHost(
                    name, strategy, partial(load_strategy, name, strategy), self.facts, run=run
                )
                self._queues[name] = asyncio.Queue()
        self.look_who_is_disabled()

    # --- tasks -------------------------------------------------------------------------------

    async def watch_market(self, market: Subscriber) -> None:
        """Show quotes and trades as they come."""
        while True:
            try:
                received = await market.receive()
            except BadMessageError as error:
                log.warning("market message refused", why=error.message)
                continue
            self._on_market(received.body)

    async def watch_engine(self, feed: EngineEventFeed) -> None:
        """Fold the engine's events; the first heartbeat says that all earlier ones were seen."""
        try:
            async for message in feed:
                if isinstance(message, EngineHeartbeat):
                    self._on_heartbeat(message)
                else:
                    self._on_engine_event(message)
        except Exception as error:
            # What the strategies hold is no longer known: none of them may go on.
            self._contradiction = f"the engine's events cannot be followed: {error}"
            self._note_engine(self._contradiction)
            raise

    async def watch_silence(self) -> None:
        """Notice an engine that is not heard any more."""
        while True:
            await asyncio.sleep(ENGINE_SILENCE_S / 4)
            heard = self._engine_heard_at
            if heard is not None and time.monotonic() - heard > ENGINE_SILENCE_S:
                self._note_engine(f"the engine was not heard for {ENGINE_SILENCE_S:g}s")

    async def run_timer(self, name: str) -> None:
        host = self.hosts[name]
        while True:
            await asyncio.sleep(host.timer_s)
            self._send(host, host.on_timer(time.time_ns()))

    async def run_sender(self, name: str) -> None:
        """Send one strategy's intents in order, each after the answer to the one before."""
        host, queue = self.hosts[name], self._queues[name]
        while True:
            queued_at, intent = await queue.get()
            if isinstance(intent, SubmitIntent) and time.monotonic() - queued_at > SUBMIT_AGE_MAX_S:
                reply = IntentReply(
                    intent_id=intent.intent_id,
                    taken=False,
                    code="never_sent",
                    text="it waited too long for its turn",
                )
            else:
                try:
                    reply = await self._requester.ask(
                        intent, timeout_s=REPLY_TIMEOUT_S, attempts=REPLY_ATTEMPTS
                    )
                except (NoReplyError, BadMessageError) as error:
                    log.warning("intent without an answer", strategy=name, why=error.message)
                    host.on_no_reply(intent)
                    continue
                finally:
                    if isinstance(intent, CancelIntent):
                        self._cancelling.discard(intent.cl_ord_id)
            if not reply.taken:
                log.info(
                    "intent refused",
                    strategy=name,
                    code=reply.code,
                    text=reply.text,
                    intent=intent.intent_id,
                )
            self._send(host, host.on_reply(reply, time.time_ns()))

    # --- what comes in -----------------------------------------------------------------------

    def _on_market(self, message: Quote | Trade | Instruments) -> None:
        if isinstance(message, Instruments):
            known = self.facts.rules.setdefault(message.venue, {})
            if tuple(known.values()) != message.rules:
                known.clear()
                known.update({rules.symbol: rules for rules in message.rules})
            return
        if isinstance(message, Quote):
            self.facts.quotes.setdefault(message.venue, {})[message.symbol] = message
        now_ns = time.time_ns()
        for host in self.hosts.values():
            if host.venue == message.venue and message.symbol in host.symbols:
                if isinstance(message, Quote):
                    self._send(host, host.on_quote(message, now_ns))
                else:
                    self._send(host, host.on_trade(message, now_ns))

    def _on_engine_event(self, message: EngineEvent) -> None:
        event = message.event
        books, ledger = self.facts.books, self.facts.ledger
        external = books.gives_way(event)
        if isinstance(event, PositionAdopted):
            books.apply(event)
            ledger.apply_external(event.instrument, external)
            return
        if isinstance(event, CashBooked):
            books.apply(event)
            return
        before = books.orders.get(event.cl_ord_id)
        after = books.apply(event)
        if isinstance(event, OrderFilled) and before is not None:
            ledger.apply(before, event)
            ledger.apply_external((after.new.venue, after.new.symbol), external)
        host = self.hosts.get(after.new.strategy)
        if host is not None:
            now_ns = time.time_ns()
            self._send(host, host.on_order_event(event, now_ns, live=self._caught_up))

    def _on_heartbeat(self, heartbeat: EngineHeartbeat) -> None:
        self._engine_heard_at = time.monotonic()
        self._caught_up = True
        self.facts.books.forget(final_before_ns=time.time_ns() - KEEP_FINAL_NS)
        self.look_who_is_disabled()
        self._note_engine(
            "" if heartbeat.trading else heartbeat.why_not or "the engine is not trading"
        )
        for host in self.hosts.values():
            host.on_heartbeat()

    def _note_engine(self, why_not: str) -> None:
        why_not = self._contradiction or why_not
        if why_not != self.facts.why_not_trading:
            self.facts.why_not_trading = why_not
            for host in self.hosts.values():
                self._announce(host)

    # --- what goes out -----------------------------------------------------------------------

    def _send(self, host: StrategyHost, intents: Iterable[Intent]) -> None:
        for intent in intents:
            if isinstance(intent, CancelIntent):
                if intent.cl_ord_id in self._cancelling:
                    continue
                self._cancelling.add(intent.cl_ord_id)
            self._queues[host.name].put_nowait((time.monotonic(), intent))
        while host.to_warn:
            log.warning(
                "strategy's orders are refused", strategy=host.name, why=host.to_warn.pop(0)
            )
        if host.state is not self._announced.get(host.name):
            self._announce(host)

    def _announce(self, host: StrategyHost) -> None:
        """Log a strategy's new state; a failure is an alert."""
        state = host.state
        if state is self._announced.get(host.name):
            return
        self._announced[host.name] = state
        if state is StrategyState.FAILED:
            log.error(
                "strategy failed",
                alert=True,
                strategy=host.name,
                why=host.why,
                exc_info=host.error,
            )
        else:
            log.info("strategy state", strategy=host.name, state=str(state), why=host.why)

    # --- what a person does ------------------------------------------------------------------

    def halt(self, names: Iterable[str], reason: str) -> None:
        for name in names:
            self.hosts[name].halt(reason)
            self._announce(self.hosts[name])

    def look_who_is_disabled(self) -> None:
        """At every heartbeat of the engine, and when somebody asks. The engine's gate looks for itself
        before each order: this spares it intents that it would refuse."""
        for name, host in self.hosts.items():
            host.disable(self._why_disabled(name))
            self._announce(host)

    def resume(self, names: Iterable[str], *, revive: bool) -> None:
        for name in names:
            self.hosts[name].resume(revive=revive)
            self._announce(self.hosts[name])
