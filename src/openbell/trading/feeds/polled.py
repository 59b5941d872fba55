"""Quotes of a venue without a stream that we read: asked for, by the venue's own adapter.

There are no trades: no adapter lists public ones. The service that runs this must be given the
venue's credentials (`venues = ["NAME"]` in its table of desk.toml) unless the adapter has
`connect_public`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import InstrumentRules, Quote, Trade
from openbell.errors import OpenbellError
from openbell.trading.feeds.port import FeedError
from openbell.venues.credentials import Credentials
from openbell.venues.port import Venue, VenueAuthError, VenueError, VenueThrottledError
from openbell.venues.registry import open_venue

QUOTE_EVERY_S = 1.0
"""Between two rounds of questions, unless the venue's option `quote_every` says so many seconds.
Ours: well under the age at which risk takes a quote for stale, and few requests."""


@runtime_checkable
class Public(Protocol):
    """An adapter that tells rules and quotes to anybody."""

    async def connect_public(self) -> None:
        """As `Venue.connect`, without proving credentials."""


class PolledFeed:
    """See `MarketFeed`."""

    polled = True
    """Its quotes' times are those of the market's last move, so nothing is concluded from their age."""

    def __init__(self, name: str, venue: VenueConfig, credentials: Credentials | None) -> None:
        self.unsound = 0
        self._name = name
        self._config = venue
        self._credentials = credentials
        self._every_s = float(venue.options.get("quote_every", QUOTE_EVERY_S))
        self._venue: Venue | None = None

    async def connect(self) -> tuple[InstrumentRules, ...]:
        await self.close()
        credentials = self._credentials or Credentials("", "")
        try:
            self._venue = venue = open_venue(self._name, self._config, credentials)
            await (venue.connect_public() if isinstance(venue, Public) else venue.connect())
            return tuple(venue.rules(symbol) for symbol in self._config.symbols)
        except OpenbellError as error:
            await self.close()
            refused = isinstance(error, VenueAuthError) and self._credentials is None
            hint = f'give this service the venue\'s credentials: venues = ["{self._name}"]'
            raise FeedError(error.message, hint=hint if refused else error.hint) from error

    async def messages(self) -> AsyncIterator[Quote | Trade]:
        assert self._venue is not None, "connect first"
        while True:
            pause_s = self._every_s
            try:
                for symbol in self._config.symbols:
                    quote = await self._venue.quote(symbol)
                    if quote.is_sound:
                        yield quote
                    else:
                        self.unsound += 1
            except VenueThrottledError as error:
                pause_s = max(pause_s, error.retry_after_s)
            except VenueError as error:
                raise FeedError(error.message, hint=error.hint) from error
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        venue, self._venue = self._venue, None
        if venue is not None:
            await venue.close()
