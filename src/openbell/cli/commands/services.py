"""`openbell start|stop|restart|reload SERVICE ...`"""

from __future__ import annotations

from typing import Any

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.tables import duration
from openbell.errors import FailedError

_PAST = {"start": "started", "stop": "stopped", "restart": "restarted", "reload": "reloaded"}
_TIMEOUT_S = 600.0


@command()
@click.argument("services", nargs=-1, required=True)
def start(terminal: Terminal, services: tuple[str, ...]) -> int:
    """Start services, and before them what they depend on. A running one is left alone."""
    return _act(terminal, "start", {"services": services})


@command()
@click.argument("services", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Even while running services depend on them.")
def stop(terminal: Terminal, services: tuple[str, ...], force: bool) -> int:
    """Stop services: their stop signal, then SIGKILL to the whole group; each rung is timed.

    Refused while running services depend on them, unless --force.
    """
    return _act(terminal, "stop", {"services": services, "force": force})


@command()
@click.argument("services", nargs=-1, required=True)
def restart(terminal: Terminal, services: tuple[str, ...]) -> int:
    """Stop and start services; those that depend on them stay up."""
    return _act(terminal, "restart", {"services": services})


@command()
@click.argument("services", nargs=-1, required=True)
def reload(terminal: Terminal, services: tuple[str, ...]) -> int:
    """Send services their reload signal: they read their configuration again and go on."""
    return _act(terminal, "reload", {"services": services})


def _act(terminal: Terminal, action: str, body: dict[str, Any]) -> int:
    document = Client(terminal.layout).post(f"services/{action}", body, timeout_s=_TIMEOUT_S)
    results = document["results"]
    terminal.show(document, "\n".join(_result_line(action, result) for result in results))
    return 0 if all(result["ok"] for result in results) else FailedError.exit_code


def _result_line(action: str, result: dict[str, Any]) -> str:
    done = result.get("outcome") or _PAST[action]
    took = f" in {duration(result['seconds'])}" if result.get("seconds") is not None else ""
    mark = "+" if result["ok"] else "x"
    reason = f": {result['reason']}" if result.get("reason") else ""
    rungs = "".join(
        f"\n    {r['action']}: {r['outcome']} after {duration(r['seconds'])}"
        for r in result.get("rungs") or ()
    )
    tail = "".join(f"\n    | {line}" for line in result.get("log_tail") or ())
    return f"{mark} {result['service']} {done}{took}{reason}{rungs}{tail}"
