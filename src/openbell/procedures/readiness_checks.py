"""What is to be thought of a desk that is up and is to trade next: its venues, its feeds, its services,
and what trading itself takes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from openbell.config.models import DeskFile
from openbell.domain.service_state import UP, ServiceState
from openbell.procedures.checklists import Check, Found
from openbell.procedures.desk_voices import StrategySays, all_refused
from openbell.procedures.preflight_checks import venue_clock_check
from openbell.runtime.spec import ServiceView

_UNDER_WAY = ("waiting_for_venue", "reconciling")
"""Phases of an engine that come to an end by themselves."""


@dataclass(frozen=True)
class RiskSays:
    """What risk-management, asked itself, says of what it judges by."""

    tells: bool = True
    """False: it is a program of the desk's own that has no such page."""
    why: str = ""
    """Why it does not answer."""
    limits: str | None = None
    """The hash of the limits that it applies; None: not told."""
    limits_problem: str = ""
    engine_limits: str | None = None
    """The same of the engine."""
    rules: frozenset[str] | None = None
    """Kill rules that it judges; None: not told."""

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "rules": None if self.rules is None else sorted(self.rules)}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> RiskSays:
        """The same, as the controller's API told it."""
        rules = said.get("rules")
        return cls(
            tells=bool(said.get("tells", True)),
            why=str(said.get("why") or ""),
            limits=said.get("limits"),
            limits_problem=str(said.get("limits_problem") or ""),
            engine_limits=said.get("engine_limits"),
            rules=None if rules is None else frozenset(map(str, rules)),
        )


@dataclass(frozen=True)
class ReadinessFacts:
    """The desk shortly before it trades. What was not asked for, or not answered, is None."""

    engine: Mapping[str, Any] | None = None
    """`GET /v1/state` of the engine; None: it does not say."""
    engine_why: str = ""
    views: Mapping[str, ServiceView] = field(default_factory=dict)
    wanted: tuple[str, ...] = ()
    """Services that were asked for."""
    connected_ms: Mapping[str, float] = field(default_factory=dict)
    """By venue: from the begin of the first of these steps until it was seen to be connected."""
    feeds: Sequence[Mapping[str, Any]] | None = None
    """`GET /v1/feeds` of market data."""
    feeds_why: str = ""
    has_feeds: bool = True
    """False: the service of the role market-data is not one that tells of its feeds."""
    strategies: tuple[StrategySays, ...] | None = None
    strategies_why: str = ""
    guard: Mapping[str, Any] | None = None
    """As `status` shows it; None: the desk has no guard."""
    risk: RiskSays | None = None
    """None: it was not asked."""

    @property
    def is_under_way(self) -> bool:
        return self.engine is not None and self.engine.get("phase") in _UNDER_WAY

    @property
    def lacks_venue(self) -> bool:
        return self.engine is not None and self.engine.get("phase") == "waiting_for_venue"

    @property
    def is_refused(self) -> bool:
        """It waits for no venue but such as have refused the credentials."""
        return self.lacks_venue and all_refused(self.engine or {})

    @property
    def is_ready(self) -> bool:
        """The engine itself has nothing against trading any more."""
        return self.engine is not None and self.engine.get("phase") == "ready"

    @property
    def in_doubt(self) -> int:
        """Orders of which the engine is still asking what became of them."""
        doubt = (self.engine or {}).get("in_doubt", 0)
        return len(doubt) if isinstance(doubt, list) else int(doubt or 0)

    def venues(self) -> list[Mapping[str, Any]]:
        return list((self.engine or {}).get("venues") or ())

    def silent_feeds(self) -> list[Mapping[str, Any]]:
        """Feeds without a quote, of venues that the engine is connected to."""
        connected = {str(venue["name"]) for venue in self.venues() if venue.get("connected")}
        return [
            row
            for row in self.feeds or ()
            if row.get("venue") in connected and row.get("last_quote_age_s") is None
        ]

    def lacking_rules(self, desk: DeskFile) -> tuple[str, ...]:
        """Rules of the desk file of which risk-management does not say that it judges them, though it
        says which it does."""
        return lacking_rules(self.risk, desk)

    def state(self, service: str) -> ServiceState | None:
        view = self.views.get(service)
        return None if view is None else view.state


def lacking_rules(said: RiskSays | None, desk: DeskFile) -> tuple[str, ...]:
    """As `ReadinessFacts.lacking_rules`."""
    if said is None or said.rules is None:
        return ()
    return tuple(each for each in desk.kill_switch.rules.of_risk if each not in said.rules)


# --- venue connections -----------------------------------------------------------------------------


