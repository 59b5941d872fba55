"""The `openbell` command: finds the command asked for and imports only that one.

Importing every command would cost more than most of them take to run.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from collections.abc import Sequence

import click

from openbell import __version__
from openbell.config.nearest import nearest, nearest_told

_GARBAGE_MIN = 100_000
"""New objects until garbage is looked for. What a command makes it needs until its end, which is near:
to walk all of it again at every 700 is a tenth of a command's work, and once more as it ends another."""
ABORTED = 130
"""Of a command that a person broke off: 128 + SIGINT, as shells do."""

# name: (module under openbell.cli.commands, attribute, short help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": ("init", "init", "make a desk of your own"),
    "check": ("check", "check", "validate desk.toml; nothing is started"),
    "schema": ("schema", "schema", "print the JSON schema of desk.toml"),
    "up": ("up", "up", "open the desk in dependency order"),
    "status": ("status", "status", "what runs, and how it is"),
    "watch": ("watch", "watch", "the desk live: runs, alerts, orders, strategies, actions"),
    "console": ("console", "console", "the address of the desk's page in a browser"),
    "health": ("health", "health", "probe everything now; the exit status tells"),
    "orders": ("trading", "orders", "open orders, as the venue says"),
    "positions": ("trading", "positions", "positions and P&L, as the venue says"),
    "reconcile": ("reconcile", "reconcile", "the books against the venues; adopt what they say"),
    "venues": ("venues", "venues", "venues and what each can do; test one, list accounts"),
    "connections": ("connections", "connections", "market data and order entry of each venue"),
    "strategies": ("strategies", "strategies", "strategies and their last signals; disable one"),
    "logs": ("logs", "logs", "read the services' logs together"),
    "halt": ("halt", "halt", "stop new orders; services stay up"),
    "resume": ("halt", "resume", "let new orders go on, once healthy"),
    "lock": ("lock", "lock", "keep the desk as it is deployed and configured"),
    "unlock": ("lock", "unlock", "release that lock"),
    "limits": ("limits", "limits", "the limits in force; make them tighter, take that back"),
    "kill-switch": ("kill_switch", "kill_switch", "stop orders at once: the desk or a part of it"),
    "dead-man": ("dead_man", "dead_man", "what becomes of resting orders without an engine"),
    "emergency-stop": (
        "emergency_stop",
        "emergency_stop",
        "cancel everywhere, prove it, end everything: now",
    ),
    "start": ("services", "start", "start services, with what they depend on"),
    "stop": ("services", "stop", "stop services that no other needs"),
    "restart": ("services", "restart", "stop and start services, or the whole desk"),
    "reload": ("services", "reload", "have services read their configuration again"),
    "procedure": ("procedure", "procedure", "list, show, plan, run and report procedures"),
    "checklist": (
        "checklist",
        "checklist",
        "morning, startup, shutdown, eod: filled by the system",
    ),
    "checkpoint": ("checkpoint", "checkpoint", "save, validate and list checkpoints"),
    "audit": ("audit", "audit", "verify and show the audit log"),
    "down": ("down", "down", "close the desk, and prove it closed"),
}


class LazyGroup(click.Group):
    """Knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"openbell.cli.commands.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = nearest_told(nearest(args[0], COMMANDS)) or "see `openbell --help`"
            raise click.UsageError(f"There is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done and verified, 1 failed, 2 wrong use, 3 not running, 4 desk file, "
    "5 conflict, 6 refused, 7 unverified, 8 corrupt file, 9 storage, 10 orders or positions remain, "
    "70 a defect of ours.",
)
@click.version_option(__version__, prog_name="openbell")
@click.option(
    "--desk",
    metavar="PATH",
    help="The desk's folder or desk.toml. Else $OPENBELL_DESK, this folder, or desks/paper in it.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
@click.pass_context
def openbell(ctx: click.Context, desk: str | None, as_json: bool) -> None:
    """Opens an algorithmic trading desk, watches over it, and closes it with proof."""
    ctx.obj = {"desk": desk, "as_json": as_json}


def main() -> None:
    """Entry point."""
    gc.set_threshold(_GARBAGE_MIN)
    try:
        run(sys.argv[1:])
    finally:
        gc.freeze()  # nothing of it is garbage to the interpreter, which looks as it ends


def run(arguments: Sequence[str]) -> None:
    """Exits with the command's status. Wrong use, too, ends in one JSON document where one was asked
    for."""
    try:
        openbell.main(list(arguments), prog_name="openbell", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        if "--json" in arguments:
            click.echo(
                json.dumps({"error": "usage", "message": error.format_message(), "hint": ""})
            )
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("aborted", err=True)
        sys.exit(ABORTED)
