"""Checks of what the record says of openings and closings. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from openbell.domain.figures import number
from openbell.procedures.checklists import Check, Found
from openbell.procedures.daily.seen import Document, Seen
from openbell.procedures.registry import PROCEDURES
from openbell.procedures.report import doubts
from openbell.procedures.wording import is_kept_as_asked

OF_OUTCOME = {"done": Found.OK, "failed": Found.FAILED, "skipped": Found.NOT_CONFIGURED}


def step_checks(kind: str, record: Document | None) -> Iterator[Check]:
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
    yield run_check(record, procedure.title)
    last = {str(step["name"]): step for step in record["steps"]}
    planned = [str(name) for name in record["planned_steps"]]
    for name in dict.fromkeys((*planned, *last)):
        spec = procedure.spec_of(name)
        step = last.get(name)
        outcome = None if step is None else step["outcome"]
        found = Found.UNKNOWN if outcome is None else OF_OUTCOME.get(outcome, Found.UNKNOWN)
        told = "not reached" if step is None else str(step["detail"] or outcome or "cut off")
        if found is Found.NOT_CONFIGURED and is_kept_as_asked(told):
            found = Found.OK
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


def run_check(record: Document, title: str) -> Check:
    state = str(record["state"])
    found = {"done": Found.OK, "running": Found.UNKNOWN, "interrupted": Found.UNKNOWN}
    return Check(
        name="run",
        title=f"{title} in the record",
        found=found.get(state, Found.FAILED),
        detail=f"{record['run']} of {str(record['begun'])[:19]}Z by {record['who']}: {state}",
        remedy=f"`openbell procedure report {record['run']}` tells all of it",
    )


def record_check(record: Document | None) -> Check:
    name, title = "record", "Logged and documented"
    if record is None:
        return Check(name=name, title=title, found=Found.UNKNOWN, detail="there is no run of it")
    broken, unknown = doubts(record)
    if broken or unknown:
        return Check(
            name=name,
            title=title,
            found=Found.FAILED if broken else Found.UNKNOWN,
            detail="; ".join(broken or unknown),
            remedy=f"`openbell procedure report {record['run']}`",
        )
    chain = record["chain"]
    detail = f"{record['run']}: {chain['records']} records, chained and whole"
    return Check(name=name, title=title, found=Found.OK, detail=detail)


def last_closing(seen: Seen) -> Check:
    name, title = "last_closing", "Last closing proven"
    record = seen.closing
    if record is None:
        detail = "the desk was not closed yet"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    check = run_check(record, title)
    return Check(
        name=name, title=title, found=check.found, detail=check.detail, remedy=check.remedy
    )


def opened_since(seen: Seen) -> Iterator[Check]:
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


def cut_off(seen: Seen) -> Check:
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


def own_test(seen: Seen) -> Check:
    """Whether an order gets through is shown by a step of the desk's own: no checklist sends one."""
    name, title = "end_to_end_test", "End-to-end test passed"
    settings = seen.desk.procedures.get("open")
    own = [] if settings is None else [each.name for each in settings.extra]
    if not own:
        return Check(
            name=name,
            title=title,
            found=Found.NOT_CONFIGURED,
            detail="the opening has no step of the desk's own ([[procedures.open.extra]])",
        )
    steps = {} if seen.opening is None else {str(s["name"]): s for s in seen.opening["steps"]}
    last = {each: str(steps[each]["outcome"]) if each in steps else "not reached" for each in own}
    founds = [OF_OUTCOME.get(outcome, Found.UNKNOWN) for outcome in last.values()]
    bad = [each for each in (Found.FAILED, Found.UNKNOWN) if each in founds]
    return Check(
        name=name,
        title=title,
        found=bad[0] if bad else Found.OK if Found.OK in founds else Found.NOT_CONFIGURED,
        detail="; ".join(f"{each}: {outcome}" for each, outcome in last.items()),
        remedy="`openbell procedure report` of the opening" if bad else "",
    )


def performance(seen: Seen) -> Check:
    """The day's P&L as the closing wrote it down."""
    name, title = "performance", "Performance recorded"
    if not seen.desk.venues:
        detail = "this desk has no venue"
        return Check(name=name, title=title, found=Found.NOT_CONFIGURED, detail=detail)
    steps = {} if seen.closing is None else {str(s["name"]): s for s in seen.closing["steps"]}
    pnl = ((steps.get("afterwards") or {}).get("after") or {}).get("pnl")
    if not pnl:
        detail = "no closing wrote the P&L of the day down"
        remedy = (
            "`openbell down` writes it down; `openbell positions` tells it of a desk that is open"
        )
        return Check(name=name, title=title, found=Found.UNKNOWN, detail=detail, remedy=remedy)
    unpriced = ", ".join(map(str, pnl.get("unpriced") or ()))
    told = [
        f"{word} {number(pnl[word], 2)}"
        for word in ("net", "realized", "unrealized", "fees")
        if word in pnl
    ]
    return Check(
        name=name,
        title=title,
        found=Found.WARN if unpriced else Found.OK,
        detail=f"{', '.join(told)} {pnl.get('currency', '')}".rstrip()
        + (f"; without a price: {unpriced}" if unpriced else ""),
    )
