"""The last gate: what every order must pass in the engine, directly before its intent is journaled.

Invariants:

- Without leave (latch, halt, permit, reconciliation) nothing passes.
- If every open order and this one filled, no position limit would be exceeded.
- Nothing passes on an unknown: a price that is missing, stale, crossed or not a number, risk figures
  that are missing or old, open no position.
- An order that only makes a position smaller, whatever else fills, is not held back by limits of
  exposure and loss: they must never lock a desk into the risk that breached them.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from openbell.config.models import Risk
from openbell.domain.books import WorstCase
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import NewOrder, OrdType, Purpose, Side, TimeInForce
from openbell.domain.permit import PermitScope, Refusal, allows
from openbell.domain.scopes import DESK, Scope

__all__ = [
    "LIMITS_UNKNOWN",
    "RISK_STALE_AFTER_NS",
    "GateFacts",
    "Refusal",
    "check_order",
    "latched_refusal",
    "reduces",
]

RISK_STALE_AFTER_NS = 5_000_000_000
"""Risk-management speaks once a second; five missed words, and it is taken for down."""

CLOCK_STEP_S = 1.0
"""Two processes read the same clock; further apart than this, it was set."""
LATE_TOLD_S = 1.0
"""A refusal for a stale quote names no smaller delay of its feed: it is not what made it stale."""

LIMITS_UNKNOWN = "limits_unknown"
"""The breach of a risk-management that cannot read which limits are in force."""

BREACH_CODES = {
    "max_position": "limit_position",
    "max_notional_per_position": "limit_notional",
    "max_total_exposure": "limit_exposure",
    "max_open_positions": "limit_open_positions",
    "max_daily_loss": "limit_daily_loss",
    LIMITS_UNKNOWN: "limits_unknown",
}
"""Code of an order that is refused because a limit is breached already, by the limit's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFacts:
    """All that the gate looks at, as of one moment. `worst` and `others_*` come from the books,
    this order not included."""

    now_ns: int
    scope: PermitScope
    """Of the permit held now; NONE where it is missing or has run out."""
    halted: bool
    latched: Scope | None
    """The latch that covers this order."""
    reconciled: bool
    """Books and venue agree in every symbol."""
    venue_up: bool
    rules: InstrumentRules | None
    """None: the desk does not trade this symbol."""
    quote: Quote | None
    worst: WorstCase
    """Of this order's instrument."""
    open_orders: int
    """Of the whole desk."""
    others_exposure: Decimal | None
    """Worst-case exposure of all other instruments (`exposure.worst_exposure`), in the quote
    currency; None: one of them has no price."""
    others_open: int
    """Other instruments with a position above dust or an open order."""
    daily_pnl: Decimal | None
    """None: not known."""
    sent_last_second: int
    """Orders sent in the second before `now_ns`."""
    risk_age_ns: int | None
    """Since risk-management last spoke; None: never."""
    risk_breaches: tuple[str, ...] = ()
    symbol_agrees: bool = False
    """In the order's symbol they do, whatever the others: enough for a flatten."""
    limits_problem: str = ""
    """Why it is not known which limits are in force; empty where it is."""
    disabled: str = ""
    """By whom and why the order's strategy is disabled; empty where it is not."""


def reduces(order: NewOrder, worst: WorstCase) -> bool:
    """Whether the order makes its position smaller and cannot flip it, even if it and every open
    order on its side fill."""
    if order.side is Side.SELL:
        return worst.shortest - order.order_qty >= 0
    return worst.longest + order.order_qty <= 0


def latched_refusal(scope: Scope) -> Refusal:
    """Of an order inside a latch's scope, whatever its purpose: a flatten too."""
    of = "" if scope == DESK else f" for {scope}"
    return Refusal("latched", f"the kill switch is latched{of}")


