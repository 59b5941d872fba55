"""One of ccxt's exchanges without all the others.

ccxt's package imports more than a hundred exchanges as it is imported itself: half a second of CPU
and 60 MB, in every process that talks to a venue. The module of one exchange needs none of them.
So for as long as that module is imported, an empty package stands in ccxt's place; afterwards it is
gone, and whoever imports ccxt then gets all of it, the same classes included.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from openbell.errors import UsageError

PACKAGE = "ccxt"

IMPORTING = threading.RLock()
"""Held by whoever imports ccxt or a part of it: adapters are loaded in threads."""


def exchange_class(exchange_id: str) -> Any:
    """ccxt's class of that name. Raises UsageError where there is none."""
    with IMPORTING, _without_all_exchanges():
        try:
            module = importlib.import_module(f"{PACKAGE}.{exchange_id}")
        except ModuleNotFoundError as error:
            raise UsageError(f'ccxt has no exchange "{exchange_id}"') from error
    return getattr(module, exchange_id)


def is_bad_credentials(error: Exception) -> bool:
    """Whether ccxt found key or secret missing or unusable."""
    errors = sys.modules.get(f"{PACKAGE}.base.errors")
    return errors is not None and isinstance(error, errors.AuthenticationError)


@contextmanager
def _without_all_exchanges() -> Iterator[None]:
    spec = PathFinder.find_spec(PACKAGE)
    if PACKAGE in sys.modules or spec is None or spec.submodule_search_locations is None:
        yield
        return
    package = ModuleType(PACKAGE)
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    sys.modules[PACKAGE] = package
    try:
        yield
    finally:
        del sys.modules[PACKAGE]
