"""`openbell connections`"""

from __future__ import annotations

from typing import Any

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.status import offline_status
from openbell.cli.tables import table
from openbell.errors import FailedError, NotRunningError, UnverifiedError


@command()
def connections(terminal: Terminal) -> int:
    """Market data and order entry of each venue: connected, down, closed or unknown.

    Exit status 0 when nothing that should be connected is not, 1 when something is down, 7 when
    something is unknown.
    """
    try:
        document = Client(terminal.layout).get("connections")
    except NotRunningError:
        document = connections_without_controller(terminal)
    rows = document["connections"]
    terminal.show(
        document,
        table(
            ("venue", "market data", "order entry", "order events", "status"),
            [
                (
                    row["venue"],
                    *(row[kind].upper() for kind in ("market_data", "order_entry", "order_events")),
                    _status(row),
                )
                for row in rows
            ],
        )
        if rows
        else "this desk has no venues",
    )
    if not document["known"]:
        return UnverifiedError.exit_code
    return 0 if all(row["ok"] for row in rows) else FailedError.exit_code


def _status(row: dict[str, Any]) -> str:
    """OK is for what is connected; what is closed or not there is no fault, and not OK either."""
    if not row["ok"]:
        return row["why"] or "no reason given"
    states = {row[kind] for kind in ("market_data", "order_entry", "order_events")}
    if "connected" in states:
        return "OK"
    return "closed" if "closed" in states else "no services"


def connections_without_controller(terminal: Terminal) -> dict[str, Any]:
    """A desk without its controller: what its services hold is closed where they do not run, and
    cannot be told where they do."""
    import msgspec

    from openbell.domain.connections import LinkState, Said
    from openbell.domain.connections import connections as rows_of

    status = offline_status(terminal)
    by_role = {service.get("role"): service["state"] for service in status["services"]}

    def said(role: str) -> Said:
        if role not in by_role:
            return Said(state=LinkState.NONE)
        if by_role[role] == "stopped":
            return Said(state=LinkState.CLOSED)
        return Said(state=LinkState.UNKNOWN, why="no controller runs to ask the services")

    names = [venue["name"] for venue in status["venues"]]
    rows = rows_of(names, said("market-data"), said("engine"), said("engine"))
    return {
        "connections": [{**msgspec.to_builtins(row), "ok": row.is_sound} for row in rows],
        "known": all(row.is_sound for row in rows),
        "why": "",
    }