def judge_venues(facts: ReadinessFacts, desk: DeskFile) -> Iterator[Check]:
    if facts.engine is None:
        detail = facts.engine_why or "the engine does not say"
        yield Check(name="venues", title="Venue connections", found=Found.UNKNOWN, detail=detail)
    for venue in facts.venues():
        yield from _venue(venue, facts, desk)


def _venue(venue: Mapping[str, Any], facts: ReadinessFacts, desk: DeskFile) -> Iterator[Check]:
    name, why = str(venue["name"]), str(venue.get("why_not") or "")
    connected = venue.get("connected") is True
    yield Check(
        name=f"venue_{name}",
        title=f"Connection to {name}",
        found=Found.OK if connected else Found.FAILED,
        detail="connected" if connected else why or "not connected",
        remedy="" if connected else f"`openbell venues test {name}` tries it step by step",
        facts={"connect_ms": facts.connected_ms.get(name)},
    )
    if not connected:
        return
    unheard = "the engine was told no time of it"
    yield venue_clock_check(venue, desk.preflight.max_clock_skew, unheard)


# --- market data -----------------------------------------------------------------------------------


def judge_market_data(facts: ReadinessFacts, desk: DeskFile) -> Iterator[Check]:
    """The service, and each venue's feeds. Of a market that is closed no quote comes: that is told by
    the desk file's sessions, and nobody is warned of it."""
    name, title = "market_data", "Market data"
    service = desk.service_with_role("market-data")
    if service is None:
        detail = "no service of this desk has the role market-data"
        yield Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
        return
    state = facts.state(service)
    found = Found.UNKNOWN if state is None else Found.OK if state in UP else Found.FAILED
    yield Check(
        name=name,
        title=title,
        found=found,
        detail=f"{service} is {state or 'not known'}",
        remedy="" if found is Found.OK else f"`openbell logs {service}`",
    )
    if found is not Found.OK or not facts.has_feeds:
        return
    if facts.feeds is None:
        detail = facts.feeds_why or f"{service} does not say"
        yield Check(name="feeds", title="Feeds", found=Found.UNKNOWN, detail=detail)
        return
    for venue in desk.venues:
        yield _feeds(venue, [row for row in facts.feeds if row.get("venue") == venue])


def _feeds(venue: str, rows: Sequence[Mapping[str, Any]]) -> Check:
    name, title = f"feed_{venue}", f"Feed of {venue}"
    if not rows:
        detail = "market data follows no symbol of it"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    remedy = "`openbell connections`; strategies wait for quotes by themselves"
    facts: dict[str, object] = {
        "symbols": len(rows),
        "quoted": sum(row.get("last_quote_age_s") is not None for row in rows),
    }
    down = [row for row in rows if not row.get("connected")]
    if down:
        told = ", ".join(f"{row['symbol']} ({row.get('why') or 'no reason given'})" for row in down)
        return Check(
            name=name, title=title, found=Found.FAILED, detail=f"not connected: {told}",
            remedy=remedy, facts=facts,
        )  # fmt: skip
    if silent := [str(row["symbol"]) for row in rows if row.get("last_quote_age_s") is None]:
        return Check(
            name=name, title=title, found=Found.WARN,
            detail=f"connected; no quote yet of {', '.join(silent)}", remedy=remedy, facts=facts,
        )  # fmt: skip
    quoted = f"connected, quotes of {len(rows)} symbol{'' if len(rows) == 1 else 's'}"
    return Check(name=name, title=title, found=Found.OK, detail=quoted, facts=facts)


# --- validation ------------------------------------------------------------------------------------


def judge_system(facts: ReadinessFacts, desk: DeskFile) -> Iterator[Check]:
    """The desk as a whole: every service well and as declared, orders can be journaled, strategies
    loaded, somebody there to stop it."""
    yield _services(facts)
    yield _as_declared(facts)
    yield _journal(facts)
    yield _strategies(facts, desk)
    yield _guard(facts, desk)


def _services(facts: ReadinessFacts) -> Check:
    name, title = "services", "Every service well"
    views = [facts.views[each] for each in facts.wanted]
    down = [f"{view.name} is {view.state}" for view in views if view.state not in UP]
    ill = [view for view in views if view.state is ServiceState.DEGRADED]
    if down:
        return Check(
            name=name, title=title, found=Found.FAILED, detail="; ".join(down),
            remedy="`openbell logs SERVICE`, then `openbell up` again",
        )  # fmt: skip
    if ill:
        told = "; ".join(f"{v.name} is degraded ({v.reason or 'no reason given'})" for v in ill)
        return Check(
            name=name, title=title, found=Found.WARN, detail=told, remedy="`openbell health`"
        )
    detail = f"{len(views)} answer and are well"
    return Check(name=name, title=title, found=Found.OK, detail=detail)


