"""`openbell audit verify|show`"""

from __future__ import annotations

import json

import click

from openbell.cli.command import Terminal, command
from openbell.errors import CorruptError


@click.group()
def audit() -> None:
    """The audit log: every change of state, each record chained to the one before by its hash."""


@command("verify", group=audit)
def verify_log(terminal: Terminal) -> int:
    """Check the whole chain, and its end against the head kept beside it."""
    from openbell.state.audit import verify

    verdict = verify(terminal.layout.audit_log, terminal.layout.audit_head)
    document = {
        "ok": verdict.ok,
        "records": verdict.records,
        "problem": verdict.problem,
        "line": verdict.line,
    }
    if verdict.ok:
        terminal.show(document, f"the audit log is whole: {verdict.records} records")
        return 0
    terminal.document(document)
    terminal.warn(f"the audit log is NOT whole: {verdict.problem}")
    return CorruptError.exit_code


@command("show", group=audit)
@click.option(
    "--tail", default=20, show_default=True, type=click.IntRange(min=1), help="The last records."
)
def show_log(terminal: Terminal, tail: int) -> None:
    """The last records, oldest first."""
    try:
        lines = terminal.layout.audit_log.read_text().splitlines()[-tail:]
    except FileNotFoundError:
        lines = []
    text = "\n".join(lines) or "no records yet"
    terminal.show([json.loads(line) for line in lines], text, is_record=True)
