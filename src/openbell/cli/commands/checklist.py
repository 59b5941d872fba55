"""`openbell checklist morning|startup|shutdown|eod`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.connections import connections_without_controller
from openbell.cli.commands.status import offline_status
from openbell.errors import NotRunningError, OpenbellError

if TYPE_CHECKING:
    from openbell.procedures.daily.seen import Machine, Seen
    from openbell.procedures.readiness_checks import RiskSays

NAMES = ("morning", "startup", "shutdown", "eod")


@command()
@click.argument("name", type=click.Choice(NAMES))
def checklist(terminal: Terminal, name: str) -> int:
    """A checklist, filled by the system from what it sees: nothing is ticked by hand.

    morning: is everything there that trading takes. startup: did the opening do what it should, and
    is it still so. shutdown: did the closing prove what it should, and is nothing left. eod: what is
    to be kept, and what is still held.

    Exit status: 0 nothing is wrong and nothing unknown (warnings, and what is not configured, do not
    count), 1 something is not so, 7 something could not be seen.
    """
    from openbell.procedures.daily.lists import NAMES as KNOWN
    from openbell.procedures.daily.lists import fill

    wanted = next(each for each in KNOWN if each == name)
    filled = fill(wanted, _look(terminal))
    terminal.show(filled.as_dict(), "\n".join(filled.lines()))
    return filled.exit_code


def _look(terminal: Terminal) -> Seen:
    import asyncio
    import os
    import time

    from openbell.config.loader import load_desk
    from openbell.procedures.backups import look_at_backups
    from openbell.procedures.daily.seen import Seen
    from openbell.procedures.preflight_facts import ask_dependencies, room
    from openbell.state.checkpoint import list_checkpoints
    from openbell.state.files import leftovers

    desk = load_desk(terminal.desk_path)
    layout = terminal.layout
    client = Client(terminal.layout)
    try:
        status, controller = client.get("status"), True
    except NotRunningError:
        status, controller = offline_status(terminal), False
    connections = _asked(client, "connections") if controller else None
    disk_free, memory_free = room(terminal.layout)
    return Seen(
        desk=desk.file,
        status=status,
        controller=controller,
        health=_asked(client, "health", timeout_s=60) if controller else None,
        connections=connections or connections_without_controller(terminal),
        positions=_asked(client, "positions") if controller else None,
        opening=_newest(terminal, "open"),
        closing=_newest(terminal, "close"),
        checkpoints=[each.as_dict() for each in list_checkpoints(terminal.layout.checkpoints)],
        disk_free=disk_free,
        memory_free=memory_free,
        dependencies=asyncio.run(ask_dependencies(desk, layout, os.environ)),
        backups=asyncio.run(look_at_backups(desk, layout, os.environ)),
        wall_ns=time.time_ns(),
        machine=_machine(),
        leftovers=[str(each) for each in leftovers(layout.state)],
        risk=_risk(client) if controller else None,
    )


def _risk(client: Client) -> RiskSays | None:
    """By the controller, which knows on which ports its services are. What is not told is unknown, and no
    reason to go by the service's state alone."""
    from openbell.procedures.readiness_checks import RiskSays

    said = _asked(client, "risk/applied", timeout_s=60)
    if said is None:
        return RiskSays(why="the controller does not tell")
    return RiskSays.from_dict(said) if said["asked"] else None


def _machine() -> Machine | None:
    import time

    import psutil

    from openbell.procedures.daily.seen import Machine

    try:
        load = psutil.getloadavg()[1]
        return Machine(psutil.cpu_count() or 1, load, time.time() - psutil.boot_time())
    except OSError:
        return None


def _asked(client: Client, path: str, **more: Any) -> dict[str, Any] | None:
    """None where nobody can say: the checks of it are unknown then."""
    try:
        return dict(client.get(path, **more))
    except OpenbellError:
        return None


def _newest(terminal: Terminal, kind: str) -> dict[str, Any] | None:
    """The record of the newest run of a procedure; None where there is none."""
    from openbell.cli.commands.procedure import history_rows, report_document

    rows = history_rows(terminal, kind, 1)
    return report_document(terminal, str(rows[0]["run"])) if rows else None