def _as_declared(facts: ReadinessFacts) -> Check:
    name, title = "as_declared", "Services run what is declared"
    drifted = [
        f"{v.name} (older {' and '.join(v.drift) or 'table'})"
        for v in map(facts.views.__getitem__, facts.wanted)
        if v.drifted
    ]
    if not drifted:
        return Check(name=name, title=title, found=Found.OK, detail="code and table of each")
    return Check(
        name=name,
        title=title,
        found=Found.WARN,
        detail=", ".join(drifted),
        remedy="`openbell restart --rolling`",
    )


def _journal(facts: ReadinessFacts) -> Check:
    name, title = "journal", "Orders can be journaled"
    if facts.engine is None:
        detail = facts.engine_why or "the engine does not say"
        return Check(name=name, title=title, found=Found.UNKNOWN, detail=detail)
    if trouble := str(facts.engine.get("storage") or ""):
        remedy = "mend the disk on which the state folder lies"
        return Check(name=name, title=title, found=Found.FAILED, detail=trouble, remedy=remedy)
    return Check(name=name, title=title, found=Found.OK, detail="the engine writes its journal")


def _strategies(facts: ReadinessFacts, desk: DeskFile) -> Check:
    name, title = "strategies", "Strategies loaded"
    if desk.service_with_role("strategies") is None:
        detail = "no service of this desk has the role strategies"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    if facts.strategies is None:
        detail = facts.strategies_why or "nobody says"
        return Check(name=name, title=title, found=Found.UNKNOWN, detail=detail)
    failed = [
        f"{each.name} ({each.why or 'no reason given'})"
        for each in facts.strategies
        if each.state == "FAILED"
    ]
    if failed:
        return Check(
            name=name, title=title, found=Found.WARN, detail=f"failed: {', '.join(failed)}",
            remedy="`openbell strategies`",
        )  # fmt: skip
    detail = f"{len(facts.strategies)} loaded"
    if disabled := [each.name for each in facts.strategies if each.state == "DISABLED"]:
        detail += f"; disabled: {', '.join(disabled)}"
    return Check(name=name, title=title, found=Found.OK, detail=detail)


def _guard(facts: ReadinessFacts, desk: DeskFile) -> Check:
    name, title = "guard", "Guard watches"
    if facts.guard is None:
        detail = "the desk has no venue" if not desk.venues else "nobody says"
        found = Found.UNKNOWN if desk.venues else Found.NOT_CONFIGURED
        return Check(name=name, title=title, found=found, detail=detail)
    state, why = str(facts.guard.get("state")), str(facts.guard.get("why") or "")
    if state == "running":
        cold = [str(row["name"]) for row in facts.guard.get("venues") or () if not row.get("warm")]
        detail = f"running; not connected yet to {', '.join(cold)}" if cold else "running"
        found = Found.WARN if cold else Found.OK
        return Check(name=name, title=title, found=found, detail=detail)
    return Check(
        name=name,
        title=title,
        found=Found.FAILED,
        detail=f"{state}{f': {why}' if why else ''}; the desk is stopped by hand alone",
        remedy="`openbell status`",
    )


# --- trading readiness -----------------------------------------------------------------------------


def judge_readiness(facts: ReadinessFacts, desk: DeskFile) -> Iterator[Check]:
    for venue in facts.venues():
        yield _account(venue)
    yield _risk(facts, desk)
    yield _rules(facts, desk)
    yield _reconciliation(facts)


def _account(venue: Mapping[str, Any]) -> Check:
    name, why = str(venue["name"]), str(venue.get("why_not") or "")
    connected = venue.get("connected") is True
    known = (
        connected and venue.get("open_orders") is not None and venue.get("positions") is not None
    )
    return Check(
        name=f"account_{name}",
        title=f"Account at {name}",
        found=Found.OK if known else Found.UNKNOWN if connected else Found.FAILED,
        detail="orders and positions are known"
        if known
        else why or ("it was not told in full" if connected else "not connected"),
        remedy="" if known else f"`openbell venues test {name}`",
    )


