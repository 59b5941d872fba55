"""`openbell kill-switch status|activate|deactivate|approve`

Activating writes the latch itself, before any other process is asked: it works with a controller
that is gone or hangs, and is in force when the file exists. The controller is told afterwards.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import click

from openbell.cli.client import Client, actor
from openbell.cli.command import Terminal, command
from openbell.cli.tables import number, table
from openbell.domain.approval_reason import why_approved
from openbell.domain.scopes import DESK, Scope, latched_told, parse_scopes, undeclared
from openbell.errors import (
    ConfigError,
    ConflictError,
    NotRunningError,
    OpenbellError,
    RefusedError,
    StorageError,
    UnverifiedError,
    UsageError,
)
from openbell.state.halts import Halt
from openbell.state.kill_log import append_act
from openbell.state.latch import Latch, Latches, Setting, latches_document

TELL_TIMEOUT_S = 5.0
"""For a controller to take note of a latch that is in force already."""

_scope_option = click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="desk (default), venue:NAME, strategy:NAME or symbol:BASE/QUOTE; may be repeated.",
)


@click.group("kill-switch")
def kill_switch() -> None:
    """Stop orders at once, for the whole desk or a part of it, until a person releases it.

    While it is set no engine sends an order inside its scope, a flatten included; cancels and
    questions stay open. It outlives every process and restart.
    """


@command("status", group=kill_switch)
def status(terminal: Terminal) -> int:
    """What is latched, since when, by whom and why; and releases that wait for an approval."""
    try:
        document = _document(terminal)
    except UnverifiedError as error:
        terminal.warn(error.message)
        document = _from_files(terminal)
    terminal.show(document, _status_text(document))
    return 0


@command("activate", group=kill_switch)
@_scope_option
@click.option("--reason", default="", help="Why; kept with the latch and in the audit log.")
def activate(terminal: Terminal, scopes: tuple[str, ...], reason: str) -> int:
    """Set it, at once and without a question. Works without a controller.

    Exit status 0 means that the latch is on the disk: every engine looks at it directly before each
    order. Whether the engine confirmed it is said too, and changes nothing.
    """
    wanted = _scopes(scopes)
    _refuse_undeclared(terminal, wanted)
    layout, who = terminal.layout, actor()
    setting = Setting(())
    failure: StorageError | None = None
    with contextlib.suppress(OSError):
        layout.make()  # what it could not make, a latch may do without
    try:
        halt = Halt(reason or "no reason given", who, datetime.now(UTC))
        setting = Latches(layout).set(wanted, halt)
    except StorageError as error:
        failure = error
    body = {
        "scopes": [str(scope) for scope in wanted],
        "reason": reason,
        "set_already": [latch.id for latch in setting.latches],
    }
    try:
        document = Client(layout).post("kill-switch/activate", body, timeout_s=TELL_TIMEOUT_S)
        document["controller"] = True
    except OpenbellError as error:
        if failure is not None:
            raise failure from error
        document = {
            "activated": True,
            "scopes": body["scopes"],
            "latches": [latch.as_dict() for latch in setting.latches],
            "durable": setting.durable,
            "problems": list(setting.problems),
            "recorded": _record(terminal, who, "kill_switch.activate", wanted, reason, setting.latches),
            "engine": "not asked",
            "why": error.message,
            "controller": False,
        }  # fmt: skip
    document["problems"] = list(dict.fromkeys([*setting.problems, *document["problems"]]))
    document["durable"] = document["durable"] and setting.durable
    terminal.show(document, _activated_text(document))
    for problem in document["problems"]:
        terminal.warn(f"  {problem}")
    if not document["durable"]:
        terminal.warn("in force, but NOT KNOWN TO OUTLIVE A CRASH: the disk did not confirm it")
        return StorageError.exit_code
    return 0


@command("deactivate", group=kill_switch)
@_scope_option
@click.option("--reason", required=True, help="Why it may go; kept in the audit log.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def deactivate(terminal: Terminal, scopes: tuple[str, ...], reason: str, yes: bool) -> int:
    """Release it. Where `[approvals]` asks for it, another person must approve; the exit status is
    6 until then.

    A desk that was latched as a whole stays halted: `openbell resume` looks at its health and lets
    orders go on. A part of a desk trades again at once.
    """
    wanted = _scopes(scopes)
    if not reason.strip():
        raise UsageError("a release needs a reason", hint="say why the kill switch may go")
    before = _document(terminal)
    latches = _shown(before, wanted)
    terminal.confirm(f"{_rows_text(latches)}\nRelease this?", yes=yes)
    if not before["controller"]:
        document = _release_alone(terminal, wanted, reason, {row["id"] for row in latches})
    else:
        document = Client(terminal.layout).post(
            "kill-switch/deactivate",
            {
                "scopes": [str(scope) for scope in wanted],
                "reason": reason,
                "latches": [row["id"] for row in latches],
            },
        )
    if not document["deactivated"]:
        request = document["request"]
        terminal.show(
            document,
            f"NOT released yet: another person must approve before {request['expires']}\n"
            f"  openbell kill-switch approve {request['id']} --reason WHY",
        )
        return RefusedError.exit_code
    terminal.show(document, _released_text(document))
    return 0


@command("approve", group=kill_switch)
@click.argument("request")
@click.option("--reason", required=True, help="Why; kept in the audit log.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def approve(terminal: Terminal, request: str, reason: str, yes: bool) -> int:
    """Approve the release that another person asked for. It is carried out at once."""
    why_approved(reason)
    before = Client(terminal.layout).get("kill-switch")
    found = next((each for each in before["requests"] if each["id"] == request), None)
    if found is not None:
        rows = [row for row in before["latches"] if row["id"] in found["latches"]]
        terminal.confirm(
            f"{_rows_text(rows)}\n{found['by']} asks to release this: {found['reason']}\nApprove?",
            yes=yes,
        )
    # One that is not waiting is asked for all the same: the controller says why it does not count.
    document = Client(terminal.layout).post(
        "kill-switch/approve",
        {
            "request": request,
            "digest": found["digest"] if found is not None else "",
            "reason": reason,
        },
    )
    terminal.show(document, _released_text(document))
    return 0


def _document(terminal: Terminal) -> dict[str, Any]:
    """What the controller says; without one what the files say, and no requests."""
    try:
        return {**Client(terminal.layout).get("kill-switch"), "controller": True}
    except NotRunningError:
        return _from_files(terminal)


def _from_files(terminal: Terminal) -> dict[str, Any]:
    found = Latches(terminal.layout).read(opened=False)
    return {
        **latches_document(found),
        "approval": None,
        "requests": [],
        "rules": None,
        "controller": False,
    }


def _scopes(texts: tuple[str, ...]) -> tuple[Scope, ...]:
    try:
        return parse_scopes(texts)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _refuse_undeclared(terminal: Terminal, wanted: tuple[Scope, ...]) -> None:
    """A mistyped name would stop nothing. A desk file that cannot be read stops nobody from
    stopping, and for the whole desk it is not even opened."""
    if wanted == (DESK,):
        return
    from openbell.config.loader import load_desk

    try:
        problems = list(undeclared(wanted, load_desk(terminal.desk_path).file))
    except ConfigError as error:
        terminal.warn(f"names are not checked: {error.message}")
        return
    if problems:
        raise UsageError("; ".join(problems), hint="nothing was latched")


def _shown(document: dict[str, Any], wanted: tuple[Scope, ...]) -> list[dict[str, Any]]:
    scopes = [str(scope) for scope in wanted]
    missing = [scope for scope in scopes if scope not in document["scopes"]]
    if missing:
        raise UsageError(
            f"not latched: {', '.join(missing)}", hint=latched_told(document["scopes"])
        )
    return [row for row in document["latches"] if row["scope"] in scopes]


def _release_alone(
    terminal: Terminal, wanted: tuple[Scope, ...], reason: str, shown: set[str]
) -> dict[str, Any]:
    """Without a controller. Raises RefusedError where an approval is needed, which only a controller
    can take; ConflictError where a controller is starting; ConfigError where the desk file does not
    say whether one is needed."""
    from openbell.config.loader import load_desk
    from openbell.state.audit import AuditLog
    from openbell.state.lock import FileLock

    layout, who = terminal.layout, actor()
    if "kill-switch-deactivate" in load_desk(terminal.desk_path).file.approvals.needed_for:
        raise RefusedError(
            "a second person must approve a release, and no controller runs to take that",
            hint="`openbell up` opens the desk in safe mode; then ask again",
        )
    latches = Latches(layout)
    with FileLock(layout.controller_lock):
        found = [each for each in latches.read(opened=False) if each.scope in wanted]
        if {latch.id for latch in found} != shown:
            raise ConflictError(
                "what is latched has changed since you looked",
                hint="look with `openbell kill-switch status`, then ask again",
            )
        detail = _detail(wanted, reason, found)
        # Both first: to release adds risk, so what cannot be recorded is not done.
        append_act(layout.kill_switch_log, who, "kill_switch.deactivate", detail)
        AuditLog(layout.audit_log, layout.audit_head).append(
            who, "kill_switch.deactivate", ", ".join(map(str, wanted)), detail
        )
        word = Halt(f"the kill switch was released: {reason}", who, datetime.now(UTC))
        halted = latches.release_to_halt(found, word)
    return {
        "deactivated": True,
        "scopes": [str(scope) for scope in wanted],
        "released": [latch.id for latch in found],
        "approved_by": "",
        "halted": halted,
        "still": latches_document(latches.read(opened=False))["scopes"],
        "controller": False,
    }


def _record(
    terminal: Terminal,
    who: str,
    action: str,
    wanted: tuple[Scope, ...],
    reason: str,
    latches: tuple[Latch, ...],
) -> bool:
    """Of what is done already: in the kill switch's log and in the audit log. False: in neither."""
    from openbell.state.audit import AuditLog

    layout = terminal.layout
    detail = _detail(wanted, reason, list(latches))
    recorded = False
    try:
        append_act(layout.kill_switch_log, who, action, detail)
        recorded = True
        subject = ", ".join(map(str, wanted))
        AuditLog(layout.audit_log, layout.audit_head).append(who, action, subject, detail)
    except OpenbellError as error:
        terminal.warn(f"  not in the audit log: {error.message}")
    return recorded


