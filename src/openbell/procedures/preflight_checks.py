"""What is to be thought of what a pre-flight found. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from openbell.config.calendars import Calendar
from openbell.config.models import DeskFile
from openbell.config.preflight import Preflight
from openbell.config.references import unsound_entries
from openbell.procedures.backups import BackupFact
from openbell.procedures.checklists import Check, Found
from openbell.procedures.dependencies import DependencyFact
from openbell.procedures.preflight_facts import PreflightFacts
from openbell.venues.greeter import Greeting

INSIST = "--force"
_CLOCK_SLACK_S = 300.0
"""Of whoever wrote the file, against ours."""


def judge(facts: PreflightFacts, desk: DeskFile) -> tuple[Check, ...]:
    """A check for each thing that was looked at, in the order in which people think of them."""
    settings = desk.preflight
    return (
        *_settings(desk),
        _market_hours(facts, desk),
        *backup_checks(facts.backups),
        *free_checks(facts.disk_free, facts.memory_free, settings),
        _credentials(facts),
        *_network(facts, desk),
        *_clocks(facts, settings),
        *map(dependency_check, facts.dependencies),
    )


def _settings(desk: DeskFile) -> Iterator[Check]:
    """Told where something is wrong: a desk that runs is found with what one is not opened with."""
    if problems := unsound_entries(desk):
        told = (f"{'.'.join(each.key)}: {each.message}; {each.hint}" for each in problems)
        yield Check(
            name="settings",
            title="Values of desk.toml",
            found=Found.FAILED,
            detail=" | ".join(told),
            remedy="mend desk.toml; `openbell check` names the lines",
        )


def _market_hours(facts: PreflightFacts, desk: DeskFile) -> Check:
    name, title = "market_hours", "Market hours"
    calendars = {each: desk.calendar_of(each) for each in desk.venues}
    with_sessions = {each: calendar for each, calendar in calendars.items() if calendar}
    if not with_sessions:
        detail = "no venue of this desk has sessions or a calendar"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    running = in_session(with_sessions, facts.wall_ns)
    at = datetime.fromtimestamp(facts.wall_ns / 1e9, UTC)
    if not running:
        return _no_session(name, title, with_sessions, facts.wall_ns, f"{at:%A at %H:%M} UTC")
    detail = "in session: " + "; ".join(f"{each} ({hours})" for each, hours in running.items())
    during = desk.preflight.during_session
    if during == "refuse" and not facts.engine_runs and not facts.force:
        remedy = f"open before the session or after it, or insist with {INSIST}"
        return Check(name=name, title=title, found=Found.REFUSED, detail=detail, remedy=remedy)
    if facts.engine_runs:
        detail += "; the engine runs already, so that nothing is begun"
    elif facts.force:
        detail += f"; opened all the same ({INSIST})"
    found = Found.OK if during == "allow" or facts.engine_runs else Found.WARN
    return Check(name=name, title=title, found=found, detail=detail)


def _no_session(
    name: str, title: str, calendars: Mapping[str, Calendar], wall_ns: int, at: str
) -> Check:
    """Told with today's holidays. A list of holidays that is over says nothing of today."""
    detail = f"no session is under way on {at}"
    if today := {v: text for v, each in calendars.items() if (text := each.holiday_at(wall_ns))}:
        detail += "; holidays: " + ", ".join(f"{venue} ({text})" for venue, text in today.items())
    over = {venue: each.ran_out(wall_ns) for venue, each in calendars.items()}
    ended = [f"{venue}'s end with {day}" for venue, day in over.items() if day is not None]
    if not ended:
        return Check(name=name, title=title, found=Found.OK, detail=detail)
    return Check(
        name=name,
        title=title,
        found=Found.WARN,
        detail=f"{detail}; no holiday after today is known: {', '.join(ended)}",
        remedy="list the coming ones in [calendars]",
    )


def in_session(calendars: Mapping[str, Calendar], wall_ns: int) -> dict[str, str]:
    """Venues of which a session is under way, each with that session."""
    return {
        venue: session
        for venue, calendar in calendars.items()
        if (session := calendar.session_at(wall_ns))
    }


