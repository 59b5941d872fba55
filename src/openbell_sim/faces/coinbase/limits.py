"""Requests per second, as Coinbase counts them: 30 of each user on private endpoints, 10 of each
address on public ones (Advanced Trade, "REST API Rate Limits", as that page stood until 2025; the
newer one names no number)."""

from __future__ import annotations

from openbell_sim.counting import FixedWindow, scaled

PRIVATE_PER_S = 30
PUBLIC_PER_S = 10


class PerSecond:
    """Counts in whole seconds; each begins at zero."""

    def __init__(self, scale: float) -> None:
        """`scale` multiplies both limits; 0: none."""
        self._private = scaled(PRIVATE_PER_S, scale)
        self._public = scaled(PUBLIC_PER_S, scale)
        self._second = FixedWindow(1)

    def allows(self, who: str, now_s: float, *, private: bool) -> bool:
        """Counts one request of `who`."""
        most = self._private if private else self._public
        return not most or self._second.add(who, 1, now_s) <= most
