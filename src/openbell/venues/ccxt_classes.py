"""One of ccxt's exchanges without all the others, and without the library it would send by.

ccxt's package imports more than a hundred exchanges as it is imported itself: half a second of CPU
and 60 MB, in every process that talks to a venue. The module of one exchange needs none of them.
So for as long as that module is imported, an empty package stands in ccxt's place; afterwards it is
gone, and whoever imports ccxt then gets all of it, the same classes included.

In the same way something stands in the place of requests, whose loading is two thirds of what is left
and by which nothing here is sent (`ccxt_common`). Whoever does send by such a class, a plug-in say, gets what
it would have had: the library is loaded when a session of it is first used.
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
    with IMPORTING, _without_all_exchanges(), _requests_put_off():
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


class _LaterSession:
    """What ccxt makes for each exchange as a session of requests. It turns into one as it is used."""

    def close(self) -> None:
        """Of what was never used there is nothing to close."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        told = dict(vars(self))
        real = _give_ccxt_requests().Session
        self.__class__ = real
        real.__init__(self)
        vars(self).update(told)
        return getattr(self, name)


_FROM_REQUESTS: dict[str, dict[str, Any]] = {
    "requests": {"Session": _LaterSession},
    "requests.utils": {"default_user_agent": lambda name="python-requests": name},
    # None of them is raised before a session sends, and by then they are requests' own.
    "requests.exceptions": {
        name: type(name, (Exception,), {})
        for name in (
            "ConnectionError", "HTTPError", "RequestException", "Timeout", "TooManyRedirects",
        )
    },
}  # fmt: skip
"""What `ccxt.base.exchange` takes from there."""


@contextmanager
def _requests_put_off() -> Iterator[None]:
    if "requests" in sys.modules or f"{PACKAGE}.base.exchange" in sys.modules:
        yield
        return
    for name, attributes in _FROM_REQUESTS.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in _FROM_REQUESTS:
            sys.modules.pop(name, None)


def _give_ccxt_requests() -> Any:
    """Puts requests' own in the place of what stood for it, wherever ccxt keeps that."""
    with IMPORTING:
        exchange = sys.modules[f"{PACKAGE}.base.exchange"]
        for name, attributes in _FROM_REQUESTS.items():
            real = importlib.import_module(name)
            for attribute, stand_in in attributes.items():
                for kept, value in list(vars(exchange).items()):
                    if value is stand_in:  # under its own name or another
                        setattr(exchange, kept, getattr(real, attribute))
        return importlib.import_module("requests")