def check_order(order: NewOrder, facts: GateFacts, risk: Risk) -> Refusal | None:
    """None if the order may be sent, otherwise why not; the codes are those of `IntentReply`."""
    malformed = _malformed(order)
    if malformed:
        return Refusal("bad_order", malformed)
    smaller = reduces(order, facts.worst)
    return (
        _leave(order, facts, smaller)
        or _shape(order, facts)
        or _rate(order, facts, risk)
        or _price(order, facts, risk, smaller)
        or (None if smaller else _risk(order, facts, risk))
    )


def _malformed(order: NewOrder) -> str:
    """What is wrong with the order by itself; empty if nothing."""
    if not order.order_qty.is_finite() or order.order_qty <= 0:
        return f"the quantity is {order.order_qty}"
    if order.ord_type is OrdType.MARKET:
        if order.price is not None:
            return "a market order has no price"
        if order.post_only:
            return "a market order cannot be post-only"
    elif order.price is None or not order.price.is_finite() or order.price <= 0:
        return f"the limit price is {order.price}"
    if order.post_only and order.time_in_force is not TimeInForce.GTC:
        return f"a post-only order rests: it cannot be {order.time_in_force}"
    return ""


def _leave(order: NewOrder, facts: GateFacts, smaller: bool) -> Refusal | None:
    """Whether orders of this kind may be sent at all."""
    if facts.latched is not None:
        return latched_refusal(facts.latched)
    # A flatten goes on under a halt, for closing a halted desk is what it is for; the permit's
    # scope says whether anybody asked for it.
    if facts.halted and order.purpose is not Purpose.FLATTEN:
        return Refusal("halted", "new orders are halted")
    if facts.disabled and order.purpose is not Purpose.FLATTEN:
        return Refusal("disabled", facts.disabled)
    if facts.scope is PermitScope.NONE:
        return Refusal("no_permit", "no permit is held")
    flattens_known = order.purpose is Purpose.FLATTEN and facts.symbol_agrees
    if not facts.reconciled and not flattens_known:
        return Refusal("not_reconciled", "the books are not reconciled with the venue")
    if not facts.venue_up:
        return Refusal("venue_down", f"{order.venue} cannot be reached")
    if order.purpose is Purpose.FLATTEN and not smaller:
        return Refusal("bad_order", "a flatten may only make a position smaller")
    if not allows(facts.scope, order.purpose, smaller):
        return Refusal("no_permit", f"the permit allows only to {facts.scope}")
    return None


def _shape(order: NewOrder, facts: GateFacts) -> Refusal | None:
    """The instrument's rules."""
    rules = facts.rules
    if rules is None or rules.symbol != order.symbol:
        return Refusal("bad_order", f"{order.symbol} is not traded at {order.venue}")
    qty, price = order.order_qty, order.price
    if not _on_grid(qty, rules.lot_size):
        return Refusal("bad_order", f"{qty} is not a multiple of the lot, {rules.lot_size}")
    if qty < rules.min_qty or qty > rules.max_qty:
        return Refusal("bad_order", f"{qty} is not within {rules.min_qty} and {rules.max_qty}")
    if price is not None and not _on_grid(price, rules.tick_size):
        return Refusal("bad_order", f"{price} is not a multiple of the tick, {rules.tick_size}")
    if price is None and facts.quote is not None and facts.quote.is_sound:
        price = facts.quote.mid
    if price is not None and qty * price < rules.min_notional:
        return Refusal(
            "bad_order", f"worth {qty * price}, less than the venue's {rules.min_notional}"
        )
    return None


def _rate(order: NewOrder, facts: GateFacts, risk: Risk) -> Refusal | None:
    # A strategy that runs wild uses these up; a flatten must still get through.
    if order.purpose is Purpose.FLATTEN:
        return None
    if facts.sent_last_second >= risk.max_orders_per_second:
        return Refusal("limit_rate", f"{facts.sent_last_second} orders in the last second")
    if facts.open_orders >= risk.max_open_orders:
        return Refusal("limit_open_orders", f"{facts.open_orders} orders are open")
    return None


