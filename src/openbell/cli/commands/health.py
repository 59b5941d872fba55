"""`openbell health`"""

from __future__ import annotations

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.status import recommendation_lines, service_table, venue_table
from openbell.errors import NotRunningError

NOT_RUNNING = 3


@command()
def health(terminal: Terminal) -> int:
    """Probe every service now. Exit status: 0 healthy, 1 degraded, 2 unhealthy, 3 not running."""
    try:
        document = Client(terminal.layout).get("health", timeout_s=60)
    except NotRunningError as error:
        terminal.show(
            {
                "verdict": "not_running",
                "exit_code": NOT_RUNNING,
                "state": "offline",
                "reasons": [error.message],
            },
            f"not running: {error.message}",
        )
        return NOT_RUNNING
    lines = [document["verdict"].upper().replace("_", " ")]
    lines += [f"  {reason}" for reason in document.get("reasons", ())]
    lines += ["", service_table(document["services"])]
    if document.get("venues"):
        lines += ["", venue_table(document["venues"])]
    lines += recommendation_lines(document.get("recommendations", ()))
    terminal.show(document, "\n".join(lines))
    return int(document["exit_code"])
