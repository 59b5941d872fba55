"""How much one address may ask: "Development Guide", "Rate Limiting" and "Connection Limiting".

120 requests per second; 429 for what is more
20 active streams; what is more is rejected
2 new connections per second; what is more is rejected
"""

from __future__ import annotations

from openbell_sim.counting import SlidingSecond, scaled

REQUESTS_PER_S = 120
STREAMS = 20
CONNECTIONS_PER_S = 2


class Limits:
    def __init__(self, scale: float) -> None:
        """A `scale` of 0 lifts them."""
        self.requests = SlidingSecond(scaled(REQUESTS_PER_S, scale))
        self.connections = SlidingSecond(scaled(CONNECTIONS_PER_S, scale))
        self.streams = scaled(STREAMS, scale)
        """0: any number."""
