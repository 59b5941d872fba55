"""`openbell up`"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.console import console_address
from openbell.cli.plans import plan_text
from openbell.domain.desk_state import DeskState
from openbell.errors import (
    ConfigError,
    ConflictError,
    FailedError,
    NotRunningError,
    RefusedError,
)
from openbell.kill.pressed import Pressed, pressed, refuse_pressed_since

if TYPE_CHECKING:
    from openbell.config.models import LoadedDesk


@command()
@click.option("--safe-mode", is_flag=True, help="Everything up, no automatic trading.")
@click.option(
    "--only", multiple=True, metavar="SERVICE", help="Only this service and what it needs."
)
@click.option("--plan", is_flag=True, help="Print what would be done, and do nothing.")
@click.option(
    "--force",
    is_flag=True,
    help="End processes left over from an earlier run first; open in a session too.",
)
def up(terminal: Terminal, safe_mode: bool, only: tuple[str, ...], plan: bool, force: bool) -> int:
    """Open the desk: start its services in dependency order, each gated on readiness.

    What fails is named with the last lines of its log, and what runs is left running: `openbell up`
    again continues. Opening an open desk is harmless. Ends when the desk trades, or with --safe-mode
    when everything is up.
    """
    wanted: dict[str, Any] = {"safe_mode": safe_mode, "only": list(only), "force": force}
    return open_desk(terminal, wanted, plan=plan)


def open_desk(terminal: Terminal, wanted: dict[str, Any], *, plan: bool = False) -> int:
    """Opens the desk, or shows what that would do; the exit status. `wanted` is an opening's body."""
    client = Client(terminal.layout)
    if plan:
        document = _plan(client, terminal, wanted)
        terminal.show(document, plan_text(document))
        return 0

    before = pressed(terminal.layout)
    started = not client.is_running()
    run = _start(terminal, wanted, before) if started else None
    if not started:
        terminal.warn_of_live(_read_desk(terminal).file.live_venues())
    if run is None:
        run = _begin(terminal, client, wanted, before)
    return follow_opening(terminal, client, run, started=started)


def _start(terminal: Terminal, wanted: dict[str, Any], before: Pressed) -> str | None:
    """Starts the controller, which begins the opening at once; the run's id, None where it began none.
    It comes to that seconds after the command was typed: a stop pressed since `before` is newer.

    It reads the desk file itself. To read it here too would cost half of this command's own work, on
    the cores that the desk is started on; so that is done only where the controller could not use it,
    for the words that name every line.
    """
    from openbell.cli.daemon import StartingController

    wanted = {**wanted, "before": before.to_wire()}
    starting = StartingController(terminal.layout, terminal.desk_path, wanted)
    try:
        told = starting.await_answer()
    except ConfigError:
        _read_desk(terminal)
        raise
    terminal.warn_of_live(told["live"])
    terminal.say(f"controller started, log in {terminal.layout.controller_log}")
    run: str | None = told["newest_run"]
    return run


def _read_desk(terminal: Terminal) -> LoadedDesk:
    from openbell.config.loader import load_desk

    return load_desk(terminal.desk_path)


def follow_opening(terminal: Terminal, client: Client, run: str, *, started: bool = False) -> int:
    """Tells how an opening goes and ends; the exit status. `started`: the controller was, for it, and
    goes again where nothing was begun."""
    from openbell.cli.progress import follow

    last = follow(terminal, client, run)
    result = last.get("result") or {}
    opened = last["event"] == "done"
    terminal.document({"run": run, "opened": opened, **last_facts(last), **result})
    if not opened:
        tell_failure(terminal, last, result)
        if started and result.get("begun") is False:
            _end_idle(terminal, client)
        return FailedError.exit_code
    terminal.say(opened_text(terminal, client, last, result))
    return 0


