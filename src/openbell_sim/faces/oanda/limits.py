"""How much one address may ask: "Development Guide", "Rate Limiting" and "Connection Limiting".

120 requests per second; 429 for what is more
20 active streams; what is more is rejected
2 new connections per second; what is more is rejected
"""

from __future__ import annotations

from collections import defaultdict, deque

REQUESTS_PER_S = 120
STREAMS = 20
CONNECTIONS_PER_S = 2


class PerSecond:
    """At most `most` in any second; 0: as many as one likes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken: defaultdict[str, deque[float]] = defaultdict(deque)

    def take(self, who: str, now_s: float) -> bool:
        """Whether `who` may have one more; those refused do not count."""
        if not self.most:
            return True
        taken = self._taken[who]
        while taken and taken[0] <= now_s - 1:
            taken.popleft()
        if len(taken) >= self.most:
            return False
        taken.append(now_s)
        return True


class Limits:
    def __init__(self, scale: float) -> None:
        """A `scale` of 0 lifts them."""
        self.requests = PerSecond(_scaled(REQUESTS_PER_S, scale))
        self.connections = PerSecond(_scaled(CONNECTIONS_PER_S, scale))
        self.streams = _scaled(STREAMS, scale)
        """0: any number."""


def _scaled(most: int, scale: float) -> int:
    return max(1, int(most * scale)) if scale else 0
