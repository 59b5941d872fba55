"""ccxt without its hundred exchanges is ccxt: each of them is there when it is named."""

from __future__ import annotations

import subprocess
import sys

_LOADED = "sum(name.startswith('ccxt') for name in sys.modules)"


def said(code: str) -> list[str]:
    """By a process that has loaded nothing yet."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_one_exchange_is_loaded_without_the_others_and_whoever_imports_ccxt_gets_the_same() -> None:
    told = said(
        f"""
from openbell.venues.generic.ccxt_library import ccxt
from openbell.venues.ccxt_classes import exchange_class
pushing = ccxt.pro.kraken
print({_LOADED} < 40)
import ccxt as plainly, ccxt.pro, ccxt.async_support
from ccxt.pro import kraken
from ccxt.async_support.binance import binance
print(plainly is ccxt, kraken is pushing, issubclass(pushing, plainly.async_support.kraken))
print(plainly.async_support.binance is binance, plainly.kraken is exchange_class("kraken"))
print(hasattr(plainly, "no_such_exchange"), hasattr(plainly.pro, "no_such_exchange"))
"""
    )
    assert told == ["True"] * 6 + ["False"] * 2


def test_every_exchange_and_every_name_that_ccxt_promises_is_there() -> None:
    told = said(
        """
from openbell.venues.generic.ccxt_library import ccxt
for package in (ccxt, ccxt.async_support, ccxt.pro):
    for name in package.exchanges:
        made = getattr(package, name)
        assert isinstance(made, type) and made.__module__ == f"{package.__name__}.{name}", made
    for name in getattr(package, "__all__", ()):
        assert hasattr(package, name), name
print(min(len(package.exchanges) for package in (ccxt, ccxt.async_support, ccxt.pro)) > 50)
"""
    )
    assert told == ["True"]


def test_where_all_of_ccxt_is_loaded_already_it_stays_as_it_is() -> None:
    told = said(
        """
import ccxt.pro as before
from openbell.venues.generic.ccxt_library import ccxt
print(ccxt.pro is before, "__getattr__" in vars(type(ccxt)), isinstance(ccxt.pro.kraken, type))
"""
    )
    assert told == ["True", "False", "True"]
