"""What an adapter takes of its table in desk.toml, as data: known without loading the adapter.

    wrong_settings(name, table)    every problem, with its key: for `openbell check` and openings
    refuse_unusable(name, table, adapter)
                                   those without whose mend there is no adapter, as an error: for
                                   the adapters' own constructors

The second is the lesser part on purpose. A desk that is open already, opened by an earlier version
say, must be stopped and closed with the table that it has; what is only unwise does not keep an
adapter from that. Adapters of other packages have no entry here: they are made, and say it
themselves (`venues.making`).
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from openbell.config.models import Venue as VenueConfig
from openbell.config.nearest import did_you_mean
from openbell.config.problems import KeyPath, Problem
from openbell.errors import ConfigError

FEEDS = ("iex", "sip", "delayed_sip")
"""`feed` of Alpaca's market data API; the first unless told: every account has it."""
KRAKEN_TIERS = ("starter", "intermediate", "pro")
KRAKEN_NUMBERS = ("call_limit", "call_decay", "order_limit", "order_decay")
_QUOTES = "quote_every"
"""Of the market data service, where a venue's quotes are asked for."""


@dataclass(frozen=True)
class Settings:
    options: tuple[str, ...] = ()
    """Every name that `options` may hold."""
    needed: Mapping[str, str] = field(default_factory=dict)
    """Options without which there is no adapter: why, and an example of a value."""
    one_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Options with a choice of values."""
    numbers: tuple[str, ...] = ()
    """Options that are positive numbers."""
    url: str = ""
    """An example of the address, where the venue has none of its own."""
    no_practice: str = ""
    """Why there is no practice environment at the venue's own address."""
    currency: str = ""
    """The only one in which it quotes."""


SETTINGS: Mapping[str, Settings] = {
    "alpaca": Settings(options=("feed",), one_of={"feed": FEEDS}, currency="USD"),
    "binance": Settings(),
    "binance-usdm": Settings(),
    "ccxt": Settings(
        options=("exchange", "password", _QUOTES),
        needed={"exchange": "bybit"},
        numbers=(_QUOTES,),
    ),
    "coinbase": Settings(
        no_practice="Coinbase has no test system that trades: its sandbox gives fixed answers"
    ),
    "kraken": Settings(
        options=("tier", *KRAKEN_NUMBERS),
        one_of={"tier": KRAKEN_TIERS},
        numbers=KRAKEN_NUMBERS,
        no_practice="Kraken has no test system for its spot market",
    ),
    "mt5": Settings(options=("suffix", _QUOTES), numbers=(_QUOTES,), url="http://127.0.0.1:8228"),
    "oanda": Settings(),
    "tradelocker": Settings(
        options=("server", "suffix", _QUOTES), needed={"server": "BRK"}, numbers=(_QUOTES,)
    ),
}
"""By the adapter's name: all that come with Openbell."""


def wrong_settings(name: str, venue: VenueConfig) -> list[Problem]:
    """All that is wrong in `[venues.NAME]` for its adapter; of one of another package, what is
    wrong for any."""
    settings = SETTINGS.get(venue.adapter)
    problems = [*_unencrypted(name, venue)]
    if settings is not None:
        problems += [*_unknown_options(name, venue, settings), *_unusable(name, venue, settings)]
    return problems


def refuse_unusable(name: str, venue: VenueConfig, adapter: str) -> None:
    """As `adapter`, whatever name its entry point has. Raises ConfigError for the first thing without
    which there is no adapter; its fact `key` says where in the venue's table."""
    for problem in _unusable(name, venue, SETTINGS[adapter]):
        raise ConfigError(f"{name}: {problem.message}", hint=problem.hint, key=problem.key[2:])


def _unusable(name: str, venue: VenueConfig, settings: Settings) -> Iterator[Problem]:
    yield from _address(name, venue, settings)
    yield from _options(name, venue, settings)
    yield from _currencies(name, venue, settings)


def _unencrypted(name: str, venue: VenueConfig) -> Iterator[Problem]:
    """Credentials and orders of real money in clear text, for anyone on the way to read or change."""
    parts = urlsplit(venue.url or "")
    if venue.environment != "live" or parts.scheme != "http" or _is_loopback(parts.hostname or ""):
        return
    yield Problem(
        ("venues", name, "url"),
        f"real money over http: credentials and orders would cross the network to {parts.hostname} "
        "in clear text",
        "write https://, or reach it by a tunnel (SSH, VPN) that ends at 127.0.0.1",
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(name: str, venue: VenueConfig, settings: Settings) -> Iterator[Problem]:
    if venue.url is not None:
        return
    if settings.url:
        yield Problem(
            ("venues", name),
            "url is missing: the venue has no address of its own",
            f'write url = "{settings.url}" in [venues.{name}]',
        )
    elif venue.environment == "practice" and settings.no_practice:
        yield Problem(
            ("venues", name, "environment"),
            settings.no_practice,
            'use environment = "simulated" with a url, or "live"',
        )


def _unknown_options(name: str, venue: VenueConfig, settings: Settings) -> Iterator[Problem]:
    for option in venue.options:
        if option not in settings.options:
            yield Problem(
                ("venues", name, "options", option),
                f'{venue.adapter} knows no option "{option}"',
                did_you_mean(option, settings.options)
                if settings.options
                else "remove it: this adapter takes none",
            )


def _options(name: str, venue: VenueConfig, settings: Settings) -> Iterator[Problem]:
    key: KeyPath = ("venues", name, "options")
    for option, value in venue.options.items():
        if option in settings.one_of and value not in settings.one_of[option]:
            yield Problem(
                (*key, option),
                f'{venue.adapter} knows no {option} "{value}"',
                did_you_mean(value, settings.one_of[option]),
            )
        elif option in settings.numbers and not _is_positive(value):
            yield Problem(
                (*key, option), f'{option} is "{value}"', 'write a positive number, such as "0.5"'
            )
    for option, example in settings.needed.items():
        if not venue.options.get(option):
            yield Problem(
                key,
                f"the option {option} is missing",
                f'write options = {{ {option} = "{example}" }} in [venues.{name}]',
            )


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _currencies(name: str, venue: VenueConfig, settings: Settings) -> Iterator[Problem]:
    wrong = [
        symbol
        for symbol in venue.symbols
        if settings.currency and symbol.partition("/")[2].partition(":")[0] != settings.currency
    ]
    if wrong:
        meant = ", ".join(f"{symbol.partition('/')[0]}/{settings.currency}" for symbol in wrong)
        yield Problem(
            ("venues", name, "symbols"),
            f"{venue.adapter} quotes in {settings.currency} alone, and not {', '.join(wrong)}",
            f"write {meant}",
        )
