"""The desk's health: a verdict, its reasons, and what to do.

A process that lives is not a desk that trades: what is judged is whether the desk does what it was
asked to do. Unknown is never healthy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from openbell.domain.desk_state import DeskState, DeskTarget
from openbell.domain.service_state import ServiceState


class Verdict(StrEnum):
    """Exit codes of `openbell health`: 0, 1, 2, 3 in this order."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    NOT_RUNNING = "not_running"

    @property
    def exit_code(self) -> int:
        return list(Verdict).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts:
    name: str
    state: ServiceState
    critical: bool
    why: str = ""
    """What its probe or its exit said."""
    restarts: int = 0
    """Unasked ones within its restart window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueHealthFacts:
    name: str
    connected: bool | None
    """None: nobody could be asked."""
    clock_skew_ms: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskHealthFacts:
    """Of the desk as a whole; None: not known."""

    state: DeskState
    target: DeskTarget
    latched: bool = False
    latched_parts: tuple[str, ...] = ()
    """Scopes less than the desk: `venue:binance`."""
    stopped: bool = False
    """An emergency stop of the whole desk holds it: nothing is started until it is opened again."""
    engine_trading: bool | None = None
    engine_why_not: str = ""
    differs: str = ""
    """Where books and venue are seen to differ for certain, and what; empty: they are not."""
    reconciled: bool | None = None
    in_doubt: int | None = 0
    risk_breaches: tuple[str, ...] = ()
    risk_heard: bool | None = True
    quotes_fresh: bool | None = True
    journal_ok: bool | None = True
    database_problem: str = ""
    """What is damaged of the desk database; empty where nothing is known to be."""
    standby_unfit: tuple[str, ...] = ()
    """Why the engine's standby could not take over; empty where it could, or there is none."""
    guard_problem: str = ""
    """Why there is no guard, or not all of one; empty where it watches, or the desk needs none."""
    dead_man_problems: tuple[str, ...] = ()
    """Switches that are not as they should be, each in a sentence."""
    not_proven: str = ""
    """That the desk was closed and is not proven to be, and why; empty where nothing says so."""


NOT_RUNNING_REASON = "the desk is not running"
MAX_CLOCK_SKEW_MS = 1000.0
"""Binance refuses a request whose time stamp is more than 1000 ms ahead of its own clock."""


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    verdict: Verdict
    reasons: tuple[str, ...]
    """Worst first; empty when healthy."""
    recommendations: tuple[str, ...]


def judge(
    services: Sequence[ServiceFacts],
    venues: Sequence[VenueHealthFacts],
    desk: DeskHealthFacts,
) -> HealthReport:
    """The desk's verdict: its worst finding."""
    if desk.target is DeskTarget.OFFLINE and not any(s.state.is_running for s in services):
        if desk.not_proven:
            # Orders may rest at a venue, and nobody watches them.
            return HealthReport(
                verdict=Verdict.UNHEALTHY,
                reasons=(desk.not_proven,),
                recommendations=("close it again with `openbell down`, which asks the venues",),
            )
        return HealthReport(
            verdict=Verdict.NOT_RUNNING,
            reasons=(NOT_RUNNING_REASON,),
            recommendations=("open it with `openbell up`",),
        )
    coming_up = any(service.state is ServiceState.STARTING for service in services)
    findings = _desk_findings(desk, coming_up)
    for service in services:
        findings += _service_findings(service, startable=not desk.stopped)
    if desk.target is not DeskTarget.OFFLINE:
        for venue in venues:
            findings += _venue_findings(venue)
    findings.sort(key=lambda finding: -finding.verdict.exit_code)
    return HealthReport(
        verdict=findings[0].verdict if findings else Verdict.HEALTHY,
        reasons=tuple(finding.reason for finding in findings),
        recommendations=tuple(dict.fromkeys(f.advice for f in findings if f.advice)),
    )


