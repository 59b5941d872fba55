"""An engine for the tests: sends orders that rest, as fast as it is told, and obeys nothing but the
latch: FACE URL STATE RATE-PER-S [ignore-latch]. A SIGTERM makes it send one more order."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from decimal import Decimal
from pathlib import Path

from tests.kill.house import KEY, KINDS, SECRET

from openbell.config.layout import DeskLayout
from openbell.config.models import Venue
from openbell.domain.ids import mint
from openbell.domain.orders import NewOrder, OrdType, Purpose, Side, TimeInForce
from openbell.state.latch import Latches
from openbell.venues.credentials import Credentials
from openbell.venues.port import VenueError
from openbell.venues.registry import open_venue


async def main(face: str, url: str, state: str, rate: float, obeys: bool) -> None:
    kind = KINDS[face]
    layout = DeskLayout(desk=Path(state).parent, state=Path(state))
    config = Venue(adapter=face, url=url, symbols=kind.symbols, timeout=2.0, options=kind.options)
    venue = open_venue(face, config, Credentials(KEY, SECRET))
    latches = Latches(layout)
    epoch, counter = int(time.time()), itertools.count()
    await venue.connect()

    async def send() -> None:
        order = NewOrder(
            cl_ord_id=mint(layout.desk_id, epoch + os.getpid(), next(counter)),
            venue=face,
            symbol=kind.symbols[0],
            side=Side.BUY,
            ord_type=OrdType.LIMIT,
            order_qty=kind.quantity,
            price=Decimal(kind.prices[0]),
            time_in_force=TimeInForce.GTC,
            purpose=Purpose.TRADE,
        )
        with contextlib.suppress(VenueError):
            await venue.submit(order)

    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, lambda: tasks.add(asyncio.ensure_future(send()))
    )
    tasks: set[asyncio.Task[None]] = set()
    print("sending", flush=True)
    next_s = time.monotonic()
    while True:
        if not (obeys and latches.covering(face, "any", kind.symbols[0])):
            task = asyncio.ensure_future(send())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        next_s += 1 / rate
        await asyncio.sleep(max(0.0, next_s - time.monotonic()))


asyncio.run(
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), "ignore-latch" not in sys.argv)
)
