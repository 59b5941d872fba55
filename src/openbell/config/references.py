"""What desk.toml says twice must agree: names that are referred to, ports, roles, dependencies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter

from openbell.config.currencies import CURRENCIES
from openbell.config.models import DeskFile
from openbell.config.nearest import did_you_mean, misspelt
from openbell.config.phases import phase_problems
from openbell.config.problems import Problem
from openbell.config.soundness import unsound


def reference_problems(desk: DeskFile) -> list[Problem]:
    """Every reference that leads nowhere or round in a circle; empty when all agree."""
    unclear = [*_unknown_names(desk), *_cycle(desk)]
    # Phases follow dependencies: there are none before those make sense.
    phases = [] if unclear else [*phase_problems(desk.services)]
    return [*unclear, *phases, *_shared_ports(desk), *_roles(desk)]


def _unknown_names(desk: DeskFile) -> Iterator[Problem]:
    for name, service in desk.services.items():
        for needed in service.depends_on:
            if needed not in desk.services:
                yield Problem(
                    ("services", name, "depends_on"),
                    f'there is no service "{needed}"',
                    did_you_mean(needed, desk.services),
                )
        for venue in service.venues:
            if venue not in desk.venues:
                yield Problem(
                    ("services", name, "venues"),
                    f'there is no venue "{venue}"',
                    did_you_mean(venue, desk.venues),
                )
    for name, each in desk.venues.items():
        if each.calendar is not None and each.calendar not in desk.calendars:
            yield Problem(
                ("venues", name, "calendar"),
                f'there is no calendar "{each.calendar}"',
                did_you_mean(each.calendar, desk.calendars),
            )
    for name, strategy in desk.strategies.items():
        if strategy.venue not in desk.venues:
            yield Problem(
                ("strategies", name, "venue"),
                f'there is no venue "{strategy.venue}"',
                did_you_mean(strategy.venue, desk.venues),
            )
            continue
        symbols = desk.venues[strategy.venue].symbols
        for symbol in strategy.symbols:
            if symbol not in symbols:
                yield Problem(
                    ("strategies", name, "symbols"),
                    f'venue "{strategy.venue}" does not declare {symbol}',
                    f"add it to venues.{strategy.venue}.symbols, or use {', '.join(symbols)}",
                )


def unsound_entries(desk: DeskFile) -> list[Problem]:
    """What a desk is not to be opened with, and is found with all the same where it runs: values that are
    none, and slips of the finger."""
    return [*unsound(desk), *(each for each, is_slip in _idle_entries(desk) if is_slip)]


def idle_entries(desk: DeskFile) -> list[Problem]:
    """Limits and holdings of what no venue declares, and that may be meant all the same: one table of
    limits for several desks, say. They have no effect."""
    return [each for each, is_slip in _idle_entries(desk) if not is_slip]


def _idle_entries(desk: DeskFile) -> Iterator[tuple[Problem, bool]]:
    """Each with whether it is taken for a slip: one letter off what is declared and has no entry itself, so
    that it goes without its limit, or is sold by a flatten; and nothing that is known to be traded."""
    parts = {
        part
        for venue in desk.venues.values()
        for symbol in venue.symbols
        for part in symbol.split("/")
    }
    symbols = {symbol for venue in desk.venues.values() for symbol in venue.symbols}
    limited = desk.risk.max_position
    for symbol in sorted(set(limited) - symbols):
        meant = _meant(symbol, symbols - set(limited), parts)
        problem = Problem(
            ("risk", "max_position", symbol),
            f"no venue declares {symbol}, so this limits nothing",
            f"did you mean {meant}?" if meant else "remove it, or add the symbol to its venue",
        )
        yield problem, bool(meant)
    for name, venue in desk.venues.items():
        known = {part for symbol in venue.symbols for part in symbol.split("/")}
        known |= {venue.fee_currency} if venue.fee_currency else set()
        for currency in sorted(set(venue.holdings) - known):
            meant = _meant(currency, known - set(venue.holdings), parts)
            problem = Problem(
                ("venues", name, "holdings", currency),
                f"no symbol of {name} has {currency}, so this holds nothing apart",
                f"did you mean {meant}?" if meant else "it has no effect, and may be removed",
            )
            yield problem, bool(meant)


def _meant(name: str, declared: Collection[str], parts: Collection[str]) -> str:
    """What is declared and was meant by a name that is not; empty where that may be meant itself."""
    if all(part in parts or part in CURRENCIES for part in name.split("/")):
        return ""
    return misspelt(name, declared)


def _cycle(desk: DeskFile) -> Iterator[Problem]:
    try:
        TopologicalSorter({n: s.depends_on for n, s in desk.services.items()}).prepare()
    except CycleError as error:
        # CycleError lists a node before what it is needed by; people read "a needs b".
        circle = list(reversed(error.args[1]))
        yield Problem(
            ("services", circle[0], "depends_on"),
            f"the services wait for each other: {' needs '.join(circle)}",
            "remove one of these dependencies",
        )


def _shared_ports(desk: DeskFile) -> Iterator[Problem]:
    users: defaultdict[int, list[tuple[str, ...]]] = defaultdict(list)
    users[desk.controller.port].append(("controller",))
    for name, service in desk.services.items():
        if service.port is not None:
            users[service.port].append(("services", name, "port"))
        if service.surge_port is not None:
            users[service.surge_port].append(("services", name, "surge_port"))
    for port, keys in users.items():
        for key in keys[1:]:
            yield Problem(
                key,
                f"port {port} is also that of {'.'.join(keys[0][:2])}",
                "give each its own port",
            )


def _roles(desk: DeskFile) -> Iterator[Problem]:
    engines = [name for name, service in desk.services.items() if service.role == "engine"]
    for name in engines[1:]:
        yield Problem(
            ("services", name, "role"),
            f'service "{engines[0]}" is the engine already',
            "one desk has one writer of orders",
        )
    if desk.strategies and not engines:
        yield Problem(
            ("strategies",),
            "there are strategies but no engine",
            'give the service that sends orders role = "engine"',
        )
    for name, service in desk.services.items():
        if service.role == "engine" and service.port is None:
            yield Problem(("services", name, "port"), "the engine needs a port", "give it one")
    yield from _standbys(desk)


def _standbys(desk: DeskFile) -> Iterator[Problem]:
    standbys = [name for name, service in desk.services.items() if service.role == "standby"]
    for name in standbys[1:]:
        yield Problem(
            ("services", name, "role"),
            f'service "{standbys[0]}" is the standby already',
            "an engine has one standby",
        )
    for name in standbys:
        standby = desk.services[name]
        engine = desk.services.get(standby.standby_for or "")
        if engine is None or engine.role != "engine":
            yield Problem(
                ("services", name, "standby_for"),
                f'there is no engine "{standby.standby_for}"',
                did_you_mean(
                    standby.standby_for or "",
                    [each for each, service in desk.services.items() if service.role == "engine"],
                ),
            )
            continue
        if standby.port is None:
            yield Problem(("services", name, "port"), "a standby needs a port", "give it one")
        for key in ("command", "cwd", "env", "secrets", "venues"):
            if getattr(standby, key) != getattr(engine, key):
                yield Problem(
                    ("services", name, key),
                    f"{key} differs from that of {standby.standby_for}",
                    "either of the two must be able to do the other's work",
                )
