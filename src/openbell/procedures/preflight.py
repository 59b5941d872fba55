"""What can be found wrong before anything is started: commands, credentials, ports.

`openbell check` shows it all. `openbell up` meets the same things one by one, as failed starts.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from openbell.config.key_lines import key_lines, line_of
from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk, Service
from openbell.config.problems import KeyPath, Problem
from openbell.config.references import did_you_mean
from openbell.config.secrets import missing_secrets
from openbell.runtime.ports import holder_of
from openbell.trading.loading import strategy_problems
from openbell.venues.registry import known_adapters


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
    problems = [
        *_folders(desk),
        *_adapters(desk),
        *_commands(desk, environ),
        *strategy_problems(desk),
        *missing_secrets(desk, environ),
        *_ports(desk, own_pids),
    ]
    lines = key_lines(desk.path.read_text())
    return [Problem(p.key, p.message, p.hint, line_of(lines, p.key)) for p in problems]


def _folders(desk: LoadedDesk) -> Iterator[Problem]:
    for name, service in desk.file.services.items():
        folder = desk.folder / service.cwd
        if not folder.is_dir():
            yield Problem(
                ("services", name, "cwd"), f"there is no folder {folder}", "make it, or mend cwd"
            )


def _adapters(desk: LoadedDesk) -> Iterator[Problem]:
    known = known_adapters()
    for name, venue in desk.file.venues.items():
        if venue.adapter not in known:
            yield Problem(
                ("venues", name, "adapter"),
                f'there is no adapter "{venue.adapter}"',
                f"{did_you_mean(venue.adapter, known)}; others come in packages of their own",
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
    """`{python} -m MODULE`: that this interpreter would find the module's top package."""
    arguments = service.command[1:]
    if len(arguments) < 2 or arguments[0] != "-m":
        return
    top = arguments[1].partition(".")[0]
    if importlib.util.find_spec(top) is None:
        yield Problem(
            ("services", name, "command"),
            f'{Path(sys.executable).name} has no module "{arguments[1]}"',
            "install the package that holds it into this environment",
        )


def _ports(desk: LoadedDesk, own_pids: Collection[int]) -> Iterator[Problem]:
    wanted: list[tuple[KeyPath, int]] = [(("controller", "port"), desk.file.controller.port)]
    wanted += [(("services", n, "port"), s.port) for n, s in desk.file.services.items() if s.port]
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
        yield Problem(key, f"port {port} is held by {by}", "end that process, or give another port")


def _is_listened_on(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
