"""`openbell limits show|set|restore|approve`"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.tables import table
from openbell.config.limit_values import COLLAR
from openbell.domain.approval_reason import why_approved
from openbell.domain.figures import percent
from openbell.domain.risk_limits import plain
from openbell.errors import NotRunningError, RefusedError, UnverifiedError, UsageError


@click.group("limits")
def limits() -> None:
    """The limits of `[risk]` as they are in force, and changes of them while the desk runs.

    Anybody makes them tighter, and that counts from the next order on. They go back to what desk.toml
    says at most, where `[approvals]` asks for it with another person's approval.
    """


@command("show", group=limits)
def show(terminal: Terminal) -> int:
    """The limits of desk.toml and those in force, who changed them, and what each gate applies.

    Exit status 7: it is not known that the engine and risk-management apply them.
    """
    try:
        document = Client(terminal.layout).get("limits")
    except NotRunningError:
        document = _from_files(terminal)
    terminal.show(document, _text(document))
    return 0 if document["verified"] else UnverifiedError.exit_code


@command("set", group=limits)
@click.argument("changes", nargs=-1, metavar="[LIMIT=VALUE]...")
@click.option("--reduce-by", metavar="PERCENT", help="All limits of positions, by so many percent.")
@click.option("--reason", required=True, help="Why; kept with the change and in the audit log.")
def set_(terminal: Terminal, changes: tuple[str, ...], reduce_by: str | None, reason: str) -> int:
    """Change limits: `max_total_exposure=5000 max_position:BTC/USDT=0.1`, or `--reduce-by 50%`.

    Exit status 6: it is a raise, and waits for another person's approval. 7: the change is in force,
    and not every gate has confirmed it.
    """
    if not reason.strip():
        raise UsageError(
            "a change of limits needs a reason", hint='say why: --reason "thin market"'
        )
    body: dict[str, Any] = {"limits": list(changes), "reason": reason}
    if reduce_by is not None:
        body["reduce_by_percent"] = _percent(reduce_by)
    return _changed(terminal, Client(terminal.layout).post("limits", body))


@command("restore", group=limits)
@click.argument("names", nargs=-1, metavar="[LIMIT]...")
@click.option("--reason", required=True, help="Why; kept in the audit log.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(terminal: Terminal, names: tuple[str, ...], reason: str, yes: bool) -> int:
    """Take back what was made tighter: the named limits, or all. Exit status as of `set`."""
    client = Client(terminal.layout)
    before = client.get("limits")
    terminal.confirm(f"{_text(before)}\n\nRestore {', '.join(names) or 'all of them'}?", yes=yes)
    return _changed(
        terminal, client.post("limits/restore", {"limits": list(names), "reason": reason})
    )


@command("approve", group=limits)
@click.argument("request")
@click.option("--reason", required=True, help="Why; kept in the audit log.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def approve(terminal: Terminal, request: str, reason: str, yes: bool) -> int:
    """Approve the raise that another person asked for. It is carried out at once."""
    why_approved(reason)
    client = Client(terminal.layout)
    before = client.get("limits")
    found = next((each for each in before["requests"] if each["id"] == request), None)
    if found is not None:
        terminal.confirm(
            f"{_text(before)}\n\n{found['by']} asks for {_asked(found)}: {found['reason']}\nApprove?",
            yes=yes,
        )
    # One that is not waiting is asked for all the same: the controller says why it does not count.
    digest = found["digest"] if found is not None else ""
    body = {"request": request, "digest": digest, "reason": reason}
    return _changed(terminal, client.post("limits/approve", body))


def _percent(text: str) -> str:
    """Raises UsageError for what is no percentage by which a limit could be reduced."""
    number = text.strip().removesuffix("%").rstrip()
    try:
        percent = Decimal(number)
    except InvalidOperation:
        percent = Decimal("NaN")
    if not percent.is_finite() or not 0 < percent <= 100:
        raise UsageError(
            f"--reduce-by {text}: limits are reduced by more than 0 % and by 100 % at most",
            hint="for example --reduce-by 50%; 100% allows no position at all",
        )
    return number


def _changed(terminal: Terminal, document: dict[str, Any]) -> int:
    if not document["changed"]:
        request = document["request"]
        if request is None:
            terminal.show(
                document, f"{_text(document)}\n\nnothing was tightened: nothing is changed"
            )
            return 0 if document["verified"] else UnverifiedError.exit_code
        terminal.show(
            document,
            f"NOT changed yet: another person must approve before {request['expires']}\n"
            f"  openbell limits approve {request['id']} --reason WHY",
        )
        return RefusedError.exit_code
    terminal.show(document, _text(document))
    if not document["recorded"]:
        terminal.warn("in force, but NOT IN THE AUDIT LOG")
    return 0 if document["verified"] else UnverifiedError.exit_code


def _text(document: dict[str, Any]) -> str:
    lines = [
        table(
            ("limit", "desk.toml", "in force", "used"),
            [
                (
                    row["limit"],
                    *(
                        _figure(row.get(key), row["limit"])
                        for key in ("declared", "in_force", "used")
                    ),
                )
                for row in document["limits"]
            ],
            right=" rrr",
        )
    ]
    if document["problem"]:
        lines += ["", f"NOT KNOWN what is in force, so no position grows: {document['problem']}"]
    for each in document["changes"]:
        by = f"{each['run']} of {each['by']}" if each["run"] else each["by"]
        names = ", ".join(each["limits"])
        lines += ["", f"tighter since {each['since']} by {by}: {each['reason']}", f"  {names}"]
    for each in document.get("requests", ()):
        wish = f"{each['by']} asks for {_asked(each)}: {each['reason']}"
        lines += [
            "",
            f"waits for approval until {each['expires']}: {wish}",
            f"  another person: openbell limits approve {each['id']} --reason WHY",
        ]
    gates = ", ".join(
        f"{each['service']} {each['said']}" + (f" ({each['why']})" if each["why"] else "")
        for each in document["gates"]
    )
    applied = "applied" if document["verified"] else "NOT KNOWN TO BE APPLIED"
    told = gates or document["why"] or "the desk has no engine and no risk-management"
    lines += ["", f"version {document['version']}, {applied}: {told}"]
    return "\n".join(lines)


def _figure(value: str | None, limit: str = "") -> str | None:
    """For people: cents of what is large, eight digits of what is not; a percentage where desk.toml has
    one. `--json` has it exactly."""
    if value is None:
        return None
    if limit == COLLAR:
        return percent(value)
    amount = Decimal(value)
    digits = 2 if abs(amount) >= 100 else 8
    if -int(amount.normalize().as_tuple().exponent) <= digits:
        return value
    return plain(round(amount, digits))


def _asked(request: dict[str, Any]) -> str:
    left = [
        text for key, texts in request.items() if key.split(" ")[0] == "limits" for text in texts
    ]
    return f"no more than {', '.join(left)} tighter" if left else "the limits of desk.toml"


def _from_files(terminal: Terminal) -> dict[str, Any]:
    """Without a controller: what the files say; no gate is asked."""
    from openbell.config.loader import load_desk
    from openbell.procedures.limits_applied import limit_rows, limits_brief
    from openbell.state.risk_limits import read_changes

    file = load_desk(terminal.desk_path).file
    changes = read_changes(terminal.layout.risk_limits)
    return {
        **limits_brief(file, changes),
        "verified": False,
        "why": "no controller answers: this is what the files say",
        "gates": [],
        "limits": limit_rows(file, changes),
        "approval": None,
        "requests": [],
    }