def free_checks(
    disk_free: int | None, memory_free: int | None, settings: Preflight
) -> tuple[Check, Check]:
    """Room for what the desk writes, and for its processes; in bytes, None where it is not known."""
    return (
        _free(
            "disk",
            "Disk space",
            disk_free,
            (settings.disk_free, settings.disk_free_warn),
            "make room where the state folder lies",
        ),
        _free(
            "memory",
            "Memory",
            memory_free,
            (settings.memory_free, settings.memory_free_warn),
            "end what else runs on this machine",
        ),
    )


def _free(name: str, title: str, free: int | None, least: tuple[int, int], remedy: str) -> Check:
    """`least`: below the first it stands in the way, below the second it is told."""
    if free is None:
        return Check(name=name, title=title, found=Found.UNKNOWN, detail="could not be read")
    must, should = least
    facts: dict[str, object] = {"free_bytes": free, "least_bytes": must, "warn_bytes": should}
    detail = f"{size_text(free)} free"
    if free < must:
        detail += f", less than {size_text(must)}"
        return Check(
            name=name, title=title, found=Found.FAILED, detail=detail, remedy=remedy, facts=facts
        )
    if free < should:
        detail += f", less than {size_text(should)}"
        return Check(
            name=name, title=title, found=Found.WARN, detail=detail, remedy=remedy, facts=facts
        )
    return Check(name=name, title=title, found=Found.OK, detail=detail, facts=facts)


def size_text(size: int) -> str:
    """`3 KiB`, `512 MiB`, `1.5 GiB`"""
    if size < 1 << 20:
        return f"{size >> 10} KiB" if size >= 1 << 10 else f"{size} B"
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"


def _credentials(facts: PreflightFacts) -> Check:
    name, title = "credentials", "Credentials"
    if not facts.missing:
        return Check(name=name, title=title, found=Found.OK, detail="every variable is set")
    return Check(
        name=name,
        title=title,
        found=Found.FAILED,
        detail="; ".join(facts.missing),
        remedy="set them in the environment or in .env beside desk.toml",
    )


def _network(facts: PreflightFacts, desk: DeskFile) -> Iterator[Check]:
    """A simulated venue that is not there keeps no desk closed: the engine waits for it."""
    greeted = {each.name: each for each in facts.greetings}
    for host in facts.hosts:
        if host.venue in greeted and host.connected:
            continue  # the greeting says more
        simulated = desk.venues[host.venue].environment == "simulated"
        found = Found.OK
        if not host.connected:
            found = Found.UNKNOWN if host.connected is None else Found.FAILED
            found = Found.WARN if simulated else found
        greeted.pop(host.venue, None)
        yield Check(
            name=f"network_{host.venue}",
            title=f"Network to {host.venue}",
            found=found,
            detail=f"{host.host} takes connections"
            if host.connected
            else f"{host.host}: {host.why}",
            remedy=""
            if host.connected
            else "look at the network, at DNS and at the venue's status",
            facts={"connect_ms": host.took_ms},
        )
    for name, greeting in greeted.items():
        yield _greeting(name, greeting)
    if not facts.hosts and not facts.greetings:
        why = "every venue is a service of this desk, and asked once that runs"
        if facts.engine_runs:
            why = "the engine runs already, and tells of its venues itself"
        yield Check(
            name="network",
            title="Network",
            found=Found.NOT_CONFIGURED,
            detail=why if desk.venues else "this desk has no venue",
        )


def _greeting(name: str, greeting: Greeting) -> Check:
    found = {True: Found.OK, False: Found.FAILED, None: Found.UNKNOWN}[greeting.reached]
    return Check(
        name=f"network_{name}",
        title=f"Network to {name}",
        found=found,
        detail="reached, credentials accepted" if greeting.reached else greeting.why,
        remedy="" if greeting.reached else f"`openbell venues test {name}` tries it step by step",
        facts={"connect_ms": greeting.took_ms},
    )


