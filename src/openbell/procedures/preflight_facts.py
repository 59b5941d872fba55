"""What a pre-flight looks at: this machine, the venues' hosts, what the desk depends on.

Everything is asked at once. A venue that is a service of the desk itself is not asked, since nothing of
the desk runs yet; the engine tells of it before it trades. Venues of the venue's own test system and of
real money are greeted with their credentials, by a process of its own.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
import psutil

from openbell.config.layout import DeskLayout
from openbell.config.models import DeskFile, LoadedDesk
from openbell.config.secrets import missing_secrets, venue_variables
from openbell.errors import OpenbellError
from openbell.procedures.backups import BackupFact, look_at_backups
from openbell.procedures.dependencies import DependencyFact, ask_dependency
from openbell.runtime.commands import run_command
from openbell.runtime.plan import BASE_VARIABLES, plain_environment
from openbell.venues.clerk import ENVIRONMENT_PASSED
from openbell.venues.greeter import Greeting, Greetings

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ANSWER_CHARS_MAX = 1 << 16
GREETER_START_S = 5.0
"""Besides the venues' own time: an interpreter and a client library on a busy machine."""


@dataclass(frozen=True)
class Reached:
    """A venue's host by name and by connection, without a word being said."""

    venue: str
    host: str
    connected: bool | None
    why: str = ""
    took_ms: float | None = None


@dataclass(frozen=True)
class PreflightFacts:
    wall_ns: int
    engine_runs: bool
    """The desk is open already: nothing of it is begun in a session."""
    force: bool
    disk_free: int | None
    memory_free: int | None
    missing: tuple[str, ...]
    """Variables that are not set, each with what needs it."""
    hosts: tuple[Reached, ...]
    greetings: tuple[Greeting, ...]
    dependencies: tuple[DependencyFact, ...]
    backups: tuple[BackupFact, ...]


@dataclass(frozen=True)
class Surroundings:
    """What a pre-flight needs to know of whoever takes it."""

    desk: LoadedDesk
    layout: DeskLayout
    environ: Mapping[str, str]
    """With the desk's secrets, where they are known."""
    engine_runs: bool
    force: bool


async def look(around: Surroundings) -> PreflightFacts:
    """Never raises for what it finds; changes nothing."""
    desk, layout = around.desk, around.layout
    outside = venues_outside(desk.file)
    # Not past an engine that runs: a second user of its key overtakes its nonces at some venues, and
    # an order of the engine would be refused unread.
    greeted = [
        name
        for name in outside
        if desk.file.venues[name].environment != "simulated" and not around.engine_runs
    ]
    hosts, greetings, dependencies, backups = await asyncio.gather(
        asyncio.gather(
            *(_reach(desk.file, name) for name in outside if desk.file.venues[name].url)
        ),
        _greet(around, greeted),
        ask_dependencies(desk, layout, around.environ),
        look_at_backups(desk, layout, around.environ),
    )
    disk_free, memory_free = room(layout)
    return PreflightFacts(
        wall_ns=time.time_ns(),
        engine_runs=around.engine_runs,
        force=around.force,
        disk_free=disk_free,
        memory_free=memory_free,
        missing=_missing(desk, around.environ),
        hosts=tuple(hosts),
        greetings=tuple(greetings),
        dependencies=dependencies,
        backups=backups,
    )


def venues_outside(desk: DeskFile) -> list[str]:
    """Venues that are not a service of this desk itself."""
    own = {port for service in desk.services.values() for port in service.ports}
    return [name for name, venue in desk.venues.items() if not _is_own(venue.url, own)]


def _is_own(url: str | None, ports: set[int]) -> bool:
    parts = urlsplit(url or "")
    return parts.hostname in _LOOPBACK and parts.port in ports


def room(layout: DeskLayout) -> tuple[int | None, int | None]:
    """Bytes free where the desk writes, whose folder may not exist yet, and bytes of memory that
    processes can still have; None where that cannot be read."""
    folder = next(each for each in (layout.state, *layout.state.parents) if each.exists())
    try:
        disk_free = shutil.disk_usage(folder).free
    except OSError:
        disk_free = None
    try:
        return disk_free, psutil.virtual_memory().available
    except OSError:
        return disk_free, None


async def ask_dependencies(
    desk: LoadedDesk, layout: DeskLayout, environ: Mapping[str, str]
) -> tuple[DependencyFact, ...]:
    """All at once, in the order of the desk file."""
    environment = plain_environment(layout, environ)
    declared = desk.file.dependencies.items()
    return tuple(
        await asyncio.gather(
            *(ask_dependency(name, each, layout, environment) for name, each in declared)
        )
    )


def _missing(desk: LoadedDesk, environ: Mapping[str, str]) -> tuple[str, ...]:
    try:
        return tuple(problem.message for problem in missing_secrets(desk, environ))
    except OpenbellError as error:
        return (error.message,)


async def _reach(desk: DeskFile, name: str) -> Reached:
    parts = urlsplit(desk.venues[name].url or "")
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    begun = time.monotonic()
    try:
        async with asyncio.timeout(desk.preflight.timeout):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
            _, writer = await asyncio.open_connection(str(found[0][4][0]), port)
            writer.close()
    except TimeoutError:
        return Reached(name, host, None, f"no connection within {desk.preflight.timeout:g}s")
    except socket.gaierror as error:
        return Reached(name, host, False, f"the name does not resolve: {error.strerror}")
    except OSError as error:
        return Reached(name, host, False, f"no connection: {error.strerror or error}")
    return Reached(name, host, True, "", round((time.monotonic() - begun) * 1000, 1))


async def _greet(around: Surroundings, venues: list[str]) -> list[Greeting]:
    if not venues:
        return []
    timeout_s = around.desk.file.preflight.timeout
    argv = [sys.executable, "-m", "openbell.venues.greeter", "--desk", str(around.layout.desk)]
    argv += ["--timeout", f"{int(timeout_s * 1000)}ms"]
    argv += [part for name in venues for part in ("--venue", name)]
    passed = {*ENVIRONMENT_PASSED, *BASE_VARIABLES}
    for name, venue in around.desk.file.venues.items():
        passed.update(venue_variables(name, venue))
    environment = {name: around.environ[name] for name in passed if name in around.environ}
    environment["OPENBELL_STATE"] = str(around.layout.state)
    ran = await run_command(
        argv,
        cwd=around.layout.desk,
        environment=environment,
        timeout_s=timeout_s + GREETER_START_S,
        line_chars=_ANSWER_CHARS_MAX,
    )
    said = next((line for line in reversed(ran.lines) if line.startswith("{")), "")
    try:
        told = {each.name: each for each in msgspec.json.decode(said, type=Greetings).venues}
    except msgspec.DecodeError:
        why = ran.told or "the greeter said nothing"
        return [Greeting(name=name, reached=None, why=why, skew_why=why) for name in venues]
    return [
        told.get(name) or Greeting(name=name, reached=None, why="the greeter brought no answer")
        for name in venues
    ]
