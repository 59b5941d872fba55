"""The newest quotes and the newest word of risk-management, as the last gate needs them."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from openbell.domain.market import Quote
from openbell.domain.positions import Instrument
from openbell.service.logging import get_logger
from openbell.trading.bus import BadMessageError, Subscriber
from openbell.trading.messages import (
    MARKET_SOCKET,
    QUOTE_TOPIC,
    RISK_SOCKET,
    RISK_TOPIC,
    RiskState,
)

log = get_logger()


class MarketView:
    """Newest quote per instrument; older ones are passed over."""

    def __init__(self, run: Path) -> None:
        self.quotes: dict[Instrument, Quote] = {}
        self._path = run / MARKET_SOCKET

    def marks(self) -> dict[Instrument, Decimal]:
        """Mids of sound quotes, however old."""
        return {key: quote.mid for key, quote in self.quotes.items() if quote.is_sound}

    async def run(self) -> None:
        subscriber = Subscriber(self._path, {QUOTE_TOPIC: Quote}, conflate=(QUOTE_TOPIC,))
        try:
            while True:
                quote = await _next(subscriber)
                if quote is not None:
                    self.quotes[quote.venue, quote.symbol] = quote
        finally:
            subscriber.close()


class RiskView:
    """What risk-management said last, and when, on the monotonic clock."""

    def __init__(self, run: Path, on_change: Callable[[], None] = lambda: None) -> None:
        self.state: RiskState | None = None
        self._heard_ns = 0
        self._path = run / RISK_SOCKET
        self._on_change = on_change

    def age_ns(self) -> int | None:
        """Since it last spoke; None: never."""
        return None if self.state is None else time.monotonic_ns() - self._heard_ns

    async def run(self) -> None:
        subscriber = Subscriber(self._path, {RISK_TOPIC: RiskState})
        try:
            while True:
                state = await _next(subscriber)
                if state is None:
                    continue
                changed = self.state is None or self.state.breaches != state.breaches
                self.state, self._heard_ns = state, time.monotonic_ns()
                if changed:
                    self._on_change()
        finally:
            subscriber.close()


async def _next(subscriber: Subscriber) -> Any:
    try:
        return (await subscriber.receive()).body
    except BadMessageError as error:
        log.error("message not understood", alert=True, why=error.message)
        return None
