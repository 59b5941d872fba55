"""`openbell venues`, `venues test`, `venues accounts`"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.status import environment_word, offline_status
from openbell.cli.tables import NOTHING, number, table
from openbell.errors import (
    ConflictError,
    FailedError,
    NotRunningError,
    OpenbellError,
    RefusedError,
    UnverifiedError,
    UsageError,
)

if TYPE_CHECKING:
    from openbell.config.layout import DeskLayout
    from openbell.config.models import LoadedDesk
    from openbell.domain.orders import ClOrdID
    from openbell.venues.patience import Patience
    from openbell.venues.port import AccountSummary, OnSent, Venue
    from openbell.venues.trial import Check, OrderTrial

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
                environment_word(row["environment"]),
                len(row["symbols"]),
                "set" if row["credentials"] else "missing",
                *_words(row["capabilities"]),
            )
            for row in rows
        ],
    )  # fmt: skip
    text = f"{text}\n\n{_asking_table(rows)}" if rows else "this desk has no venues"
    terminal.show({"venues": rows}, text)
    for row in broken:
        terminal.warn(_of_venue(row["name"], row["error"]))
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


def _asking_table(rows: list[dict[str, Any]]) -> str:
    """What can be asked, and how often: the budgets as numbers of questions a minute."""
    return table(
        ("venue", "order by ClOrdID", "positions", "cancels/s",
         "open orders/min", "positions/min", "fills/min", "order/min"),
        [(row["name"], *_asking(row["capabilities"])) for row in rows],
        right="   rrrrr",
    )  # fmt: skip


def _asking(can: dict[str, Any] | None) -> tuple[str, ...]:
    if can is None:
        return (NOTHING,) * 7
    costs = can["costs"]
    rate = can["cancels_per_s"]
    return (
        "yes" if can["lookup_by_cl_ord_id"] else "no",
        "the venue's" if can["positions"] else "balance less holdings",
        "not stated" if rate is None else f"{rate:.3g}",
        *(
            f"{1 / costs[name]:,.0f}" if costs[name] else "any number"
            for name in ("open_orders", "positions", "fills", "order")
        ),
    )


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


def _named(terminal: Terminal, names: Sequence[str]) -> tuple[LoadedDesk, list[str]]:
    """The desk and those of its venues; all where none is named. Raises UsageError for a name it
    lacks."""
    from openbell.config.loader import load_desk

    desk = load_desk(terminal.desk_path)
    declared = desk.file.venues
    for name in names:
        if name not in declared:
            raise UsageError(
                f'no venue is called "{name}"', hint=f"venues of this desk: {', '.join(declared)}"
            )
    return desk, list(dict.fromkeys(names)) or list(declared)


def _opened(
    terminal: Terminal, desk: LoadedDesk, names: Sequence[str]
) -> dict[str, Venue | OpenbellError]:
    """Each venue, not connected, or why it cannot be opened: its credentials are not set."""
    from openbell.config.secrets import load_secrets, venue_variables
    from openbell.errors import ConfigError

    credentials = load_secrets(desk, terminal.layout).venue_credentials()
    opened: dict[str, Venue | OpenbellError] = {}
    for name in names:
        if name in credentials:
            opened[name] = _open(desk, name, credentials[name])
        else:
            variables = " and ".join(venue_variables(name, desk.file.venues[name]))
            opened[name] = ConfigError(
                f"the credentials of {name} are not set", hint=f"set {variables}, or use .env"
            )
    return opened


def _patience(terminal: Terminal, desk: LoadedDesk, name: str) -> Patience:
    """What a venue puts off is asked again within the time one request may take."""
    from openbell.venues.patience import Patience

    return Patience(desk.file.venues[name].timeout, lambda text: terminal.say(f"  … {text}"))


def _how_to_start(terminal: Terminal, desk: LoadedDesk, name: str) -> str:
    """What to do about a simulated venue that cannot be reached; empty for others."""
    service = next(
        (
            service
            for service, each in desk.file.services.items()
            if each.role == "venue" and name in each.venues
        ),
        None,
    )
    if service is None:
        return ""
    if _state_of(terminal, service) == "stopped":
        return f"it is simulated and does not run: start it with `openbell up --only {service}`"
    return f"it is simulated by {service}: see `openbell status` and `openbell logs {service}`"


def _state_of(terminal: Terminal, service: str) -> str:
    return next(
        (str(s["state"]) for s in _status(terminal)["services"] if s["name"] == service), "stopped"
    )


def _status(terminal: Terminal) -> dict[str, Any]:
    try:
        status: dict[str, Any] = Client(terminal.layout).get("status")
    except NotRunningError:
        status = offline_status(terminal)
    return status


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
    from openbell.state.last_word import a_sender_starts
    from openbell.venues.trial import OrderTrial

    desk, _ = _named(terminal, [name])
    venue = _opened(terminal, desk, [name])[name]
    if isinstance(venue, OpenbellError):
        raise venue
    config = desk.file.venues[name]
    if symbol is not None and symbol not in config.symbols:
        raise UsageError(
            f"{name} does not trade {symbol}", hint=f"its symbols: {', '.join(config.symbols)}"
        )
    trial: OrderTrial | None = None
    if order:
        _refuse_beside_an_engine(terminal)
        traded = symbol or config.symbols[0]
        _refuse_latched(terminal.layout, name, traded)
        venue.on_sent = last_look(terminal.layout, name, traded)
        a_sender_starts(terminal.layout)
        if config.environment == "live":
            terminal.confirm(f"Place an order on the LIVE account of {name}?", yes=yes)
        cl_ord_id = test_order_id(terminal.layout.desk_id, time.time_ns() // 1_000_000)
        trial = OrderTrial(symbol=traded, cl_ord_id=cl_ord_id)
        # Named beforehand: should this process be killed, a person knows what to look for.
        terminal.say(f"the order to be placed and cancelled: {cl_ord_id}")
    terminal.say(f"{name}: {config.adapter}, {config.environment}" + _at(config.url))
    checks = asyncio.run(_try(terminal, desk, venue, trial))
    if config.cancel_secret_env is not None:
        checks += asyncio.run(_try_closing_pair(terminal, desk, name))
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


def _of_venue(name: str, message: str, verdict: str = "") -> str:
    """`NAME: message`. Most messages of adapters begin with the name already."""
    return f"{name}: {verdict}{message.removeprefix(f'{name}: ')}"


def _at(url: str | None) -> str:
    return f" at {url}" if url else ""


def _refuse_beside_an_engine(terminal: Terminal) -> None:
    """An order past a running engine would make its books differ from the venue's."""
    engine = next((s for s in _status(terminal)["services"] if s.get("role") == "engine"), None)
    if engine is not None and engine["state"] != "stopped":
        raise ConflictError(
            f"{engine['name']} is {engine['state']}: an order past it would make its books differ",
            hint="close the desk first, or leave out --order",
        )


