"""The execution engine: from an intent to the send, journal included.

Three processes: this one sends intents over the bus as a strategy does, the engine is the service
itself, the venue is the simulated one, over loopback HTTP. The journal is the real one, with an
fsync for each append, on the disk of the temporary folder.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import psutil
from tests.harness.engine_desk import EngineDesk, engine_desk

from bench.measurement import Measurement
from openbell.domain.orders import OrdType, Side

RATE = 200
"""Orders a second that the bound is promised at."""
SECONDS = 20.0
STEP_SECONDS = 4.0
REST_S = 0.25
"""How long a resting order lives before its cancel, which is as much work as a send."""
STEPS = (200, 400, 600, 800, 1000, 1400, 2000)
"""Rates tried, in orders a second; the largest that is kept up is the sustainable one."""

_SENT = "openbell_intent_to_sent_seconds"
_JOURNAL = "openbell_journal_append_seconds"
_numbers = itertools.count(1)


def run() -> list[Measurement]:
    with tempfile.TemporaryDirectory(prefix="ob-") as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Measurement]:
    async with engine_desk(folder, relayed=False, poll_every="2s") as desk:
        await desk.start()
        await _load(desk, RATE, 3.0)  # connections, caches, the branch predictor of the disk
        before = await desk.get("/metrics")
        process = psutil.Process(desk.pid)
        process.cpu_percent()
        answers = await _load(desk, RATE, SECONDS)
        cpu = process.cpu_percent()
        after = await desk.get("/metrics")
        sent, journal = (_since(before, after, name) for name in (_SENT, _JOURNAL))
        sustainable = await _sustainable(desk)
    seen = sorted(answers.latencies)
    orders = int(sent[math.inf])
    return [
        Measurement(
            f"intent to sent, p99 at {RATE} orders/s",
            _quantile(sent, 0.99) * 1000,
            "ms",
            bound=5.0,
            method=f"in the engine: from the intent's arrival from the bus to directly before the "
            f"order's first byte is written to the venue's socket; {orders} orders, histogram of "
            "quarter milliseconds",
            limited_by="the journal's fsync, whose own p99 stands below, and whatever else the "
            "machine runs: four processes share its cores here",
        ),
        Measurement(
            f"intent to sent, median at {RATE} orders/s", _quantile(sent, 0.5) * 1000, "ms"
        ),
        Measurement(
            f"journal append, p99 at {RATE} orders/s",
            _quantile(journal, 0.99) * 1000,
            "ms",
            method="every event of an order's life, fsync included; part of the figures above",
        ),
        Measurement(
            f"intent to answer, p99 at {RATE} orders/s",
            seen[int(len(seen) * 0.99)] * 1000,
            "ms",
            method="in the sender: from the bus's send to the engine's answer that the order was "
            f"handed over, both ways included; {len(seen)} intents, {answers.refused} refused",
        ),
        Measurement(f"engine CPU at {RATE} orders/s", cpu, "% of a core"),
        Measurement(
            "sustainable rate",
            sustainable,
            "orders/s",
            method=f"the largest of {STEPS} at which for {STEP_SECONDS:.0f} s every intent is taken "
            "and the answers keep up with the intents",
            limited_by="the engine's one event loop and the venue's, on the cores they share with "
            "the sender",
        ),
    ]


class _Answers:
    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.refused = 0
        self.late_s = 0.0
        """From the last intent's turn to the last answer."""


async def _load(desk: EngineDesk, rate: int, seconds: float) -> _Answers:
    """Intents at a steady rate, whether or not the earlier ones were answered: a sender that waits
    for its answers would hide the very delays that are to be seen. Far limit orders that rest, each
    cancelled by its sender a moment later, and every tenth one a market order that fills."""
    answers = _Answers()
    symbols = ("BTC/USDT", "ETH/USDT", "LTC/USDT")
    lots = {"BTC/USDT": "0.001", "ETH/USDT": "0.01", "LTC/USDT": "0.5"}
    prices = {
        symbol: ((await desk.touch(symbol)).bid_px * Decimal("0.97")).quantize(Decimal("0.01"))
        for symbol in symbols
    }

    async def one(number: int, due: float) -> None:
        symbol = symbols[number % 3]
        market = number % 10 == 0
        reply = await desk.send(
            f"b{number}",
            symbol=symbol,
            side=Side.BUY if number % 20 else Side.SELL,
            ord_type=OrdType.MARKET if market else OrdType.LIMIT,
            price=None if market else prices[symbol],
            order_qty=Decimal(lots[symbol]),
        )
        answers.latencies.append(time.perf_counter() - due)
        if not reply.taken or reply.cl_ord_id is None:
            answers.refused += 1
        elif not market:
            await asyncio.sleep(REST_S)
            await desk.cancel(f"c{number}", reply.cl_ord_id)

    sends = []
    begun = time.perf_counter()
    for turn in range(int(rate * seconds)):
        due = begun + turn / rate
        if (wait_s := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        sends.append(asyncio.create_task(one(next(_numbers), due)))
    last = time.perf_counter()
    await asyncio.gather(*sends)
    answers.late_s = time.perf_counter() - last - REST_S
    await desk.post("/v1/cancel")
    return answers


async def _sustainable(desk: EngineDesk) -> float:
    kept = 0
    for rate in STEPS:
        answers = await _load(desk, rate, STEP_SECONDS)
        if answers.refused or answers.late_s > 0.25:
            break
        kept = rate
    return float(kept)


def _since(before: str, after: str, name: str) -> dict[float, float]:
    """Cumulative counts by upper edge in seconds, of what was observed between two scrapes."""
    bucket = re.compile(name + r'_bucket\{le="([^"]+)"\} (\S+)')
    earlier = {edge: float(count) for edge, count in bucket.findall(before)}
    return {float(edge): float(n) - earlier[edge] for edge, n in bucket.findall(after)}


def _quantile(cumulative: dict[float, float], share: float) -> float:
    """By straight lines inside the bucket, as Prometheus does."""
    wanted = share * cumulative[math.inf]
    lower_edge = lower_count = 0.0
    for edge, count in sorted(cumulative.items()):
        if count >= wanted:
            if edge == math.inf:
                return lower_edge
            within = (wanted - lower_count) / (count - lower_count or 1)
            return lower_edge + (edge - lower_edge) * within
        lower_edge, lower_count = edge, count
    raise AssertionError("unreachable: the last bucket holds everything")
