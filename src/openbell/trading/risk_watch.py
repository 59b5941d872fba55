"""The desk's risk as of now: exposure, today's P&L, breaches. Facts in, `RiskState` out.

The day is that of UTC. Today's P&L is the desk's net P&L less what it was at midnight. What it was
is noted when midnight passes and kept by the service; where no note exists (the desk was not
running at midnight) it is what had been realized by the last event of the day before, so that a
position held overnight counts its whole unrealized P&L to today: the careful side.

A price that is missing, not sound, older than the desk's limit or from the future values nothing:
the position is named as unpriced, and neither exposure nor P&L is concluded from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from openbell.config.models import DeskFile, Risk
from openbell.domain import exposure as exposures
from openbell.domain import positions
from openbell.domain.books import Books
from openbell.domain.exposure import ExposureReport
from openbell.domain.external import JournalEvent
from openbell.domain.limits import CLOCK_STEP_S, LIMITS_UNKNOWN
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.positions import Instrument, Pnl
from openbell.state.risk_limits import Changes
from openbell.trading.limits_in_force import Applied, LimitsInForce
from openbell.trading.messages import RiskState

DAY_NS = 86_400_000_000_000
_UNKNOWN = Decimal("NaN")


class DayStart(msgspec.Struct, frozen=True, kw_only=True):
    """Net P&L when a UTC day began."""

    day: int
    """Days since 1970-01-01."""
    net: Decimal


class Utilisation(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a limit is used."""

    limit: str
    """As in `RiskState.breaches`: `max_total_exposure`, `max_position:BTC/USDT`."""
    used: Decimal | None
    """None: not known."""
    allowed: Decimal
    percent: Decimal | None


@dataclass(frozen=True)
class Assessment:
    state: RiskState
    exposure: ExposureReport
    pnl: Pnl
    daily_pnl: Decimal | None
    """None: something held has no price."""
    utilisation: tuple[Utilisation, ...]
    stale: tuple[str, ...]
    """Instruments whose quote is too old to be used."""


