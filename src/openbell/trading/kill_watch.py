"""What the kill rules are judged by: P&L, outcomes of orders and quotes, each only as far as it is known.

A functional core beside `RiskWatch`, whose books it reads: events, quotes, heartbeats and the time
come in, judgements go out. What makes a number doubtful makes it no number:

- P&L: the journal was not read, the engine is silent, a venue with a position or an order is not
  reconciled, something held has no sound and fresh price, or no rate into the rule's currency.
- Market data: only sound quotes count, by when they arrived on this machine's monotonic clock; and
  only where an order rests and the market is open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from openbell.config.hours import OpenHours
from openbell.config.kill_rules import ExecutionsRule, LossRule, RejectRule, RuleScope, StaleRule
from openbell.config.models import DeskFile
from openbell.domain import positions
from openbell.domain.books import Books
from openbell.domain.cash import CashBooked
from openbell.domain.external import JournalEvent, PositionAdopted
from openbell.domain.kill_rules import Judge, Judgement, Now, Reading, Rule
from openbell.domain.market import Quote
from openbell.domain.orders import (
    ClOrdID,
    Order,
    OrderAccepted,
    OrderFilled,
    OrderRejected,
    Purpose,
)
from openbell.domain.positions import Instrument, Position
from openbell.domain.scopes import DESK, Scope, ScopeKind
from openbell.trading.messages import EngineHeartbeat
from openbell.trading.refusal_pace import PACED_ELSEWHERE
from openbell.trading.strategy_ledger import StrategyLedger

DAY_NS = 86_400_000_000_000
ENGINE_SILENCE_S = 3.0
"""The engine is heard once a second; silent for longer, what it books is not known."""
CLOCK_STEP_NS = 1_000_000_000
"""What comes from further in the future was stamped by a clock that was set back since."""
OUTCOMES_MAX = 200_000
"""Remembered for the reject rate and of orders that traded; at 200 a second, a quarter of an hour."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of an order, or that it began to trade."""

    at_ns: int
    venue: str
    strategy: str
    symbol: str
    rejected: bool = False


@dataclass(frozen=True, slots=True)
class _Quoted:
    quote: Quote
    """The newest, sound or not."""
    sound_mono_ns: int | None
    """When the newest sound one arrived."""