def _detail(wanted: tuple[Scope, ...], reason: str, latches: list[Latch]) -> dict[str, object]:
    return {
        "scopes": [str(scope) for scope in wanted],
        "reason": reason,
        "latches": [latch.as_dict() for latch in latches],
        "controller": False,
    }


def _rows_text(rows: list[dict[str, Any]]) -> str:
    return table(
        ("scope", "since", "by", "reason", "id"),
        [(r["scope"], r["since"], r["by"], r["reason"], r["id"]) for r in rows],
    )


def _status_text(document: dict[str, Any]) -> str:
    if not document["active"]:
        lines = ["not latched: the kill switch stops nothing"]
    else:
        whole = "the whole desk" if document["desk"] else ", ".join(document["scopes"])
        lines = [f"LATCHED: {whole}", "", _rows_text(document["latches"])]
    for each in document["requests"]:
        released = f"{', '.join(each['scopes'])}: {each['reason']}"
        lines += [
            "",
            f"waits for approval until {each['expires']}: {each['by']} asks to release {released}",
            f"  another person: openbell kill-switch approve {each['id']}",
        ]
    if document.get("rules"):
        lines += ["", _rules_text(document["rules"])]
    if not document["controller"]:
        lines += ["", "no controller answers: this is what the files say"]
    return "\n".join(lines)


