"""`openbell start|stop|restart|reload SERVICE ...`"""

from __future__ import annotations

from typing import Any

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.tables import duration
from openbell.errors import FailedError, UsageError

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
@click.argument("services", nargs=-1)
@click.option("--rolling", is_flag=True, help="One at a time, each proven before the next.")
@click.option("--hand-back", is_flag=True, help="Of an engine pair: hand trading back at the end.")
@click.option("--plan", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; for named services nothing is asked.")
@click.option("--reason", default="", help="Why; kept in the audit log. Not of named services.")
@click.option(
    "--quick", is_flag=True, help="The whole desk, services only: nobody told, nothing locked."
)
@click.option(
    "--orders",
    type=click.Choice(["cancel", "keep", "keep-passive"]),
    help="Of the whole desk: open orders meanwhile. Else as desk.toml says.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Services: no trial of the new code first. The whole desk: in a session too.",
)
def restart(
    terminal: Terminal,
    services: tuple[str, ...],
    rolling: bool,
    hand_back: bool,
    plan: bool,
    yes: bool,
    reason: str,
    quick: bool,
    orders: str | None,
    force: bool,
) -> int:
    """Stop and start services, or the whole desk; those that depend on a service stay up.

    Without names the whole desk: closed as `down` does, positions kept, orders as desk.toml says; once
    that is proven, opened again. It trades again only where it is healthy and reconciled, else it is
    held in safe mode with the cause named. --quick stops and starts the services alone. Killed in the
    middle, `openbell restart` goes on. Exit status: 0 open again, 1 not opened or held, 7 the closing
    is not proven.

    What a service would be started with is tried beside it first, where there is a trial for it (the
    desk's own services, strategies too): refused, it goes on as it is. --force leaves that out.

    With --rolling one service at a time, dependencies first, each gated on its health and on the
    desk trading as before; it stops at the first that fails. Without names: every service but
    simulated venues. Killed in the middle, the same command goes on.
    """
    if (quick or orders) and (rolling or services):
        named = "--quick" if quick else "--orders"
        raise UsageError(f"{named} is of the whole desk", hint="name no service, and no --rolling")
    if rolling and force:
        raise UsageError("a rolling restart tries new code always", hint="leave --force out")
    if rolling:
        from openbell.cli.rolling import rolling_restart

        return rolling_restart(
            terminal, services, hand_back=hand_back, reason=reason, plan=plan, yes=yes
        )
    if hand_back:
        raise UsageError(
            "--hand-back belongs to a rolling restart",
            hint=_as_rolling(services, ("--hand-back",)),
        )
    if not services:
        from openbell.cli.restarting import restart_desk

        wanted = {"quick": quick, "orders": orders, "force": force, "reason": reason}
        return restart_desk(terminal, wanted, plan=plan, yes=yes)
    # Nothing is asked here, so --yes says nothing; it is no reason to refuse.
    given = {"--plan": plan, "--reason": bool(reason)}
    if named_ones := tuple(option for option, is_given in given.items() if is_given):
        raise UsageError(
            f"{named_ones[0]} belongs to a rolling restart, or to one of the whole desk",
            hint=_as_rolling(services, named_ones),
        )
    return _act(terminal, "restart", {"services": services, "force": force})


def _as_rolling(services: tuple[str, ...], options: tuple[str, ...]) -> str:
    """The command that does it."""
    words = ["openbell restart --rolling", *services]
    words += [f"{option} WHY" if option == "--reason" else option for option in options]
    return f"`{' '.join(words)}`"


@command()
@click.argument("services", nargs=-1, required=True)
def reload(terminal: Terminal, services: tuple[str, ...]) -> int:
    """Read desk.toml again and send services their reload signal: they read their configuration again
    and go on.

    Approvals, people and channels of desk.toml count from then on; what a service is started with, from
    its next start.
    """
    return _act(terminal, "reload", {"services": services})


def _act(terminal: Terminal, action: str, body: dict[str, Any]) -> int:
    client = Client(terminal.layout)
    if action in ("start", "restart"):
        terminal.warn_of_live(client.live_venues())
    document = client.post(f"services/{action}", body, timeout_s=_TIMEOUT_S)
    results = document["results"]
    if document.get("desk_file_changed"):
        terminal.say(
            "desk.toml was read again; `openbell status` marks what runs under an older one"
        )
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
