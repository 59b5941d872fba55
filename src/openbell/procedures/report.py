"""The record of a run for an auditor: who, when, why, what each step found before and after.

Everything is told from the record's own lines, whose chain of hashes is checked first. A run of
before there were records is told from its steps alone, and says so.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from openbell.procedures.closing_tables import Table, table_of, tables_of_steps
from openbell.procedures.evidence import file_facts
from openbell.procedures.registry import PROCEDURES
from openbell.procedures.startup_log import log_rows, startup_log
from openbell.state.audit_record import AuditRecord, check_line
from openbell.state.audit_verdict import AuditVerdict
from openbell.state.runs import RunRecord, RunStore

RECORDED = "run.recorded"
"""The audit log's word of a run's end, with the head of its record."""


def run_name(record: RunRecord) -> str:
    return f"{record.kind}-{record.run}"


def run_state(record: RunRecord) -> str:
    """`interrupted` (no end), `done`, `cancelled` or `failed`."""
    if record.finished_at is None:
        return "interrupted"
    return record.outcome if record.outcome in ("done", "cancelled") else "failed"


_RESTARTS = {"restart": "full", "quick-restart": "quick"}
"""What the parameter `restart` of a closing says, by the procedure whose first half it is."""
_LOOKED_THROUGH = 1000
"""Runs of restarts: two a day are more than a year."""


def runs_of(store: RunStore, procedure: str | None, limit: int) -> tuple[RunRecord, ...]:
    """The newest runs of a procedure, newest first; None: of all. Those of a restart are its closings and
    the openings that name them. Blocks. Raises StorageError."""
    if procedure not in _RESTARTS:
        return store.list(limit, procedure)
    parts = store.list(_LOOKED_THROUGH, asked_for="restart")
    closings = {
        run_name(each) for each in parts if each.params.get("restart") == _RESTARTS[procedure]
    }
    found = [
        each
        for each in parts
        if run_name(each) in closings or each.params.get("restart_of") in closings
    ]
    return tuple(found[:limit])


def history_row(record: RunRecord) -> dict[str, object]:
    ended = record.finished_at
    return {
        "run": run_name(record),
        "procedure": record.kind,
        "version": record.version or None,
        "who": record.who,
        "why": record.why,
        "begun": record.begun_at.isoformat(),
        "finished": None if ended is None else ended.isoformat(),
        "seconds": None if ended is None else round((ended - record.begun_at).total_seconds(), 3),
        "state": run_state(record),
        "outcome": record.outcome,
        "steps": [
            {"name": step.name, "attempt": step.attempt, "outcome": step.outcome}
            for step in record.steps
        ],
    }


def report_of(store: RunStore, number: int, audit_log: Path) -> dict[str, Any]:
    """Blocks. Raises UsageError for a run that is not known, StorageError, CorruptError."""
    record = store.get(number)
    lines, verdict = store.record(number)
    return report_document(record, lines, verdict, _audited_head(audit_log, run_name(record)))


def report_document(
    record: RunRecord,
    lines: Sequence[bytes],
    verdict: AuditVerdict,
    audited: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """`audited`: what the audit log says of the head. Looks at the evidence files, nothing else."""
    said = [found for line in lines if (found := check_line(line.rstrip(b"\n"))[1]) is not None]
    procedure = PROCEDURES.get(record.kind)
    row = history_row(record)
    steps = _steps(said) if said else _bare_steps(record)
    return {
        **row,
        "title": procedure.title if procedure else record.kind,
        "version_now": procedure.version if procedure else None,
        "parameters": dict(record.params),
        "planned_steps": list(record.plan),
        "steps": steps,
        "startup_log": startup_log(steps) if record.kind == "open" else None,
        "events": _events(said),
        "evidence_files": [_checked(each) for each in _files(said)],
        "chain": _chain(record, lines, said, verdict, audited),
    }


def _chain(
    record: RunRecord,
    lines: Sequence[bytes],
    said: Sequence[AuditRecord],
    verdict: AuditVerdict,
    audited: Mapping[str, Any] | None,
) -> dict[str, object]:
    problem = verdict.problem
    whole: bool | None = verdict.finding == "whole"
    if not lines and not record.version:
        whole, problem = None, "begun before records were kept"
    elif not lines:
        whole, problem = False, "the record is gone"
    head = said[-1].hash if said else ""
    finished = record.finished_at is not None
    if whole and finished and (not said or said[-1].action != "run.ended"):
        whole, problem = False, "the run has ended, and its record does not say so"
    in_audit: bool | None = None
    if finished:
        in_audit = audited is not None and audited.get("hash") == head
        if audited is not None and not in_audit:
            whole, problem = False, "the audit log knows another end of this record"
    return {
        "whole": whole,
        "records": verdict.records,
        "finding": verdict.finding,
        "problem": problem,
        "head": head,
        "head_is_in_audit_log": in_audit,
    }


def _steps(said: Iterable[AuditRecord]) -> list[dict[str, Any]]:
    """Each attempt of a step, in the order in which they were begun."""
    steps: list[dict[str, Any]] = []
    for line in said:
        detail = line.detail
        match line.action:
            case "step.started":
                steps.append(
                    {
                        "name": line.subject, "attempt": detail.get("attempt"),
                        "started": line.at.isoformat(), "finished": None, "outcome": None,
                        "seconds": None, "detail": "", "plan": [], "reason": "",
                        "before": None, "after": None,
                    }
                )  # fmt: skip
            case "step.planned" if steps:
                steps[-1] |= {key: detail.get(key) for key in ("plan", "reason", "before")}
            case "step.done" if steps:
                after = dict(detail.get("after") or {})
                steps[-1] |= {
                    "finished": line.at.isoformat(),
                    "outcome": detail.get("outcome"),
                    "seconds": detail.get("seconds"),
                    "detail": after.pop("detail", ""),
                    "after": after,
                }
    return steps


def _bare_steps(record: RunRecord) -> list[dict[str, Any]]:
    return [
        {
            "name": step.name, "attempt": step.attempt, "started": step.started_at.isoformat(),
            "finished": None if step.done_at is None else step.done_at.isoformat(),
            "outcome": step.outcome,
            "seconds": None if step.done_at is None
            else round((step.done_at - step.started_at).total_seconds(), 3),
            "detail": step.facts.get("detail", ""), "plan": [], "reason": "", "before": None,
            "after": {key: value for key, value in step.facts.items() if key != "detail"},
        }
        for step in record.steps
    ]  # fmt: skip


def _events(said: Iterable[AuditRecord]) -> list[dict[str, Any]]:
    """What happened beside the steps: resumed, approved, cancelled, effects, the end."""
    return [
        {"at": line.at.isoformat(), "actor": line.actor, "action": line.action,
         "subject": line.subject, "detail": line.detail}
        for line in said
        if line.action not in ("step.started", "step.planned", "step.done")
    ]  # fmt: skip


def _files(said: Iterable[AuditRecord]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for line in said:
        kept = line.detail.get("after") if line.action == "step.done" else line.detail
        files = kept.get("files") if isinstance(kept, dict) else None
        found += [dict(each) for each in files or () if isinstance(each, dict)]
    return found


def _checked(file: Mapping[str, Any]) -> dict[str, Any]:
    """An evidence file as it was recorded, and whether it is the same now."""
    now = file_facts(Path(str(file.get("path"))))
    if "sha256" not in now:
        state = "missing"
    else:
        state = "unchanged" if now["sha256"] == file.get("sha256") else "changed"
    return {**file, "now": state}


def _audited_head(audit_log: Path, run: str) -> dict[str, Any] | None:
    """What the audit log says of the end of this run's record; None where it says nothing."""
    found = None
    try:
        with audit_log.open("rb") as lines:
            for line in lines:
                if RECORDED.encode() in line and f'"{run}"'.encode() in line:
                    record = check_line(line.rstrip(b"\n"))[1]
                    if record is not None and (record.action, record.subject) == (RECORDED, run):
                        found = record.detail
    except FileNotFoundError:
        return None
    return found


