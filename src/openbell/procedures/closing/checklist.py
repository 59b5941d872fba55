"""The checklists of a planned shutdown (before, during, after, verification), filled from what the
steps of its run saw. Nobody ticks anything: what no step has seen is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openbell.domain.figures import number
from openbell.procedures.checklists import Check, Checklist, Found
from openbell.procedures.run import NOT_APPROVED, NOT_REACHED
from openbell.procedures.step import Outcome, StepReport
from openbell.procedures.wording import count_of, is_kept_as_asked

STOPPING = frozenset({"stop_market_data", "disconnect", "stop_services"})
"""The steps that stop services, but for simulated venues; the first may stop strategies already."""
_FOUND = {
    Outcome.DONE: Found.OK,
    Outcome.FAILED: Found.FAILED,
    Outcome.UNKNOWN: Found.UNKNOWN,
    Outcome.SKIPPED: Found.NOT_CONFIGURED,
}


@dataclass(frozen=True, kw_only=True)
class ClosingRecord:
    """What of a closing its checklists are filled from."""

    reports: Sequence[StepReport]
    reason: str
    approvals: Mapping[str, Sequence[str]]
    """By step of this closing: the roles that the desk file wants to approve it."""
    services_stopped: bool
    positions_left: int | None
    """Above dust; None: the venues did not all say."""
    pnl: Mapping[str, object] | None
    checkpoint: str | None
    checkpoint_wanted: bool
    processes_left: int | None
    sockets_left: int | None
    errors: int | None
    """In the logs of the last five minutes."""
    approved: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By step: who approved it, under an earlier controller of the same run too."""

    def report(self, step: str) -> StepReport | None:
        return next((each for each in self.reports if each.name == step), None)

    def evidence(self, step: str, key: str) -> object:
        report = self.report(step)
        return None if report is None else report.evidence.get(key)


def closing_checklists(record: ClosingRecord) -> tuple[Checklist, ...]:
    """`before`, `during`, `after` and `verification`, of a closing that has ended or is under way."""
    return tuple(
        Checklist(name=name, title=title, checks=checks)
        for name, title, checks in (
            ("before", "Before the shutdown", _before(record)),
            ("during", "During the shutdown", _during(record)),
            ("after", "After the shutdown", _after(record)),
            ("verification", "Verification", _verification(record)),
        )
    )


def _before(record: ClosingRecord) -> tuple[Check, ...]:
    return (
        _of_step(record, "announced", "Shutdown announced", "announce"),
        Check(
            name="reason",
            title="Reason documented",
            found=Found.OK if record.reason else Found.WARN,
            detail=record.reason or "none was given",
            remedy="" if record.reason else "say it with `openbell down --reason`",
        ),
        Check(
            name="downtime",
            title="Expected downtime communicated",
            found=Found.NOT_CONFIGURED,
            detail="how long the desk is to be closed is not asked for; the reason may say it",
        ),
        _of_step(record, "locked", "Deployments and configuration locked", "lock"),
        _of_step(record, "no_order_pending", "No order pending", "wait_for_orders"),
        _approved(record),
    )


def _approved(record: ClosingRecord) -> Check:
    """A step that wants an approval does nothing before it has it, however it ends. That none was needed
    is known of one alone that reached its goal, or left it, or could do nothing, without."""
    if not record.approvals:
        return Check(
            name="approved",
            title="Approval obtained",
            found=Found.NOT_CONFIGURED,
            detail="the desk file wants none for a step of this closing",
        )
    told, found = [], Found.OK
    for step, roles in record.approvals.items():
        report = record.report(step)
        if people := record.approved.get(step):
            told.append(f"{step}: {', '.join(people)}")
        elif report is None or not _is_reached(report):
            told.append(f"{step}: not come to, wanted of {', '.join(roles)}")
            found = Found.UNKNOWN if found is Found.OK else found
        elif report.detail.startswith(NOT_APPROVED):
            told.append(f"{step}: {report.detail}")
            found = Found.FAILED
        elif report.outcome in (Outcome.FAILED, Outcome.UNKNOWN) and not report.in_vain:
            told.append(f"{step}: none is known to be given, wanted of {', '.join(roles)}")
            found = Found.UNKNOWN if found is Found.OK else found
        else:
            told.append(f"{step}: none was needed, as nothing was left to do or could be done")
    remedy = "" if found is Found.OK else "`openbell procedure report RUN` names who approved what"
    return Check(
        name="approved", title="Approval obtained", found=found, detail="; ".join(told), remedy=remedy,
    )  # fmt: skip


