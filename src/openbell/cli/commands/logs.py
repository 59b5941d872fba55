"""`openbell logs`"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from openbell.cli.command import Terminal, command
from openbell.config.unit_texts import parse_duration
from openbell.errors import UsageError

if TYPE_CHECKING:
    from openbell.watch.log_line import LogLine

_DEFAULT_TAIL = 100
_LOOK_EVERY_S = 0.2
"""Files are looked at, not watched: inotify is not everywhere, and a fifth of a second is not felt."""


@command()
@click.argument("services", nargs=-1)
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="The last N lines only.")
@click.option("--since", metavar="DURATION", help="Of the last 30s, 5m, 2h, ...")
@click.option(
    "--level", metavar="LEVEL", help="Of this level or a graver one: INFO, WARNING, ERROR, ..."
)
def logs(
    terminal: Terminal,
    services: tuple[str, ...],
    follow: bool,
    tail: int | None,
    since: str | None,
    level: str | None,
) -> None:
    """The logs of services (or all, and the controller's) as one, in time order.

    Reads files, so it works with nothing running. With --json one document, or with --follow one
    JSON object a line.
    """
    from openbell.config.loader import load_desk
    from openbell.config.nearest import did_you_mean
    from openbell.watch.log_line import LEVELS
    from openbell.watch.logs import CONTROLLER, GUARD, LogFollower, LogQuery, log_paths, read_logs

    known = [*load_desk(terminal.desk_path).file.services, CONTROLLER, GUARD]
    for service in services:
        if service not in known:
            raise UsageError(f'there is no service "{service}"', hint=did_you_mean(service, known))
    if level is not None and level.lower() not in LEVELS:
        raise UsageError(f'there is no level "{level}"', hint=f"there are: {', '.join(LEVELS)}")
    query = LogQuery(
        since_ns=_since_ns(since),
        tail=_DEFAULT_TAIL if tail is None and since is None else tail,
        level=level.lower() if level else None,
    )
    paths = log_paths(terminal.layout, services or known)
    follower = LogFollower(paths, query.level)  # before reading, so that no line falls between
    lines = read_logs(paths, query)
    if not follow:
        document = {"lines": [line.as_dict() for line in lines]}
        text = "\n".join(_text(line) for line in lines) or "no such lines"
        terminal.show(document, text, is_record=True)
        return
    _print(terminal, lines)
    try:
        while True:
            _print(terminal, follower.poll())
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        return


def _since_ns(since: str | None) -> int | None:
    if since is None:
        return None
    try:
        return time.time_ns() - int(parse_duration(since) * 1e9)
    except ValueError as error:
        raise UsageError(f"--since: {error}") from None


def _print(terminal: Terminal, lines: Iterable[LogLine]) -> None:
    for line in lines:
        click.echo(json.dumps(line.as_dict(), default=str) if terminal.as_json else _text(line))


def _text(line: LogLine) -> str:
    told = line.as_dict()
    at = str(told["at"])[11:23] if told["at"] else "-"
    fields = " ".join(_field(key, value) for key, value in line.fields.items())
    return f"{at:<12} {line.service:<18} {line.level.upper():<8} {line.text} {fields}".rstrip()


def _field(key: str, value: object) -> str:
    """`key=value`; of an exception what it says and where it was raised, not every frame."""
    if key != "exception" or not isinstance(value, list):
        return f"{key}={value}"
    return "; ".join(_raised(each) for each in value if isinstance(each, dict))


def _raised(exception: dict[str, Any]) -> str:
    frames = exception.get("frames") or [{}]
    place = f" ({frames[-1].get('filename')}:{frames[-1].get('lineno')})" if frames[-1] else ""
    return f"{exception.get('exc_type')}: {exception.get('exc_value')}{place}"
