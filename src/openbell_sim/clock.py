"""The venue's clock: the machine's, but for what a fault makes of it."""

from __future__ import annotations

import time


class VenueClock:
    def __init__(self) -> None:
        self.skew_ns = 0

    def now_ns(self) -> int:
        return self.true_ns() + self.skew_ns

    def true_ns(self) -> int:
        """As it would be without a fault."""
        return time.time_ns()
