"""`openbell down`"""

from __future__ import annotations

from typing import Any

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.reconcile import positions_text
from openbell.cli.commands.status import offline_status
from openbell.cli.commands.trading import pnl_text
from openbell.cli.commands.up import last_facts
from openbell.cli.departure import await_departure
from openbell.cli.parameters import Seconds
from openbell.cli.plans import plan_text
from openbell.cli.stored_runs import restart_was_cut_off_in_its_opening
from openbell.cli.tables import duration, number, table
from openbell.domain.closing_wishes import (
    WISHES,
    goes_on_told,
    orders_by_default,
    wishes_going_on,
    wishes_told,
)
from openbell.domain.desk_state import DeskState, DeskTarget
from openbell.errors import ConflictError, NotRunningError, UnverifiedError, UsageError
from openbell.procedures.by_itself import BY_ITSELF
from openbell.procedures.checklists import Check, Checklist
from openbell.procedures.closing_tables import table_of
from openbell.state.asked import read_asked
from openbell.state.not_opened import closed_because


@command()
@click.option(
    "--flatten",
    type=click.Choice(["aggressive", "conservative", "keep"]),
    help="Positions: market orders; limits at mid first; or keep them. Else as desk.toml says.",
)
@click.option(
    "--orders",
    type=click.Choice(["cancel", "keep", "keep-passive"]),
    help="Open orders; keep and keep-passive (those that are post-only) need --flatten keep.",
)
@click.option("--reason", default="", help="Why; kept in the audit log.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=1),
    metavar="S",
    help="Of the whole closing.",
)
@click.option(
    "--at",
    metavar="TIME",
    help="Announce it now, begin then: 15:45 on the desk's clock, or 2026-01-31T15:45.",
)
@click.option("--call-off", is_flag=True, help="Take back what was announced by --at.")
@click.option("--plan", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--force", is_flag=True, help="Stop the services even if the venue's state is unknown."
)
def down(
    terminal: Terminal, at: str | None, call_off: bool, plan: bool, yes: bool, **wanted: Any
) -> int:
    """Close the desk: halt, cancel, flatten, wait, reconcile, checkpoint, stop, verify.

    Ends with a closing statement of what remains at the venue, asked from the venue. Exit status 0
    only when everything was verified; where it was not, `openbell down` again asks the venues again,
    also over a desk of which nothing runs any more. Killed in the middle, `openbell down` goes on,
    as it was asked for then; only options that are given change that, and --force is to be given again.
    """
    # Not given is not "no": nothing is said of it.
    wanted["force"] = wanted["force"] or None
    if call_off:
        if at is not None or plan:
            raise UsageError("--call-off goes with --reason alone")
        return _call_off(terminal, wanted["reason"])
    if at is None:
        return close_desk(terminal, wanted, plan=plan, yes=yes)
    if plan:
        return _plan_later(terminal, wanted, at)
    return _close_later(terminal, {**wanted, "at": at}, yes=yes)


def _plan_later(terminal: Terminal, wanted: dict[str, Any], at: str) -> int:
    """What a closing would do now, and when it would begin. A time that is none is refused first."""
    client = Client(terminal.layout)
    begins = client.get("plan/close/later", at=at)
    document = client.get("plan/close", **wanted)
    told = f"it would be announced now, and begin at {begins['at']} (in {duration(begins['in_s'])})"
    terminal.show(
        {**document, "begins": begins}, f"{told}; as things are now:\n\n{plan_text(document)}"
    )
    return 0


def _close_later(terminal: Terminal, wanted: dict[str, Any], *, yes: bool) -> int:
    """Announces it. That somebody was not told is said, and changes nothing of what is to come."""
    client = Client(terminal.layout)
    client.get("plan/close/later", at=wanted["at"])  # before anybody is asked
    status = client.get("status")
    question = _question(status, wanted)
    terminal.confirm(f"{question} At {wanted['at']}", yes=yes)
    document = client.post("close/later", wanted)
    soon = document["shutting_down_soon"]
    terminal.show(
        document,
        f"announced: the desk closes at {soon['at']} (in {duration(soon['in_s'])}); it trades until "
        "then, and nothing is deployed\n  `openbell down --call-off` takes it back",
    )
    _warn_of_the_untold(terminal, document)
    return 0


