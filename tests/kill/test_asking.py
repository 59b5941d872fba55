"""What a stop takes for the time that an order needs."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.kill.test_plan import order

from openbell.kill.asking import SHORT_LIST, Asking
from openbell.kill.pace import Pace
from openbell.kill.plan import CancelCall, Means
from openbell.venues.port import Accepted, CancelOutcome, Venue

TOOK_S = 3.0


class SlowVenue:
    """Every cancel takes three seconds of `clock`."""

    name = "slow"

    def __init__(self) -> None:
        self.now_s = 0.0

    async def _taken(self, *_: object, **__: object) -> CancelOutcome:
        self.now_s += TOOK_S
        return Accepted(venue_order_id="1")

    cancel = cancel_account = cancel_all = _taken


def _call(means: Means, orders: int) -> CancelCall:
    return CancelCall(means=means, orders=tuple(order() for _ in range(orders)))


@pytest.mark.parametrize(
    ("call", "counts"),
    [
        (_call(Means.SINGLE, 1), True),
        (_call(Means.ACCOUNT, SHORT_LIST), True),
        (_call(Means.ACCOUNT, SHORT_LIST + 1), False),
        (_call(Means.SYMBOL, 1000), False),
        (_call(Means.ACCOUNT, 0), False),  # of how many is not known yet
    ],
)
async def test_a_mass_cancel_of_many_is_no_measure_of_an_orders_time(
    call: CancelCall, counts: bool
) -> None:
    venue = SlowVenue()
    asking = Asking(cast(Venue, venue), Pace(None), 1e9, lambda *_: None)
    cast(Any, asking)._now_s = lambda: venue.now_s
    await asking.cancel(call)
    assert asking.slowest_s == (TOOK_S if counts else 0.0)