def _end_idle(terminal: Terminal, client: Client) -> None:
    """Ends the controller of a desk that is closed. One that is wanted for anything refuses, and stays;
    so does that of a desk which was not closed before either."""
    from openbell.cli.departure import await_departure

    try:
        status = client.get("status")
        if status["state"] != DeskState.OFFLINE:
            return
        client.post("exit")
        left = await_departure(terminal.layout, status["controller"]["pid"])
    except (RefusedError, ConflictError, NotRunningError):
        return
    if left:
        terminal.warn(f"  still there: {', '.join(each['service'] for each in left)}")


def last_facts(last: dict[str, Any]) -> dict[str, Any]:
    """What a run's last event says beside its result."""
    return {
        key: last[key]
        for key in ("outcome", "message", "seconds", "error")
        if last.get(key) is not None
    }


def _plan(client: Client, terminal: Terminal, wanted: dict[str, Any]) -> Any:
    try:
        return client.get("plan/open", **wanted)
    except NotRunningError:
        from openbell.procedures.preview import opening_plan_of_a_closed_desk

        return opening_plan_of_a_closed_desk(terminal.desk_path, terminal.layout, **wanted)


def _begin(terminal: Terminal, client: Client, wanted: dict[str, Any], before: Pressed) -> str:
    """Begins the opening. Of processes left over from an earlier run a person is asked. Raises
    ConflictError where a stop was pressed since `before`: the controller takes those for known that
    there are when it is asked, and it may have refused this opening for one already."""

    def ask(**more: object) -> str:
        refuse_pressed_since(terminal.layout, before)
        return str(client.post("open", {**wanted, **more})["run"])

    try:
        return ask()
    except RefusedError as error:
        orphans = error.facts.get("orphans")
        if not isinstance(orphans, list):
            raise
        found = "\n".join([error.message, *map(_orphan_line, orphans)])
        ours = [orphan for orphan in orphans if orphan["ours"]]
        if not ours or not sys.stdin.isatty():
            raise ConflictError(
                found,
                hint=_of_left_over(bool(ours)),
                **error.facts,
            ) from None
        terminal.warn(found)
        terminal.confirm(f"End the {len(ours)} that are ours, and open?", yes=False)
        return ask(force=True)


def _of_left_over(some_are_ours: bool) -> str:
    if some_are_ours:
        return (
            "`openbell up --force` ends those that are ours; foreign ones only their owner may end"
        )
    return "none of them is ours: only their owner may end them; then `openbell up` again"


def _orphan_line(orphan: dict[str, Any]) -> str:
    whose = "ours" if orphan["ours"] else "foreign"
    return (
        f"  {orphan['service']}: pid {orphan['pid']} ({whose}, by {orphan['found_by']}): "
        f"{orphan['command']}"
    )


def tell_failure(terminal: Terminal, last: dict[str, Any], result: dict[str, Any]) -> None:
    terminal.warn(f"openbell: {last.get('message') or 'the desk did not open'}")
    for service in result.get("services", ()):
        if service["outcome"] in ("failed", "not_started"):
            terminal.warn(f"  x {service['name']}: {service['reason']}")
            for line in service.get("log_tail", ()):
                terminal.warn(f"      | {line}")
            if service.get("remedy"):
                terminal.warn(f"      {service['remedy']}")
    at = f"it failed at {result['failed_at']}; " if result.get("failed_at") else ""
    left = "what runs was left running" if result.get("begun", True) else "nothing was started"
    terminal.warn(f"  {at}{left}; mend it and run `openbell up` again")


def opened_text(
    terminal: Terminal, client: Client, last: dict[str, Any], result: dict[str, Any]
) -> str:
    status = client.get("status")
    words = [f"{status['desk']}: {last.get('message') or result.get('outcome', 'open')}"]
    if address := console_address(status["controller"]):
        words.append(f"  console  {address}")
    if url := status["controller"].get("url"):
        words.append(f"  API      {url}/api/v1/docs")
    words += [
        f"  venue    {v['name']} at {v['sim_url']}" for v in status["venues"] if v.get("sim_url")
    ]
    words.append(f"  logs     {terminal.layout.logs}")
    words.append(
        "  next     openbell status | orders | positions | strategies | logs --follow | down"
    )
    return "\n".join(words)
