"""What can be found wrong before anything is started: commands, credentials, ports.

`openbell check` shows it all. `openbell up` meets the same things one by one, as failed starts.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.machinery import PathFinder
from pathlib import Path

from openbell.config.key_lines import key_lines, line_of
from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.config.nearest import nearest_told
from openbell.config.problems import KeyPath, Problem
from openbell.config.references import idle_entries, unsound_entries
from openbell.config.secrets import missing_secrets
from openbell.config.services import Service
from openbell.domain.dead_man import within
from openbell.errors import OpenbellError
from openbell.runtime.plan import PLACEHOLDERS
from openbell.runtime.ports import holder_of
from openbell.runtime.processes import MARK_VARIABLE
from openbell.trading.feeds import NEED_CREDENTIALS
from openbell.trading.loading import strategy_problems
from openbell.venues.making import make_all
from openbell.venues.port import Venue

ENGINE = "openbell.services.execution_engine"
MARKET_DATA = "openbell.services.market_data"
"""The modules of our own services; those of a desk's own may need less."""


def preflight(
    desk: LoadedDesk,
    layout: DeskLayout,
    environ: Mapping[str, str],
    own_pids: Collection[int] = (),
) -> list[Problem]:
    """Every problem of this machine with this desk, located in desk.toml. Starts no process, but
    imports the modules of the desk's strategies.

    `own_pids` are the desk's own running processes: a port they hold is theirs.
    """
    made, unmade = make_all(desk.file.venues)
    problems = [
        *unsound_entries(desk.file),
        *_folders(desk),
        *unmade,
        *_commands(desk, environ),
        *_placeholders(desk),
        *_credentials(desk),
        *strategy_problems(desk),
        *_secrets(desk, environ),
        *_dead_man(desk, made),
        *_ports(desk, own_pids),
    ]
    return _located(desk, problems)


def cautions(desk: LoadedDesk) -> list[Problem]:
    """What a desk can be opened with, and should not be left at; located in desk.toml."""
    return _located(desk, [*_shared_nonces(desk), *_idle_leave(desk), *idle_entries(desk.file)])


def _located(desk: LoadedDesk, problems: Iterable[Problem]) -> list[Problem]:
    lines = key_lines(desk.path.read_text())
    return [Problem(p.key, p.message, p.hint, line_of(lines, p.key)) for p in problems]


def _shared_nonces(desk: LoadedDesk) -> Iterator[Problem]:
    """Kraken takes a request only with a greater nonce than all before it from that key. The guard
    asks all the while; with the engine's key its question may overtake an order on the way, and
    Kraken refuses the order unread. Not told of a pair that the desk makes for a simulated venue."""
    for name, venue in desk.file.venues.items():
        theirs = "kraken" in (venue.adapter, venue.options.get("exchange"))
        if theirs and venue.key_env and venue.cancel_key_env in (None, venue.key_env):
            yield Problem(
                ("venues", name),
                "guard and engine share one key: their nonces overtake each other, and an order "
                "or cancel is refused unread now and then",
                'give the guard a key with "cancel & close orders" alone: cancel_key_env and '
                "cancel_secret_env",
            )


def _idle_leave(desk: LoadedDesk) -> Iterator[Problem]:
    """Leave to trade real money where there is none: whoever changes `environment` later is no
    longer asked twice."""
    for name, venue in desk.file.venues.items():
        if venue.allow_live and venue.environment != "live":
            yield Problem(
                ("venues", name, "allow_live"),
                f"real money is allowed, and environment is {venue.environment}",
                "remove this line until real money is meant",
            )


def _folders(desk: LoadedDesk) -> Iterator[Problem]:
    for name, service in desk.file.services.items():
        folder = desk.folder / service.cwd
        if not folder.is_dir():
            yield Problem(
                ("services", name, "cwd"), f"there is no folder {folder}", "make it, or mend cwd"
            )


def _commands(desk: LoadedDesk, environ: Mapping[str, str]) -> Iterator[Problem]:
    for name, service in desk.file.services.items():
        program = service.command[0]
        if program == "{python}":
            yield from _python_module(name, service)
            continue
        folder = desk.folder / service.cwd
        found = (
            os.access(folder / program, os.X_OK) and (folder / program).is_file()
            if os.sep in program
            else shutil.which(program, path=environ.get("PATH", os.defpath)) is not None
        )
        if not found:
            yield Problem(
                ("services", name, "command"),
                f'there is no command "{program}"',
                "install it, mend the path, or make it executable (chmod +x)",
            )


def _python_module(name: str, service: Service) -> Iterator[Problem]:
    """`{python} -m MODULE`: that this interpreter would find the module."""
    arguments = service.command[1:]
    if len(arguments) >= 2 and arguments[0] == "-m" and not _is_found(arguments[1]):
        yield Problem(
            ("services", name, "command"),
            f'{Path(sys.executable).name} has no module "{arguments[1]}"',
            "mend the name, or install the package that holds it into this environment",
        )


