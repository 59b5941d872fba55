"""The venue's clock, told by our monotonic one.

Signed requests carry a time stamp that the venue checks within seconds. A wall clock that is
wrong, or jumps, must not lock the desk out of its own orders, so after the first measurement the
wall clock is not looked at again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class VenueClock:
    """Milliseconds since 1970 as the venue counts them."""

    _venue_minus_monotonic_ms: float | None = None

    def measured(self, venue_ms: int, sent_s: float, received_s: float) -> None:
        """Notes the venue's time as asked between two monotonic times; the venue is taken to have
        read its clock halfway."""
        self._venue_minus_monotonic_ms = venue_ms - (sent_s + received_s) / 2 * 1000

    def now_ms(self) -> int:
        """Before the first measurement the local wall clock."""
        if self._venue_minus_monotonic_ms is None:
            return time.time_ns() // 1_000_000
        return int(time.monotonic() * 1000 + self._venue_minus_monotonic_ms)
