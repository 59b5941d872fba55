"""The venue's clock, told by our monotonic one.

Signed requests carry a time stamp that the venue checks within seconds. A wall clock that is
wrong, or jumps, must not lock the desk out of its own orders, so after the first measurement the
wall clock is not looked at again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

READ_BEFORE_ANSWER_MAX_S = 0.25
"""The venue is taken to have read its clock so long before its answer was there at most. A stamp that is
behind passes for seconds, one that is ahead does not: Binance refuses it from one second on. Of an
answer that took seconds, most went by while this process was busy and did not read it."""


@dataclass(slots=True)
class VenueClock:
    """Milliseconds since 1970 as the venue counts them."""

    _venue_minus_monotonic_ms: float | None = None

    def measured(self, venue_ms: int, sent_s: float, received_s: float) -> None:
        """Notes the venue's time as asked between two monotonic times; the venue is taken to have
        read its clock halfway, and not long before the answer."""
        read_s = received_s - min((received_s - sent_s) / 2, READ_BEFORE_ANSWER_MAX_S)
        self._venue_minus_monotonic_ms = venue_ms - read_s * 1000

    def now_ms(self) -> int:
        """Before the first measurement the local wall clock."""
        if self._venue_minus_monotonic_ms is None:
            return time.time_ns() // 1_000_000
        return int(time.monotonic() * 1000 + self._venue_minus_monotonic_ms)