def _during(record: ClosingRecord) -> tuple[Check, ...]:
    orphans = record.evidence("verify", "orphans")
    return (
        _of_step(record, "strategies_halted", "Strategies disabled", "halt_strategies"),
        _no_new_orders(record),
        _of_step(
            record, "orders_handled", "Open orders cancelled, or kept as asked", "cancel_orders"
        ),
        _of_step(record, "positions_handled", "Positions closed, or kept as asked", "flatten"),
        _of_step(record, "reconciled", "Positions reconciled", "reconcile"),
        _of_step(record, "checkpoint_saved", "State checkpoint saved and verified", "checkpoint"),
        _of_step(record, "market_data_stopped", "Market data stopped", "stop_market_data"),
        _of_step(record, "disconnected", "Venue connections closed", "disconnect"),
        _cleanly(record),
        _counted(
            "no_orphan",
            "No orphaned process",
            len(orphans) if isinstance(orphans, Sequence) else None,
            "orphan",
        ),
    )


def _no_new_orders(record: ClosingRecord) -> Check:
    scope = record.evidence("halt_strategies", "permit_scope")
    report = record.report("halt_strategies")
    found = Found.UNKNOWN
    detail = "the engine has not said what it may do"
    if scope is not None:
        found = Found.FAILED if scope == "trade" else Found.OK
        detail = f"the engine's permit: {scope}"
    elif report is not None and report.outcome is Outcome.DONE:
        found, detail = Found.OK, "no engine runs"
    return Check(name="no_new_orders", title="New orders stopped", found=found, detail=detail)


def _cleanly(record: ClosingRecord) -> Check:
    check = _of_step(record, "services_stopped", "All services stopped cleanly", "stop_services")
    killed = [
        each.detail.partition("killed: ")[2]
        for each in record.reports
        if each.name in (*STOPPING, "stop_venues") and "killed: " in each.detail
    ]
    if check.found is not Found.OK or not killed:
        return check
    return Check(
        name=check.name,
        title=check.title,
        found=Found.WARN,
        detail=f"killed: {', '.join(killed)}",
        remedy="its stack is in its log, where it could be asked for one",
    )


def _after(record: ClosingRecord) -> tuple[Check, ...]:
    told = record.evidence("afterwards", "told")
    missed = [
        str(name)
        for name, outcome in (told.items() if isinstance(told, Mapping) else ())
        if outcome != "told"
    ]
    reached = _is_reached(record.report("afterwards"))
    archive = record.evidence("afterwards", "archive")
    wrong = record.evidence("afterwards", "went_wrong")
    notes = len(wrong) if isinstance(wrong, Sequence) and not isinstance(wrong, str) else None
    if not reached:
        notified = Check(
            name="notified", title="Completion notified", found=Found.UNKNOWN, detail="not come to"
        )
    elif not told:
        notified = Check(
            name="notified",
            title="Completion notified",
            found=Found.NOT_CONFIGURED,
            detail="no channel of the desk file is told of this",
        )
    else:
        notified = Check(
            name="notified",
            title="Completion notified",
            found=Found.FAILED if missed else Found.OK,
            detail=f"not known to be told: {', '.join(missed)}" if missed else "all channels told",
        )
    return (
        notified,
        Check(
            name="positions_documented",
            title="Final positions documented",
            found=Found.UNKNOWN if record.positions_left is None else Found.OK,
            detail="the venues did not all say"
            if record.positions_left is None
            else f"{record.positions_left or 'none'} at the venues",
        ),
        Check(
            name="pnl_recorded",
            title="P&L recorded",
            found=Found.UNKNOWN if record.pnl is None else Found.OK,
            detail="nobody has said it"
            if record.pnl is None
            else f"net {number(record.pnl.get('net'), 2)} {record.pnl.get('currency', '')}".rstrip(),
        ),
        Check(
            name="logs_archived",
            title="Logs archived",
            found=Found.OK if archive else Found.FAILED if reached else Found.UNKNOWN,
            detail=str(archive) if archive else "they are where they were",
        ),
        Check(
            name="status_offline",
            title="Status is OFFLINE",
            found=Found.OK if record.services_stopped else Found.FAILED,
            detail="no service runs" if record.services_stopped else "services are up",
            remedy="" if record.services_stopped else "`openbell down` goes on with what is left",
        ),
        Check(
            name="issues_noted",
            title="What went wrong is documented",
            found=Found.UNKNOWN if notes is None else Found.OK,
            detail="not come to"
            if notes is None
            else f"{count_of(notes, 'note')} in the record"
            if notes
            else "nothing",
        ),
    )