def _risk(facts: ReadinessFacts, desk: DeskFile) -> Check:
    """One that is up and not well, for want of fresh quotes say, has its limits too; whether that lets the
    desk trade the permit decides."""
    name, title = "risk", "Risk parameters loaded"
    service = desk.service_with_role("risk")
    if service is None:
        detail = "no service of this desk has the role risk"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    state, limits = facts.state(service), len(desk.risk.model_fields_set)
    told = [f"{service} is {state or 'not known'}; {limits} limits"]
    found = Found.UNKNOWN if state is None else Found.FAILED
    if state in UP:
        found = Found.OK if state is ServiceState.READY and limits else Found.WARN
        worse, said = limits_of(facts.risk, service)
        found, told = worse or found, [*told, *said]
    return Check(
        name=name,
        title=title,
        found=found,
        detail="; ".join(told),
        remedy=""
        if found is Found.OK
        else f"`openbell limits show`, `openbell logs {service}`, [risk]",
        facts={"limits": limits},
    )


def limits_of(said: RiskSays | None, service: str) -> tuple[Found | None, list[str]]:
    """What is wrong by its own word, and that word."""
    if said is None or not said.tells:
        return None, []
    if said.limits_problem:
        return Found.FAILED, [said.limits_problem]
    if said.limits is None:
        return Found.UNKNOWN, [f"{service} does not say which: {said.why}"]
    if said.engine_limits is not None and said.engine_limits != said.limits:
        return Found.FAILED, ["it applies other limits than the engine"]
    return None, [f"it applies {said.limits[:12]}"]


def _rules(facts: ReadinessFacts, desk: DeskFile) -> Check:
    """Rules count where whoever judges by them is there, and says that it does."""
    name, title = "rules", "Compliance and kill rules active"
    rules = desk.kill_switch.rules
    if not (declared := rules.declared):
        detail = "none in [kill_switch.rules]"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    silent: list[str] = []
    unknown: list[str] = []
    unwell = ""
    if rules.of_risk:
        judge = desk.service_with_role("risk")
        if judge is None or facts.state(judge) not in UP:
            silent.append(f"not judged by {judge or 'a service of the role risk'}")
        elif lacking := facts.lacking_rules(desk):
            silent.append(f"{judge} does not judge {', '.join(lacking)}")
        elif facts.risk is not None and facts.risk.tells and facts.risk.rules is None:
            unknown.append(f"{judge} does not say what it judges: {facts.risk.why}")
        elif facts.state(judge) is not ServiceState.READY:
            # It runs, and says itself that it lacks what it judges by, fresh quotes say.
            unwell = f"{judge} is {facts.state(judge)}: it may not judge by all of them"
    if rules.heartbeat_lost is not None and (facts.guard or {}).get("state") != "running":
        silent.append("not judged by the guard")
    return Check(
        name=name,
        title=title,
        found=Found.FAILED
        if silent
        else Found.UNKNOWN
        if unknown
        else Found.WARN
        if unwell
        else Found.OK,
        detail="; ".join([*silent, *unknown]) or unwell or ", ".join(declared),
        remedy="`openbell status`" if silent or unknown or unwell else "",
    )


def _reconciliation(facts: ReadinessFacts) -> Check:
    name, title = "reconciliation", "Reconciliation clean"
    if facts.engine is None:
        detail = facts.engine_why or "the engine does not say"
        return Check(name=name, title=title, found=Found.UNKNOWN, detail=detail)
    if not facts.is_ready:
        detail = str(facts.engine.get("why_not") or f"the engine is {facts.engine.get('phase')}")
        return Check(
            name=name,
            title=title,
            found=Found.FAILED,
            detail=detail,
            remedy="`openbell reconcile` shows every difference",
        )
    if facts.in_doubt:
        detail = f"{facts.in_doubt} orders of which nobody knows what became of them"
        remedy = "the engine asks the venue for each; `openbell orders` shows them"
        return Check(name=name, title=title, found=Found.FAILED, detail=detail, remedy=remedy)
    return Check(name=name, title=title, found=Found.OK, detail="the books agree with the venues")


# --- what holds trading back -----------------------------------------------------------------------

_NOT_SO = (Found.FAILED, Found.REFUSED, Found.UNKNOWN)


def holds_trading(check: Check, facts: ReadinessFacts, *, strict: bool = False) -> bool:
    """Whether the desk is not to trade for it. What the engine and its permit wait for anyway (venues,
    books, critical services) ends by itself, and trading begins then: it holds nothing. The rest
    nobody would wait for but this look. `strict`: everything that is not so, or not known, does; but a
    clock that is not told, as some venues tell no time at all."""
    if check.name.startswith("clock_"):
        return check.found is Found.FAILED and (strict or facts.is_ready)
    if strict:
        return check.found in _NOT_SO
    if check.found not in _NOT_SO or not facts.is_ready:
        return False
    if check.name.startswith("account_"):
        return check.found is Found.UNKNOWN
    return check.name in (
        "risk",
        "rules",
        "reconciliation",
        "journal",
    )
