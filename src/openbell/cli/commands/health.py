"""`openbell health`"""

from __future__ import annotations

from typing import Any

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.status import recommendation_lines, service_table, venue_table
from openbell.errors import NotRunningError


@command()
def health(terminal: Terminal) -> int:
    """Probe every service now. Exit status: 0 healthy, 1 degraded, 2 unhealthy, 3 not running.

    Without a controller nothing can be probed: a desk that was closed and proven so is not running, any
    other is unhealthy, and what may be left is told.
    """
    try:
        document = Client(terminal.layout).get("health", timeout_s=60)
    except NotRunningError:
        document = _without_controller(terminal)
    lines = [document["verdict"].upper().replace("_", " ")]
    lines += [f"  {reason}" for reason in document.get("reasons", ())]
    lines += ["", service_table(document["services"])]
    if document.get("venues"):
        lines += ["", venue_table(document["venues"])]
    lines += recommendation_lines(document.get("recommendations", ()))
    terminal.show(document, "\n".join(lines))
    return int(document["exit_code"])


def _without_controller(terminal: Terminal) -> dict[str, Any]:
    from openbell.config.loader import load_desk
    from openbell.procedures.uncontrolled_health import health_without_controller

    return health_without_controller(load_desk(terminal.desk_path), terminal.layout)
