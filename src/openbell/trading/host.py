"""One strategy's host: what it is shown, what becomes of its actions, and when it may act.

A functional core: the service hands in quotes, engine events, replies and the time, and gets back
the intents to send. No clock, no socket.

States, the first that applies:

    FAILED    it raised, SystemExit included, or asked for what it may not. Its open orders are
              cancelled, again until none is left. Only a person resumes it, by name.
    HALTED    a person halted it. It is shown the market, so that its averages stay fresh, but
              nothing it asks for is done, cancels included: a closing may want to keep its orders.
    DISABLED  a person disabled it, and the engine takes no new order of it. Its cancels are passed
              on, for its resting orders stay its own; its new orders are dropped here already.
    WAITING   the engine is not trading, or it is not known yet what the strategy holds. Its cancels
              are passed on, its new orders are dropped.
    RUNNING
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol, TypeVar

from openbell.domain.books import Books
from openbell.domain.market import InstrumentRules, Quote, Trade
from openbell.domain.orders import (
    ClOrdID,
    Order,
    OrderAccepted,
    OrderEvent,
    OrderIntended,
    OrderRejected,
    OrdStatus,
)
from openbell.trading.action_check import checked_actions
from openbell.trading.messages import CancelIntent, Intent, IntentReply, SubmitIntent
from openbell.trading.refusal_pace import RefusalPace
from openbell.trading.strategy import Action, Cancel, Strategy, Submit, View
from openbell.trading.strategy_ledger import StrategyLedger

T = TypeVar("T")

PAUSE_AFTER_REFUSAL_NS = 500_000_000
"""No new order for so long after one was refused: a strategy that asks again at every quote would
otherwise fill the log and the gate's rate limit with its refusals."""

RECANCEL_AFTER_NS = 1_000_000_000
"""An order's cancel is passed on again after this while it is still open, for a strategy that asks
at every quote, and for one that failed."""

HEARTBEATS_UNTIL_LOST = 3
"""An intent without an answer is taken for never made after so many heartbeats of the engine
without its order: each heartbeat brings everything journaled before it, and requests expire
unread in less time."""


TIMER_MIN_S = 0.001
TIMER_MAX_S = 86_400.0


class StrategyState(StrEnum):
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    HALTED = "HALTED"
    DISABLED = "DISABLED"
    FAILED = "FAILED"


@dataclass
class DeskFacts:
    """What all hosts of a process see, folded once."""

    books: Books = field(default_factory=Books)
    ledger: StrategyLedger = field(default_factory=StrategyLedger)
    quotes: dict[str, dict[str, Quote]] = field(default_factory=dict)
    """By venue and symbol."""
    rules: dict[str, dict[str, InstrumentRules]] = field(default_factory=dict)
    why_not_trading: str = "the engine was not heard yet"
    """Empty while the engine trades and the books here are up to its journal."""


@dataclass
class _Pending:
    """A submit whose order has not been seen in an engine event yet."""

    intent: SubmitIntent
    at_ns: int
    cl_ord_id: ClOrdID | None = None
    cancel: bool = False
    """The strategy cancelled it before its ClOrdID was known."""
    silent_heartbeats: int | None = None
    """Counted from the moment the answer was given up."""


class Placement(Protocol):
    """Where a strategy trades, of `[strategies.NAME]`."""

    @property
    def venue(self) -> str: ...
    @property
    def symbols(self) -> tuple[str, ...]: ...


