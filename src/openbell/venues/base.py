"""What every adapter has: its name, its table of desk.toml, and an honest no to what its venue
cannot do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from openbell.config.models import Venue as VenueConfig
from openbell.domain.market import Quote
from openbell.domain.orders import ClOrdID
from openbell.venues.credentials import Credentials
from openbell.venues.port import (
    AccountSummary,
    CancelOutcome,
    KeyPermissions,
    NotSupportedError,
    OnSent,
    VenueUnavailableError,
)
from openbell.venues.problem import NONSENSE

TEXT_MAX = 200
"""Characters kept of what a venue says; enough for every documented message."""


class VenueBase:
    """Base of the adapters. The port's calls that not every venue has are refused here; which ones
    an adapter overrides, its `capabilities` say."""

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        self.name = name
        self.config = config
        self.on_sent: OnSent | None = None
        self._credentials = credentials

    # What not every venue has.

    async def cancel_many(self, symbol: str, cl_ord_ids: Sequence[ClOrdID]) -> list[CancelOutcome]:
        raise self._unsupported("batch cancel")

    async def cancel_all(self, symbol: str) -> CancelOutcome:
        raise self._unsupported("mass cancel per symbol")

    async def cancel_account(self) -> CancelOutcome:
        raise self._unsupported("mass cancel")

    async def arm_dead_mans_switch(self, timeout_s: float, symbols: Sequence[str] = ()) -> None:
        raise self._unsupported("dead-man's switch")

    async def server_time_ns(self) -> int:
        raise self._unsupported("server time")

    async def accounts(self) -> list[AccountSummary]:
        raise self._unsupported("list of accounts")

    async def key_permissions(self) -> KeyPermissions:
        """Nothing is known of them unless the venue says."""
        return KeyPermissions()

    def _unsupported(self, what: str) -> NotSupportedError:
        return NotSupportedError(
            f"{self.name}: this venue has no {what}",
            hint="`openbell venues` shows what each venue can do",
        )

    # Help for adapters.

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """What is not as it should be in an answer is no answer: nothing is known."""
        try:
            yield
        except NONSENSE as error:
            message = f"{self.name}: {what} of another shape"
            raise VenueUnavailableError(message) from error

    def _sound(self, quote: Quote) -> Quote:
        """The same. VenueUnavailableError where nothing could be concluded from its prices."""
        if not quote.is_sound:
            raise VenueUnavailableError(f"{self.name}: no sound quote in {quote.symbol}")
        return quote

    def _sent_hook(self, cl_ord_id: ClOrdID | None) -> Callable[[], None] | None:
        on_sent = self.on_sent
        if on_sent is None or cl_ord_id is None:
            return None
        return lambda: on_sent(cl_ord_id, time.monotonic_ns())

    def _clean(self, text: str) -> str:
        """What a venue says, on one line, without credentials, and not too long to log."""
        return self._credentials.strike_from(" ".join(text.split()))[:TEXT_MAX]
