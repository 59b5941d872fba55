"""`openbell venues`, `venues test`, `venues accounts`, `connections`"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.status import offline_status
from openbell.cli.tables import NOTHING, number, table
from openbell.errors import (
    ConflictError,
    FailedError,
    NotRunningError,
    OpenbellError,
    UnverifiedError,
    UsageError,
)

if TYPE_CHECKING:
    from openbell.config.models import LoadedDesk
    from openbell.domain.orders import ClOrdID
    from openbell.venues.port import AccountSummary, Venue
    from openbell.venues.trial import Check

COUNTER_BITS = 34
"""The most that every venue's form of a ClOrdID has room for (Kraken packs it into a UUID)."""

_MARKS = {"ok": "✓", "failed": "✗", "unknown": "?", "none": "-"}


@click.group(invoke_without_command=True)
@click.option("--desk", metavar="PATH", help="The desk's folder or desk.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_context
def venues(ctx: click.Context, desk: str | None, as_json: bool) -> None:
    """The desk's venues and what each can do. `venues test NAME` tries one."""
    shared = ctx.find_root().obj
    shared["desk"] = desk or shared.get("desk")
    shared["as_json"] = as_json or shared.get("as_json")
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_venues)


@command("list", group=venues)
def list_venues(terminal: Terminal) -> int:
    """Every venue of the desk file: adapter, environment, capabilities. Nothing is asked of them."""
    from openbell.config.loader import load_desk
    from openbell.config.secrets import load_secrets

    desk = load_desk(terminal.desk_path)
    try:
        credentials = load_secrets(desk, terminal.layout).venue_credentials()
    except OpenbellError as error:
        terminal.warn(f"credentials: {error.message}")
        credentials = {}
    rows = [_row(desk, name, credentials.get(name), terminal) for name in desk.file.venues]
    broken = [row for row in rows if row["error"]]
    text = table(
        ("venue", "adapter", "environment", "symbols", "credentials", "cancels by",
         "dead-man's switch", "order events", "conformance"),
        [
            (
                row["name"],
                row["adapter"],
                row["environment"],
                len(row["symbols"]),
                "set" if row["credentials"] else "missing",
                *_words(row["capabilities"]),
            )
            for row in rows
        ],
    )  # fmt: skip
    terminal.show({"venues": rows}, text if rows else "this desk has no venues")
    for row in broken:
        terminal.warn(f"{row['name']}: {row['error']}")
    return FailedError.exit_code if broken else 0


def _row(
    desk: LoadedDesk, name: str, pair: tuple[str, str] | None, terminal: Terminal
) -> dict[str, Any]:
    import msgspec

    config = desk.file.venues[name]
    error, capabilities = "", None
    try:
        capabilities = _open(desk, name, pair or ("", "")).capabilities
    except OpenbellError as failure:
        error = failure.message
    return {
        "name": name,
        "adapter": config.adapter,
        "environment": config.environment,
        "url": config.url,
        "symbols": list(config.symbols),
        "account": config.account,
        "credentials": pair is not None,
        "cancel_only_credentials": config.cancel_secret_env is not None,
        "capabilities": None if capabilities is None else msgspec.to_builtins(capabilities),
        "error": error,
    }


def _words(can: dict[str, Any] | None) -> tuple[str, str, str, str]:
    """What an operations engineer wants to know at a glance."""
    if can is None:
        return (NOTHING,) * 4
    cancels = [
        *(["account"] if can["mass_cancel"] else []),
        *(["symbol"] if can["mass_cancel_per_symbol"] else []),
        *([f"batch of {can['batch_cancel']}"] if can["batch_cancel"] else []),
        "single",
    ]
    switch = can["dead_mans_switch"]
    return (
        ", ".join(cancels),
        "the venue has none"
        if switch is None
        else f"venue's own, per {switch['scope']}, {switch['min_s']:g}-{switch['max_s']:g} s",
        "pushed" if can["order_stream"] else "asked for",
        "tested" if can["conformance_tested"] else "not tested",
    )


def _open(desk: LoadedDesk, name: str, pair: tuple[str, str]) -> Venue:
    from openbell.venues.credentials import Credentials
    from openbell.venues.registry import open_venue

    return open_venue(name, desk.file.venues[name], Credentials(*pair))


def _loaded(terminal: Terminal, names: Sequence[str]) -> tuple[LoadedDesk, dict[str, Venue]]:
    """The venues of these names, not connected. Raises UsageError for a name the desk lacks and
    ConfigError for credentials that are not set."""
    from openbell.config.loader import load_desk
    from openbell.config.secrets import load_secrets, venue_variables
    from openbell.errors import ConfigError

    desk = load_desk(terminal.desk_path)
    declared = desk.file.venues
    for name in names:
        if name not in declared:
            raise UsageError(
                f'no venue is called "{name}"', hint=f"venues of this desk: {', '.join(declared)}"
            )
    credentials = load_secrets(desk, terminal.layout).venue_credentials()
    wanted = names or list(declared)
    for name in wanted:
        if name not in credentials:
            variables = " and ".join(venue_variables(name, declared[name]))
            raise ConfigError(
                f"the credentials of {name} are not set", hint=f"set {variables}, or use .env"
            )
    return desk, {name: _open(desk, name, credentials[name]) for name in wanted}


# venues test


