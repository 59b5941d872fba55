"""How the orders of the last minute ended: what the share of rejected ones is told from."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from openbell.domain.orders import OrderAccepted, OrderRejected
from openbell.trading.refusal_pace import PACED_ELSEWHERE

WITHIN_S = 60.0
KEPT_MAX = 20_000
"""At 200 orders a second, more than the window holds."""


class Outcomes:
    """Accepted or rejected, of each order that was handed to a venue. Of what is in doubt, and of
    what never left or was only told to wait, nothing is counted: no venue rejected it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: deque[tuple[float, bool]] = deque(maxlen=KEPT_MAX)

    def note(self, event: object) -> None:
        if isinstance(event, OrderRejected) and event.code not in PACED_ELSEWHERE:
            self._kept.append((self._clock(), True))
        elif isinstance(event, OrderAccepted):
            self._kept.append((self._clock(), False))

    def document(self) -> dict[str, object]:
        """`{"within_s", "accepted", "rejected"}`"""
        oldest = self._clock() - WITHIN_S
        while self._kept and self._kept[0][0] < oldest:
            self._kept.popleft()
        rejected = sum(is_rejected for _, is_rejected in self._kept)
        return {
            "within_s": WITHIN_S,
            "accepted": len(self._kept) - rejected,
            "rejected": rejected,
        }
