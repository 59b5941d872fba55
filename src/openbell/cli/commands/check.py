"""`openbell check`"""

from __future__ import annotations

import os

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.status import offline_status
from openbell.errors import ConfigError, NotRunningError


@command()
def check(terminal: Terminal) -> int:
    """Validate desk.toml and this machine: what is wrong, in which line, and how to mend it.

    Nothing is started. Exit status 0 without problems, 4 with any; warnings do not count.
    """
    from openbell.config.problems import DeskFileError, Problem
    from openbell.procedures.preflight import cautions, preflight
    from openbell.procedures.settings import load_checked

    warnings: list[Problem] = []
    try:
        desk = load_checked(terminal.desk_path)
        problems = preflight(desk, terminal.layout, os.environ, _own_pids(terminal))
        warnings = cautions(desk)
        path = desk.path
    except DeskFileError as error:
        problems, path = list(error.problems), error.path
    document = {
        "ok": not problems,
        "file": str(path),
        "problems": [p.as_dict(path) for p in problems],
        "warnings": [p.as_dict(path) for p in warnings],
    }
    for warning in warnings:
        terminal.warn(f"warning: {warning.located(path)}")
    if not problems:
        terminal.show(document, f"{path}: clean, {len(desk.file.services)} services")
        return 0
    terminal.document(document)
    for problem in problems:
        terminal.say(problem.located(path))
    terminal.warn(f"{len(problems)} problem{'s' if len(problems) != 1 else ''}")
    return ConfigError.exit_code


def _own_pids(terminal: Terminal) -> set[int]:
    """Processes of this desk, watched by a controller or not: a port they hold is theirs."""
    try:
        status = Client(terminal.layout).get("status")
    except NotRunningError:
        status = offline_status(terminal)
    pids = {service["pid"] for service in status["services"]} | {status["controller"]["pid"]}
    return {pid for pid in pids if pid is not None}