def _refuse_latched(layout: DeskLayout, venue: str, symbol: str) -> None:
    """No order of any purpose goes out under the kill switch, whoever wants it. RefusedError."""
    from openbell.state.latch import Latches, latch_note

    # Of a desk that was never opened there need be no folder of latches.
    there = [
        latch
        for latch in Latches(layout).read(opened=False)
        if latch.scope.covers(venue, "", symbol)
    ]
    if there:
        raise RefusedError(
            latch_note(there),
            hint="`openbell kill-switch deactivate` releases it; without --order nothing is sent",
        )


def last_look(layout: DeskLayout, venue: str, symbol: str) -> OnSent:
    """As an engine's, directly before the first byte: a stop may have been pressed meanwhile."""
    from openbell.venues.transport import NotSentError

    def look(_cl_ord_id: ClOrdID, _at_ns: int) -> None:
        try:
            _refuse_latched(layout, venue, symbol)
        except RefusedError as error:
            raise NotSentError(error.message) from error

    return look


async def _try(
    terminal: Terminal, desk: LoadedDesk, venue: Venue, trial: OrderTrial | None
) -> list[Check]:
    import msgspec

    from openbell.venues.trial import take_back, try_venue

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    checks: list[Check] = []
    symbols = desk.file.venues[venue.name].symbols
    patience = _patience(terminal, desk, venue.name)
    try:
        async for check in try_venue(venue, symbols, trial, patience):
            if check.name == "connect" and check.result == "unknown" and not check.hint:
                hint = _how_to_start(terminal, desk, venue.name)
                check = msgspec.structs.replace(check, hint=hint)
            checks.append(check)
            _say(terminal, check)
    except asyncio.CancelledError:
        if trial is not None:
            terminal.warn(f"interrupted: taking {trial.cl_ord_id} back")
            last = await take_back(venue, trial, patience)
            terminal.warn(
                f"  {_MARKS[last.result]} {last.name}: {last.detail} {last.hint}".rstrip()
            )
        raise KeyboardInterrupt from None
    finally:
        await venue.close()
    return checks


