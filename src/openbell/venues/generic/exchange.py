"""ccxt's object of one exchange, made so that nothing is repeated, rounded or waited for behind our
back."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from openbell.config.models import Venue as VenueConfig
from openbell.config.nearest import nearest, nearest_told
from openbell.errors import ConfigError
from openbell.venues.ccxt_common import moved_to
from openbell.venues.credentials import Credentials
from openbell.venues.generic.ccxt_library import ccxt
from openbell.venues.generic.quirks import Quirks
from openbell.venues.original import original


def make_exchange(
    exchange_id: str, config: VenueConfig, credentials: Credentials, quirks: Quirks
) -> Any:
    """Without a session yet. Raises ConfigError for an exchange that ccxt does not know, or that has
    no test system where one is asked for."""
    if exchange_id not in ccxt.exchanges:
        raise ConfigError(
            f'ccxt {ccxt.__version__} knows no exchange "{exchange_id}"',
            hint=f"{_near(exchange_id)}name it by ccxt's own id, such as bybit",
            key=("options", "exchange"),
        )
    pushes = exchange_id in ccxt.pro.exchanges
    exchange = getattr(ccxt.pro if pushes else ccxt.async_support, exchange_id)(
        {
            "apiKey": credentials.key,
            "secret": credentials.secret,
            **({"password": config.options["password"]} if "password" in config.options else {}),
            "enableRateLimit": False,  # it would make a cancel wait behind queries
            "timeout": int(config.timeout * 1000),
            "number": str,
            "session": None,  # ours, see `calls`
            "options": {
                "maxRetriesOnFailure": 0,
                # Where the exchange has it: a request that was given up is not taken later.
                "recvWindow": int(config.timeout * 1000),
                **quirks.options,
            },
        }
    )
    exchange.timeout_on_exit = 0
    exchange.has["fetchCurrencies"] = False  # private and slow on many exchanges, and not needed
    _keep_digits(exchange)
    _count_on(exchange)
    if config.url is not None:
        exchange.urls["api"] = moved_to(config.url, exchange.urls["api"])
    elif config.environment == "practice":
        try:
            exchange.set_sandbox_mode(True)
        except (ccxt.NotSupported, TypeError) as error:  # TypeError where its entry is empty
            raise ConfigError(
                f"ccxt knows no test system of {exchange_id}",
                hint='use environment = "simulated" with a url, or "live"',
                key=("environment",),
            ) from original(error)
    return exchange


def _near(exchange_id: str) -> str:
    near = nearest(exchange_id, ccxt.exchanges)
    return f"{nearest_told(near)} " if near else ""


def _keep_digits(exchange: Any) -> None:
    """ccxt reads JSON numbers and order books as floats, whatever `number` says."""
    exchange.on_json_response = lambda body: json.loads(body, parse_float=str)

    def level(entry: Any, price: Any = 0, amount: Any = 1, _count: Any = 2) -> list[Decimal]:
        return [Decimal(exchange.safe_string(entry, each)) for each in (price, amount)]

    exchange.parse_order_book_bid_ask = level


def _count_on(exchange: Any) -> None:
    """Nonces are milliseconds in ccxt: two requests of one would carry the same."""
    told, last = exchange.nonce, 0

    def nonce() -> int:
        nonlocal last
        last = max(last + 1, int(told()))
        return last

    exchange.nonce = nonce