def resume_blockers(
    services: Sequence[ServiceFacts],
    venues: Sequence[VenueHealthFacts],
    desk: DeskHealthFacts,
) -> list[str]:
    """The health gate of `openbell resume`: what keeps trading from being resumed; empty if
    nothing does. Unknown blocks."""
    blockers: list[str] = []
    if desk.latched:
        blockers.append("the kill switch is latched")
    if desk.target is DeskTarget.OFFLINE:
        blockers.append("the desk is offline")
    if desk.target is DeskTarget.CLOSING:
        blockers.append("the desk is closing")
    blockers += [
        f"{service.name} is critical and {service.state}"
        for service in services
        if service.critical and service.state is not ServiceState.READY
    ]
    for venue in venues:
        if venue.connected is not True:
            word = "not known to be connected" if venue.connected is None else "not connected"
            blockers.append(f"{venue.name} is {word}")
        elif venue.clock_skew_ms is not None and abs(venue.clock_skew_ms) > MAX_CLOCK_SKEW_MS:
            blockers.append(f"the clock is {venue.clock_skew_ms:.0f} ms off {venue.name}'s")
    if desk.differs:
        blockers.append(
            f"books and venue differ ({desk.differs}): `openbell reconcile` explains it"
        )
    elif desk.reconciled is not True:
        blockers.append("the books are not reconciled with the venue")
    if desk.in_doubt is None:
        blockers.append("it is not known whether orders are in doubt")
    elif desk.in_doubt:
        blockers.append(f"{desk.in_doubt} orders are in doubt")
    if desk.quotes_fresh is not True:
        blockers.append("quotes are missing or stale")
    if desk.risk_heard is not True:
        blockers.append("risk-management was not heard lately")
    if desk.journal_ok is not True:
        blockers.append("the journal cannot be written")
    if desk.database_problem:
        blockers.append(f"the desk database is damaged: {desk.database_problem}")
    blockers += [f"breached: {breach}" for breach in desk.risk_breaches]
    return blockers


@dataclass(frozen=True, slots=True)
class _Finding:
    verdict: Verdict
    reason: str
    advice: str = ""


def _desk_findings(desk: DeskHealthFacts, coming_up: bool) -> list[_Finding]:
    found: list[_Finding] = []
    if desk.latched:
        found.append(
            _Finding(
                Verdict.UNHEALTHY,
                "the kill switch is latched",
                "find out why, then `openbell kill-switch deactivate`",
            )
        )
    if desk.latched_parts:
        found.append(
            _Finding(
                Verdict.DEGRADED,
                f"the kill switch is latched for {', '.join(desk.latched_parts)}",
                "`openbell kill-switch status` says why",
            )
        )
    if desk.target is DeskTarget.TRADING and desk.engine_trading is not True and not desk.latched:
        why = desk.engine_why_not or (
            "its state is not known" if desk.engine_trading is None else "no reason given"
        )
        found.append(
            _Finding(
                Verdict.DEGRADED if coming_up else Verdict.UNHEALTHY,
                f"meant to trade, and the engine does not: {why}",
                "see `openbell logs --level WARNING`",
            )
        )
    if desk.target is DeskTarget.HALTED:
        found.append(
            _Finding(Verdict.DEGRADED, "new orders are halted", "`openbell resume` lets them go on")
        )
    if desk.target is DeskTarget.CLOSING:
        found.append(
            _Finding(Verdict.DEGRADED, "the desk is closing", "`openbell down` goes on with it")
        )
    if desk.target is DeskTarget.OFFLINE:
        found.append(
            _Finding(
                Verdict.UNHEALTHY,
                "meant to be offline, and processes of it run",
                "`openbell down` ends them",
            )
        )
    if desk.guard_problem and desk.target is not DeskTarget.OFFLINE:
        found.append(
            _Finding(
                Verdict.DEGRADED,
                f"the guard does not watch: {desk.guard_problem}",
                "see `openbell logs guard`; `openbell up` starts one that does not run",
            )
        )
    found += [
        _Finding(Verdict.DEGRADED, problem, "see `openbell dead-man status`")
        for problem in desk.dead_man_problems
    ]
    if desk.target in (DeskTarget.TRADING, DeskTarget.SAFE):
        if desk.reconciled is False:
            found.append(
                _Finding(
                    Verdict.UNHEALTHY,
                    f"books and venue differ: {desk.differs}"
                    if desk.differs
                    else "the books are not reconciled with the venue",
                    "`openbell reconcile` explains what differs, and says what mends it",
                )
            )
        if desk.quotes_fresh is False:
            found.append(_Finding(Verdict.DEGRADED, "quotes are missing or stale"))
        if desk.risk_heard is False:
            found.append(_Finding(Verdict.DEGRADED, "risk-management was not heard lately"))
        found += [
            _Finding(Verdict.DEGRADED, f"not known: {what}")
            for what, known in (
                ("whether the books agree with the venue", desk.reconciled),
                ("whether orders are in doubt", desk.in_doubt),
                ("whether quotes are fresh", desk.quotes_fresh),
                ("whether risk-management is heard", desk.risk_heard),
                ("whether the journal can be written", desk.journal_ok),
            )
            if known is None
        ]
    if desk.database_problem:
        found.append(
            _Finding(
                Verdict.UNHEALTHY,
                f"the desk database is damaged: {desk.database_problem}",
                "halt, then `openbell down` (where that fails `openbell emergency-stop`, which needs "
                "none); keep the file, restore a checkpoint, then `openbell reconcile`",
            )
        )
    if desk.journal_ok is False:
        found.append(
            _Finding(
                Verdict.UNHEALTHY,
                "the journal cannot be written, so no order is sent",
                "make room on the disk",
            )
        )
    if desk.standby_unfit and desk.target is not DeskTarget.OFFLINE:
        found.append(
            _Finding(
                Verdict.DEGRADED,
                f"the standby is not promotable: {'; '.join(desk.standby_unfit)}",
                "`openbell restart --rolling` makes engine and standby alike",
            )
        )
    if desk.in_doubt:
        found.append(
            _Finding(
                Verdict.DEGRADED,
                "1 order is in doubt"
                if desk.in_doubt == 1
                else f"{desk.in_doubt} orders are in doubt",
                "they are asked for until the venue answers",
            )
        )
    found += [_Finding(Verdict.DEGRADED, f"breached: {name}") for name in desk.risk_breaches]
    return found


