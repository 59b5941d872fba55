"""Whether the adapters of a desk can be made: what is wrong in its venue tables, found without a
venue being asked.

    python -m openbell.venues.making --desk DIR [--venue NAME ...]

`make_all` makes them in this process, for `openbell check`. The controller loads no client library:
it goes by `settings.wrong_settings`, and sends this module as a process of its own for the adapters
of which that does not say everything (`must_be_made`). It prints one JSON document, `{"problems":
[{"key", "message", "hint"}]}`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from openbell.config.loader import load_desk
from openbell.config.models import DeskFile
from openbell.config.models import Venue as VenueConfig
from openbell.config.nearest import did_you_mean
from openbell.config.problems import Problem
from openbell.errors import OpenbellError
from openbell.venues.credentials import Credentials
from openbell.venues.port import Venue
from openbell.venues.registry import known_adapters, open_venue
from openbell.venues.settings import SETTINGS, wrong_settings

_MADE_TO_KNOW = "ccxt"
"""Of our own adapters the one whose table is not known from `SETTINGS` alone: ccxt says which
exchanges there are, and which of them have a test system."""


class Problems(msgspec.Struct, frozen=True):
    """What the process prints."""

    problems: tuple[Problem, ...]


def setting_problems(desk: DeskFile) -> list[Problem]:
    """What is known to be wrong without an adapter being loaded: adapters that are not there, and
    settings that those of ours do not take."""
    known = known_adapters()
    found: list[Problem] = []
    for name, venue in desk.venues.items():
        if venue.adapter not in known:
            found.append(
                Problem(
                    ("venues", name, "adapter"),
                    f'there is no adapter "{venue.adapter}"',
                    f"{did_you_mean(venue.adapter, known)}; others come in packages of their own",
                )
            )
        found += wrong_settings(name, venue)
    return found


def must_be_made(desk: DeskFile) -> list[str]:
    """Venues of which `setting_problems` does not tell everything."""
    return [
        name
        for name, venue in desk.venues.items()
        if venue.adapter == _MADE_TO_KNOW or venue.adapter not in SETTINGS
    ]


def make_all(
    venues: Mapping[str, VenueConfig],
) -> tuple[dict[str, Venue], list[Problem]]:
    """The adapters that can be made, not connected and without credentials, and why the others
    cannot. They hold nothing that would have to be closed."""
    made: dict[str, Venue] = {}
    problems: list[Problem] = []
    for name, config in venues.items():
        try:
            made[name] = open_venue(name, config, Credentials("", ""))
        except OpenbellError as error:
            problems.append(Problem(_key_of(name, error), error.message, error.hint))
        except Exception as error:  # noqa: BLE001 - an adapter is anyone's code
            problems.append(
                Problem(
                    ("venues", name),
                    f"the adapter {config.adapter} cannot be made: {type(error).__name__}: {error}",
                    "mend the table, or ask whoever wrote the adapter",
                )
            )
    return made, problems


def _key_of(name: str, error: OpenbellError) -> tuple[str, ...]:
    """An adapter names the place in its table by the fact `key`."""
    inner = error.facts.get("key", ())
    parts = (inner,) if isinstance(inner, str) else inner
    return ("venues", name, *map(str, parts if isinstance(parts, Collection) else ()))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="openbell.venues.making", description=__doc__)
    parser.add_argument("--desk", type=Path, required=True, help="folder that holds desk.toml")
    parser.add_argument("--venue", action="append", default=[], help="only this one; repeatable")
    options = parser.parse_args(arguments)
    try:
        desk = load_desk(options.desk).file
    except OpenbellError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        return error.exit_code
    wanted = options.venue or list(desk.venues)
    _, problems = make_all({name: desk.venues[name] for name in wanted if name in desk.venues})
    sys.stdout.write(msgspec.json.encode(Problems(tuple(problems))).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
