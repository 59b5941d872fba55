"""Before a desk file is taken: that the adapters of its venues can be made.

Most of it is known from the file alone, and was told when that was read. For adapters that have to be
made to know, a process is sent (`venues.making`): the controller loads no client library, and code of
others even less.
"""

from __future__ import annotations

import os
import sys

import msgspec

from openbell.config.key_lines import key_lines, line_of
from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.config.problems import DeskFileError, Problem
from openbell.errors import FailedError
from openbell.runtime.commands import run_command
from openbell.runtime.plan import BASE_VARIABLES
from openbell.venues.clerk import ENVIRONMENT_PASSED
from openbell.venues.making import Problems, must_be_made

TIMEOUT_S = 30.0
"""An interpreter and a client library on a busy machine, many times over."""
_ANSWER_CHARS_MAX = 1 << 16


async def refuse_unmakeable(desk: LoadedDesk, layout: DeskLayout) -> None:
    """Raises DeskFileError with the lines of venues whose adapter cannot be made, FailedError where
    that could not be found out."""
    venues = must_be_made(desk.file)
    if not venues:
        return
    argv = [sys.executable, "-m", "openbell.venues.making", "--desk", str(layout.desk)]
    argv += [part for name in venues for part in ("--venue", name)]
    passed = {*ENVIRONMENT_PASSED, *BASE_VARIABLES}
    ran = await run_command(
        argv,
        cwd=layout.desk,
        environment={name: os.environ[name] for name in passed if name in os.environ},
        timeout_s=TIMEOUT_S,
        line_chars=_ANSWER_CHARS_MAX,
    )
    said = next((line for line in reversed(ran.lines) if line.startswith("{")), "")
    try:
        problems = msgspec.json.decode(said, type=Problems).problems
    except msgspec.DecodeError:
        raise FailedError(
            f"whether the adapters of {', '.join(venues)} can be made is not known: {ran.told}",
            hint="`openbell check` tries it as well",
        ) from None
    if problems:
        lines = key_lines(desk.path.read_text())
        raise DeskFileError(
            desk.path,
            [Problem(p.key, p.message, p.hint, line_of(lines, p.key)) for p in problems],
        )
