"""The latch: from its file to the last new order at the venue, under 1,000 intents a second.

Three processes: this one sends intents over the bus as a strategy does, whether or not the earlier
ones were answered, and goes on while the latch stands; the engine is the service itself, the venue
the simulated one. The latch is set as the guard and the command set it.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from tests.harness.engine_desk import EngineDesk, engine_desk

from bench.measurement import Measurement
from openbell.domain.orders import Side, TimeInForce
from openbell.domain.scopes import DESK
from openbell.state.halts import Halt
from openbell.state.latch import Latches
from openbell.trading.messages import IntentReply

ROUNDS = 5
INTENTS_PER_S = 1000
BEFORE_S, AFTER_S = 4.0, 1.0
"""How long the strategy fires before the latch, and how long it goes on after it."""
SYMBOL, LOT = "ETH/USDT", Decimal("0.01")


@dataclass(frozen=True)
class Latching:
    lag_ms: float
    """From the time of the latch's file to the venue's time of its last order; negative: before it."""
    fired_per_s: float
    sent_per_s: float
    """Orders that the venue took, while nothing was latched."""
    refused_after: int
    """Intents that were refused after the latch was set."""


def run() -> list[Measurement]:
    with tempfile.TemporaryDirectory(prefix="ob-") as folder:
        rounds = asyncio.run(_measure(Path(folder)))
    lags = [each.lag_ms for each in rounds]
    fired = statistics.median(each.fired_per_s for each in rounds)
    sent = statistics.median(each.sent_per_s for each in rounds)
    return [
        Measurement(
            f"latch to the last new order at the venue, at {INTENTS_PER_S:,} intents/s",
            max(lags),
            "ms",
            bound=100,
            method=f"the worst of {ROUNDS} ({', '.join(f'{lag:.1f}' for lag in lags)}); from the time of "
            "the latch's file to the venue's time of its last order, by one clock; negative: that came "
            f"before it. The strategy went on for {AFTER_S:g} s, and all of its "
            f"{min(each.refused_after for each in rounds):,} intents and more were refused",
            limited_by="how often the engine looks at the latch, and what was on its way",
        ),
        Measurement(
            "intents fired meanwhile",
            fired,
            "intents/s",
            bound=INTENTS_PER_S * 0.99,
            at_most=False,
            method=f"market-taking limit orders for {SYMBOL} that expire at once, sent when their time "
            "has come; what has waited in the engine for a second is too old and is not sent",
        ),
        Measurement(
            "orders at the venue meanwhile",
            sent,
            "orders/s",
            limited_by="the engine's one event loop, on the cores it shares with venue and sender",
        ),
    ]


async def _measure(folder: Path) -> list[Latching]:
    async with engine_desk(folder, relayed=False, poll_every="2s") as desk:
        await desk.start()
        await desk.send("warm", **_order(await _low(desk)))  # connected before the first is counted
        return [await _round(desk, number) for number in range(ROUNDS)]


async def _round(desk: EngineDesk, number: int) -> Latching:
    latches = Latches(desk.layout)
    sends: list[asyncio.Task[IntentReply]] = []
    firing = asyncio.create_task(_fire(desk, f"r{number}", await _low(desk), sends))
    began_s, before = time.perf_counter(), len(await desk.truth("orders"))
    await asyncio.sleep(BEFORE_S)
    fired, took_s = len(sends), time.perf_counter() - began_s
    sent = len(await desk.truth("orders")) - before
    halt = Halt("bench", "bench", datetime.now(UTC))
    set_at = len(sends)
    setting = await asyncio.to_thread(latches.set, [DESK], halt)
    latched_ns = min(latch.path.stat().st_mtime_ns for latch in setting.latches)
    await asyncio.sleep(AFTER_S)
    firing.cancel()
    replies = await asyncio.gather(*sends)
    last_ns = max(order["received_ns"] for order in await desk.truth("orders"))
    latches.release(setting.latches)
    return Latching(
        lag_ms=(last_ns - latched_ns) / 1e6,
        fired_per_s=fired / took_s,
        sent_per_s=sent / took_s,
        refused_after=sum(not reply.taken for reply in replies[set_at:]),
    )


async def _fire(
    desk: EngineDesk, prefix: str, low: Decimal, sends: list[asyncio.Task[IntentReply]]
) -> None:
    begun = time.perf_counter()
    while True:
        due = begun + len(sends) / INTENTS_PER_S
        if (wait_s := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        one = desk.send(f"{prefix}-{len(sends)}", **_order(low))
        sends.append(asyncio.create_task(one))
        if len(sends) % 20 == 0:
            await asyncio.sleep(0)  # so that a sender that is behind does not hold the loop


async def _low(desk: EngineDesk) -> Decimal:
    touch = await desk.touch(SYMBOL)
    return (touch.bid_px * Decimal("0.97")).quantize(Decimal("0.01"))


def _order(low: Decimal) -> dict[str, object]:
    return {
        "symbol": SYMBOL,
        "side": Side.BUY,
        "order_qty": LOT,
        "price": low,
        "time_in_force": TimeInForce.IOC,
    }
