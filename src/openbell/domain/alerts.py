"""What a person is alerted of while a desk runs, and above all while it is being closed. Pure.

    order_open       an own order is still open so long after the closing began     closing only
    orders_unknown   it has not been known for so long which own orders are open     closing only
    position_grew    a position is larger than the closing had seen it already      closing only
    loss             today's loss has passed its threshold
    rejects          too large a share of the orders was rejected
    zombie           a process of a service has ended and nobody reaps it

A fact that is None is not known: its alerts are neither raised nor called absent, and `not_judged`
names it. An alert is told once and again only after it was gone (`news`), so that whoever looks
each second does not call each second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openbell.config.models import DeskFile

PositionKey = tuple[str, str]
"""Venue and symbol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """`[alerts]` of desk.toml."""

    order_open_s: float
    loss: Decimal | None
    """None: no loss is alerted of."""
    reject_share: Decimal
    rejects_at_least: int
    """Fewer outcomes than this are not judged."""
    zombie_s: float

    @classmethod
    def of(cls, file: DeskFile) -> Thresholds:
        settings = file.alerts
        return cls(
            order_open_s=settings.order_open_for,
            loss=settings.loss if settings.loss is not None else file.risk.max_daily_loss,
            reject_share=settings.reject_share,
            rejects_at_least=settings.rejects_at_least,
            zombie_s=settings.zombie_for,
        )


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An own order that a venue lists as open."""

    venue: str
    symbol: str
    cl_ord_id: str
    age_s: float | None
    """Since it was made; None: not told, the closing's own time counts then."""


@dataclass(frozen=True, slots=True)
class ClosingFacts:
    """What is seen of a closing under way."""

    elapsed_s: float
    keeps_orders: bool
    """They are meant to rest."""
    orders: tuple[OpenOrder, ...] | None
    positions: Mapping[PositionKey, Decimal] | None
    """As the venues say; one whose venue did not say is left out."""
    least: Mapping[PositionKey, Decimal]
    """The smallest that each position was seen at in this closing: see `least_seen`."""
    unknown: tuple[str, ...] = ()
    """What else could not be learned of orders and positions, a sentence each."""
    orders_unknown_s: float = 0.0
    """For how long those who were asked have not told all own open orders; 0: they have."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of the orders that were sent within the last minute."""

    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Zombie:
    service: str
    pid: int
    seen_for_s: float
    """A process is a zombie for a moment whenever it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFacts:
    closing: ClosingFacts | None
    """None: the desk is not being closed."""
    pnl_today: Decimal | None
    outcomes: Outcomes | None
    zombies: tuple[Zombie, ...] | None


@dataclass(frozen=True, slots=True)
class Alert:
    rule: str
    subject: str
    """With the rule, what tells this alert from another."""
    text: str

    @property
    def key(self) -> tuple[str, str]:
        return (self.rule, self.subject)


@dataclass(frozen=True, slots=True)
class Judged:
    alerts: tuple[Alert, ...]
    not_judged: tuple[str, ...]
    """What could not be judged, a sentence each."""


def judge(facts: AlertFacts, thresholds: Thresholds) -> Judged:
    """Every alert that stands now."""
    alerts: list[Alert] = []
    not_judged: list[str] = []
    if facts.closing is not None:
        _closing(facts.closing, thresholds, alerts, not_judged)
    if thresholds.loss is not None:
        if facts.pnl_today is None or not facts.pnl_today.is_finite():
            not_judged.append("loss: today's P&L is not known")
        elif -facts.pnl_today > thresholds.loss:
            lost = f"{-facts.pnl_today:f}"
            alerts.append(
                Alert("loss", "desk", f"{lost} lost today, more than {thresholds.loss:f}")
            )
    if facts.outcomes is None:
        not_judged.append("rejects: the outcomes of orders are not known")
    else:
        _rejects(facts.outcomes, thresholds, alerts)
    if facts.zombies is None:
        not_judged.append("zombies: the process table is not known")
    else:
        alerts += [
            Alert(
                "zombie",
                str(each.pid),
                f"process {each.pid} of {each.service} has ended and is not reaped (a zombie)",
            )
            for each in facts.zombies
            if each.seen_for_s >= thresholds.zombie_s
        ]
    return Judged(tuple(alerts), tuple(not_judged))


def _closing(
    closing: ClosingFacts, thresholds: Thresholds, alerts: list[Alert], not_judged: list[str]
) -> None:
    not_judged += closing.unknown
    if closing.orders is None:
        not_judged.append("orders: what is open is not known")
    elif not closing.keeps_orders:
        alerts += [
            Alert(
                "order_open",
                f"{order.venue} {order.cl_ord_id}",
                f"{order.cl_ord_id} ({order.venue} {order.symbol}) is open, "
                f"{thresholds.order_open_s:g}s and more into the closing",
            )
            for order in closing.orders
            if _open_in_closing_s(order, closing) > thresholds.order_open_s
        ]
    if closing.orders_unknown_s > thresholds.order_open_s:
        why = f": {'; '.join(closing.unknown)}" if closing.unknown else ""
        alerts.append(
            Alert(
                "orders_unknown",
                "desk",
                f"which orders are open has not been known for {thresholds.order_open_s:g}s and more"
                f"{why}",
            )
        )
    if closing.positions is None:
        not_judged.append("positions: what is held is not known")
        return
    for (venue, symbol), now in closing.positions.items():
        least = closing.least.get((venue, symbol))
        if least is not None and has_grown(least, now):
            alerts.append(
                Alert(
                    "position_grew",
                    f"{venue} {symbol}",
                    f"the position {venue} {symbol} has grown during the closing: "
                    f"{least:f} -> {now:f}",
                )
            )


def _open_in_closing_s(order: OpenOrder, closing: ClosingFacts) -> float:
    """How long the closing has left it open: an old order is no news when a closing begins."""
    if order.age_s is None:
        return closing.elapsed_s
    return min(order.age_s, closing.elapsed_s)


def _rejects(outcomes: Outcomes, thresholds: Thresholds, alerts: list[Alert]) -> None:
    total = outcomes.accepted + outcomes.rejected
    if total < max(1, thresholds.rejects_at_least):
        return
    share = Decimal(outcomes.rejected) / total
    if share > thresholds.reject_share:
        alerts.append(
            Alert(
                "rejects",
                "desk",
                f"{outcomes.rejected} of {total} orders of the last minute were rejected, more "
                f"than {thresholds.reject_share * 100:f}%",
            )
        )


def has_grown(least: Decimal, now: Decimal) -> bool:
    """Whether a position is larger than it was, or has changed sides. A value that is no number
    is not compared."""
    if not (least.is_finite() and now.is_finite()):
        return False
    return least * now < 0 or abs(now) > abs(least)


def least_seen(
    least: Mapping[PositionKey, Decimal], positions: Mapping[PositionKey, Decimal]
) -> dict[PositionKey, Decimal]:
    """The smallest that each position was seen at, with what is held now. One that changed sides
    stays measured by what it was before; one that is new is measured from now on."""
    found = dict(least)
    for key, now in positions.items():
        before = found.get(key)
        if before is None or (now.is_finite() and not has_grown(before, now)):
            found[key] = now
    return found


def news(standing: Iterable[Alert], told: Iterable[tuple[str, str]]) -> tuple[Alert, ...]:
    """Of the alerts that stand, those that were not told yet."""
    known = set(told)
    return tuple(alert for alert in standing if alert.key not in known)
