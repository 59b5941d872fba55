"""The `MarketFeed` port: quotes and trades of one venue, as it tells them to everyone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from openbell.domain.market import InstrumentRules, Quote, Trade
from openbell.errors import OpenbellError


class FeedError(OpenbellError):
    """The venue cannot be reached, cut the connection, or sent what cannot be read. Connect again."""

    code = "feed"


class MarketFeed(Protocol):
    """One connection at a time; `connect` may be called again after it ended.

    Prices and quantities come from the venue's text, never through a float. Unsound quotes
    (crossed, not positive, not finite) are not given out, but counted.
    """

    unsound: int

    async def connect(self) -> tuple[InstrumentRules, ...]:
        """Connect, subscribe to every symbol that the desk file names, and give their rules. What
        prices the venue's fee currency may be streamed besides.

        Raises FeedError, also where the venue does not list one of them.
        """

    def messages(self) -> AsyncIterator[Quote | Trade]:
        """What the venue sends until the connection ends. Raises FeedError when it does."""

    async def close(self) -> None:
        """End the connection. May be called at any time, more than once."""