def _is_found(module: str) -> bool:
    """Whether there is such a module, without importing any of its packages."""
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    name = top
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            return False
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec is not None


def _placeholders(desk: LoadedDesk) -> Iterator[Problem]:
    """`{prt}`: braces of other meaning are left alone, but not what looks like one of ours."""
    for name, service in desk.file.services.items():
        for key, texts in (("command", service.command), ("env", service.env.values())):
            for word in (word for text in texts for word in re.findall(r"\{([a-z]+)\}", text)):
                near = get_close_matches(word, PLACEHOLDERS, n=1)
                if word not in PLACEHOLDERS and near:
                    yield Problem(
                        ("services", name, key),
                        f"{{{word}}} stands for nothing",
                        nearest_told([f"{{{near[0]}}}"]),
                    )


def _credentials(desk: LoadedDesk) -> Iterator[Problem]:
    """Of our own services: that they are given what they need of every venue. The engine needs all;
    market-data those of venues that quote to known accounts only, else that feed stays down."""
    venues = desk.file.venues
    quoting = [name for name, each in venues.items() if each.adapter in NEED_CREDENTIALS]
    for module, needed, why in (
        (ENGINE, list(venues), "orders are sent"),
        (MARKET_DATA, quoting, "prices are told to known accounts only"),
    ):
        for name, service in desk.file.services.items():
            lacking = [venue for venue in needed if venue not in service.venues]
            if module not in service.command or not lacking:
                continue
            line = ", ".join(f'"{venue}"' for venue in (*service.venues, *lacking))
            yield Problem(
                ("services", name, "venues"),
                f"{name} is not given the credentials of {', '.join(lacking)}, where {why}",
                f"write into [services.{name}]: venues = [{line}]",
            )


def _secrets(desk: LoadedDesk, environ: Mapping[str, str]) -> list[Problem]:
    try:
        return missing_secrets(desk, environ)
    except OpenbellError as error:
        return [Problem((), error.message, error.hint)]


def _dead_man(desk: LoadedDesk, made: Mapping[str, Venue]) -> Iterator[Problem]:
    """A venue's own timer that does not take the desk's time-out: it would run with another one."""
    wanted_s = desk.file.guard.dead_man_timeout
    for name, venue in made.items():
        switch = venue.capabilities.dead_mans_switch
        if desk.file.venues[name].dead_man != "venue" or switch is None:
            continue
        taken_s = within(wanted_s, switch.min_s, switch.max_s)
        if taken_s != wanted_s:
            yield Problem(
                ("guard", "dead_man_timeout"),
                f"the timer of {name} takes {switch.min_s:g}s to {switch.max_s:g}s, not {wanted_s:g}s",
                f'write dead_man_timeout = "{taken_s:g}s", or dead_man = "guard" in [venues.{name}]',
            )


def _ports(desk: LoadedDesk, own_pids: Collection[int]) -> Iterator[Problem]:
    wanted: list[tuple[KeyPath, int]] = [(("controller", "port"), desk.file.controller.port)]
    wanted += [
        (("services", name, key), port)
        for name, service in desk.file.services.items()
        for key, port in (("port", service.port), ("surge_port", service.surge_port))
        if port is not None
    ]
    for key, port in wanted:
        if not _is_listened_on(port):
            continue
        holder = holder_of(port)
        if holder is not None and holder.pid in own_pids:
            continue
        by = (
            f"{holder.name} (pid {holder.pid}): {holder.command}"
            if holder
            else "a process of another user"
        )
        desk_of_it = None if holder is None or holder.pid is None else _desk_of(holder.pid)
        hint = (
            "end that process, or give another port"
            if desk_of_it is None
            else f"give another port, or close that desk: `openbell --desk {shlex.quote(desk_of_it)} down`"
        )
        if desk_of_it is not None:
            by = f"the desk {desk_of_it}: {by}"
        yield Problem(key, f"port {port} is held by {by}", hint)


def _desk_of(pid: int) -> str | None:
    """The folder of the desk that a process serves, by its environment, or of a controller by its command
    line; None: neither says, or they cannot be read. A person may have set the folder alone, for whatever
    they start, so a mark is asked for too."""
    import psutil

    try:
        process = psutil.Process(pid)
        command, told = process.cmdline(), process.environ()
    except (psutil.Error, OSError):
        return None
    if "openbell.controller" in command and "--desk" in command[:-1]:
        return command[command.index("--desk") + 1]
    return told.get("OPENBELL_DESK") if MARK_VARIABLE in told else None


def _is_listened_on(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
