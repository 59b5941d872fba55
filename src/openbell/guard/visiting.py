"""How the guard sets out to withdraw what rests at one venue, for whatever reason it does."""

from __future__ import annotations

from openbell.config.layout import DeskLayout
from openbell.config.models import Venue as VenueConfig
from openbell.guard.warm_venue import WarmVenue
from openbell.kill.latencies import read_latencies
from openbell.kill.stop_venues import Visit
from openbell.kill.venue import SETTLE_S_MIN

SETTLES = 2
"""Nobody waits for it, so there is time for two lists as far apart as the longest latency, and as much
again for the cancels, whatever `cancel_timeout` says."""


async def visit_to(
    warm: WarmVenue, layout: DeskLayout, disk_s: float, config: VenueConfig | None = None
) -> Visit:
    """Of a venue whose adapter is loaded, by the latencies that engines have seen there; a disk that does not
    tell them within `disk_s` has the longest taken. `config`: instead of what desk.toml says of it."""
    assert warm.venue is not None
    latencies = await read_latencies(layout.order_latency, disk_s)
    return Visit(
        name=warm.name,
        config=warm.config if config is None else config,
        venue=warm.venue,
        warm=warm.warm,
        settle_s=max(latencies.of(warm.name), SETTLE_S_MIN),
    )


def given_s(visit: Visit, cancel_timeout_s: float) -> float:
    """How long one attempt may take."""
    return max(cancel_timeout_s, SETTLES * visit.settle_s)
