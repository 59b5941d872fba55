"""What one venue's limits keep the engine from, and until when."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from openbell.service.logging import get_logger
from openbell.trading.engine import metrics
from openbell.venues.port import VenueThrottledError

log = get_logger()

HELD_BACK_S = 10.0
"""How long after the last time that the venue's limits held something back the desk says so, at
least. Ours."""


class HoldingBack:
    """One venue's. Whatever is held back, the venue answers: it is not down."""

    def __init__(self, venue: str, on_change: Callable[[], None]) -> None:
        self._venue = venue
        self._on_change = on_change
        self._orders_from_s: dict[str, float] = {}
        self._asks_again_s = 0.0
        self._told_until_s = 0.0
        self._why = ""
        self._ends_s = 0.0
        """When what was held back last may be tried again, by the monotonic clock."""
        self._ends_at = ""
        """The same as the time of the day."""
        metrics.HELD_BACK.labels(venue).set_function(lambda: float(bool(self.why)))

    @property
    def why(self) -> str:
        """Why orders, cancels or questions wait for the venue's limits, or began to within the last
        `HELD_BACK_S`, and until when; empty where none does."""
        now_s = time.monotonic()
        if now_s >= self._told_until_s:
            return ""
        ends = "until" if now_s < self._ends_s else "last until"
        return f"{self._why} ({ends} {self._ends_at})"

    @property
    def left_s(self) -> float:
        """For how long nothing can be asked; 0: something can."""
        return max(0.0, self._asks_again_s - time.monotonic())

    def orders(self, symbol: str, retry_after_s: float | None) -> None:
        """The venue wants fewer orders in this symbol, for so long."""
        wait_s = retry_after_s if retry_after_s is not None else HELD_BACK_S
        from_s = time.monotonic() + wait_s
        self._orders_from_s[symbol] = max(self._orders_from_s.get(symbol, 0.0), from_s)
        self._note(f"{self._venue} takes fewer orders in {symbol}: its limits are reached", wait_s)

    def orders_wait_s(self, symbol: str) -> float:
        """How long no new order in this symbol is of any use; 0: none."""
        return max(0.0, self._orders_from_s.get(symbol, 0.0) - time.monotonic())

    def questions(self, error: VenueThrottledError) -> str:
        """Nothing can be asked for as long as the venue, or its adapter, says. Gives that in words,
        with the time of the day at which it ends."""
        self._asks_again_s = time.monotonic() + error.retry_after_s
        self._note(error.message, error.retry_after_s)
        return f"held back by the venue's limits until {self._ends_at}"

    def _note(self, why: str, wait_s: float) -> None:
        metrics.THROTTLED.labels(self._venue).inc()
        begins = not self.why
        now_s = time.monotonic()
        self._why, self._ends_s = why, now_s + wait_s
        self._ends_at = f"{datetime.now(UTC) + timedelta(seconds=wait_s):%H:%M:%S} UTC"
        self._told_until_s = max(now_s + HELD_BACK_S, self._ends_s)
        if begins:
            log.warning("the venue's limits hold the desk back", venue=self._venue, why=why)
            self._on_change()
