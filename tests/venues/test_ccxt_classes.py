"""One exchange of ccxt without the others, in a process that has imported nothing of it yet."""

from __future__ import annotations

import subprocess
import sys

import pytest

from openbell.errors import UsageError
from openbell.venues.ccxt_classes import exchange_class


def in_new_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_others_are_not_imported() -> None:
    told = in_new_process(
        "import sys\n"
        "from openbell.venues.ccxt_classes import exchange_class\n"
        "print(exchange_class('kraken').__name__, 'ccxt.okx' in sys.modules, 'ccxt' in sys.modules)"
    )
    assert told == "kraken False False"


def test_the_whole_package_can_be_imported_after_it_and_has_the_same_class() -> None:
    told = in_new_process(
        "from openbell.venues.ccxt_classes import exchange_class\n"
        "kraken = exchange_class('kraken')\n"
        "import ccxt, ccxt.pro\n"
        "print(ccxt.kraken is kraken, 'okx' in ccxt.exchanges, hasattr(ccxt, 'AuthenticationError'))\n"
        "print(exchange_class('okx') is ccxt.okx)"
    )
    assert told.split() == ["True"] * 4


def test_threads_that_load_adapters_at_once_do_not_meet_half_a_package() -> None:
    told = in_new_process(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from openbell.venues.registry import load_adapter\n"
        "names = ['ccxt', 'kraken', 'binance', 'coinbase', 'binance-usdm'] * 3\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    print(len(list(pool.map(load_adapter, names))))\n"
        "import ccxt\n"
        "print(len(ccxt.exchanges) > 90)"
    )
    assert told.split() == ["15", "True"]


def test_what_it_would_send_by_is_not_loaded_to_sign() -> None:
    told = in_new_process(
        "import sys\n"
        "from openbell.venues.ccxt_classes import exchange_class\n"
        "exchange = exchange_class('binance')({'apiKey': 'k', 'secret': 's'})\n"
        "print(exchange.sign('order', ['private'], 'POST', {'symbol': 'BTCUSDT'})['headers'])\n"
        "exchange.close()\n"
        "del exchange\n"
        "print(sorted({'requests', 'urllib3'} & set(sys.modules)))"
    )
    headers, loaded = told.splitlines()
    assert "'X-MBX-APIKEY': 'k'" in headers
    assert loaded == "[]"


def test_whoever_sends_by_it_gets_the_library_and_its_errors() -> None:
    """A plug-in may call ccxt's own methods, on an exchange that was made before too. Nobody listens at
    the address: ccxt knows the error that requests raises, and says it as its own."""
    told = in_new_process(
        "import sys\n"
        "from openbell.venues.ccxt_classes import exchange_class\n"
        "kraken = exchange_class('kraken')\n"
        "first, second = kraken(), kraken()\n"
        "import requests, ccxt\n"
        "assert not isinstance(first.session, requests.Session)\n"
        "first.session.trust_env = True\n"
        "for exchange in (first, second):\n"
        "    try:\n"
        "        exchange.fetch('http://127.0.0.1:1/')\n"
        "    except ccxt.NetworkError as error:\n"
        "        print(type(error).__name__, isinstance(error.__cause__, requests.ConnectionError),\n"
        "              type(exchange.session) is requests.Session, exchange.session.trust_env)\n"
        "kept = vars(sys.modules['ccxt.base.exchange'])\n"
        "print(kept['Session'] is requests.Session, kept['Timeout'] is requests.Timeout,\n"
        "      kept['requestsConnectionError'] is requests.ConnectionError)"
    )
    assert told.splitlines() == [
        "NetworkError True True True",
        "NetworkError True True False",
        "True True True",
    ]


def test_an_unknown_one_is_named() -> None:
    with pytest.raises(UsageError, match="nonesuch"):
        exchange_class("nonesuch")
