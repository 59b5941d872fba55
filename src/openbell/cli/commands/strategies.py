"""`openbell strategies`, `strategies disable|enable`"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.status import disabled_lines
from openbell.cli.commands.trading import shown
from openbell.cli.tables import duration, number, table
from openbell.domain.scopes import Scope, ScopeKind, undeclared
from openbell.errors import ConfigError, OpenbellError, UsageError


@click.group("strategies", invoke_without_command=True)
@click.option("--desk", metavar="PATH", help="The desk's folder or desk.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_context
def strategies(ctx: click.Context, desk: str | None, as_json: bool) -> None:
    """Strategies: state, why, last signal, orders and positions of each. Or disable one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(_list, desk=desk, as_json=as_json)
    shared = ctx.find_root().ensure_object(dict)
    shared["desk"] = desk or shared.get("desk")
    shared["as_json"] = as_json or bool(shared.get("as_json"))


@command("list")
def _list(terminal: Terminal) -> int:
    document = Client(terminal.layout).get("strategies")
    rows = document.get("strategies", ())
    now_ns = time.time_ns()
    text = table(
        (
            "strategy",
            "state",
            "venue",
            "symbols",
            "last signal",
            "intents",
            "refused",
            "open orders",
            "position",
            "why",
        ),
        [
            (
                s["name"],
                s["state"],
                s["venue"],
                ",".join(s["symbols"]),
                f"{duration((now_ns - s['last_signal_ns']) / 1e9)} ago"
                if s.get("last_signal_ns")
                else "never",
                s.get("intents"),
                s.get("refused"),
                s.get("open_orders"),
                _positions(s.get("positions")),
                s.get("why"),
            )
            for s in rows
        ],
        right="    rrrr",
    )
    status = shown(terminal, document, text, len(rows), "strategy")
    for line in disabled_lines(document.get("disabled")):
        terminal.say(line)
    return status


_names = click.argument("names", nargs=-1, required=True, metavar="NAME...")
_reason = click.option("--reason", default="", help="Why; kept in the audit log.")


@command("disable", group=strategies)
@_names
@_reason
def disable(terminal: Terminal, names: tuple[str, ...], reason: str) -> int:
    """Take no new order of these strategies, until `openbell strategies enable`.

    Their resting orders and positions stay, their cancels are taken. It is kept on disk: it outlives
    every process and restart, and counts for a standby that takes over.
    """
    return _switch(terminal, "disable", names, reason)


@command("enable", group=strategies)
@_names
@_reason
def enable(terminal: Terminal, names: tuple[str, ...], reason: str) -> int:
    """Take orders of these strategies again. Refused (exit status 6) while the desk is locked."""
    return _switch(terminal, "enable", names, reason)


def _switch(terminal: Terminal, verb: str, names: tuple[str, ...], reason: str) -> int:
    """One after the other; where one fails the error says which were done."""
    client = Client(terminal.layout)
    names = tuple(dict.fromkeys(names))
    _refuse_unknown(terminal, names)
    body = {"reason": reason}
    done: list[dict[str, Any]] = []
    for name in names:
        try:
            done.append(client.post(f"strategies/{quote(name, safe='')}/{verb}", body))
        except OpenbellError as error:
            if done:
                error.message += f"; done before: {', '.join(each['strategy'] for each in done)}"
            raise
    terminal.show({"strategies": done}, "\n".join(_told(each) for each in done))
    for each in done:
        if each.get("recorded") is False:
            terminal.warn(f"{each['strategy']}: not in the audit log, which cannot be written")
    return 0


def _refuse_unknown(terminal: Terminal, names: tuple[str, ...]) -> None:
    """Before anything is changed: of three names with one mistyped, none is. A desk file that cannot
    be read stops nobody: the controller knows the names as well."""
    from openbell.config.loader import load_desk

    scopes = [Scope(ScopeKind.STRATEGY, name) for name in names]
    try:
        problems = list(undeclared(scopes, load_desk(terminal.desk_path).file))
    except ConfigError:
        return
    if problems:
        raise UsageError("; ".join(problems), hint="nothing was changed")


def _told(row: dict[str, Any]) -> str:
    name = row["strategy"]
    if not row["disabled"]:
        return f"{name}: enabled" if row["changed"] else f"{name}: was not disabled"
    by = f"by {row['by']} since {row['since']}: {row['reason']}"
    if not row["changed"]:
        return f"{name}: disabled already {by}"
    return f"{name}: disabled; no new order of it is sent, resting orders and positions stay"


def _positions(positions: object) -> str:
    if isinstance(positions, dict):
        return ", ".join(f"{number(quantity)} {symbol}" for symbol, quantity in positions.items())
    return number(positions)
