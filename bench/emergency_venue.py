"""A simulated venue with orders of a desk resting on it, for bench.emergency.

    python -m bench.emergency_venue FACE ORDERS DESK-ID RTT-MS

prints its address, and runs until it is killed. With them rests one order of somebody else in each
market, so that a mass cancel by symbol would meet more than the desk's own.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

from tests.kill.house import KEY, KINDS, SECRET, House

from openbell_sim import testing
from openbell_sim.faults.latency import Latency
from openbell_sim.keys import Credentials

QUANTITY = {"kraken": "0.001", "binance-usdm": "0.01"}


async def main(face: str, orders: int, desk_id: str, rtt_ms: float, foreign: bool) -> None:
    kind = replace(KINDS[face], quantity=Decimal(QUANTITY.get(face, str(KINDS[face].quantity))))
    settings = testing.settings(
        [testing.StillMarket(face, **kind.markets)],
        face=face,
        credentials=(Credentials("main", KEY, SECRET),),
        limit_scale=0.0,
        max_open_orders=5000,
    )
    async with testing.running_venue(settings) as sim:
        here = House(kind, sim, cast(Any, None), cast(Any, None))
        for market in (0, 1):
            here.rest(orders // 2, market=market, desk=desk_id)
            if foreign:
                here.rest(1, market=market, desk=None)
        sim.faults.set_latency(Latency(ms=rtt_ms))
        print(sim.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    face, orders, desk_id, rtt_ms, foreign = sys.argv[1:6]
    asyncio.run(main(face, int(orders), desk_id, float(rtt_ms), foreign == "foreign"))