def _call_off(terminal: Terminal, reason: str) -> int:
    document = Client(terminal.layout).post("close/call-off", {"reason": reason})
    terminal.show(document, "called off: the desk stays open, and is no longer locked by it")
    _warn_of_the_untold(terminal, document)
    return 0


def _warn_of_the_untold(terminal: Terminal, document: dict[str, Any]) -> None:
    missed = [name for name, outcome in document["told"].items() if outcome != "told"]
    if missed:
        terminal.warn(f"not known to be told: {', '.join(missed)}")


def close_desk(terminal: Terminal, wanted: dict[str, Any], *, plan: bool, yes: bool) -> int:
    """Closes the desk, or shows what that would do; the exit status. `wanted` is a closing's body."""
    client = Client(terminal.layout)
    _require_something_to_close(terminal, client)
    if plan:
        document = client.get("plan/close", **wanted)
        terminal.show(document, plan_text(document))
        return 0
    if not client.is_running():
        _take_over(terminal)
    status = client.get("status")
    if run := _goes_on_by_itself(status, wanted):
        return _join(terminal, client, status, run)
    terminal.confirm(_question(status, wanted), yes=yes)
    try:
        run = client.post("close", wanted)["run"]
    except ConflictError:
        # Another controller may have come meanwhile, and gone on with it.
        status = client.get("status")
        if not (run := _goes_on_by_itself(status, wanted)):
            raise
        return _join(terminal, client, status, run)
    return follow_closing(terminal, client, run, status["controller"]["pid"])