@dataclass
class KillWatch:
    """Mutable facts; `look` judges them."""

    desk: DeskFile
    books: Books
    """Folded by somebody else, who calls `on_event` around it."""
    judge: Judge
    began: Now
    """When this process began to watch."""
    live: bool = False
    """The journal has been read."""
    ledger: StrategyLedger = field(default_factory=StrategyLedger)
    _quoted: dict[Instrument, _Quoted] = field(default_factory=dict)
    _outcomes: deque[_Outcome] = field(default_factory=lambda: deque(maxlen=OUTCOMES_MAX))
    _counted: dict[ClOrdID, None] = field(default_factory=dict)
    """Orders whose first outcome was counted."""
    _traded: deque[_Outcome] = field(default_factory=lambda: deque(maxlen=OUTCOMES_MAX))
    _heard_mono_ns: int | None = None
    _unreconciled: tuple[str, ...] | None = None
    _day_open: dict[Scope, Decimal | None] | None = None
    """What was realized when the day began on which this process did."""

    # --- facts -------------------------------------------------------------------------------

    def before_event(self, event: JournalEvent) -> None:
        """To be called before the event is folded into the books."""
        if self._day_open is None and event.at_ns // DAY_NS >= self.began.day:
            self._note_day_open()
        external = self.books.gives_way(event)
        if isinstance(event, PositionAdopted):
            self.ledger.apply_external(event.instrument, external)
            return
        if isinstance(event, CashBooked):
            return
        before = self.books.orders.get(event.cl_ord_id)
        if isinstance(event, OrderFilled) and before is not None:
            self.ledger.apply(before, event)
            self.ledger.apply_external((before.new.venue, before.new.symbol), external)
            new = before.new
            if before.cum_qty == 0 and new.purpose is Purpose.TRADE:
                self._traded.append(_Outcome(event.at_ns, new.venue, new.strategy, new.symbol))

    def after_event(self, event: JournalEvent) -> None:
        """And this after it."""
        if not isinstance(event, OrderAccepted | OrderRejected):
            return
        rejected = isinstance(event, OrderRejected)
        if isinstance(event, OrderRejected) and event.code in PACED_ELSEWHERE:
            return
        if event.cl_ord_id in self._counted:
            return  # told twice: as an answer and on the stream, or looked up again
        self._counted[event.cl_ord_id] = None
        while len(self._counted) > OUTCOMES_MAX:
            del self._counted[next(iter(self._counted))]
        new = self.books.orders[event.cl_ord_id].new
        self._outcomes.append(_Outcome(event.at_ns, new.venue, new.strategy, new.symbol, rejected))

    def on_quote(self, quote: Quote, mono_ns: int) -> None:
        key = (quote.venue, quote.symbol)
        before = self._quoted.get(key)
        sound_ns = mono_ns if quote.is_sound else before.sound_mono_ns if before else None
        self._quoted[key] = _Quoted(quote, sound_ns)

    def on_heartbeat(self, beat: EngineHeartbeat, mono_ns: int) -> None:
        self._heard_mono_ns = mono_ns
        self._unreconciled = beat.unreconciled

    # --- judging -----------------------------------------------------------------------------

    def look(self, now: Now) -> list[Judgement]:
        rules = self.desk.kill_switch.rules
        if self.live and self._day_open is None:
            self._note_day_open()  # nothing happened today yet
        found: list[Judgement] = []
        if (loss := rules.max_daily_loss) is not None:
            found += self._losses(Rule.MAX_DAILY_LOSS, loss, now)
        if (drawdown := rules.max_drawdown) is not None:
            found += self._losses(Rule.MAX_DRAWDOWN, drawdown, now)
        if (rejects := rules.reject_rate) is not None:
            found += self._reject_rates(rejects, now)
        if (executions := rules.repeated_executions) is not None:
            found += self._executions(executions, now)
        if (stale := rules.stale_market_data) is not None:
            found += self._stale(stale, now)
        return found

    def _losses(self, rule: Rule, config: LossRule, now: Now) -> Iterable[Judgement]:
        currency = config.currency or self.currency
        marks = self._marks(now)
        for scope in self.scopes(config.scope):
            net = self._net(scope, currency, marks, now)
            if rule is Rule.MAX_DRAWDOWN:
                yield self.judge.drawdown(
                    scope, net, now,
                    limit=config.amount, currency=currency, lasting_s=config.lasting,
                )  # fmt: skip
                continue
            same_day = self._day_open is not None and now.day == self.began.day
            day_open = (self._day_open or {}).get(scope) if same_day else None
            yield self.judge.daily_loss(
                scope, net, now,
                limit=config.amount, currency=currency, lasting_s=config.lasting,
                day_open=day_open if currency == self.currency else None,
            )  # fmt: skip

    def _reject_rates(self, config: RejectRule, now: Now) -> Iterable[Judgement]:
        for scope, counted in self._counted_of(
            Rule.REJECT_RATE, self._outcomes, config.scope, config.within, now
        ):
            yield self.judge.reject_rate(
                scope, sum(each.rejected for each in counted), len(counted), now,
                share=config.share, at_least=config.at_least, lasting_s=config.lasting,
            )  # fmt: skip

    def _executions(self, config: ExecutionsRule, now: Now) -> Iterable[Judgement]:
        for scope, counted in self._counted_of(
            Rule.REPEATED_EXECUTIONS, self._traded, config.scope, config.within, now
        ):
            yield self.judge.repeated_executions(
                scope, len(counted), now, at_most=config.at_most, within_s=config.within
            )

    def _counted_of(
        self, rule: Rule, kept: deque[_Outcome], of: RuleScope, within_s: float, now: Now
    ) -> Iterable[tuple[Scope, list[_Outcome]]]:
        """What of `kept` lies within the window and after the last release, by scope."""
        oldest_ns = now.wall_ns - int(within_s * 1e9)
        while kept and kept[0].at_ns < oldest_ns:
            kept.popleft()
        for scope in self.scopes(of):
            from_ns = max(oldest_ns, self.judge.counted_from_ns(rule, scope))
            yield (
                scope,
                [
                    each
                    for each in kept
                    if from_ns <= each.at_ns <= now.wall_ns + CLOCK_STEP_NS
                    and scope.covers(each.venue, each.strategy, each.symbol)
                ],
            )

    def _stale(self, config: StaleRule, now: Now) -> Iterable[Judgement]:
        hours = {name: OpenHours.parse(text) for name, text in config.open_hours.items()}
        resting = sorted({(o.new.venue, o.new.symbol) for o in self.books.open_orders()})
        for scope in self.scopes(config.scope):
            reading = self._oldest(scope, resting, hours, now)
            yield self.judge.age(Rule.STALE_MARKET_DATA, scope, reading, now, limit_s=config.after)

    def _oldest(
        self,
        scope: Scope,
        resting: Iterable[Instrument],
        hours: Mapping[str, OpenHours],
        now: Now,
    ) -> Reading:
        if not self.live:
            return Reading(None, "the engine's journal was not read yet")
        ages: dict[Instrument, Decimal] = {}
        for venue, symbol in resting:
            if not scope.covers(venue, "", symbol):
                continue
            if venue in hours and not hours[venue].holds(now.wall_ns):
                continue
            quoted = self._quoted.get((venue, symbol))
            heard_ns = quoted.sound_mono_ns if quoted else None
            since_ns = self.began.mono_ns if heard_ns is None else heard_ns
            ages[venue, symbol] = Decimal(now.mono_ns - since_ns) / 1_000_000_000
        if not ages:
            return Reading(Decimal(0), note="no order rests where the market is open")
        (venue, symbol), age = max(ages.items(), key=lambda entry: entry[1])
        note = f"no sound quote of {venue} {symbol} for {age:.1f} s while an order rests there"
        return Reading(age, note=note)

    # --- P&L ---------------------------------------------------------------------------------

    @property
    def currency(self) -> str:
        return positions.common_quote(
            symbol for venue in self.desk.venues.values() for symbol in venue.symbols
        )

    def scopes(self, of: RuleScope) -> list[Scope]:
        match of:
            case "desk":
                return [DESK]
            case "venue":
                return [Scope(ScopeKind.VENUE, name) for name in sorted(self.desk.venues)]
            case "strategy":
                return [Scope(ScopeKind.STRATEGY, name) for name in sorted(self.desk.strategies)]
            case "symbol":
                symbols = {s for venue in self.desk.venues.values() for s in venue.symbols}
                return [Scope(ScopeKind.SYMBOL, symbol) for symbol in sorted(symbols)]

    def _held(self, scope: Scope) -> list[Position]:
        if scope.kind is ScopeKind.STRATEGY:
            return [p for (name, _), p in self.ledger.held.items() if name == scope.name]
        return [p for p in self.books.positions.values() if scope.covers(p.venue, "", p.symbol)]

    def _net(
        self, scope: Scope, currency: str, marks: Mapping[Instrument, Decimal], now: Now
    ) -> Reading:
        held = self._held(scope)
        if why_not := self._why_unknown(scope, held, now):
            return Reading(None, why_not)
        found = positions.total_pnl(held, marks, _rates(marks, currency), currency=currency)
        # A fee without a price makes the figure too good by little; a position without one makes
        # it meaningless.
        fees = [each for each in found.unpriced if each.startswith("fees in ")]
        unpriced = [each for each in found.unpriced if each not in fees]
        if unpriced:
            why = f"no sound, fresh price in {currency} for {', '.join(unpriced)}"
            return Reading(None, why)
        return Reading(found.net, note=f"without {', '.join(fees)}" if fees else "")

    def _why_unknown(self, scope: Scope, held: Iterable[Position], now: Now) -> str:
        if not self.live:
            return "the engine's journal was not read yet"
        if self._heard_mono_ns is None:
            return "the engine was not heard yet"
        silent_s = (now.mono_ns - self._heard_mono_ns) / 1e9
        if silent_s > ENGINE_SILENCE_S:
            return f"the engine was not heard for {silent_s:.0f} s"
        if self._unreconciled is None:
            return "the engine does not say what is reconciled"
        touched = {p.venue for p in held if not p.is_flat} | {
            o.new.venue for o in self.books.open_orders() if _within(scope, o)
        }
        doubtful = sorted(touched & set(self._unreconciled))
        return f"not reconciled: {', '.join(doubtful)}" if doubtful else ""

    def _marks(self, now: Now) -> dict[Instrument, Decimal]:
        """Mids of quotes that are the newest, sound and fresh by both clocks."""
        longest_ns = int(self.desk.risk.stale_quote_after * 1e9)
        return {
            key: each.quote.mid
            for key, each in self._quoted.items()
            if each.quote.is_sound
            and each.sound_mono_ns is not None
            and now.mono_ns - each.sound_mono_ns <= longest_ns
            and -CLOCK_STEP_NS <= each.quote.age_ns(now.wall_ns) <= longest_ns
        }

    def _note_day_open(self) -> None:
        self._day_open = {}
        rule = self.desk.kill_switch.rules.max_daily_loss
        if rule is None:
            return
        for scope in self.scopes(rule.scope):
            held = self._held(scope)
            # At their own averages nothing is unrealized: what remains is what was realized.
            own = {position.instrument: position.avg_px for position in held}
            found = positions.total_pnl(held, own, {}, currency=self.currency)
            unpriced = [each for each in found.unpriced if not each.startswith("fees in ")]
            self._day_open[scope] = None if unpriced else found.net


def _rates(marks: Mapping[Instrument, Decimal], currency: str) -> dict[str, Decimal]:
    """What one of a base currency is worth in `currency`, where a symbol is quoted in it."""
    return {
        symbol.partition("/")[0]: mark
        for (_, symbol), mark in marks.items()
        if symbol.partition("/")[2] == currency
    }


def _within(scope: Scope, order: Order) -> bool:
    return scope.covers(order.new.venue, order.new.strategy, order.new.symbol)
