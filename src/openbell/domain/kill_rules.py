"""When the kill switch is set without a person: rules over validated facts.

A rule measures one number in one scope: a loss, a drawdown, a share of rejections, how many orders
traded, the age of market data, the silence of the engine. At its limit, for as long as it says, it
triggers, and the scope is latched. Two invariants:

- What is not known triggers nothing: a number that is missing, not finite, or made from stale prices,
  books that were not reconciled, or another currency is `NOT_JUDGED`, and says why.
- A known breach triggers within one look once it has lasted.

A person's release is a word about the breach that stands. A loss is accepted as it is then, and the
same amount may be lost again before the rule triggers anew; of rejections and executions only those
after it count; what cannot grow in steps (data stays stale, an engine stays silent) is not judged
again until it was well once. Back inside the limit, or on another day for a day's loss, the rule is
as new. So no release leaves a desk unguarded, and no release is undone at once
(docs/decisions/kill-rules-after-a-release.md).

Facts in, judgements out: no clock, no files. `Memory` is what must outlive a crash.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

import msgspec

from openbell.config.kill_rules import KillRules
from openbell.domain.scopes import Scope

ZERO = Decimal(0)
ACTOR = "rule:"
"""A latch's `by`, with the rule's name behind it."""


class Rule(StrEnum):
    MAX_DAILY_LOSS = "max_daily_loss"
    MAX_DRAWDOWN = "max_drawdown"
    REJECT_RATE = "reject_rate"
    REPEATED_EXECUTIONS = "repeated_executions"
    STALE_MARKET_DATA = "stale_market_data"
    HEARTBEAT_LOST = "heartbeat_lost"

    @property
    def accepts(self) -> bool:
        """Whether a release accepts what is measured as it stands."""
        return self in (Rule.MAX_DAILY_LOSS, Rule.MAX_DRAWDOWN)

    @property
    def counts(self) -> bool:
        """Whether it counts events, of which after a release only later ones count."""
        return self in (Rule.REJECT_RATE, Rule.REPEATED_EXECUTIONS)


class State(StrEnum):
    ARMED = "armed"
    LASTING = "lasting"
    """At its limit, but not for long enough yet."""
    TRIGGERED = "triggered"
    """Now, or before: its latch is to be set, or holds."""
    RELEASED = "released"
    """A person released it, and what triggered it stands: it waits for more, or for the end of it."""
    NOT_JUDGED = "not_judged"


@dataclass(frozen=True, slots=True)
class Reading:
    """One number, or why there is none."""

    value: Decimal | None
    why_not: str = ""
    note: str = ""
    """What the number was made of, for people."""

    @property
    def is_sound(self) -> bool:
        return self.value is not None and self.value.is_finite()


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """A rule has triggered, and its latch was not released since."""

    at_ns: int
    text: str
    latches: tuple[str, ...] = ()
    """Ids of what was set; none where setting failed: it is tried again."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule in one scope has to remember, whoever is killed."""

    trip: Trip | None = None
    released: bool = False
    """By a person, and nothing was measured since."""
    accepted: Decimal = ZERO
    """What a release accepted of the measured number."""
    spent: bool = False
    """Released while it stood; judged again once it was well."""
    day: int | None = None
    """Since 1970-01-01, UTC."""
    day_net: Decimal | None = None
    """Net P&L when that day began."""
    high: Decimal | None = None
    """Highest net P&L so far."""
    currency: str = ""
    """Of `day_net` and `high`."""
    counted_from_ns: int = 0
    """Outcomes of orders before count no more."""


Memory = dict[str, Kept]
"""By `key_of`."""


def key_of(rule: Rule, scope: Scope) -> str:
    return f"{rule} {scope}"