def doubts(report: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What of a record does not hold, and what of it cannot be told; both empty: it is whole."""
    chain = report["chain"]
    broken, unknown = [], []
    if chain["whole"] is None:
        unknown.append(chain_text(chain))
    elif not chain["whole"]:
        broken.append(chain_text(chain))
    elif chain["head_is_in_audit_log"] is False:
        unknown.append("its end is not in the audit log, so it may have been rewritten as a whole")
    broken += [
        f"{each['path']} {'is gone' if each['now'] == 'missing' else 'was changed'}"
        for each in report["evidence_files"]
        if each["now"] != "unchanged"
    ]
    return tuple(broken), tuple(unknown)


# --- for people ------------------------------------------------------------------------------------


def chain_text(chain: Mapping[str, Any]) -> str:
    if chain["whole"] is None:
        return f"no chain: {chain['problem']}"
    if not chain["whole"]:
        return f"BROKEN: {chain['problem'] or chain['finding']}"
    audit = {
        True: "; its end is in the audit log too",
        False: "; its end is NOT in the audit log",
        None: "",
    }
    return f"whole, {chain['records']} records{audit[chain['head_is_in_audit_log']]}"


def report_markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        f"# {report['title']}: {report['run']}",
        "",
        "| | |",
        "| --- | --- |",
        *(
            f"| {word} | {_cell(text)} |"
            for word, text in (
                ("asked for by", report["who"]),
                ("why", report["why"]),
                ("procedure", f"{report['procedure']}, version {report['version'] or 'unknown'}"),
                ("asked for", _plain(report["parameters"])),
                ("begun", report["begun"]),
                ("ended", report["finished"] or "it has no end"),
                ("took", "" if report["seconds"] is None else f"{report['seconds']:g} s"),
                ("outcome", report["outcome"] or report["state"]),
                ("chain of the record", chain_text(report["chain"])),
            )
        ),
        "",
        "## Steps",
        "",
        "| step | attempt | begun | took | outcome | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for step in report["steps"]:
        took = "" if step["seconds"] is None else f"{step['seconds']:g} s"
        cells = (
            step["name"], step["attempt"], _clock(step["started"]), took,
            step["outcome"] or "cut off", step["detail"],
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    if rows := _log_rows(report):
        lines += ["", "## Start-up log", "", f"| {' | '.join(_LOG_HEADINGS)} |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    for table in _tables(report):
        lines += ["", f"## {table.title}", "", f"| {' | '.join(map(_cell, table.headings))} |"]
        lines += [f"| {' | '.join('---' for _ in table.headings)} |"]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in table.rows]
    for step in report["steps"]:
        lines += ["", f"### {step['name']}, attempt {step['attempt']}", ""]
        lines += [f"- planned: {_cell(each)}" for each in step["plan"] or ()]
        lines += [f"- nothing to do: {_cell(step['reason'])}"] if step["reason"] else []
        lines += [f"- before: `{_plain(step['before'])}`"] if step["before"] is not None else []
        lines += [f"- after: `{_plain(step['after'])}`"] if step["after"] else []
    lines += ["", "## Besides the steps", ""]
    lines += [
        f"- {_clock(each['at'])} {_cell(each['actor'])}: {each['action']} "
        f"{_cell(each['subject'])} `{_plain(each['detail'])}`"
        for each in report["events"]
    ]
    if report["evidence_files"]:
        lines += ["", "## Evidence files", ""]
        lines += [
            f"- {_cell(each['path'])}: {each['now']}, SHA-256 `{each.get('sha256', 'unknown')}`"
            for each in report["evidence_files"]
        ]
    return "\n".join(lines) + "\n"


def _tables(report: Mapping[str, Any]) -> list[Table]:
    """Those that its steps left, as a closing's do."""
    found = tables_of_steps(report["steps"])
    return [table_of(name, rows) for name, rows in found.items()]


_LOG_HEADINGS = ("component", "phase", "", "until ready", "memory")


def _log_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    log = report.get("startup_log")
    return log_rows(log) if log else []


_STYLE = (
    "<style>body{font:15px/1.5 sans-serif;margin:2rem}table{border-collapse:collapse;margin:1rem 0}"
    "td,th{border:1px solid #bbb;padding:.3rem .6rem;text-align:left;vertical-align:top;"
    "white-space:pre-wrap;overflow-wrap:anywhere}</style>"
)


def report_html(report: Mapping[str, Any]) -> str:
    """The report as one page that needs nothing else."""
    facts = [
        ("asked for by", report["who"]),
        ("why", report["why"]),
        ("procedure", f"{report['procedure']}, version {report['version'] or 'unknown'}"),
        ("asked for", _plain(report["parameters"])),
        ("begun", report["begun"]),
        ("ended", report["finished"] or "it has no end"),
        ("outcome", report["outcome"] or report["state"]),
        ("chain of the record", chain_text(report["chain"])),
    ]
    steps = [
        (
            step["name"], step["attempt"], _clock(step["started"]), step["seconds"],
            step["outcome"] or "cut off", step["detail"], "\n".join(step["plan"] or ()),
            _plain(step["before"]), _plain(step["after"]),
        )
        for step in report["steps"]
    ]  # fmt: skip
    events = [
        (_clock(each["at"]), each["actor"], each["action"], each["subject"], _plain(each["detail"]))
        for each in report["events"]
    ]
    files = [
        (each["path"], each["now"], each.get("sha256", "")) for each in report["evidence_files"]
    ]
    title = html.escape(f"{report['title']}: {report['run']}")
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>',
            _STYLE,
            f"<h1>{title}</h1>",
            _html_table((), facts),
            "<h2>Steps</h2>",
            _html_table(
                ("step", "attempt", "begun", "s", "outcome", "", "plan", "before", "after"), steps
            ),
            *(
                ["<h2>Start-up log</h2>", _html_table(_LOG_HEADINGS, rows)]
                if (rows := _log_rows(report))
                else []
            ),
            *(
                part
                for table in _tables(report)
                for part in (
                    f"<h2>{html.escape(table.title)}</h2>",
                    _html_table(table.headings, table.rows),
                )
            ),
            "<h2>Besides the steps</h2>",
            _html_table(("at", "who", "what", "of", ""), events),
            "<h2>Evidence files</h2>",
            _html_table(("file", "now", "SHA-256"), files),
            "</html>\n",
        ]
    )


def _html_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{html.escape(each)}</th>" for each in headings)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape('' if c is None else str(c))}</td>" for c in row)
        + "</tr>"
        for row in rows
    )
    return f"<table>{f'<tr>{head}</tr>' if headings else ''}{body}</table>"


def _plain(value: object) -> str:
    return "" if value is None else msgspec.json.encode(value).decode().replace("`", "'")


def _cell(text: object) -> str:
    """Text that neither ends a table's cell nor its line."""
    return str(text).replace("|", "\\|").replace("\n", " ") if text is not None else ""


def _clock(text: str) -> str:
    return datetime.fromisoformat(text).strftime("%H:%M:%S.%f")[:-3]
