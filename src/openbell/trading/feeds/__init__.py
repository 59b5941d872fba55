"""Public market data: one `MarketFeed` per venue, found by the venue's adapter name."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

from openbell.config.models import Venue
from openbell.errors import ConfigError
from openbell.trading.feeds.port import FeedError, MarketFeed
from openbell.venues.credentials import Credentials

__all__ = ["NEED_CREDENTIALS", "FeedError", "MarketFeed", "make_feed"]

ENTRY_POINT_GROUP = "openbell.feeds"

_OURS = {
    "alpaca": "openbell.trading.feeds.alpaca:AlpacaFeed",
    "binance": "openbell.trading.feeds.binance:BinanceFeed",
    "binance-usdm": "openbell.trading.feeds.binance_usdm:BinanceUsdmFeed",
    "ccxt": "openbell.trading.feeds.polled:PolledFeed",
    "coinbase": "openbell.trading.feeds.coinbase:CoinbaseFeed",
    "kraken": "openbell.trading.feeds.kraken:KrakenFeed",
    "mt5": "openbell.trading.feeds.polled:PolledFeed",
    "oanda": "openbell.trading.feeds.oanda:OandaFeed",
    "tradelocker": "openbell.trading.feeds.polled:PolledFeed",
}
"""By name, so that a process imports only what it uses."""

NEED_CREDENTIALS = frozenset({"alpaca", "mt5", "oanda", "tradelocker"})
"""Adapters whose venue quotes to known accounts only. The others tell everyone."""


def make_feed(name: str, venue: Venue, credentials: Credentials | None = None) -> MarketFeed:
    """The feed of venue `name`, not connected yet. `credentials`: None where the caller was given
    none; a feed that needs them says so when it connects. Raises ConfigError for an unknown adapter.
    """
    feed: MarketFeed = _find(venue.adapter)(name, venue, credentials)
    return feed


def _find(adapter: str) -> type:
    if adapter in _OURS:
        module, _, attribute = _OURS[adapter].partition(":")
        found: type = getattr(importlib.import_module(module), attribute)
        return found
    others = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if adapter not in others:
        known = ", ".join(sorted({*_OURS, *others}))
        raise ConfigError(
            f'no market data feed for adapter "{adapter}"',
            hint=f'known are {known}; others are added by the entry point group "{ENTRY_POINT_GROUP}"',
        )
    loaded: type = others[adapter].load()
    return loaded
