"""`openbell lock`, `openbell unlock`"""

from __future__ import annotations

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.domain.desk_state import DeskState


@command()
@click.option("--reason", required=True, help="Why; kept with the lock and in the audit log.")
def lock(terminal: Terminal, reason: str) -> int:
    """Refuse to open, reload, restart rolling, enable strategies and change limits, until
    `openbell unlock`. Trading goes on.

    The lock is kept on disk: it outlives every process. A closing sets one of its own. While another
    person's lock stands it is refused (exit status 5).
    """
    document = Client(terminal.layout).post("lock", {"reason": reason})
    told = f"locked by {document['by']}: {document['reason']}"
    if was := document["was"]:
        by = f"{was['run']} of {was['by']}" if was["run"] else was["by"]
        told += f"\n  in the place of the lock of {by}: {was['reason'] or 'no reason given'}"
    terminal.show(document, told)
    return 0


@command()
@click.option("--reason", default="", help="Why; kept in the audit log.")
def unlock(terminal: Terminal, reason: str) -> int:
    """Release the lock of deployments and configuration, whoever set it.

    A closing releases its own at its end. Of a closed desk it starts a controller for the moment, so
    that the release is recorded.
    """
    from openbell.cli.daemon import ensure_controller
    from openbell.config.loader import load_desk

    client = Client(terminal.layout)
    started = not client.is_running()
    if started:
        ensure_controller(terminal.layout, load_desk(terminal.desk_path).path)
    document = client.post("unlock", {"reason": reason})
    if started and client.get("status")["state"] == DeskState.OFFLINE:
        client.post("exit")
    was = document["was"]
    told = f"released; it was set by {was['by']}: {was['reason']}" if was["active"] else ""
    terminal.show(document, told or "nothing was locked")
    return 0