def _verification(record: ClosingRecord) -> tuple[Check, ...]:
    looked = _is_reached(record.report("verify"))
    valid = record.evidence("verify", "checkpoint_valid")
    errors = record.errors
    return (
        Check(
            name="checkpoint_exists",
            title="Checkpoint file exists",
            found=Found.OK
            if record.checkpoint is not None
            else Found.FAILED
            if record.checkpoint_wanted
            else Found.NOT_CONFIGURED,
            detail=record.checkpoint
            or ("none was written" if record.checkpoint_wanted else "the newest one still holds"),
        ),
        Check(
            name="checkpoint_valid",
            title="Checkpoint file valid",
            found=Found.NOT_CONFIGURED
            if record.checkpoint is None and not record.checkpoint_wanted
            else Found.UNKNOWN
            if not looked or not isinstance(valid, bool)
            else Found.OK
            if valid
            else Found.FAILED,
            detail="every byte was read once more" if valid is True else "",
        ),
        _counted("no_process", "No process of the desk runs", record.processes_left, "process"),
        _counted("no_socket", "All sockets closed", record.sockets_left, "socket"),
        Check(
            name="no_errors",
            title="No errors in the logs of the last five minutes",
            found=Found.UNKNOWN if errors is None else Found.WARN if errors else Found.OK,
            detail="not looked for"
            if errors is None
            else count_of(errors, "error")
            if errors
            else "none",
            remedy="`openbell logs --level ERROR`" if errors else "",
        ),
    )


def _counted(name: str, title: str, count: int | None, what: str) -> Check:
    several = f"{what}es" if what.endswith("s") else f"{what}s"
    return Check(
        name=name,
        title=title,
        found=Found.UNKNOWN if count is None else Found.FAILED if count else Found.OK,
        detail="not looked for"
        if count is None
        else f"{count_of(count, what, several)} left"
        if count
        else "none is left",
    )


def _is_reached(report: StepReport | None) -> bool:
    return report is not None and not (
        report.outcome is Outcome.SKIPPED and report.detail.startswith(NOT_REACHED)
    )


def _of_step(record: ClosingRecord, name: str, title: str, step: str) -> Check:
    """As the step ended. One that was not come to has shown nothing; services that were left up are
    not stopped."""
    report = record.report(step)
    if report is None:
        return Check(
            name=name,
            title=title,
            found=Found.NOT_CONFIGURED,
            detail="not a step of this desk's closing",
        )
    found = _FOUND[report.outcome]
    if not _is_reached(report):
        found = Found.UNKNOWN
    elif report.outcome is Outcome.SKIPPED and is_kept_as_asked(report.detail):
        found = Found.OK
    elif report.outcome is Outcome.SKIPPED and step in STOPPING and not record.services_stopped:
        found = Found.FAILED
    return Check(name=name, title=title, found=found, detail=report.detail)
