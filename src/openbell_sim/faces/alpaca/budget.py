"""How many requests an account may send in a minute.

200, for the Trading API and for the market data API each, counted in windows of a minute. Every
reply tells the state (`X-RateLimit-Limit`, `-Remaining`, `-Reset` in seconds since 1970). Source:
support page "Is there a usage limit for the number of API calls per second?", and the market data
API's "Subscription plans", Basic.
"""

from __future__ import annotations

from openbell_sim.counting import FixedWindow

PER_MINUTE = 200
_MINUTE_S = 60


class Budget:
    def __init__(self, limit: int) -> None:
        """`limit` 0: none is kept."""
        self.limit = limit
        self._minute = FixedWindow(_MINUTE_S)

    def spend(self, who: str, now_s: float) -> tuple[bool, dict[str, str]]:
        """Whether `who` may; and the headers that say how it stands."""
        if not self.limit:
            return True, {}
        left = self.limit - self._minute.add(who, 1, now_s)
        headers = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(0, left)),
            "X-RateLimit-Reset": str(self._minute.ends_s(now_s)),
        }
        return left >= 0, headers