def _service_findings(service: ServiceFacts, *, startable: bool) -> list[_Finding]:
    """`startable`: False: a start would be refused, and is not advised."""
    why = f": {service.why}" if service.why else ""
    match service.state:
        case ServiceState.READY if service.restarts:
            times = "once" if service.restarts == 1 else f"{service.restarts} times"
            return [_Finding(Verdict.DEGRADED, f"{service.name} restarted {times}")]
        case ServiceState.READY:
            return []
        case ServiceState.STARTING | ServiceState.STOPPING:
            return [_Finding(Verdict.DEGRADED, f"{service.name} is {service.state}{why}")]
        case ServiceState.FAILED:
            then = f", then `openbell start {service.name}`" if startable else ""
            advice = f"`openbell logs {service.name}`{then}"
        case ServiceState.STOPPED:
            advice = f"`openbell start {service.name}`" if startable else ""
        case ServiceState.DEGRADED | ServiceState.BACKOFF:
            advice = f"`openbell logs {service.name}`"
    verdict = Verdict.UNHEALTHY if service.critical else Verdict.DEGRADED
    return [_Finding(verdict, f"{service.name} is {service.state}{why}", advice)]


def _venue_findings(venue: VenueHealthFacts) -> list[_Finding]:
    why = f": {venue.why}" if venue.why else ""
    if venue.connected is None:
        return [_Finding(Verdict.DEGRADED, f"{venue.name}'s connection is not known{why}")]
    if not venue.connected:
        return [
            _Finding(
                Verdict.UNHEALTHY,
                f"{venue.name} is not connected{why}",
                f"its orders are unknown until it is back; see the status of {venue.name}",
            )
        ]
    skew = venue.clock_skew_ms
    if skew is not None and abs(skew) > MAX_CLOCK_SKEW_MS:
        return [
            _Finding(
                Verdict.DEGRADED,
                f"the clock is {skew:.0f} ms off {venue.name}'s",
                "synchronise this machine's clock",
            )
        ]
    return []
