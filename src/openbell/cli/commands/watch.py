"""`openbell watch`"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from openbell.cli.client import Client
from openbell.cli.command import Terminal, command
from openbell.cli.commands.status import offline_status
from openbell.config.unit_texts import parse_duration
from openbell.errors import UsageError

if TYPE_CHECKING:
    from openbell.cli.watch.looking import Looking
    from openbell.domain.alerts import Thresholds

EVERY_LEAST_S = 0.2
PAGE_WIDTH = 160
"""Of output that is no terminal."""
FIRST_FRAME_S = 8.0
"""How long the first frame waits for answers; what has not come by then is shown as unknown."""

_PASSING = re.compile(r"\d+(?:\.\d+)?(?:ms|s|m|h|d)\b")


@command()
@click.option("--once", is_flag=True, help="One frame, then the end.")
@click.option(
    "--every", default="1s", show_default=True, metavar="DURATION", help="How often to look."
)
def watch(terminal: Terminal, once: bool, every: str) -> None:
    """The desk live: the run under way with its steps, alerts, strategies, orders and positions per
    venue, feeds, connections, the last actions. Only looks; changes nothing.

    On a terminal it is drawn in place until q or Ctrl-C. Elsewhere frames are plain text, written
    when something other than the time has changed. With --json one document a line for each frame.
    What is not known is shown as unknown. Without a controller the desk's files are shown until it
    is back.
    """
    from openbell.cli.watch.looking import Looking
    from openbell.config.loader import load_desk
    from openbell.domain.alerts import Thresholds

    every_s = _every(every)
    thresholds = Thresholds.of(load_desk(terminal.desk_path).file)
    looking = Looking(
        Client(terminal.layout), terminal.layout, lambda: offline_status(terminal), every_s
    )
    if once:
        _once(terminal, looking, thresholds)
        return
    looking.begin()
    try:
        if terminal.as_json:
            _as_documents(looking, thresholds, every_s)
        elif sys.stdout.isatty():
            _in_place(looking, thresholds, every_s)
        else:
            _as_text(looking, thresholds, every_s)
    except KeyboardInterrupt:
        return  # that is how it is ended


def _every(text: str) -> float:
    try:
        every_s = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--every: {error}") from None
    if every_s < EVERY_LEAST_S:
        raise UsageError(f"--every is at least {EVERY_LEAST_S * 1000:.0f}ms")
    return every_s


def _document(looking: Looking, thresholds: Thresholds) -> dict[str, Any]:
    from openbell.cli.watch.document import frame_document

    return frame_document(looking.look(), thresholds)


def _once(terminal: Terminal, looking: Looking, thresholds: Thresholds) -> None:
    from openbell.cli.watch.document import frame_document
    from openbell.cli.watch.frame import frame_lines

    document = frame_document(looking.once(), thresholds)
    terminal.show(document, "\n".join(frame_lines(document, PAGE_WIDTH)))


def _as_documents(looking: Looking, thresholds: Thresholds, every_s: float) -> None:
    looking.wait(FIRST_FRAME_S)
    never = threading.Event()
    while True:
        click.echo(json.dumps(_document(looking, thresholds), default=str, ensure_ascii=False))
        never.wait(every_s)


def _as_text(looking: Looking, thresholds: Thresholds, every_s: float) -> None:
    from openbell.cli.watch.frame import frame_lines

    looking.wait(FIRST_FRAME_S)
    never = threading.Event()
    shown: list[str] = []
    while True:
        document = _document(looking, thresholds)
        lines = steady(frame_lines(document, PAGE_WIDTH, ages=False))
        if lines != shown:
            click.echo("\n".join([*frame_lines(document, PAGE_WIDTH), ""]))
            shown = lines
        never.wait(every_s)


def steady(lines: Sequence[str]) -> list[str]:
    """Without durations: reasons name some, and these pass without anything having changed."""
    return [_PASSING.sub("#", line) for line in lines]


def _in_place(looking: Looking, thresholds: Thresholds, every_s: float) -> None:
    from openbell.cli.watch.frame import frame_lines
    from openbell.cli.watch.screen import Screen

    looking.status.answered.wait(FIRST_FRAME_S)
    document = _document(looking, thresholds)
    with Screen() as screen:
        while True:
            screen.draw(partial(frame_lines, document))
            if "q" in screen.wait(every_s).lower():
                return
            document = _document(looking, thresholds)