class StrategyHost:
    """See the module. Every method that may lead to orders returns intents, in order."""

    def __init__(
        self,
        name: str,
        placement: Placement,
        build: Callable[[], Strategy],
        facts: DeskFacts,
        *,
        run: str,
    ) -> None:
        """`build` makes the strategy and may raise; `run` makes intent ids unique over restarts."""
        self.name = name
        self.venue = placement.venue
        self.symbols = placement.symbols
        self.intents = 0
        self.refused = 0
        self.last_refusal = ""
        self.last_signal_ns: int | None = None
        self._build = build
        self._facts = facts
        self._run = run
        self._pending: dict[str, _Pending] = {}
        self._halt = ""
        self._disabled = ""
        self._error = ""
        self._error_cause: BaseException | None = None
        self.pace = RefusalPace()
        self.to_warn: list[str] = []
        """Sentences that a person should read, once; whoever tells them takes them out."""
        self._paused_until_ns = 0
        self._recancel_at_ns = 0
        self._cancelled_ns: dict[ClOrdID, int] = {}
        self._number = 0
        self._timer_s = 1.0
        self._strategy: Strategy | None = None
        self._make()

    # --- how it stands -----------------------------------------------------------------------

    @property
    def state(self) -> StrategyState:
        if self._error:
            return StrategyState.FAILED
        if self._halt:
            return StrategyState.HALTED
        if self._disabled:
            return StrategyState.DISABLED
        return StrategyState.WAITING if self._why_waiting() else StrategyState.RUNNING

    @property
    def why(self) -> str:
        """Why it is not running, in a sentence; while it is, the last refusal, until an intent is
        taken again."""
        return (
            self._error
            or self._halt
            or self._disabled
            or self._why_waiting()
            or "; ".join(filter(None, (self.pace.why, self.last_refusal)))
        )

    @property
    def error(self) -> BaseException | None:
        """What the strategy raised, for the alert's stack trace."""
        return self._error_cause

    @property
    def timer_s(self) -> float:
        return self._timer_s

    def _why_waiting(self) -> str:
        if self._facts.why_not_trading:
            return self._facts.why_not_trading
        unknown = self._unknown_rules()
        return f"the rules of {', '.join(unknown)} are not known yet" if unknown else ""

    def _unknown_rules(self) -> list[str]:
        """Symbols without rules; while there are any, the strategy is not called at all: it may
        count on the rules of what it trades."""
        known = self._facts.rules.get(self.venue, {})
        return [symbol for symbol in self.symbols if symbol not in known]

    def positions(self) -> dict[str, Decimal]:
        return {
            symbol: self._facts.ledger.position(self.name, (self.venue, symbol)).quantity
            for symbol in self.symbols
        }

    def open_orders(self) -> tuple[Order, ...]:
        """Its orders that are not final, and those that may become one."""
        known = self._facts.books.open_orders(strategy=self.name)
        return (*known, *(_placeholder(pending) for pending in self._pending.values()))

    def strategy_state(self) -> dict[str, object]:
        """For a checkpoint; empty where the strategy failed."""
        return self._strategy.state() if self._strategy and not self._error else {}

    def restore(self, state: dict[str, object]) -> None:
        """Hand an earlier `strategy_state` to the strategy. Where it raises, the strategy is made
        anew, not left half restored, and the error passed on."""
        try:
            if self._strategy:
                self._strategy.restore(state)
        except BaseException:
            self._make()
            raise

    # --- what a person does ------------------------------------------------------------------

    def halt(self, reason: str) -> None:
        self._halt = reason or "halted"

    def disable(self, why: str) -> None:
        """Because of this; empty: it is enabled. A halt neither begins nor ends it."""
        self._disabled = why

    def resume(self, *, revive: bool) -> None:
        """End the halt. `revive` makes a failed strategy anew, without its earlier state."""
        self._halt = ""
        self.pace.clear()
        if self._error and revive:
            self._error, self._error_cause = "", None
            self._make()

    # --- what happens ------------------------------------------------------------------------

    def on_quote(self, quote: Quote, now_ns: int) -> list[Intent]:
        return self._show(lambda strategy, view: strategy.on_quote(quote, view), now_ns)

    def on_trade(self, trade: Trade, now_ns: int) -> list[Intent]:
        return self._show(lambda strategy, view: strategy.on_trade(trade, view), now_ns)

    def on_timer(self, now_ns: int) -> list[Intent]:
        if self._error:
            return self._withdraw(now_ns)
        return self._show(lambda strategy, view: strategy.on_timer(view), now_ns)

    def on_order_event(self, event: OrderEvent, now_ns: int, *, live: bool) -> list[Intent]:
        """An event of an order of this strategy, already folded into the facts.

        `live`: it happened now, and is not read from the journal at the start.
        """
        late_cancel: list[Intent] = []
        if isinstance(event, OrderIntended):
            pending = self._pending.pop(event.order.intent_id, None)
            if pending is not None and pending.cancel:
                late_cancel = [self._cancel_intent(event.cl_ord_id)]
        if not live:
            return []
        if isinstance(event, OrderIntended):
            # The engine took one; its answer often comes after this, and may get lost.
            self.last_refusal = ""
        self._heed(event, now_ns)
        if self._error:
            return self._withdraw(now_ns)
        shown = self._show(lambda strategy, view: strategy.on_order_event(event, view), now_ns)
        return [*late_cancel, *shown]

    def _heed(self, event: OrderEvent, now_ns: int) -> None:
        order = self._facts.books.orders.get(event.cl_ord_id)
        if order is None:
            return
        if isinstance(event, OrderAccepted):
            self.pace.accepted(order.new)
        elif isinstance(event, OrderRejected):
            self.refused += 1
            streak = self.pace.refused(order.new, event.code, event.text, now_ns)
            if streak is not None:
                self.to_warn.append(self.pace.why)

    def on_reply(self, reply: IntentReply, now_ns: int) -> list[Intent]:
        """The engine's answer to one of this host's intents."""
        pending = self._pending.get(reply.intent_id)
        if not reply.taken:
            self._pending.pop(reply.intent_id, None)
            if pending is not None:
                self.refused += 1
                self.last_refusal = _refusal(reply)
                self._paused_until_ns = now_ns + PAUSE_AFTER_REFUSAL_NS
        elif pending is not None and reply.cl_ord_id is not None:
            self.last_refusal = ""
            pending.cl_ord_id = reply.cl_ord_id
            pending.silent_heartbeats = 0
            if pending.cancel:
                pending.cancel = False
                return [self._cancel_intent(reply.cl_ord_id)]
        return []

    def on_no_reply(self, intent: Intent) -> None:
        """The engine did not answer: whether the intent took effect is unknown."""
        pending = self._pending.get(intent.intent_id)
        if pending is not None:
            pending.silent_heartbeats = 0

    def on_heartbeat(self) -> None:
        """The engine was heard, after everything it had journaled before."""
        for intent_id, pending in tuple(self._pending.items()):
            if pending.silent_heartbeats is not None:
                pending.silent_heartbeats += 1
                if pending.silent_heartbeats > HEARTBEATS_UNTIL_LOST:
                    del self._pending[intent_id]

    # --- inside ------------------------------------------------------------------------------

    def _make(self) -> None:
        self._strategy = None
        try:
            made = self._build()
            self._timer_s = _checked_timer(made.timer_s)
        except BaseException as error:  # noqa: BLE001 - see _show
            self._fail(error, "cannot be made")
        else:
            self._strategy = made

    def _show(
        self, call: Callable[[Strategy, View], Iterable[Action]], now_ns: int
    ) -> list[Intent]:
        if self._strategy is None or self._error or self._unknown_rules():
            return []
        try:
            actions = checked_actions(
                call(self._strategy, self._view(now_ns)),
                strategy=self.name,
                symbols=self.symbols,
                orders=self._facts.books.orders,
            )
        except BaseException as error:  # noqa: BLE001
            # One strategy's failure must not stop others. Nothing from outside comes by here:
            # nothing is awaited, so no task can be cancelled in it, and signals are the loop's.
            self._fail(error, "raised")
            return self._withdraw(now_ns)
        if actions:
            self.last_signal_ns = now_ns
        state = self.state
        if state is StrategyState.HALTED:
            return []
        intents: list[Intent] = []
        for action in actions:
            if isinstance(action, Cancel):
                intents += self._cancel(action, now_ns)
            elif (
                state is StrategyState.RUNNING
                and now_ns >= self._paused_until_ns
                and not self.pace.holds(action, now_ns)
            ):
                intents.append(self._submit(action, now_ns))
        return intents

    def _view(self, now_ns: int) -> View:
        return View(
            now_ns=now_ns,
            positions=self.positions(),
            open_orders=self.open_orders(),
            quotes=_of(self._facts.quotes, self.venue),
            rules=_of(self._facts.rules, self.venue),
        )

    def _submit(self, action: Submit, now_ns: int) -> SubmitIntent:
        self.intents += 1
        intent = SubmitIntent(
            intent_id=self._next_id(),
            strategy=self.name,
            venue=self.venue,
            symbol=action.symbol,
            side=action.side,
            ord_type=action.ord_type,
            order_qty=action.quantity,
            price=action.price,
            time_in_force=action.time_in_force,
            post_only=action.post_only,
        )
        self._pending[intent.intent_id] = _Pending(intent, now_ns)
        return intent

    def _cancel(self, action: Cancel, now_ns: int) -> list[Intent]:
        unsent = self._pending.get(_unanswered(action.cl_ord_id))
        if unsent is not None:
            unsent.cancel = True
            return []
        return self._cancel_again(action.cl_ord_id, now_ns)

    def _cancel_again(self, cl_ord_id: ClOrdID, now_ns: int) -> list[Intent]:
        """Nothing where it was asked for a moment ago: the engine sees to it."""
        last_ns = self._cancelled_ns.get(cl_ord_id)
        if last_ns is not None and now_ns < last_ns + RECANCEL_AFTER_NS:
            return []
        orders = self._facts.books.orders
        self._cancelled_ns = {
            key: at_ns
            for key, at_ns in self._cancelled_ns.items()
            if key in orders and not orders[key].status.is_final
        }
        self._cancelled_ns[cl_ord_id] = now_ns
        return [self._cancel_intent(cl_ord_id)]

    def _cancel_intent(self, cl_ord_id: ClOrdID) -> CancelIntent:
        return CancelIntent(intent_id=self._next_id(), strategy=self.name, cl_ord_id=cl_ord_id)

    def _withdraw(self, now_ns: int) -> list[Intent]:
        """Cancel what a failed strategy still has open."""
        for pending in self._pending.values():
            pending.cancel = True
        if now_ns < self._recancel_at_ns:
            return []
        open_orders = self._facts.books.open_orders(strategy=self.name)
        if open_orders:
            self._recancel_at_ns = now_ns + RECANCEL_AFTER_NS
        return [self._cancel_intent(order.cl_ord_id) for order in open_orders]

    def _fail(self, error: BaseException, what: str) -> None:
        said = _message(error)
        self._error = f"{what}: {type(error).__name__}: {said}"
        self._error_cause = error
        self._recancel_at_ns = 0

    def _next_id(self) -> str:
        self._number += 1
        return f"{self.name}/{self._run}/{self._number}"