def _goes_on_by_itself(status: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The closing under way that nobody went on with, where nothing else is asked for than that; else
    empty: what is asked for otherwise is refused while it is under way, and not passed over."""
    run = status["run"] or {}
    alone = run.get("procedure") == "close" and run.get("actor") == BY_ITSELF
    return str(run["id"]) if alone and not any(map(wanted.get, WISHES)) else ""


def _join(terminal: Terminal, client: Client, status: dict[str, Any], run: str) -> int:
    terminal.say(f"{run} goes on by itself, as its controller was killed: its end is waited for")
    return follow_closing(terminal, client, run, status["controller"]["pid"])


def follow_closing(terminal: Terminal, client: Client, run: str, controller_pid: int) -> int:
    """Tells how a closing goes and ends; the exit status."""
    from openbell.cli.progress import follow

    last = follow(terminal, client, run)
    statement: dict[str, Any] = last.get("result") or {}
    verified = last["event"] == "done" and statement.get("verified") is True
    if verified:
        left = await_departure(terminal.layout, controller_pid)
        statement = {**statement, "controller_exited": not left}
        if left:
            statement["processes_left"] = [*statement.get("processes_left", []), *left]
            verified = False
    terminal.document({**last_facts(last), "run": run, **statement, "verified": verified})
    terminal.say(closing_statement_text({**statement, "verified": verified}, last))
    return 0 if verified else UnverifiedError.exit_code


def _require_something_to_close(terminal: Terminal, client: Client) -> None:
    """Raises NotRunningError for a desk that is closed, and proven so; a controller that idles over one
    ends. Of one that was closed and not proven the venues are asked again."""
    asked = read_asked(terminal.layout.target)
    if asked.not_proven is not None:
        return
    if client.is_running():
        status = client.get("status")
        # An opening that was cut off in a desk which is offline still had begun nothing.
        cut_off = (status["interrupted_run"] or {}).get("procedure")
        if status["state"] != DeskState.OFFLINE or _pids(status) or cut_off not in (None, "open"):
            return
        if left := _pids(offline_status(terminal)):
            raise ConflictError(
                f"the desk is closed, but processes of an earlier run are left: {left}",
                hint="`openbell up --force` ends them and opens the desk; then close it",
                pids=left,
            )
        client.post("exit")
    elif _pids(offline_status(terminal)) or asked.target is not DeskTarget.OFFLINE:
        return  # nobody closed it: after a reboot, say; orders may rest at the venue
    told = asked.not_opened
    raise NotRunningError(
        "the desk is closed: nothing of it runs"
        if told is None
        else f"nothing is to be closed: the desk is {closed_because(told)}",
        hint="open it with `openbell up`" if told is None else f"{told.why}; `openbell up` again",
    )


def _pids(status: dict[str, Any]) -> list[int]:
    return [service["pid"] for service in status["services"] if service["pid"] is not None]


def require_a_desk(terminal: Terminal) -> None:
    """A controller for a restart that goes on: one whose closing is done, whose opening was cut off, or
    a desk that was not closed. Raises NotRunningError for a desk that is closed for good."""
    if not (
        terminal.layout.pending_restart.exists()
        or _pids(offline_status(terminal))
        or read_asked(terminal.layout.target).target is not DeskTarget.OFFLINE
        or restart_was_cut_off_in_its_opening(terminal.layout)
    ):
        raise NotRunningError(
            "the desk is closed: nothing of it runs", hint="open it with `openbell up`"
        )
    _take_over(terminal)


def _take_over(terminal: Terminal) -> None:
    """A controller for a desk that has none."""
    from openbell.cli.daemon import ensure_controller
    from openbell.config.loader import load_desk

    desk = load_desk(terminal.desk_path)
    doubt = read_asked(terminal.layout.target).not_proven
    so = "was not closed" if doubt is None else f"is not proven closed ({doubt.run})"
    terminal.say(f"no controller answers, but the desk {so}: one is started")
    ensure_controller(terminal.layout, desk.path)


def _question(status: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Of a closing that was cut off with what it was asked for, and what that becomes; of another one with
    what it does, by what is said and by `[closing]` as the controller has it: that is what it closes by,
    and a desk file that was edited since, or can no longer be read, neither changes it nor is in its way."""
    venues = ", ".join(
        f"{v['name']}: {_count(v['open_orders'], 'open order')}, {_count(v['positions'], 'position')}"
        for v in status["venues"]
    )
    cut_off = status["interrupted_run"]
    if cut_off is not None and cut_off["procedure"] == "close":
        had = cut_off["parameters"]
        now = wishes_going_on(had, wanted)
        of_restart = bool(had.get("restart"))
        told = goes_on_told(cut_off["id"], cut_off["step"], had, now, of_restart=of_restart)
        return f"Close the desk {status['desk']}? ({venues or 'no venues'}) It {told}."
    loaded = status.get("closing") or {}  # a controller of an earlier version does not say
    flatten = wanted.get("flatten") or loaded.get("flatten")
    orders = wanted.get("orders")
    if flatten and not orders:
        orders = orders_by_default(flatten, loaded.get("orders", ""))
    asked = {**wanted, "flatten": flatten, "orders": orders}
    from_file = ""
    if not (wanted.get("flatten") and wanted.get("orders")):
        from_file = ", what you do not say by [closing] as the controller has loaded it"
        if status["desk_file"]["changed"]:
            from_file += ", before desk.toml was changed"
    again = (
        " The closing before has ended, and what it was asked for is not taken over."
        if status["state"] == DeskState.CLOSING
        else ""
    )
    question = f"Close the desk {status['desk']}, {wishes_told(asked)}{from_file}?"
    return f"{question} ({venues or 'no venues'}){again}"


def _count(count: int | None, what: str) -> str:
    return f"unknown {what}s" if count is None else f"{count} {what}{'' if count == 1 else 's'}"


_OF_VENUES = ("remaining_orders", "remaining_positions", "dust")
"""What may be more than is listed, while there is something the venues did not say."""


def closing_statement_text(statement: dict[str, Any], last: dict[str, Any]) -> str:
    """The closing statement for people."""
    lines = ["", "CLOSING STATEMENT: " + ("verified" if statement["verified"] else "NOT VERIFIED")]
    if message := statement.get("summary") or last.get("message"):
        lines.append(f"  {message}")
    if error := last.get("error"):
        lines.append(f"  {error['message']}")
        lines += [f"  {error['hint']}"] if error.get("hint") else []
    for key, what in (
        ("remaining_orders", "orders remaining at the venue"),
        ("remaining_positions", "positions remaining at the venue"),
        ("dust", "dust, too small to close"),
        ("unknown", "UNKNOWN: look at the venue"),
        ("processes_left", "processes left"),
        ("sockets_left", "sockets left"),
        ("errors_last_5m", "errors in the last five minutes"),
    ):
        items = statement.get(key)
        if items is None:
            unasked = key in _OF_VENUES and statement.get("nothing_sent")
            lines.append(f"  {what}: {'not asked' if unasked else 'not determined'}")
            continue
        some = "at least " if items and key in _OF_VENUES and statement.get("unknown") else ""
        lines.append(f"  {what}: {some}{len(items) or 'none'}")
        lines += [f"      {_item(item)}" for item in items[:20]]
        if len(items) > 20:
            lines.append(f"      and {len(items) - 20} more")
    if pnl := statement.get("pnl"):
        lines.append(f"  P&L: {pnl_text(pnl)}")
    if (switches := statement.get("dead_man")) is not None:
        told = "disarmed" if switches.get("disarmed") else "NOT KNOWN TO BE DISARMED: "
        lines.append(f"  dead-man's switches: {told}{', '.join(switches.get('unknown') or ())}")
    lines.append(f"  checkpoint: {statement.get('checkpoint') or 'none'}")
    for name in ("strategies", "connections"):
        if listed := statement.get(name):
            found = table_of(name, listed)
            text = table(found.headings, found.rows)
            lines += ["", *("  " + line for line in text.splitlines())]
    if compared := statement.get("reconciliation"):
        venues = list(dict.fromkeys(row["venue"] for row in compared))
        lines += ["", *("  " + line for line in positions_text(compared, venues).splitlines())]
    for checklist in statement.get("checklists", ()):
        checks = tuple(Check.from_dict(row) for row in checklist["checks"])
        shown = Checklist(name=checklist["name"], title=checklist["title"], checks=checks).lines()
        lines += ["", *("  " + line for line in shown)]
    steps = [(s["name"], s["outcome"], duration(s["seconds"])) for s in statement.get("steps", ())]
    if steps:
        lines += [
            "",
            *("  " + line for line in table(("step", "outcome", "took"), steps).splitlines()),
        ]
    return "\n".join(lines)


def _item(item: object) -> str:
    """One thing that remains, in a line."""
    match item:
        case {"cl_ord_id": cl_ord_id, "symbol": symbol, **rest}:
            amount = number(rest.get("leaves_qty") or rest.get("order_qty"))
            return f"{rest.get('venue', '')} {symbol} {rest.get('side', '')} {amount} ({cl_ord_id})"
        case {"symbol": symbol, "venue_quantity": says, **rest} if "quantity" not in rest:
            return f"{rest.get('venue', '')} {symbol}: the venue holds {number(says)}"
        case {"symbol": symbol, "quantity": quantity, **rest}:
            says = rest.get("venue_quantity", quantity)
            venue = "the venue did not say" if says is None else f"the venue holds {number(says)}"
            return f"{rest.get('venue', '')} {symbol}: {venue}, the books {number(quantity)}"
        case {"service": service, "text": text, **rest}:
            fields = rest.get("fields")
            why = fields.get("why") if isinstance(fields, dict) else None
            return (
                f"{str(rest.get('at') or '')[11:19]} {service}: {text}{f' ({why})' if why else ''}"
            )
        case {"service": service, "pid": pid}:
            return f"{service}, pid {pid}"
        case dict():
            return ", ".join(
                f"{key} {value}" for key, value in item.items() if value not in (None, "")
            )
    return str(item)
