"""Adapters by name: entry points in the group `openbell.venues`.

An adapter is imported when it is first asked for and not before: a client library costs a third
of a second and 50 MB, which only a process that talks to a venue should pay.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

from openbell.config.models import Venue as VenueConfig
from openbell.config.nearest import nearest, nearest_told
from openbell.errors import UsageError
from openbell.venues.ccxt_classes import IMPORTING
from openbell.venues.credentials import Credentials
from openbell.venues.port import Venue

GROUP = "openbell.venues"


class Adapter(Protocol):
    """What an entry point names: called with the venue's name in desk.toml, its table there and
    its credentials. It must not connect yet."""

    def __call__(self, name: str, config: VenueConfig, credentials: Credentials, /) -> Venue: ...


def known_adapters() -> list[str]:
    """Names of the installed adapters, sorted; none of them is imported."""
    return sorted({entry.name for entry in _entries()})


def load_adapter(name: str) -> Adapter:
    """The adapter called `name`. Raises UsageError that names the known ones."""
    found = next((entry for entry in _entries() if entry.name == name), None)
    if found is None:
        known = known_adapters()
        raise UsageError(
            f'there is no venue adapter "{name}"',
            hint=nearest_told(nearest(name, known, n=1)) or f"known adapters: {', '.join(known)}",
            adapter=name,
            known=known,
            key=("adapter",),
        )
    try:
        with IMPORTING:
            return cast(Adapter, found.load())
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f'the venue adapter "{name}" ({found.value}) cannot be imported: {error}',
            hint="install the package it belongs to again",
            adapter=name,
            key=("adapter",),
        ) from error


def open_venue(name: str, config: VenueConfig, credentials: Credentials) -> Venue:
    """The venue `name` of a desk, not yet connected."""
    return load_adapter(config.adapter)(name, config, credentials)


def _entries() -> list[EntryPoint]:
    return list(entry_points(group=GROUP))