def _message(error: BaseException) -> str:
    try:
        return str(error) or "no message"
    except BaseException:  # noqa: BLE001 - the strategy's own exception class
        return "its message cannot be told"


def _refusal(reply: IntentReply) -> str:
    if not reply.text:
        return f"refused: {reply.code}"
    return f"refused: {reply.text}{f' ({reply.code})' if reply.code else ''}"


def _checked_timer(seconds: object) -> float:
    if not isinstance(seconds, int | float) or not TIMER_MIN_S <= seconds <= TIMER_MAX_S:
        raise ValueError(f"timer_s is {seconds!r}, not {TIMER_MIN_S:g} to {TIMER_MAX_S:g} seconds")
    return float(seconds)


def _of(by_venue: dict[str, dict[str, T]], venue: str) -> Mapping[str, T]:
    return MappingProxyType(by_venue.setdefault(venue, {}))


_UNANSWERED = "unanswered:"


def _unanswered(cl_ord_id: ClOrdID) -> str:
    """The intent id in a placeholder's ClOrdID; empty for a real one."""
    return cl_ord_id.removeprefix(_UNANSWERED) if cl_ord_id.startswith(_UNANSWERED) else ""


def _placeholder(pending: _Pending) -> Order:
    """The order that this intent may have become."""
    intent = pending.intent
    return Order(
        new=intent.order(pending.cl_ord_id or ClOrdID(_UNANSWERED + intent.intent_id)),
        status=OrdStatus.PENDING_NEW,
        created_ns=pending.at_ns,
        updated_ns=pending.at_ns,
        leaves_qty=intent.order_qty,
        cancel_requested=pending.cancel,
    )