@command("test", group=venues)
@click.argument("name")
@click.option("--order", is_flag=True, help="Place a limit order far from the market; cancel it.")
@click.option("--symbol", help="Of that order; else the venue's first.")
@click.option("--yes", is_flag=True, help="Do not ask before an order on a live account.")
def test_venue(terminal: Terminal, name: str, order: bool, symbol: str | None, yes: bool) -> int:
    """Connect to a venue and try it: credentials, clock, permissions, lists, quotes, events.

    Exit status 0 when everything is well, 1 when something is not, 7 when something could not be
    told, above all of the order.
    """
    from openbell.venues.trial import OrderTrial

    desk, opened = _loaded(terminal, [name])
    config = desk.file.venues[name]
    if symbol is not None and symbol not in config.symbols:
        raise UsageError(
            f"{name} does not trade {symbol}", hint=f"its symbols: {', '.join(config.symbols)}"
        )
    trial = None
    if order:
        _refuse_beside_an_engine(terminal)
        if config.environment == "live":
            terminal.confirm(f"Place an order on the LIVE account of {name}?", yes=yes)
        cl_ord_id = test_order_id(terminal.layout.desk_id, time.time_ns() // 1_000_000)
        trial = OrderTrial(symbol=symbol or config.symbols[0], cl_ord_id=cl_ord_id)
    terminal.say(f"{name}: {config.adapter}, {config.environment}" + _at(config.url))
    checks = asyncio.run(_try(terminal, opened[name], config.symbols, trial))
    status = _status_of(checks)
    terminal.document(
        {
            "venue": name,
            "ok": status == 0,
            "checks": [_check_document(check) for check in checks],
        }
    )
    return status


def test_order_id(desk_id: str, now_ms: int) -> ClOrdID:
    """The desk's own, and never an engine's: engines' epochs are seconds since 1970, this one's is
    what the counter has no room for of the milliseconds, some hundreds."""
    from openbell.domain.ids import mint

    return mint(desk_id, now_ms >> COUNTER_BITS, now_ms & (1 << COUNTER_BITS) - 1)


def _at(url: str | None) -> str:
    return f" at {url}" if url else ""


def _refuse_beside_an_engine(terminal: Terminal) -> None:
    """An order past a running engine would make its books differ from the venue's."""
    try:
        status = Client(terminal.layout).get("status")
    except NotRunningError:
        status = offline_status(terminal)
    engine = next((s for s in status["services"] if s.get("role") == "engine"), None)
    if engine is not None and engine["state"] != "stopped":
        raise ConflictError(
            f"{engine['name']} is {engine['state']}: an order past it would make its books differ",
            hint="close the desk first, or leave out --order",
        )


async def _try(terminal: Terminal, venue: Venue, symbols: Sequence[str], trial: Any) -> list[Check]:
    from openbell.venues.trial import try_venue

    checks: list[Check] = []
    try:
        async for check in try_venue(venue, symbols, trial):
            checks.append(check)
            took = f"  ({check.took_ms:g} ms)" if check.took_ms is not None else ""
            terminal.say(f"  {_MARKS[check.result]} {check.name}: {check.detail}{took}")
            if check.hint:
                terminal.say(f"      {check.hint}")
    finally:
        await venue.close()
    return checks


def _check_document(check: Check) -> dict[str, Any]:
    import msgspec

    document: dict[str, Any] = msgspec.to_builtins(check)
    return document


def _status_of(checks: Sequence[Check]) -> int:
    results = {check.result for check in checks}
    if "unknown" in results:
        return UnverifiedError.exit_code
    return FailedError.exit_code if "failed" in results else 0


# venues accounts


@command("accounts", group=venues)
@click.argument("names", nargs=-1)
def accounts(terminal: Terminal, names: tuple[str, ...]) -> int:
    """The accounts that each venue's credentials reach; `*` is the one the desk trades on."""
    _, opened = _loaded(terminal, names)
    answers = asyncio.run(_accounts(opened))
    rows = [
        (name, f"{a.account_id}{' *' if a.active else ''}", a.kind, a.currency, number(a.equity))
        for name, answer in answers.items()
        if not isinstance(answer, OpenbellError)
        for a in answer
    ]
    failures = {n: a for n, a in answers.items() if isinstance(a, OpenbellError)}
    terminal.show(
        {"venues": [_accounts_document(name, answer) for name, answer in answers.items()]},
        table(("venue", "account", "kind", "currency", "equity"), rows, right="    r"),
    )
    for name, error in failures.items():
        terminal.warn(f"{name}: unknown: {error.message}")
    return UnverifiedError.exit_code if failures else 0


async def _accounts(
    opened: dict[str, Venue],
) -> dict[str, list[AccountSummary] | OpenbellError]:
    """All venues at once; none waits for another."""
    answers = await asyncio.gather(*(_accounts_of(venue) for venue in opened.values()))
    return dict(zip(opened, answers, strict=True))


async def _accounts_of(venue: Venue) -> list[AccountSummary] | OpenbellError:
    from openbell.venues.port import VenueError

    try:
        await venue.connect()
        return await venue.accounts()
    except VenueError as error:
        return error
    finally:
        await venue.close()


def _accounts_document(name: str, answer: list[AccountSummary] | OpenbellError) -> dict[str, Any]:
    import msgspec

    if isinstance(answer, OpenbellError):
        return {"name": name, "known": False, "why": answer.message, "accounts": []}
    return {"name": name, "known": True, "why": "", "accounts": msgspec.to_builtins(answer)}


# connections


@command()
def connections(terminal: Terminal) -> int:
    """Market data and order entry of each venue: connected, down, closed or unknown.

    Exit status 0 when nothing that should be connected is not, 1 when something is down, 7 when
    something is unknown.
    """
    try:
        document = Client(terminal.layout).get("connections")
    except NotRunningError:
        document = _without_controller(terminal)
    rows = document["connections"]
    terminal.show(
        document,
        table(
            ("venue", "market data", "order entry", "order events", "status"),
            [
                (
                    row["venue"],
                    *(row[kind].upper() for kind in ("market_data", "order_entry", "order_events")),
                    "OK" if row["ok"] else row["why"],
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


def _without_controller(terminal: Terminal) -> dict[str, Any]:
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