async def _try_closing_pair(terminal: Terminal, desk: LoadedDesk, name: str) -> list[Check]:
    """Whether the pair that desk.toml names for closing and stopping the desk is good for that."""
    from openbell.config.secrets import load_secrets
    from openbell.venues.trial import Check, try_closing_pair

    pair = load_secrets(desk, terminal.layout).closing_pair(name)
    if pair is None:
        config = desk.file.venues[name]
        variables = " and ".join(filter(None, (config.cancel_key_env, config.cancel_secret_env)))
        missing = Check(
            name="closing pair",
            result="failed",
            detail="not set, or not all of it: the trading pair would be used",
            hint=f"set {variables}, or use .env",
        )
        _say(terminal, missing)
        return [missing]
    checks: list[Check] = []
    venue = _open(desk, name, pair)
    try:
        async for check in try_closing_pair(venue, _patience(terminal, desk, name)):
            checks.append(check)
            _say(terminal, check)
    finally:
        await venue.close()
    return checks


def _say(terminal: Terminal, check: Check) -> None:
    took = f"  ({check.took_ms:g} ms)" if check.took_ms is not None else ""
    terminal.say(f"  {_MARKS[check.result]} {check.name}: {check.detail}{took}")
    if check.hint:
        terminal.say(f"      {check.hint}")


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
    desk, wanted = _named(terminal, names)
    answers = asyncio.run(_accounts(terminal, desk, _opened(terminal, desk, wanted)))
    rows = [
        (name, f"{a.account_id}{' *' if a.active else ''}", a.kind, a.currency, number(a.equity))
        for name, answer in answers.items()
        if not isinstance(answer, OpenbellError)
        for a in answer
    ]
    failures = {n: a for n, a in answers.items() if isinstance(a, OpenbellError)}
    rows += [(name, "unknown", NOTHING, NOTHING, NOTHING) for name in failures]
    terminal.show(
        {"venues": [_accounts_document(name, answer) for name, answer in answers.items()]},
        table(("venue", "account", "kind", "currency", "equity"), rows, right="    r"),
    )
    for name, error in failures.items():
        terminal.warn(_of_venue(name, error.message, "unknown: "))
        if error.hint:
            terminal.warn(f"  {error.hint}")
    return UnverifiedError.exit_code if failures else 0


async def _accounts(
    terminal: Terminal, desk: LoadedDesk, opened: dict[str, Venue | OpenbellError]
) -> dict[str, list[AccountSummary] | OpenbellError]:
    """All venues at once; none waits for another, and none hides another."""

    async def told(name: str) -> list[AccountSummary] | OpenbellError:
        venue = opened[name]
        if isinstance(venue, OpenbellError):
            return venue
        return await _accounts_of(terminal, desk, venue)

    return dict(zip(opened, await asyncio.gather(*map(told, opened)), strict=True))


async def _accounts_of(
    terminal: Terminal, desk: LoadedDesk, venue: Venue
) -> list[AccountSummary] | OpenbellError:
    from openbell.venues.port import VenueError, VenueUnavailableError

    patience = _patience(terminal, desk, venue.name)
    try:
        await patience.ask(venue.connect)
        return await patience.ask(venue.accounts)
    except VenueError as error:
        if isinstance(error, VenueUnavailableError) and not error.hint:
            error.hint = _how_to_start(terminal, desk, venue.name)
        return error
    finally:
        await venue.close()


def _accounts_document(name: str, answer: list[AccountSummary] | OpenbellError) -> dict[str, Any]:
    import msgspec

    if isinstance(answer, OpenbellError):
        return {"name": name, "known": False, "why": answer.message, "accounts": []}
    return {"name": name, "known": True, "why": "", "accounts": msgspec.to_builtins(answer)}
