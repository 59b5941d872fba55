"""Checks of the desk as it is, and of what lies on its disk. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

from openbell.config.phases import phases_of
from openbell.config.unit_texts import format_duration
from openbell.domain.desk_state import DeskState
from openbell.domain.figures import number
from openbell.domain.service_state import UP, ServiceState
from openbell.procedures.checklists import Check, Found
from openbell.procedures.daily.of_runs import OF_OUTCOME
from openbell.procedures.daily.seen import Document, Seen
from openbell.procedures.preflight_checks import dependency_check, in_session, venue_clock_check
from openbell.procedures.readiness_checks import lacking_rules, limits_of

LOAD_MAX = 2.0
"""For each core, in the mean of five minutes: more, and everything waits. Ours."""


def health(seen: Seen) -> Check:
    name, title = "health", "System health"
    if seen.health is None:
        return Check(
            name=name,
            title=title,
            found=Found.FAILED if not seen.controller else Found.UNKNOWN,
            detail=str(seen.status.get("why") or "the desk is not open"),
            remedy="`openbell up`",
        )
    verdict = str(seen.health["verdict"])
    found = {"healthy": Found.OK, "degraded": Found.WARN, "unhealthy": Found.FAILED}
    return Check(
        name=name,
        title=title,
        found=found.get(verdict, Found.FAILED),
        detail="; ".join([verdict, *map(str, seen.health.get("reasons", ()))]),
        remedy="" if verdict == "healthy" else "`openbell health`",
    )


def links(kind: str, title: str, seen: Seen) -> Check:
    rows = seen.connections.get("connections") or ()
    if not rows:
        detail = "this desk has no venue"
        return Check(name=kind, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    found_of = {
        "connected": Found.OK,
        "held back": Found.WARN,
        "unknown": Found.UNKNOWN,
        "none": Found.NOT_CONFIGURED,
    }
    founds = [found_of.get(str(row[kind]), Found.FAILED) for row in rows]
    order = (Found.FAILED, Found.UNKNOWN, Found.WARN, Found.OK, Found.NOT_CONFIGURED)
    found = min(founds, key=order.index)
    told = (f"{row['venue']} {row[kind]}" + _because(row.get("why")) for row in rows)
    remedy = "" if found in (Found.OK, Found.NOT_CONFIGURED) else "`openbell connections`"
    return Check(name=kind, title=title, found=found, detail="; ".join(told), remedy=remedy)


def _because(why: object) -> str:
    return f" ({why})" if why else ""


def market_hours(seen: Seen) -> Check:
    """How long there is until the next session; nothing of it is wrong."""
    name, title = "market_hours", "Market hours"
    calendars = {v: c for v in seen.desk.venues if (c := seen.desk.calendar_of(v)) is not None}
    if not calendars:
        detail = "no venue of this desk has sessions or a calendar"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    running = in_session(calendars, seen.wall_ns)
    told, unknown = [], False
    for venue, calendar in calendars.items():
        if venue in running:
            told.append(f"{venue} is in session ({running[venue]})")
            continue
        opens_ns = calendar.opens_next_ns(seen.wall_ns)
        unknown = unknown or opens_ns is None
        told.append(f"{venue} opens {_in(opens_ns, seen.wall_ns)}")
    return Check(
        name=name,
        title=title,
        found=Found.WARN if unknown else Found.OK,
        detail="; ".join(told),
        remedy="look at [calendars] of desk.toml" if unknown else "",
    )


def _in(at_ns: int | None, now_ns: int) -> str:
    if at_ns is None:
        return "on no day of the next two weeks"
    at = datetime.fromtimestamp(at_ns / 1e9, UTC)
    return f"in {format_duration((at_ns - now_ns) // 60_000_000_000 * 60)}, {at:%a %d %b %H:%M} UTC"


def machine(seen: Seen) -> Check:
    name, title = "machine", "Load and uptime"
    if seen.machine is None:
        return Check(name=name, title=title, found=Found.UNKNOWN, detail="could not be read")
    load, cores = seen.machine.load, seen.machine.cores
    return Check(
        name=name,
        title=title,
        found=Found.WARN if load > LOAD_MAX * cores else Found.OK,
        detail=f"load {load:.2f} on {cores} cores; up for {format_duration(seen.machine.up_s)}",
        remedy="end what else runs on this machine" if load > LOAD_MAX * cores else "",
        facts={"load": load, "cores": cores, "up_s": round(seen.machine.up_s)},
    )


def cleaned(seen: Seen) -> Check:
    name, title = "cleaned", "Nothing temporary is left"
    left = seen.leftovers
    return Check(
        name=name,
        title=title,
        found=Found.WARN if left else Found.OK,
        detail=f"of writers that died: {', '.join(left)}" if left else "",
        remedy="delete them" if left else "",
    )


def trading(seen: Seen) -> Check:
    state, why = str(seen.status.get("state")), str(seen.status.get("why") or "")
    found = Found.OK if state == "trading" else Found.FAILED
    if state == "safe":
        found = Found.WARN
    return Check(
        name="trading",
        title="Trading engine",
        found=found,
        detail=f"the desk is {state}" + (f": {why}" if why else ""),
        remedy="" if found is Found.OK else "`openbell status` says what it waits for",
    )


def risk(seen: Seen) -> Check:
    """It is asked which it applies, as an opening asks it; one that has no such page has loaded them with
    its start."""
    name, title = "risk", "Risk parameters loaded"
    service = seen.desk.service_with_role("risk")
    limits = sorted(seen.desk.risk.model_fields_set)
    if service is None:
        detail = "no service of this desk has the role risk"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    row = _service(seen, service)
    ready = row is not None and row["state"] == "ready"
    if ready and row is not None and row.get("drifted"):
        detail = f"{service} runs under an older desk.toml or older code"
        remedy = f"`openbell restart --rolling {service}`"
        return Check(name=name, title=title, found=Found.WARN, detail=detail, remedy=remedy)
    if ready and not limits:
        detail = "no limit is set in [risk]; the engine's own defaults hold"
        return Check(name=name, title=title, found=Found.WARN, detail=detail, remedy="set [risk]")
    # One that is degraded, for want of fresh quotes say, has loaded them too.
    degraded = row is not None and row["state"] == ServiceState.DEGRADED
    found = Found.OK if ready else Found.WARN if degraded else Found.FAILED
    told = [f"{service} is {'unknown' if row is None else row['state']}; {len(limits)} limits"]
    if ready or degraded:
        worse, said = limits_of(seen.risk, service)
        found, told = worse or found, [*told, *said]
    return Check(
        name=name,
        title=title,
        found=found,
        detail="; ".join(told),
        remedy="" if found is Found.OK else f"`openbell limits show`, `openbell logs {service}`",
    )


def rules(seen: Seen) -> Check:
    name, title = "rules", "Compliance and kill rules active"
    rules = seen.desk.kill_switch.rules
    if not (declared := rules.declared):
        detail = "none in [kill_switch.rules]"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    judges = [seen.desk.service_with_role("risk")] if rules.of_risk else []
    # One that is degraded, for want of fresh quotes say, judges all the same.
    silent = [j for j in judges if j is None or _state(seen, j) not in UP]
    if rules.heartbeat_lost is not None and (seen.status.get("guard") or {}).get("state") != (
        "running"
    ):
        silent.append("guard")
    told = [f"not judged by {', '.join(map(str, silent))}"] if silent else []
    if lacking := lacking_rules(seen.risk, seen.desk):
        told.append(f"{judges[0]} does not judge {', '.join(lacking)}")
    unknown = ""
    if (
        judges
        and not told
        and seen.risk is not None
        and seen.risk.tells
        and seen.risk.rules is None
    ):
        unknown = f"{judges[0]} does not say what it judges: {seen.risk.why}"
    return Check(
        name=name,
        title=title,
        found=Found.FAILED if told else Found.UNKNOWN if unknown else Found.OK,
        detail="; ".join(told) or unknown or ", ".join(declared),
        remedy="`openbell status`" if told or unknown else "",
    )


def latch(seen: Seen) -> Check:
    held = [
        f"{word}: {row.get('reason') or 'no reason given'}"
        for word, key in (("kill switch", "latch"), ("halt", "halt"))
        if (row := seen.status.get(key) or {}).get("active")
    ]
    scopes = (seen.status.get("latch") or {}).get("scopes") or ()
    held += [f"latched: {each}" for each in scopes if each != "desk"]
    if seen.status.get("emergency"):
        held.append("an emergency stop stands")
    return Check(
        name="latch",
        title="Nothing is latched or halted",
        found=Found.FAILED if held else Found.OK,
        detail="; ".join(held),
        remedy="`openbell kill-switch status`; `openbell resume` ends a halt" if held else "",
    )


def guard(seen: Seen) -> Check:
    name, title = "guard", "Guard"
    row = seen.status.get("guard")
    if row is None:
        detail = "a desk without venues has none"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    cold = [str(each["name"]) for each in row.get("venues") or () if not each.get("warm")]
    if row["state"] != "running":
        detail = f"{row['state']}{_because(row.get('why'))}"
        return Check(
            name=name, title=title, found=Found.FAILED, detail=detail, remedy="`openbell up`"
        )
    if cold:
        detail = f"not connected to {', '.join(cold)}"
        return Check(name=name, title=title, found=Found.WARN, detail=detail)
    return Check(name=name, title=title, found=Found.OK, detail=f"watches (pid {row['pid']})")


def positions(seen: Seen) -> Check:
    name, title = "positions", "Portfolio"
    document = seen.positions
    if document is None or not document.get("known"):
        detail = "nobody could be asked" if document is None else str(document.get("why"))
        return Check(name=name, title=title, found=Found.UNKNOWN, detail=detail)
    rows = document.get("positions") or ()
    silent = [f"{r['venue']} {r['symbol']}" for r in rows if r.get("venue_quantity") is None]
    if silent:
        detail = f"a venue did not say what it holds: {', '.join(silent)}"
        return Check(name=name, title=title, found=Found.UNKNOWN, detail=detail)
    told = [f"{r['symbol']} {number(r['venue_quantity'])}" for r in rows]
    pnl = document.get("pnl")
    told += [f"net P&L {number(pnl['net'], 2)} {pnl['currency']}"] if pnl else []
    differ = [
        f"{r['venue']} {r['symbol']}: the books hold {number(r['quantity'])}, "
        f"the venue {number(r['venue_quantity'])}"
        for r in rows
        if r.get("quantity") is not None and Decimal(r["quantity"]) != Decimal(r["venue_quantity"])
    ]
    stands = any(r.get("differs") for r in rows)
    return Check(
        name=name,
        title=title,
        # Between two looks the numbers of a desk that trades are never quite the same moment's.
        found=Found.FAILED if stands else Found.WARN if differ else Found.OK,
        detail="; ".join([*told, *differ]) or "flat",
        remedy="`openbell reconcile`" if differ or stands else "",
    )


def accounts(seen: Seen) -> Check:
    name, title = "accounts", "Trading accounts accessible"
    rows = seen.status.get("venues") or ()
    if not rows:
        detail = "this desk has no venue"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    silent = [
        f"{row['name']}{_because(row.get('why'))}"
        for row in rows
        if row.get("open_orders") is None or row.get("positions") is None
    ]
    return Check(
        name=name,
        title=title,
        found=Found.UNKNOWN if silent else Found.OK,
        detail=f"orders or positions are not known of {', '.join(silent)}" if silent else "",
        remedy="`openbell venues test NAME`" if silent else "",
    )


def clocks(seen: Seen) -> Iterator[Check]:
    for row in seen.status.get("venues") or ():
        yield venue_clock_check(row, seen.desk.preflight.max_clock_skew, "it was not heard")


def dependencies(seen: Seen) -> Iterator[Check]:
    yield from map(dependency_check, seen.dependencies)
    if not seen.dependencies:
        yield Check(
            name="dependencies",
            title="External dependencies",
            found=Found.NOT_CONFIGURED,
            detail="none in [dependencies]",
        )


def alerts(seen: Seen) -> Check:
    name, title = "alerts", "Alerts cleared"
    if not seen.controller:
        detail = "no controller runs to tell"
        return Check(name=name, title=title, found=Found.UNKNOWN, detail=detail)
    rows = [r for r in seen.status.get("recommendations") or () if r["severity"] != "note"]
    critical = any(row["severity"] == "critical" for row in rows)
    found = Found.FAILED if critical else Found.WARN if rows else Found.OK
    return Check(
        name=name,
        title=title,
        found=found,
        detail="; ".join(f"{row['subject']}: {row['text']}" for row in rows),
        remedy="; ".join(dict.fromkeys(str(row["action"] or "`openbell health`") for row in rows)),
    )


def phases(seen: Seen) -> Iterator[Check]:
    """Whether what the opening brought up is still up."""
    phases = phases_of(seen.desk.services)
    titles = {
        "infrastructure": "Infrastructure operational",
        "core": "Core services operational",
        "services": "Strategies, agents and services healthy",
        "console": "Console and gateway accessible",
    }
    for phase, title in titles.items():
        names = [name for name, each in phases.items() if each == phase]
        states = {name: _state(seen, name) for name in names}
        told = [f"{name} is {state}" for name, state in states.items() if state != "ready"]
        down = any(state not in UP for state in states.values())
        remedy = "`openbell health`" if told else ""
        yield Check(
            name=phase,
            title=title,
            found=Found.FAILED
            if down
            else Found.WARN
            if told
            else Found.OK
            if names
            else Found.NOT_CONFIGURED,
            detail="; ".join(told) or ", ".join(names) or "no service is of this phase",
            remedy="`openbell up` goes on with what is down" if down else remedy,
        )


def _state(seen: Seen, name: str) -> str:
    row = _service(seen, name)
    return "unknown" if row is None else str(row["state"])


def _service(seen: Seen, name: str) -> Document | None:
    return next((row for row in seen.status["services"] if row["name"] == name), None)


def nothing_runs(seen: Seen) -> Check:
    name, title = "processes", "No process of the desk is left"
    running = [
        f"{row['name']} (pid {row['pid']})" for row in seen.status["services"] if row.get("pid")
    ]
    guard = seen.status.get("guard") or {}
    running += [f"guard (pid {guard['pid']})"] if guard.get("pid") else []
    running += ["controller"] if seen.controller else []
    return Check(
        name=name,
        title=title,
        found=Found.FAILED if running else Found.OK,
        detail=f"running: {', '.join(running)}" if running else "looked up in the process table",
        remedy="`openbell down`" if running else "",
    )


def left_over(seen: Seen) -> Check:
    """What is held overnight: asked from the desk unless it is closed, and then as the closing proved
    it. A closing says nothing of a desk that was opened since."""
    if seen.status.get("state") != DeskState.OFFLINE:
        return positions(seen)
    name, title = "positions", "Positions at the end of the day"
    record = seen.closing
    steps = {} if record is None else {step["name"]: step for step in record["steps"]}
    flat = steps.get("flatten")
    if record is None or flat is None:
        detail = "no closing has looked at them"
        return Check(name=name, title=title, found=Found.UNKNOWN, detail=detail)
    found = OF_OUTCOME.get(str(flat["outcome"]), Found.UNKNOWN)
    if found is Found.NOT_CONFIGURED:
        found = Found.WARN
    detail = f"{record['run']}: {flat['detail'] or flat['outcome']}"
    return Check(name=name, title=title, found=found, detail=detail)


def checkpoint(seen: Seen) -> Check:
    name, title = "checkpoint", "Newest checkpoint valid"
    if not seen.checkpoints:
        detail = "there is no checkpoint"
        return Check(name=name, title=title, found=Found.UNKNOWN, detail=detail)
    newest = seen.checkpoints[0]
    valid = newest.get("valid") is True
    return Check(
        name=name,
        title=title,
        found=Found.OK if valid else Found.FAILED,
        detail=f"{newest['path']}" + _because(newest.get("why")),
        remedy="" if valid else "`openbell checkpoint list`; an older one may do",
    )