def _price(order: NewOrder, facts: GateFacts, risk: Risk, smaller: bool) -> Refusal | None:
    """The quote is usable, and a limit price is near it."""
    quote = _usable_quote(order, facts, risk)
    if quote is None:
        if smaller:
            return None
        late = "" if facts.quote is None else _late(facts.quote)
        return Refusal(
            "stale_quote", f"no sound quote of {order.symbol} that is recent enough{late}"
        )
    if order.price is not None:
        away = abs(order.price - quote.mid) / quote.mid
        if away > Decimal(str(risk.price_collar)):
            return Refusal(
                "price_collar", f"{order.price} is {away:.2%} away from the mid, {quote.mid}"
            )
    return None


def _risk(order: NewOrder, facts: GateFacts, risk: Risk) -> Refusal | None:
    """Limits of an order that may make a position larger. `_price` has seen a usable quote."""
    assert facts.quote is not None
    if facts.limits_problem:
        return Refusal("limits_unknown", f"the limits in force: {facts.limits_problem}")
    if facts.risk_age_ns is None or facts.risk_age_ns > RISK_STALE_AFTER_NS:
        return Refusal("risk_down", "risk-management was not heard lately")
    for breach in facts.risk_breaches:
        code = BREACH_CODES.get(breach.partition(":")[0], "limit_exposure")
        return Refusal(code, f"breached: {breach}")
    # Dearer than anything it could trade at: a limit buy never above its price, all else
    # at the ask or, for a limit sell above it, at its price.
    px = max(facts.quote.ask_px, order.price or facts.quote.ask_px)
    signed = order.side.sign * order.order_qty
    # Only its own side can get worse by this order.
    largest = facts.worst.longest + signed if signed > 0 else -(facts.worst.shortest + signed)
    allowed = risk.max_position.get(order.symbol)
    if allowed is not None and largest > allowed:
        return Refusal("limit_position", f"could become {largest}, more than {allowed}")
    if risk.max_order_notional is not None and order.order_qty * px > risk.max_order_notional:
        return Refusal(
            "limit_notional", f"worth {order.order_qty * px}, more than {risk.max_order_notional}"
        )
    each = risk.max_notional_per_position
    if each is not None and largest * px > each:
        return Refusal("limit_notional", f"could become worth {largest * px}, more than {each}")
    if risk.max_total_exposure is not None:
        if facts.others_exposure is None:
            return Refusal("stale_quote", "another position has no price, so exposure is unknown")
        total = facts.others_exposure + max(largest, facts.worst.largest) * px
        if total > risk.max_total_exposure:
            return Refusal("limit_exposure", f"could become {total} in all")
    most = risk.max_open_positions
    if most is not None and facts.others_open + 1 > most:
        return Refusal("limit_open_positions", f"{facts.others_open} others are open or may be")
    if risk.max_daily_loss is not None:
        if facts.daily_pnl is None or not facts.daily_pnl.is_finite():
            return Refusal("risk_down", "today's P&L is not known")
        if facts.daily_pnl <= -risk.max_daily_loss:
            return Refusal("limit_daily_loss", f"today's P&L is {facts.daily_pnl}")
    return None


def _usable_quote(order: NewOrder, facts: GateFacts, risk: Risk) -> Quote | None:
    quote = facts.quote
    if quote is None or not quote.is_sound:
        return None
    if (quote.venue, quote.symbol) != (order.venue, order.symbol):
        return None
    age_s = quote.age_ns(facts.now_ns) / 1_000_000_000
    # A quote from the future: the clock was set back, and no age can be told any more.
    return quote if -CLOCK_STEP_S <= age_s <= risk.stale_quote_after else None


def _late(quote: Quote) -> str:
    late_s = quote.late_ns / 1_000_000_000
    return f": they come {late_s:.1f}s late, or a clock is wrong" if late_s >= LATE_TOLD_S else ""


def _on_grid(value: Decimal, step: Decimal) -> bool:
    try:
        return value % step == 0
    except InvalidOperation:  # a step of 0, or a value beyond all reason
        return False
