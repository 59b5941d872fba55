"""`openbell check`"""

from __future__ import annotations

import os
from typing import Any

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.status import offline_status
from openbell.domain.desk_state import DeskState
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
        status = _status(terminal)
        problems = preflight(desk, terminal.layout, os.environ, _own_pids(status))
        warnings = cautions(desk)
        if status["state"] != DeskState.OFFLINE and status["desk_file"]["changed"]:
            warnings.append(
                Problem(
                    (),
                    "the open desk goes by the file as it was before",
                    "`openbell reload SERVICE` or `openbell up` takes this one over",
                )
            )
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


def _status(terminal: Terminal) -> dict[str, Any]:
    try:
        status: dict[str, Any] = Client(terminal.layout).get("status")
    except NotRunningError:
        status = offline_status(terminal)
    return status


def _own_pids(status: dict[str, Any]) -> set[int]:
    """Processes of this desk, watched by a controller or not: a port they hold is theirs."""
    pids = {service["pid"] for service in status["services"]} | {status["controller"]["pid"]}
    return {pid for pid in pids if pid is not None}
