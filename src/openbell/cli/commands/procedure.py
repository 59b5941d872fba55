"""`openbell procedure list|show|plan|run|history|status|resume|cancel|approve|report`

What there is and what has been is told without a controller too: from the procedures themselves, the
desk file and the desk database.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.tables import duration, table
from openbell.domain.approval_reason import why_approved
from openbell.domain.desk_state import DeskState
from openbell.errors import (
    ConflictError,
    CorruptError,
    NotRunningError,
    RefusedError,
    UnverifiedError,
    UsageError,
)

_set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter, as `procedure show NAME` lists them; may be repeated.",
)


@click.group()
def procedure() -> None:
    """Procedures: what they do, what one would do now, their runs, and the record of each.

    `up`, `down` and `restart --rolling` are runs of procedures too.
    """


@command("list", group=procedure)
def list_(terminal: Terminal) -> int:
    """Every procedure, with its version and the command that runs it."""
    from openbell.procedures.runbook import list_document

    found = list_document()
    rows = [(each["name"], each["version"], each["command"], each["title"]) for each in found]
    text = table(("procedure", "version", "command", ""), rows)
    terminal.show({"procedures": found}, text)
    return 0


@command("show", group=procedure)
@click.argument("name")
def show(terminal: Terminal, name: str) -> int:
    """The runbook of a procedure, as Markdown: steps, times, policies, verifications.

    With a desk, as that desk's file wants it.
    """
    from openbell.procedures.registry import find_procedure
    from openbell.procedures.runbook import procedure_document, runbook

    document = procedure_document(find_procedure(name), _desk_file(terminal))
    terminal.show(document, runbook(document).rstrip("\n"))
    return 0


@command("plan", group=procedure)
@click.argument("name")
@_set_option
def plan(terminal: Terminal, name: str, settings: tuple[str, ...]) -> int:
    """What a procedure would do now, step by step. Nothing is done."""
    return _carry_out(terminal, name, settings, reason="", plan=True, yes=True)


@command("run", group=procedure)
@click.argument("name")
@_set_option
@click.option("--reason", default="", help="Why; kept in the audit log and in the record.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def run(terminal: Terminal, name: str, settings: tuple[str, ...], reason: str, yes: bool) -> int:
    """Run a procedure; the same as the command that is named for it, with the same exit status."""
    return _carry_out(terminal, name, settings, reason=reason, plan=False, yes=yes)


@command("history", group=procedure)
@click.option("--procedure", "name", metavar="NAME", help="Only runs of this one.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
def history(terminal: Terminal, name: str | None, limit: int) -> int:
    """Runs, newest first: who, when, how they ended."""
    runs = history_rows(terminal, name, limit)
    rows = [
        (
            each["run"], str(each["begun"])[:19].replace("T", " "), each["who"],
            duration(each["seconds"]), each["state"], each["why"],
        )
        for each in runs
    ]  # fmt: skip
    text = table(("run", "begun (UTC)", "who", "took", "state", "reason"), rows)
    terminal.show({"runs": runs}, text if rows else "no procedure has run yet")
    return 0


@command("status", group=procedure)
@click.argument("run", required=False)
def status(terminal: Terminal, run: str | None) -> int:
    """A run and how its steps went; without RUN the one under way, else the newest."""
    if run is None:
        newest = history_rows(terminal, None, 1)
        if not newest:
            raise NotRunningError("no procedure has run yet", hint="open the desk: `openbell up`")
        run = str(newest[0]["run"])
    document = report_document(terminal, run)
    terminal.show(document, _status_text(document))
    return 0


@command("resume", group=procedure)
@click.argument("run")
def resume(terminal: Terminal, run: str) -> int:
    """Go on with a run that was cut off, from what is observed; with what it was asked for last."""
    kind = _kind(run)
    _start_controller(terminal)
    client = Client(terminal.layout)
    terminal.warn_of_live(client.live_venues())
    controller_pid = client.get("status")["controller"]["pid"]
    document = client.post(f"runs/{run}/resume")
    if kind == "close" and "of" in document:
        from openbell.cli.restarting import follow_restart

        return follow_restart(terminal, client, document["run"])
    return _follow(terminal, client, kind, document["run"], controller_pid)


@command("cancel", group=procedure)
@click.argument("run")
@click.option("--reason", default="", help="Why; kept in the audit log and in the record.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def cancel(terminal: Terminal, run: str, reason: str, yes: bool) -> int:
    """End a run: after the step under way, or at once where it was cut off.

    What was done stays done, and what runs is left running. A desk that a cut-off opening did not
    bring to trading does not trade until it is opened again.
    """
    client = Client(terminal.layout)
    answers = client.is_running()
    if not answers:
        _require_cut_off(terminal, run)
    terminal.confirm(f"End {run}? What it has done stays done.", yes=yes)
    if not answers:
        # The one that was killed has left the run: whoever ends it also makes the desk safe.
        _start_controller(terminal)
    document = client.post(f"runs/{run}/cancel", {"reason": reason})
    if not answers:
        _leave_a_closed_desk(client)
    after = document["after_step"]
    told = f"{run} ends {f'after {after}' if after else 'here'}"
    terminal.show(document, f"{told}: {document['left']}" if document["left"] else told)
    return 0


@command("approve", group=procedure)
@click.argument("run")
@click.argument("step")
@click.option("--reason", required=True, help="Why; kept in the audit log and in the record.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def approve(terminal: Terminal, run: str, step: str, reason: str, yes: bool) -> int:
    """Approve a step that waits for it, or say that a run goes on after a step that was not verified.

    Nobody approves a step of a run that they asked for themselves.
    """
    why_approved(reason)
    client = Client(terminal.layout)
    waiting = client.get(f"runs/{run}/requests")["requests"]
    found = next((each for each in waiting if each["step"] == step), None)
    if found is not None:
        terminal.confirm(_request_text(found), yes=yes)
    # One that does not wait is asked for all the same: the controller says why it does not count.
    body = {"step": step, "digest": found["digest"] if found else "", "reason": reason}
    document = client.post(f"runs/{run}/approve", body)
    more = "" if document["complete"] else "; others still have to"
    terminal.show(document, f"approved {step} of {run}{more}")
    return 0


def _request_text(request: dict[str, Any]) -> str:
    who = " and ".join(request["requesters"])
    why = f" ({request['reason']})" if request["reason"] else ""
    if request["kind"] == "go_on":
        return f"{request['step']} of {request['run']} was not verified. Does the run go on?"
    given = f", approved by {', '.join(request['approved_by'])}" if request["approved_by"] else ""
    asked = _asked_text(request.get("parameters") or {})
    told = f": {asked}" if asked else ""
    return f"{who} asks for {request['run']}{why}{told}. Approve its step {request['step']}{given}?"


def _asked_text(parameters: dict[str, Any]) -> str:
    """`flatten aggressive, orders cancel, force`: what of the parameters asks for something."""
    told = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in parameters.items()
        if name != "reason" and value
    }
    return ", ".join(name if value is True else f"{name} {value}" for name, value in told.items())


@command("report", group=procedure)
@click.argument("run")
@click.option(
    "--format", "form", type=click.Choice(["md", "json", "html"]), default="md", show_default=True
)
def report(terminal: Terminal, run: str, form: str) -> int:
    """The record of a run: who, when, why, what each step found before and after.

    Its chain of hashes is checked, and its evidence files. Exit status 0: whole; 8: something was
    changed or is gone; 7: nobody can tell, for it has no chain, or its end is not in the audit log.
    """
    from openbell.procedures.report import doubts, report_html, report_markdown

    document = report_document(terminal, run)
    broken, unknown = doubts(document)
    texts = {"md": report_markdown, "html": report_html}
    text = texts[form](document) if form in texts else json.dumps(document, indent=2)
    terminal.show(document, text.rstrip("\n"), is_record=True)
    if broken:
        terminal.warn(f"openbell: the record of {run} does not hold: {'; '.join(broken)}")
        return CorruptError.exit_code
    if unknown:
        terminal.warn(
            f"openbell: whether the record of {run} holds is not known: {'; '.join(unknown)}"
        )
        return UnverifiedError.exit_code
    return 0


# --- inside ----------------------------------------------------------------------------------------


def _start_controller(terminal: Terminal) -> None:
    """Where none answers."""
    from openbell.cli.daemon import ensure_controller

    if ensure_controller(terminal.layout, terminal.desk_path):
        terminal.say(f"controller started, log in {terminal.layout.controller_log}")


def _require_cut_off(terminal: Terminal, run: str) -> None:
    """Raises ConflictError: no controller need be started for a run that is over. UsageError."""
    document = report_document(terminal, run)
    if document["finished"] is not None:
        raise ConflictError(
            f"{run} is over: {document['state']}", hint="nothing is to be cancelled"
        )


def _leave_a_closed_desk(client: Client) -> None:
    """A controller that was started for the cancel alone is not needed where nothing runs."""
    status = client.get("status")
    if status["state"] == DeskState.OFFLINE and not any(each["pid"] for each in status["services"]):
        with contextlib.suppress(ConflictError, RefusedError):  # somebody uses it by now
            client.post("exit")


def _carry_out(
    terminal: Terminal, name: str, settings: tuple[str, ...], *, reason: str, plan: bool, yes: bool
) -> int:
    from openbell.procedures.registry import find_procedure

    declared = find_procedure(name)
    wanted = _parameters({each.name: each.kind for each in declared.parameters}, settings)
    why = {} if plan or not reason else {"reason": reason}
    match declared.name:
        case "open":
            from openbell.cli.commands.up import open_desk

            given = {"safe_mode": False, "only": [], "force": False, **wanted, **why}
            return open_desk(terminal, given, plan=plan)
        case "close":
            from openbell.cli.commands.down import close_desk

            return close_desk(terminal, {**wanted, **why}, plan=plan, yes=yes)
        case "restart" | "quick-restart" as how:
            from openbell.cli.restarting import restart_desk

            body = {"quick": how == "quick-restart", "orders": None, "force": False, **wanted}
            return restart_desk(terminal, {**body, "reason": reason}, plan=plan, yes=yes)
        case _:
            from openbell.cli.rolling import rolling_restart

            return rolling_restart(
                terminal,
                tuple(wanted.get("services", ())),
                hand_back=bool(wanted.get("hand_back")),
                reason=reason,
                plan=plan,
                yes=yes,
            )


def _parameters(kinds: dict[str, str], settings: tuple[str, ...]) -> dict[str, Any]:
    """`--set` as the API takes it. Raises UsageError."""
    from openbell.config.nearest import did_you_mean

    wanted: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f'"{setting}" is no NAME=VALUE', hint="for example --set force=yes")
        if name not in kinds:
            raise UsageError(f'there is no parameter "{name}"', hint=did_you_mean(name, kinds))
        wanted[name] = _value(name, kinds[name], value)
    return wanted


def _value(name: str, kind: str, text: str) -> object:
    if kind == "yes or no":
        words = {"yes": True, "true": True, "no": False, "false": False}
        if text.casefold() not in words:
            raise UsageError(f"{name} is yes or no", hint=f"--set {name}=yes")
        return words[text.casefold()]
    if kind == "names":
        return [each for each in text.split(",") if each]
    if kind == "seconds":
        try:
            return float(text)
        except ValueError:
            raise UsageError(f"{name} is a number of seconds", hint=f"--set {name}=60") from None
    if "|" in kind and text not in kind.split("|"):
        one_of = kind.split("|")
        raise UsageError(f"{name} is one of {', '.join(one_of)}", hint=f"--set {name}={one_of[0]}")
    return text


def _desk_file(terminal: Terminal) -> Any:
    """The desk's, if one is named or here; a procedure can be read without any."""
    from openbell.procedures.settings import load_checked

    try:
        path = terminal.desk_path
    except UsageError:
        return None
    return load_checked(path).file