@dataclass
class RiskWatch:
    """Mutable facts; `assess` concludes from them."""

    desk: DeskFile
    day_start: DayStart | None = None
    in_force: LimitsInForce | None = None
    """The limits as they were tightened meanwhile; None: those of the desk file."""
    books: Books = field(default_factory=Books)
    live: bool = False
    """False while the journal is read: its days began in the past."""
    _quotes: dict[Instrument, Quote] = field(default_factory=dict)
    _rules: dict[Instrument, InstrumentRules] = field(default_factory=dict)
    _last_event_day: int = 0

    # --- facts -------------------------------------------------------------------------------

    def on_quote(self, quote: Quote) -> None:
        self._quotes[quote.venue, quote.symbol] = quote

    def on_rules(self, venue: str, rules: tuple[InstrumentRules, ...]) -> None:
        self._rules.update({(venue, each.symbol): each for each in rules})

    def on_event(self, event: JournalEvent) -> None:
        """Raises ImpossibleEventError for one that contradicts the books."""
        day = event.at_ns // DAY_NS
        if not self.live and day > self._last_event_day:
            self._begin_day_from_journal(day)
            self._last_event_day = day
        self.books.apply(event)

    def _begin_day_from_journal(self, day: int) -> None:
        """Before a day's first event: what was realized until then, where no better note exists."""
        if self.day_start is None or self.day_start.day < day:
            pnl = positions.total_pnl(self.books.positions.values(), {}, self._conversion({}))
            self.day_start = DayStart(day=day, net=pnl.realized - pnl.fees)

    # --- conclusions -------------------------------------------------------------------------

    def assess(self, now_ns: int) -> Assessment:
        """Everything as of now. Notes the beginning of a day when it is first asked on that day."""
        marks, stale = self._marks(now_ns)
        conversion = self._conversion(marks)
        held = tuple(self.books.positions.values())
        report = exposures.exposure(held, marks, rules=self._rules, conversion=conversion)
        pnl = positions.total_pnl(held, marks, conversion)
        daily = self._daily(pnl, now_ns)
        # A fee without a price makes the figure too good by little; a position without one makes it
        # meaningless.
        known_daily = None if report.unpriced else daily
        applied = self.applied()
        breached = exposures.breaches(report, known_daily, applied.risk)
        state = RiskState(
            breaches=(LIMITS_UNKNOWN, *breached) if applied.problem else breached,
            total_exposure=report.total,
            daily_pnl=_UNKNOWN if known_daily is None else known_daily,
            open_positions=report.open_positions,
        )
        return Assessment(
            state=state,
            exposure=report,
            pnl=pnl,
            daily_pnl=known_daily,
            utilisation=tuple(self._utilisation(report, known_daily, applied.risk)),
            stale=stale,
        )

    def _marks(self, now_ns: int) -> tuple[dict[Instrument, Decimal], tuple[str, ...]]:
        longest_ns = int(self.desk.risk.stale_quote_after * 1e9)
        # Less than nothing: the clock was set back, and it would look fresh for as long as that.
        least_ns = -int(CLOCK_STEP_S * 1e9)
        marks: dict[Instrument, Decimal] = {}
        stale: list[str] = []
        for (venue, symbol), quote in self._quotes.items():
            if not (least_ns <= quote.age_ns(now_ns) <= longest_ns and quote.is_sound):
                stale.append(f"{venue} {symbol}")
            else:
                marks[venue, symbol] = quote.mid
        return marks, tuple(stale)

    def _conversion(self, marks: Mapping[Instrument, Decimal]) -> dict[str, Decimal]:
        """What a base currency is worth in the quote currency of its symbol, for fees."""
        return {symbol.partition("/")[0]: mark for (_, symbol), mark in marks.items()}

    def _daily(self, pnl: Pnl, now_ns: int) -> Decimal:
        day = now_ns // DAY_NS
        if self.day_start is None:
            self.day_start = DayStart(day=day, net=Decimal(0))
        elif self.day_start.day < day:
            # Only now, at the first look after midnight: a second of drift at most.
            self.day_start = DayStart(day=day, net=pnl.net)
        return pnl.net - self.day_start.net

    def applied(self) -> Applied:
        """The limits that this judges by now."""
        return Applied(self.desk.risk, Changes()) if self.in_force is None else self.in_force.now()

    def _utilisation(
        self, report: ExposureReport, daily: Decimal | None, risk: Risk
    ) -> list[Utilisation]:
        used: list[tuple[str, Decimal | None, Decimal]] = []
        for symbol, allowed in sorted(risk.max_position.items()):
            held = sum(
                (abs(p.quantity) for p in report.positions if p.symbol == symbol), Decimal(0)
            )
            used.append((f"max_position:{symbol}", held, allowed))
        if risk.max_notional_per_position is not None:
            used += [
                (
                    f"max_notional_per_position:{p.symbol}",
                    p.notional,
                    risk.max_notional_per_position,
                )
                for p in report.positions
            ]
        if risk.max_total_exposure is not None:
            total = None if report.unpriced else report.total
            used.append(("max_total_exposure", total, risk.max_total_exposure))
        if risk.max_open_positions is not None:
            count = Decimal(report.open_positions)
            used.append(("max_open_positions", count, Decimal(risk.max_open_positions)))
        if risk.max_daily_loss is not None:
            loss = None if daily is None else max(Decimal(0), -daily)
            used.append(("max_daily_loss", loss, risk.max_daily_loss))
        return [
            Utilisation(
                limit=limit, used=amount, allowed=allowed, percent=_percent(amount, allowed)
            )
            for limit, amount, allowed in used
        ]


def _percent(used: Decimal | None, allowed: Decimal) -> Decimal | None:
    if used is None or allowed == 0:
        return None
    return (used / allowed * 100).quantize(Decimal("0.01"))
