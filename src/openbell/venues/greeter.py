"""The greeter: whether venues are there, know us, and what time they have.

    python -m openbell.venues.greeter --desk DIR --venue NAME ... [--timeout 10s]

A process of its own, as the clerk is: no client library is loaded into the controller before anything
of the desk is started. It prints one JSON document, `{"venues": [{"name", "reached", "why", "took_ms",
"skew_ms", "skew_why"}]}`, and nothing that it does changes anything at a venue.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.config.models import Venue as VenueConfig
from openbell.config.secrets import load_secrets
from openbell.config.unit_texts import parse_duration
from openbell.errors import OpenbellError
from openbell.venues.credentials import Credentials
from openbell.venues.port import NotSupportedError, Venue, VenueError
from openbell.venues.registry import open_venue


class Greeting(msgspec.Struct, frozen=True, kw_only=True):
    """One venue's answer."""

    name: str
    reached: bool | None
    """Answered, and took the credentials; None: nobody could ask it."""
    why: str = ""
    took_ms: float | None = None
    skew_ms: float | None = None
    """Its clock before ours, measured against the middle of the question's way."""
    skew_why: str = ""
    """Why there is no skew; empty with one."""
    tells_time: bool = True
    """False: the venue has no such question."""


class Greetings(msgspec.Struct, frozen=True):
    venues: tuple[Greeting, ...]


async def greet(name: str, venue: Venue) -> Greeting:
    begun = time.monotonic()
    try:
        await venue.connect()
    except VenueError as error:
        return Greeting(name=name, reached=False, why=error.message, skew_why="it is not reached")
    took_ms = round((time.monotonic() - begun) * 1000, 1)
    before_ns = time.time_ns()
    try:
        there_ns = await venue.server_time_ns()
    except NotSupportedError:
        return Greeting(
            name=name, reached=True, took_ms=took_ms, skew_why="it tells no time", tells_time=False
        )
    except VenueError as error:
        return Greeting(name=name, reached=True, took_ms=took_ms, skew_why=error.message)
    skew_ms = (there_ns - (before_ns + time.time_ns()) // 2) / 1e6
    return Greeting(name=name, reached=True, took_ms=took_ms, skew_ms=round(skew_ms, 1))


async def _visit(
    name: str, config: VenueConfig, pair: tuple[str, str] | None, timeout_s: float
) -> Greeting:
    if pair is None:
        return Greeting(name=name, reached=None, why="its credentials are not set")
    try:
        venue = open_venue(name, config, Credentials(*pair))
    except OpenbellError as error:
        return Greeting(name=name, reached=None, why=error.message)
    try:
        async with asyncio.timeout(timeout_s):
            return await greet(name, venue)
    except TimeoutError:
        return Greeting(name=name, reached=None, why=f"no answer within {timeout_s:g}s")
    finally:
        await venue.close()


async def _all(
    venues: dict[str, VenueConfig], pairs: dict[str, tuple[str, str]], timeout_s: float
) -> Greetings:
    """All at once; none waits for another."""
    return Greetings(
        tuple(
            await asyncio.gather(
                *(_visit(name, each, pairs.get(name), timeout_s) for name, each in venues.items())
            )
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="openbell.venues.greeter", description=__doc__)
    parser.add_argument("--desk", type=Path, required=True, help="folder that holds desk.toml")
    parser.add_argument("--venue", action="append", required=True, help="repeatable")
    parser.add_argument("--timeout", type=parse_duration, default=10.0, metavar="10s")
    options = parser.parse_args(arguments)
    try:
        desk = load_desk(options.desk)
        pairs = load_secrets(desk, DeskLayout.for_desk(options.desk)).venue_credentials()
        venues = {name: desk.file.venues[name] for name in options.venue}
        document = asyncio.run(_all(venues, pairs, options.timeout))
    except OpenbellError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        return error.exit_code
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