def history_rows(terminal: Terminal, name: str | None, limit: int) -> list[dict[str, Any]]:
    try:
        return list(Client(terminal.layout).get("runs", procedure=name, limit=limit)["runs"])
    except (NotRunningError, UnverifiedError):
        from openbell.procedures.registry import find_procedure
        from openbell.procedures.report import history_row, runs_of

        kind = None if name is None else find_procedure(name).name
        with _stored(terminal) as store:
            return [history_row(each) for each in runs_of(store, kind, limit)] if store else []


def report_document(terminal: Terminal, run: str) -> dict[str, Any]:
    from openbell.cli.stored_runs import report_at_rest

    try:
        return dict(Client(terminal.layout).get(f"runs/{run}/report"))
    except (NotRunningError, UnverifiedError):
        return report_at_rest(terminal.layout, run)


def _stored(terminal: Terminal) -> Any:
    from openbell.cli.stored_runs import stored_runs

    return stored_runs(terminal.layout)


def _kind(run: str) -> str:
    from openbell.procedures.registry import find_procedure

    return find_procedure(run.rpartition("-")[0]).name


def _follow(terminal: Terminal, client: Client, kind: str, run: str, controller_pid: int) -> int:
    """As the procedure's own command tells it, with its exit status."""
    match kind:
        case "open":
            from openbell.cli.commands.up import follow_opening

            return follow_opening(terminal, client, run)
        case "close":
            from openbell.cli.commands.down import follow_closing

            return follow_closing(terminal, client, run, controller_pid)
        case _:
            from openbell.cli.rolling import follow_rolling

            return follow_rolling(terminal, client, run)


def _status_text(document: dict[str, Any]) -> str:
    lines = [
        f"{document['run']}: {document['state']}"
        + (f", at {document['step']}" if document.get("step") else ""),
        f"  begun {document['begun']} by {document['who']}"
        + (f": {document['why']}" if document["why"] else ""),
    ]
    lines += [
        f"  {each['step']} waits for {', '.join(each['roles'])}: "
        f"openbell procedure approve {document['run']} {each['step']} --reason WHY"
        for each in document.get("waiting", ())
    ]
    if document["state"] == "interrupted":
        lines.append(f"  `openbell procedure resume {document['run']}` goes on with it")
    rows: list[tuple[object, ...]] = [
        (
            step["name"],
            step["attempt"],
            step["outcome"] or "begun",
            duration(step["seconds"]),
            step["detail"],
        )
        for step in document["steps"]
    ]
    done = {step["name"] for step in document["steps"]}
    rows += [
        (name, None, "to come" if document["finished"] is None else "not reached", None, "")
        for name in document["planned_steps"]
        if name not in done
    ]
    if rows:
        told = table(("step", "attempt", "outcome", "took", ""), rows)
        lines += ["", *(f"  {line}" for line in told.splitlines())]
    return "\n".join(lines)
