"""The last gate, as the engine holds it: gathers the facts, asks `domain.limits`, and looks at
what may have changed once more directly before a send."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from openbell.domain.books import Books, WorstCase
from openbell.domain.exposure import worst_exposure
from openbell.domain.flattening import Flatness, is_flat
from openbell.domain.limits import GateFacts, check_order, latched_refusal
from openbell.domain.market import InstrumentRules
from openbell.domain.orders import ClOrdID, NewOrder, Purpose, Side
from openbell.domain.permit import PermitScope, Refusal
from openbell.domain.positions import Instrument
from openbell.domain.scopes import Scope
from openbell.state.disabled_strategies import DisabledStrategies
from openbell.state.halts import is_halted
from openbell.state.latch import Latches
from openbell.trading.engine.market_view import MarketView, RiskView
from openbell.trading.limits_in_force import Applied, LimitsInForce

_SECOND_NS = 1_000_000_000


class HasScope(Protocol):
    def scope(self) -> PermitScope: ...


class VenueReadiness(Protocol):
    """What the gate asks of a venue's link."""

    @property
    def connected(self) -> bool: ...
    @property
    def reconciled(self) -> bool: ...
    def differs(self, symbol: str) -> str: ...
    def rules(self, symbol: str) -> InstrumentRules | None: ...
    def orders_wait_s(self, symbol: str) -> float: ...


@dataclass
class Gate:
    limits: LimitsInForce
    latches: Latches
    halt_file: Path
    disabled: DisabledStrategies
    permit: HasScope
    links: Mapping[str, VenueReadiness]
    market: MarketView
    risk_view: RiskView | None
    """None: the desk has no risk service; then the limits that need its word hold nothing back,
    except a daily loss limit, which without it cannot be kept."""
    halted: str = ""
    """Why new orders are halted in this process; empty: they are not."""
    stopped: Callable[[], Refusal | None] = lambda: None
    """Why nothing at all may be sent: the engine is fenced, stopping, or its storage failed."""
    _sent_ns: deque[int] = field(default_factory=deque)
    _passed_under: dict[ClOrdID, Applied] = field(default_factory=dict)
    """The limits by which each order passed that is still to be sent."""

    def is_halted(self) -> bool:
        """Here, or by the halt that the desk keeps on disk."""
        return bool(self.halted) or is_halted(self.halt_file)

    def latched(self, order: NewOrder) -> Scope | None:
        """The latch of the kill switch that stops this order."""
        return self.latches.covering(order.venue, order.strategy, order.symbol)

    def refuses(self, order: NewOrder, books: Books, pending: Iterable[NewOrder]) -> Refusal | None:
        """`pending`: orders that have passed the gate and are not in the books yet."""
        stopped = self.stopped()
        if stopped is not None:
            return stopped
        link = self.links.get(order.venue)
        if link is None:
            return Refusal("bad_order", f"the desk has no venue {order.venue}")
        wait_s = link.orders_wait_s(order.symbol)
        if wait_s > 0 and order.purpose is Purpose.TRADE:
            # The venue would refuse it, and some count refused orders as well.
            text = f"{order.venue} takes no order in {order.symbol} for {wait_s:.1f} s"
            return Refusal("throttled", text)
        instrument = (order.venue, order.symbol)
        worst_cases = _with_pending(books.worst_cases(), pending)
        marks = self.market.marks()
        applied = self._passed_under[order.cl_ord_id] = self.limits.now()
        return check_order(
            order,
            GateFacts(
                now_ns=time.time_ns(),
                scope=self.permit.scope(),
                halted=self.is_halted(),
                latched=self.latched(order),
                reconciled=link.reconciled,
                symbol_agrees=not link.differs(order.symbol),
                venue_up=link.connected,
                rules=link.rules(order.symbol),
                quote=self.market.quotes.get(instrument),
                worst=worst_cases.get(instrument, WorstCase()),
                open_orders=_open_orders(books, pending),
                others_exposure=worst_exposure(worst_cases, marks, leave_out=instrument),
                others_open=sum(
                    self._counts_as_open(key, worst, marks)
                    for key, worst in worst_cases.items()
                    if key != instrument
                ),
                daily_pnl=self._daily_pnl(),
                sent_last_second=self._sent_last_second(),
                risk_age_ns=0 if self.risk_view is None else self.risk_view.age_ns(),
                risk_breaches=self._breaches(),
                limits_problem=applied.problem,
                disabled=self.disabled.why(order.strategy),
            ),
            applied.risk,
        )

    def still_refuses(self, order: NewOrder) -> Refusal | None:
        """Directly before the send: what may have changed while the journal was written."""
        stopped = self.stopped()
        if stopped is not None:
            return stopped
        scope_latched = self.latched(order)
        if scope_latched is not None:
            return latched_refusal(scope_latched)
        flatten = order.purpose is Purpose.FLATTEN
        if self.is_halted() and not flatten:
            return Refusal("halted", self.halted or "new orders are halted")
        if not flatten and (disabled := self.disabled.why(order.strategy)):
            return Refusal("disabled", disabled)
        scope = self.permit.scope()
        if scope is PermitScope.NONE or (scope is PermitScope.REDUCE and not flatten):
            return Refusal("no_permit", "the permit ran out before the send")
        passed_under = self._passed_under.get(order.cl_ord_id)
        if passed_under is not None and not flatten and self.limits.now() is not passed_under:
            return Refusal("limits_changed", "the limits were changed before the send")
        return None

    def forget(self, cl_ord_id: ClOrdID) -> None:
        """Of an order that was refused, or has been sent."""
        self._passed_under.pop(cl_ord_id, None)

    def note_sent(self) -> None:
        self._sent_ns.append(time.monotonic_ns())

    def _sent_last_second(self) -> int:
        horizon = time.monotonic_ns() - _SECOND_NS
        while self._sent_ns and self._sent_ns[0] <= horizon:
            self._sent_ns.popleft()
        return len(self._sent_ns)

    def _counts_as_open(
        self, instrument: Instrument, worst: WorstCase, marks: Mapping[Instrument, Decimal]
    ) -> bool:
        """Dust does not count: no order could close it."""
        if worst.open_buys or worst.open_sells:
            return True
        link = self.links.get(instrument[0])
        rules = link.rules(instrument[1]) if link is not None else None
        if rules is None:
            return worst.position != 0
        return is_flat(worst.position, rules, marks.get(instrument)) is Flatness.OPEN

    def _daily_pnl(self) -> Decimal | None:
        state = self.risk_view.state if self.risk_view is not None else None
        return state.daily_pnl if state is not None else None

    def _breaches(self) -> tuple[str, ...]:
        state = self.risk_view.state if self.risk_view is not None else None
        return state.breaches if state is not None else ()


def _open_orders(books: Books, pending: Iterable[NewOrder]) -> int:
    return len(books.open_orders()) + sum(1 for _ in pending)


def _with_pending(
    worst_cases: dict[Instrument, WorstCase], pending: Iterable[NewOrder]
) -> dict[Instrument, WorstCase]:
    for order in pending:
        key = (order.venue, order.symbol)
        worst = worst_cases.get(key, WorstCase())
        buys = order.order_qty if order.side is Side.BUY else Decimal(0)
        sells = order.order_qty if order.side is Side.SELL else Decimal(0)
        worst_cases[key] = WorstCase(
            worst.position, worst.open_buys + buys, worst.open_sells + sells
        )
    return worst_cases