def _rules_text(rules: list[dict[str, Any]]) -> str:
    return table(
        ("rule", "scope", "state", "value", "sets it at", "what it sees"),
        [
            (
                r["rule"],
                r["scope"],
                r["state"].replace("_", " "),
                number(r["value"]),
                number(r["limit"] or None),
                r["text"],
            )
            for r in rules
        ],
        right="   rr",
    )


def _activated_text(document: dict[str, Any]) -> str:
    text = f"LATCHED: {', '.join(document['scopes'])}"
    match document["engine"]:
        case "confirmed":
            text += "; the engine confirmed it"
        case "no engine" | "not running":
            text += (
                f"; {document['engine'] if document['engine'] == 'no engine' else 'no engine runs'}"
            )
        case _:
            text += (
                f"\n  the engine was not heard ({document['why']}); it looks at the latch itself "
            )
            text += "before each order"
    if not document["controller"]:
        text += "\n  no controller was told: the latch file was written directly"
    return text + "\n  resting orders and positions stay: `openbell orders`, `openbell positions`"


def _released_text(document: dict[str, Any]) -> str:
    text = f"released: {', '.join(document['scopes'])}"
    if document["approved_by"]:
        text += f", approved by {document['approved_by']}"
    if document["still"]:
        text += f"\n  still latched: {', '.join(document['still'])}"
    if document["halted"]:
        text += "\n  the desk stays halted: `openbell resume` lets orders go on, once it is healthy"
    return text
