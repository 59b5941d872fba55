"""When an order may be cancelled again after its cancel was not taken. Pure.

A refused cancel says that the order is gone, or that the venue wants fewer requests. To ask again
at every quote helps in neither case, and spends what other cancels need.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from openbell.domain.orders import ClOrdID

FIRST_S = 0.5
LONGEST_S = 10.0
"""The pause doubles from the first to the longest, unless the venue named a longer one. Ours."""


@dataclass
class CancelPace:
    """Of all orders. Times are of one monotonic clock, in seconds."""

    _refusals: dict[ClOrdID, tuple[int, float]] = field(default_factory=dict)
    """How often in a row, and from when on it may be tried again."""

    def refused(
        self, cl_ord_id: ClOrdID, now_s: float, *, retry_after_s: float | None = None
    ) -> None:
        times = self._refusals.get(cl_ord_id, (0, 0.0))[0] + 1
        pause_s = min(FIRST_S * 2.0 ** min(times - 1, 16), LONGEST_S)
        self._refusals[cl_ord_id] = times, now_s + max(pause_s, retry_after_s or 0.0)

    def wait_s(self, cl_ord_id: ClOrdID, now_s: float) -> float:
        """0: now."""
        _, again_s = self._refusals.get(cl_ord_id, (0, 0.0))
        return max(0.0, again_s - now_s)

    def forget(self, cl_ord_id: ClOrdID) -> None:
        self._refusals.pop(cl_ord_id, None)