def _clocks(facts: PreflightFacts, settings: Preflight) -> Iterator[Check]:
    for each in facts.greetings:
        found, remedy = clock_found(each.skew_ms, settings.max_clock_skew)
        detail = f"{each.skew_ms:+.0f} ms from ours" if each.skew_ms is not None else each.skew_why
        if not each.tells_time:
            found, remedy = Found.NOT_CONFIGURED, ""
        elif each.skew_ms is None and not detail:
            detail = "it is not reached"
        yield Check(
            name=f"clock_{each.name}",
            title=f"Clock of {each.name}",
            found=found,
            detail=detail,
            remedy=remedy,
            facts={"skew_ms": each.skew_ms, "max_ms": settings.max_clock_skew * 1000},
        )


def clock_found(skew_ms: float | None, max_s: float) -> tuple[Found, str]:
    """With what would mend it."""
    if skew_ms is None:
        return Found.UNKNOWN, "orders carry a time stamp that a venue refuses when it is wrong"
    if abs(skew_ms) > max_s * 1000:
        return Found.FAILED, "set this machine's clock (chrony, ntpd)"
    return Found.OK, ""


def backup_checks(facts: tuple[BackupFact, ...]) -> tuple[Check, ...]:
    if facts:
        return tuple(map(_backup, facts))
    why = "none in [backups], so nothing is known of any"
    return (Check(name="backups", title="Backups", found=Found.NOT_CONFIGURED, detail=why),)


def _backup(fact: BackupFact) -> Check:
    """Old or empty ones say more than whether they are whole."""
    found, detail = {True: Found.OK, False: Found.FAILED, None: Found.UNKNOWN}[fact.whole], fact.why
    if fact.age_s is not None:
        file = fact.path.rpartition("/")[2]
        detail = f"{file}, {age_text(fact.age_s)} old, {size_text(fact.size or 0)}: {fact.why}"
        if fact.age_s > fact.max_age_s:
            found, detail = Found.FAILED, f"{detail}; older than {age_text(fact.max_age_s)}"
        elif (fact.size or 0) < fact.min_bytes:
            found, detail = Found.FAILED, f"{detail}; smaller than {size_text(fact.min_bytes)}"
        elif fact.age_s < -_CLOCK_SLACK_S:
            found, detail = Found.FAILED, f"{detail}; it is dated in the future"
    remedy = "" if found is Found.OK else f"make one, or mend [backups.{fact.name}]"
    if found in (Found.FAILED, Found.UNKNOWN) and not fact.required:
        found, detail = Found.WARN, f"{detail}; the desk is opened without it"
    facts: dict[str, object] = {"path": fact.path, "age_s": fact.age_s, "size_bytes": fact.size}
    return Check(
        name=f"backup_{fact.name}",
        title=f"Backup {fact.name}",
        found=found,
        detail=detail,
        remedy=remedy,
        facts=facts,
    )


def age_text(seconds: float) -> str:
    """`12 min`, `3.5 h`, `4 d`"""
    if abs(seconds) < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if abs(seconds) < 48 * 3600 else f"{seconds / 86400:.0f} d"


def venue_clock_check(venue: Mapping[str, Any], max_s: float, unheard: str) -> Check:
    """Of a venue as its engine tells of it. One that has no such question is not unknown."""
    skew_ms = venue.get("clock_skew_ms")
    found, remedy = clock_found(skew_ms, max_s)
    detail = unheard if skew_ms is None else f"{skew_ms:+.0f} ms from ours"
    if venue.get("tells_time") is False:
        found, remedy, detail = Found.NOT_CONFIGURED, "", "not applicable: this venue tells no time"
    return Check(
        name=f"clock_{venue['name']}",
        title=f"Clock of {venue['name']}",
        found=found,
        detail=detail,
        remedy=remedy,
    )


def dependency_check(fact: DependencyFact) -> Check:
    found = {True: Found.OK, False: Found.FAILED, None: Found.UNKNOWN}[fact.serves]
    detail = fact.why
    if not fact.serves and not fact.required:
        found, detail = Found.WARN, f"{fact.why}; the desk is opened without it"
    return Check(
        name=f"dependency_{fact.name}",
        title=f"{fact.name} ({fact.kind})",
        found=found,
        detail=detail,
        remedy="" if fact.serves else f"start {fact.name}, or mend [dependencies.{fact.name}]",
        facts={"took_ms": fact.took_ms},
    )
