"""The checklists of a desk's day, filled from what the system sees. Pure: documents in, checks out.

morning   before the market opens: is everything there that trading takes
startup   after an opening: did each step of it do what it should, and is it still so
shutdown  after a closing: did each step of it prove what it should, and is nothing left
eod       at the end of the day: what is to be kept, and what is still held

Nothing is ticked because somebody said so, and what cannot be seen is unknown. What this Openbell has no
part for (daily reports) is told as not configured, and never as done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from openbell.config.models import DeskFile
from openbell.config.phases import phases_of
from openbell.procedures.backups import BackupFact
from openbell.procedures.checklists import Check, Checklist, Found
from openbell.procedures.dependencies import DependencyFact
from openbell.procedures.preflight_checks import (
    backup_checks,
    dependency_check,
    free_checks,
    venue_clock_check,
)
from openbell.procedures.registry import PROCEDURES

ChecklistName = Literal["morning", "startup", "shutdown", "eod"]
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    """What was asked for a checklist. None: nobody could be asked."""

    desk: DeskFile
    status: Document
    """As `GET /api/v1/status`; of a desk without a controller from its files."""
    controller: bool
    """A controller answers."""
    health: Document | None
    connections: Document
    positions: Document | None
    opening: Document | None
    """The record of the newest opening, as `GET /api/v1/runs/{id}/report`; None: there is none."""
    closing: Document | None
    checkpoints: Sequence[Document]
    """Newest first."""
    disk_free: int | None
    memory_free: int | None
    dependencies: tuple[DependencyFact, ...]
    backups: tuple[BackupFact, ...]


def fill(name: ChecklistName, seen: Seen) -> Checklist:
    title, checks = _LISTS[name]
    return Checklist(name=name, title=title, checks=tuple(checks(seen)))


# --- the lists -------------------------------------------------------------------------------------


def _morning(seen: Seen) -> Iterator[Check]:
    yield _health(seen)
    yield _links("market_data", "Market data", seen)
    yield _links("order_entry", "Venue connections", seen)
    yield _trading(seen)
    yield _risk(seen)
    yield _latch(seen)
    yield _guard(seen)
    yield _positions(seen)
    yield from _clocks(seen)
    yield from _dependencies(seen)
    yield from free_checks(seen.disk_free, seen.memory_free, seen.desk.preflight)
    yield _last_closing(seen)
    yield _cut_off(seen)
    yield _alerts(seen)


def _startup(seen: Seen) -> Iterator[Check]:
    yield from _steps("open", seen.opening)
    yield from _phases(seen)
    yield _links("order_entry", "Engine connected to the venues", seen)
    yield _accounts(seen)
    yield _links("market_data", "Market data feeds active", seen)
    yield from _clocks(seen)
    yield _risk(seen)
    yield _rules(seen)
    yield _trading(seen)
    yield _alerts(seen)


def _shutdown(seen: Seen) -> Iterator[Check]:
    yield from _steps("close", seen.closing)
    yield from _opened_since(seen)
    yield _nothing_runs(seen)
    yield _record(seen.closing)


def _eod(seen: Seen) -> Iterator[Check]:
    yield _last_closing(seen)
    yield from _opened_since(seen)
    yield _left_over(seen)
    yield _checkpoint(seen)
    yield _record(seen.closing)
    yield _latch(seen)
    yield from backup_checks(seen.backups)
    for name, title in (
        ("daily_report", "Daily trading report"),
        ("risk_report", "Risk report"),
    ):
        yield Check(
            name=name,
            title=title,
            found=Found.NOT_CONFIGURED,
            detail="this desk declares none, so nothing is known of any",
        )
    yield from free_checks(seen.disk_free, seen.memory_free, seen.desk.preflight)


_LISTS: Mapping[ChecklistName, tuple[str, Callable[[Seen], Iterable[Check]]]] = {
    "morning": ("Morning checklist", _morning),
    "startup": ("Start-up completion checklist", _startup),
    "shutdown": ("Shutdown completion checklist", _shutdown),
    "eod": ("End-of-day checklist", _eod),
}
NAMES: tuple[ChecklistName, ...] = tuple(_LISTS)


# --- runs ------------------------------------------------------------------------------------------

_OF_OUTCOME = {"done": Found.OK, "failed": Found.FAILED, "skipped": Found.NOT_CONFIGURED}


def _steps(kind: str, record: Document | None) -> Iterator[Check]:
    """A check for each step of the newest run, by its last attempt."""
    procedure = PROCEDURES[kind]
    if record is None:
        yield Check(
            name="run",
            title=f"{procedure.title} in the record",
            found=Found.UNKNOWN,
            detail="there is no run of it",
            remedy=f"`{procedure.command}`",
        )
        return
    yield _run(record, procedure.title)
    last = {str(step["name"]): step for step in record["steps"]}
    planned = [str(name) for name in record["planned_steps"]]
    for name in dict.fromkeys((*planned, *last)):
        spec = procedure.spec_of(name)
        step = last.get(name)
        outcome = None if step is None else step["outcome"]
        found = Found.UNKNOWN if outcome is None else _OF_OUTCOME.get(outcome, Found.UNKNOWN)
        told = "not reached" if step is None else str(step["detail"] or outcome or "cut off")
        if found is Found.OK and (worst := _warned(step)):
            found = worst
        yield Check(
            name=f"step_{name}",
            title=name if spec is None or spec.is_family else spec.title,
            found=found,
            detail=told,
            remedy=""
            if found in (Found.OK, Found.NOT_CONFIGURED)
            else f"`{procedure.command}` again",
        )


def _warned(step: Document | None) -> Found | None:
    """A step that is done may have warned of something."""
    rows = ((step or {}).get("after") or {}).get("checks") or ()
    return Found.WARN if any(row.get("found") == Found.WARN for row in rows) else None


def _run(record: Document, title: str) -> Check:
    state = str(record["state"])
    found = {"done": Found.OK, "running": Found.UNKNOWN, "interrupted": Found.UNKNOWN}
    return Check(
        name="run",
        title=f"{title} in the record",
        found=found.get(state, Found.FAILED),
        detail=f"{record['run']} of {str(record['begun'])[:19]}Z by {record['who']}: {state}",
        remedy=f"`openbell procedure report {record['run']}` tells all of it",
    )


def _record(record: Document | None) -> Check:
    name, title = "record", "Logged and documented"
    if record is None:
        return Check(name=name, title=title, found=Found.UNKNOWN, detail="there is no run of it")
    chain = record["chain"]
    changed = [f["path"] for f in record["evidence_files"] if f["now"] != "unchanged"]
    report = f"`openbell procedure report {record['run']}`"
    if not chain["whole"]:
        found = Found.UNKNOWN if chain["whole"] is None else Found.FAILED
        return Check(
            name=name, title=title, found=found, detail=str(chain["problem"]), remedy=report
        )
    if changed:
        detail = f"changed since: {', '.join(map(str, changed))}"
        return Check(name=name, title=title, found=Found.FAILED, detail=detail, remedy=report)
    detail = f"{record['run']}: {chain['records']} records, chained and whole"
    return Check(name=name, title=title, found=Found.OK, detail=detail)


def _last_closing(seen: Seen) -> Check:
    name, title = "last_closing", "Last closing proven"
    record = seen.closing
    if record is None:
        detail = "the desk was not closed yet"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    check = _run(record, title)
    return Check(
        name=name, title=title, found=check.found, detail=check.detail, remedy=check.remedy
    )


def _opened_since(seen: Seen) -> Iterator[Check]:
    """A closing says nothing of what was opened after it."""
    opening, closing = seen.opening, seen.closing
    if opening is not None and closing is not None and opening["begun"] > closing["begun"]:
        yield Check(
            name="opened_since",
            title="Not opened since",
            found=Found.FAILED,
            detail=f"{opening['run']} came after {closing['run']}",
            remedy="`openbell down`",
        )


def _cut_off(seen: Seen) -> Check:
    name, title = "cut_off", "No procedure was cut off"
    run = seen.status.get("interrupted_run")
    if run:
        detail = f"{run['id']} was cut off at {run['step'] or 'its begin'}"
        remedy = f"`openbell procedure resume {run['id']}`"
        return Check(name=name, title=title, found=Found.FAILED, detail=detail, remedy=remedy)
    if not seen.controller:
        detail = "no controller runs to tell"
        return Check(name=name, title=title, found=Found.UNKNOWN, detail=detail)
    return Check(name=name, title=title, found=Found.OK)


# --- the desk as it is -----------------------------------------------------------------------------


def _health(seen: Seen) -> Check:
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


def _links(kind: str, title: str, seen: Seen) -> Check:
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


def _trading(seen: Seen) -> Check:
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


def _risk(seen: Seen) -> Check:
    """Its limits are read with its start: a risk service that is ready has loaded them."""
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
    return Check(
        name=name,
        title=title,
        found=Found.OK if ready else Found.FAILED,
        detail=f"{service} is {'unknown' if row is None else row['state']}; {len(limits)} limits",
        remedy="" if ready else f"`openbell logs {service}`",
    )


def _rules(seen: Seen) -> Check:
    name, title = "rules", "Compliance and kill rules active"
    rules = seen.desk.kill_switch.rules
    declared = [each for each in type(rules).model_fields if getattr(rules, each) is not None]
    if not declared:
        detail = "none in [kill_switch.rules]"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    judges = [seen.desk.service_with_role("risk")] if rules.of_risk else []
    silent = [j for j in judges if j is None or (_service(seen, j) or {}).get("state") != "ready"]
    if rules.heartbeat_lost is not None and (seen.status.get("guard") or {}).get("state") != (
        "running"
    ):
        silent.append("guard")
    return Check(
        name=name,
        title=title,
        found=Found.FAILED if silent else Found.OK,
        detail=f"not judged by {', '.join(map(str, silent))}" if silent else ", ".join(declared),
        remedy="`openbell status`" if silent else "",
    )


def _latch(seen: Seen) -> Check:
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


def _guard(seen: Seen) -> Check:
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


def _positions(seen: Seen) -> Check:
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
    told = [f"{r['symbol']} {r['quantity']}" for r in rows]
    pnl = document.get("pnl")
    told += [f"net P&L {pnl['net']} {pnl['currency']}"] if pnl else []
    return Check(name=name, title=title, found=Found.OK, detail="; ".join(told) or "flat")


def _accounts(seen: Seen) -> Check:
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


def _clocks(seen: Seen) -> Iterator[Check]:
    for row in seen.status.get("venues") or ():
        yield venue_clock_check(row, seen.desk.preflight.max_clock_skew, "it was not heard")


def _dependencies(seen: Seen) -> Iterator[Check]:
    yield from map(dependency_check, seen.dependencies)
    if not seen.dependencies:
        yield Check(
            name="dependencies",
            title="External dependencies",
            found=Found.NOT_CONFIGURED,
            detail="none in [dependencies]",
        )


def _alerts(seen: Seen) -> Check:
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
        remedy="; ".join(dict.fromkeys(str(row["action"]) for row in rows)),
    )


def _phases(seen: Seen) -> Iterator[Check]:
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
        down = [
            f"{name} is {'unknown' if row is None else row['state']}"
            for name in names
            if (row := _service(seen, name)) is None or row["state"] != "ready"
        ]
        yield Check(
            name=phase,
            title=title,
            found=Found.FAILED if down else Found.OK if names else Found.NOT_CONFIGURED,
            detail="; ".join(down) or ", ".join(names) or "no service is of this phase",
            remedy="`openbell up` goes on with what is down" if down else "",
        )


def _service(seen: Seen, name: str) -> Document | None:
    return next((row for row in seen.status["services"] if row["name"] == name), None)


def _nothing_runs(seen: Seen) -> Check:
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


def _left_over(seen: Seen) -> Check:
    """What is held overnight: asked from the desk where it is open, else as the closing proved it."""
    if seen.controller and seen.positions is not None:
        return _positions(seen)
    name, title = "positions", "Positions at the end of the day"
    record = seen.closing
    steps = {} if record is None else {step["name"]: step for step in record["steps"]}
    flat = steps.get("flatten")
    if record is None or flat is None:
        detail = "no closing has looked at them"
        return Check(name=name, title=title, found=Found.UNKNOWN, detail=detail)
    found = _OF_OUTCOME.get(str(flat["outcome"]), Found.UNKNOWN)
    if found is Found.NOT_CONFIGURED:
        found = Found.WARN
    detail = f"{record['run']}: {flat['detail'] or flat['outcome']}"
    return Check(name=name, title=title, found=found, detail=detail)


def _checkpoint(seen: Seen) -> Check:
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