@dataclass(frozen=True, slots=True)
class Judgement:
    rule: Rule
    scope: Scope
    state: State
    text: str
    """The numbers, or why it was not judged."""
    value: Decimal | None = None
    limit: Decimal = ZERO
    """What it triggers at now, what was accepted included."""
    since_ns: int | None = None
    """When it triggered."""

    @property
    def key(self) -> str:
        return key_of(self.rule, self.scope)

    def as_dict(self) -> dict[str, object]:
        return {
            "rule": str(self.rule),
            "scope": str(self.scope),
            "state": str(self.state),
            "value": None if self.value is None else f"{self.value:f}",
            "limit": f"{self.limit:f}",
            "since_ns": self.since_ns,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Now:
    """The moment of a look."""

    wall_ns: int
    mono_ns: int
    latches: Collection[str] | None
    """Ids of every latch there is; None: that cannot be read, so none counts as released."""

    @property
    def day(self) -> int:
        return self.wall_ns // 86_400_000_000_000


@dataclass
class _Rising:
    """A P&L above the highest so far, that has not lasted yet."""

    since_ns: int
    low: Decimal


@dataclass
class Judge:
    """Judges one desk's rules, look by look."""

    memory: Memory = field(default_factory=dict)
    _since_ns: dict[str, int] = field(default_factory=dict)
    _rising: dict[str, _Rising] = field(default_factory=dict)
    _last_net: dict[str, Decimal] = field(default_factory=dict)

    # --- the rules ---------------------------------------------------------------------------

    def daily_loss(
        self,
        scope: Scope,
        net: Reading,
        now: Now,
        *,
        limit: Decimal,
        currency: str,
        lasting_s: float = 0.0,
        day_open: Decimal | None = None,
    ) -> Judgement:
        """`net`: P&L since ever. `day_open`: what it was when this day began as far as the journal
        tells, for a process that was not there at midnight."""
        key = key_of(Rule.MAX_DAILY_LOSS, scope)
        kept = self._of_currency(key, currency)
        if kept.day is None or kept.day < now.day:
            if not net.is_sound:
                return self._judge(Rule.MAX_DAILY_LOSS, scope, net, now, limit, lasting_s)
            before = self._last_net.get(key)
            start = before if before is not None else day_open
            assert net.value is not None
            kept = msgspec.structs.replace(
                kept,
                day=now.day,
                day_net=net.value if start is None else start,
                accepted=ZERO,
                currency=currency,
            )
            self.memory[key] = kept
        reading = net
        if net.is_sound:
            assert net.value is not None and kept.day_net is not None
            self._last_net[key] = net.value
            today = net.value - kept.day_net
            note = f"today's P&L of {scope} is {_money(today)} {currency}{_behind(net.note)}"
            reading = Reading(-today, note=note)
        return self._judge(Rule.MAX_DAILY_LOSS, scope, reading, now, limit, lasting_s)

    def drawdown(
        self,
        scope: Scope,
        net: Reading,
        now: Now,
        *,
        limit: Decimal,
        currency: str,
        lasting_s: float = 0.0,
    ) -> Judgement:
        """A new high counts once it has lasted too: one wrong price up would make a false drawdown
        out of its end."""
        key = key_of(Rule.MAX_DRAWDOWN, scope)
        kept = self._of_currency(key, currency)
        reading = net
        if net.is_sound:
            assert net.value is not None
            high = self._high(key, kept.high, net.value, now, lasting_s)
            if high != kept.high:
                kept = msgspec.structs.replace(kept, high=high, currency=currency)
                self.memory[key] = kept
            note = (
                f"P&L of {scope} is {_money(net.value)}, {_money(high - net.value)} {currency} below "
                f"its highest of {_money(high)}{_behind(net.note)}"
            )
            reading = Reading(max(ZERO, high - net.value), note=note)
        return self._judge(Rule.MAX_DRAWDOWN, scope, reading, now, limit, lasting_s)

    def reject_rate(
        self,
        scope: Scope,
        rejected: int,
        outcomes: int,
        now: Now,
        *,
        share: Decimal,
        at_least: int,
        lasting_s: float = 0.0,
    ) -> Judgement:
        """Of the orders in the window that were accepted or rejected, and of no older than
        `counted_from_ns`."""
        if outcomes < at_least:
            reading = Reading(None, f"{outcomes} outcomes of orders, judged from {at_least} on")
        else:
            note = f"{rejected} of {outcomes} orders of {scope} were rejected"
            reading = Reading(Decimal(rejected) / Decimal(outcomes), note=note)
        return self._judge(Rule.REJECT_RATE, scope, reading, now, share, lasting_s)

    def repeated_executions(
        self, scope: Scope, orders: int, now: Now, *, at_most: int, within_s: float
    ) -> Judgement:
        """`orders`: those that traded in the window, and no earlier than `counted_from_ns`."""
        note = f"{orders} orders of {scope} traded within {within_s:g} s, {at_most} may"
        reading = Reading(Decimal(orders), note=note)
        return self._judge(Rule.REPEATED_EXECUTIONS, scope, reading, now, Decimal(at_most + 1), 0.0)

    def counted_from_ns(self, rule: Rule, scope: Scope) -> int:
        kept = self.memory.get(key_of(rule, scope))
        return kept.counted_from_ns if kept else 0

    def age(self, rule: Rule, scope: Scope, age: Reading, now: Now, *, limit_s: float) -> Judgement:
        """`STALE_MARKET_DATA` and `HEARTBEAT_LOST`: seconds."""
        return self._judge(rule, scope, age, now, Decimal(str(limit_s)), 0.0)

    # --- what became of a trigger -----------------------------------------------------------------

    def latched(self, judgement: Judgement, latches: tuple[str, ...], now: Now) -> None:
        """Its latch is set. Without this it triggers again at the next look."""
        kept = self._kept(judgement.key)
        trip = Trip(at_ns=now.wall_ns, text=judgement.text, latches=latches)
        self.memory[judgement.key] = msgspec.structs.replace(kept, trip=trip, released=False)

    # --- inside ------------------------------------------------------------------------------

    def _judge(
        self,
        rule: Rule,
        scope: Scope,
        reading: Reading,
        now: Now,
        limit: Decimal,
        lasting_s: float,
    ) -> Judgement:
        key = key_of(rule, scope)
        kept = self._kept(key)
        if kept.trip is not None:
            if now.latches is None or any(each in now.latches for each in kept.trip.latches):
                return Judgement(
                    rule, scope, State.TRIGGERED, kept.trip.text, reading.value, limit,
                    kept.trip.at_ns,
                )  # fmt: skip
            # What is counted is counted anew, so nothing of it stands.
            kept = msgspec.structs.replace(
                kept,
                trip=None,
                released=not rule.counts,
                counted_from_ns=now.wall_ns,
            )
            self.memory[key] = kept
            self._since_ns.pop(key, None)
        if not reading.is_sound:
            why = reading.why_not or "the number is not finite"
            return Judgement(rule, scope, State.NOT_JUDGED, why, None, limit + kept.accepted)
        value = reading.value
        assert value is not None
        if value < limit:
            self._keep(key, kept, released=False, accepted=ZERO, spent=False)
            self._since_ns.pop(key, None)
            return Judgement(rule, scope, State.ARMED, reading.note, value, limit)
        if kept.released:
            accepted = value if rule.accepts else ZERO
            kept = self._keep(key, kept, released=False, accepted=accepted, spent=not rule.accepts)
        at = limit + kept.accepted
        if kept.spent or value < at:
            self._since_ns.pop(key, None)
            until = f"until it reaches {_money(at)}" if rule.accepts else "until it was well once"
            text = f"{reading.note}; released by a person as it stood: not judged {until}"
            return Judgement(rule, scope, State.RELEASED, text, value, at)
        since_ns = self._since_ns.setdefault(key, now.mono_ns)
        if now.mono_ns - since_ns < lasting_s * 1e9:
            return Judgement(rule, scope, State.LASTING, reading.note, value, at)
        text = f"{rule}: {reading.note}; the limit is {_money(at)}"
        return Judgement(rule, scope, State.TRIGGERED, text, value, at)

    def _high(
        self, key: str, high: Decimal | None, net: Decimal, now: Now, lasting_s: float
    ) -> Decimal:
        if high is None:
            return net
        if net <= high:
            self._rising.pop(key, None)
            return high
        rising = self._rising.setdefault(key, _Rising(now.mono_ns, net))
        rising.low = min(rising.low, net)
        if now.mono_ns - rising.since_ns < lasting_s * 1e9:
            return high
        del self._rising[key]
        return rising.low

    def _kept(self, key: str) -> Kept:
        return self.memory.get(key) or Kept()

    def _keep(
        self, key: str, kept: Kept, *, released: bool, accepted: Decimal, spent: bool
    ) -> Kept:
        changed = msgspec.structs.replace(kept, released=released, accepted=accepted, spent=spent)
        if changed != kept:
            self.memory[key] = changed
        return changed

    def _of_currency(self, key: str, currency: str) -> Kept:
        """What was kept in another currency says nothing in this one."""
        kept = self._kept(key)
        if kept.currency in ("", currency):
            return kept
        return msgspec.structs.replace(
            kept, day=None, day_net=None, high=None, accepted=ZERO, currency=currency
        )


def is_set(rules: KillRules) -> bool:
    return any(getattr(rules, rule) is not None for rule in Rule)


def rules_document(judgements: Mapping[str, Judgement]) -> list[dict[str, object]]:
    return [each.as_dict() for _, each in sorted(judgements.items())]


def _money(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _behind(note: str) -> str:
    return f" ({note})" if note else ""
