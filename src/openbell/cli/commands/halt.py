"""`openbell halt`, `openbell resume`"""

from __future__ import annotations

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.errors import RefusedError, UnverifiedError


@command()
@click.option("--reason", default="", help="Why; kept with the halt and in the audit log.")
def halt(terminal: Terminal, reason: str) -> int:
    """Stop new orders. Services stay up, cancels and queries stay open, positions stay.

    The halt is kept on disk: it outlives every process, and only `openbell resume` ends it.
    """
    document = Client(terminal.layout).post("halt", {"reason": reason})
    if document["verified"]:
        terminal.show(document, "halted: the engine confirmed that it sends no new order")
        return 0
    terminal.document(document)
    terminal.warn(f"halted, but NOT VERIFIED: {document.get('why')}")
    terminal.warn("  the permit will not be renewed; look with `openbell status`")
    return UnverifiedError.exit_code


@command()
def resume(terminal: Terminal) -> int:
    """Let new orders go on, if the desk is healthy; else say what blocks it."""
    try:
        document = Client(terminal.layout).post("resume")
    except RefusedError as error:
        blockers = error.facts.get("blockers")
        if isinstance(blockers, list):
            error.message = "\n  - ".join([error.message, *map(str, blockers)])
        raise
    terminal.show(document, f"resumed: the desk is {document['state']}")
    return 0
