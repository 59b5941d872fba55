"""An engine that is asked for more than twice the orders a second that its desk states: what is over
the peak is refused by name, nothing is lost or there twice, it is told, and the kill works meanwhile.

Judged by the venue's own list. How fast the machine is decides nothing: the askers go on until they have
asked for twice of what was taken, and what may be taken is bound to the time that really passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.harness.engine_desk import WAIT_S, EngineDesk, engine_desk

from openbell.domain.orders import (
    ClOrdID,
    OrderAccepted,
    OrderFilled,
    OrderRejected,
    OrdType,
    Side,
)
from openbell.state.journal_reader import JournalReader
from openbell.trading.engine.overload import TELL_EVERY_S, Overload
from openbell.trading.messages import IntentReply

PEAK = 20
"""Orders a second. Fewer than the default of `[risk] max_orders_per_second`, so that an engine on a busy
machine is asked for twice of it as well."""
ORDERS = 100
"""Taken before the kill; at the peak, five seconds of it."""
AT_ONCE = 64
QUANTITIES = {"BTC/USDT": Decimal("0.001"), "ETH/USDT": Decimal("0.01"), "LTC/USDT": Decimal("0.2")}
SYMBOLS = tuple(QUANTITIES)


class Load:
    """Askers that never wait for more than an answer, over three symbols."""

    def __init__(self, desk: EngineDesk, prices: dict[str, Decimal]) -> None:
        self.desk = desk
        self.asked = 0
        self.taken: dict[ClOrdID, int] = {}
        self.refused: Counter[str] = Counter()
        self.cancelled: set[ClOrdID] = set()
        self.over = False
        self._prices = prices
        self._numbers = itertools.count()

    @property
    def is_twice_the_peak(self) -> bool:
        return len(self.taken) >= ORDERS and self.asked >= 2 * len(self.taken)

    async def ask(self) -> None:
        while not self.over:
            number = next(self._numbers)
            reply = await self._send(number)
            self.asked += 1
            if not reply.taken:
                self.refused[reply.code] += 1
                continue
            assert reply.cl_ord_id is not None
            self.taken[reply.cl_ord_id] = number
            if number % 2 and not _fills(number):
                assert (await self.desk.cancel(f"c{number}", reply.cl_ord_id)).taken
                self.cancelled.add(reply.cl_ord_id)

    async def _send(self, number: int) -> IntentReply:
        symbol = SYMBOLS[number % len(SYMBOLS)]
        how: dict[str, Any] = (
            {"ord_type": OrdType.MARKET} if _fills(number) else {"price": self._prices[symbol]}
        )
        side = Side.SELL if number % 20 == 0 else Side.BUY
        return await self.desk.send(
            f"i{number}", symbol=symbol, order_qty=QUANTITIES[symbol], side=side, **how
        )


def _fills(number: int) -> bool:
    return number % 10 == 0


@pytest.mark.timeout(300)
async def test_at_twice_the_peak_nothing_is_lost_or_there_twice_and_the_kill_works(
    folder: Path,
) -> None:
    async with engine_desk(folder, relayed=False, orders_per_second=PEAK) as desk:
        await desk.start()
        load = Load(desk, {symbol: await _far_price(desk, symbol) for symbol in SYMBOLS})
        begun_s = time.monotonic()
        async with asyncio.timeout(240), asyncio.TaskGroup() as askers:
            for _ in range(AT_ONCE):
                askers.create_task(load.ask())
            while not load.is_twice_the_peak:
                await asyncio.sleep(0.05)
            desk.layout.latch.touch()
            while not load.refused["latched"]:
                await asyncio.sleep(0.01)
            took_s = time.monotonic() - begun_s
            load.over = True

        assert load.refused["limit_rate"] > 0, load.refused
        assert "" not in load.refused, "whatever is refused is refused by name"
        # Within any second no more than the peak passes the gate; the first may hold one more peak.
        assert len(load.taken) <= PEAK * (took_s + 1)

        # What was handed over when the latch came may have been held back before its first byte: that
        # is told as well, and it never was at the venue. All else is there, once.
        told = await _outcomes(desk, set(load.taken))
        arrived = {order for order in load.taken if told[order] != {"OrderRejected"}}
        filled = {order for order in arrived if _fills(load.taken[order])}
        cancelled = load.cancelled & arrived
        resting = arrived - filled - cancelled
        listed = await desk.until_listed(len(resting))
        assert {row["cl_ord_id"] for row in listed} == resting
        orders = await desk.truth("orders")
        assert Counter(row["cl_ord_id"] for row in orders) == Counter(arrived), "each once"
        assert {r["cl_ord_id"] for r in orders if r["status"] == "FILLED"} == filled
        assert {r["cl_ord_id"] for r in orders if r["status"] == "CANCELED"} == cancelled
        for symbol in SYMBOLS:
            await desk.until_agreed(symbol)
        await desk.until_state("in_doubt", 0)

        late = await desk.send("late", price=await _far_price(desk, "BTC/USDT"))
        assert (late.taken, late.code) == (False, "latched")
        assert len(await desk.truth("orders")) == len(arrived)
        lines = [json.loads(line) for line in desk.log().splitlines() if line.startswith("{")]
        alerts = [
            line for line in lines if line["event"] == "more orders are asked for than may be sent"
        ]
        assert alerts and all(line["alert"] for line in alerts)


def test_an_overload_is_told_at_once_and_then_with_a_count() -> None:
    overload = Overload()
    assert overload.refused(100.0) == 1
    assert [overload.refused(100.0 + n / 10) for n in range(1, 50)] == [0] * 49
    assert overload.refused(100.0 + TELL_EVERY_S) == 50
    assert overload.refused(100.1 + TELL_EVERY_S) == 0


async def _outcomes(desk: EngineDesk, orders: set[ClOrdID]) -> dict[ClOrdID, set[str]]:
    """What the journal says became of each, once it says so of all: kinds of events."""
    told: dict[ClOrdID, set[str]] = defaultdict(set)
    async with asyncio.timeout(WAIT_S):
        with contextlib.closing(JournalReader.open(desk.layout.database)) as journal:
            seq = 0
            while not orders <= told.keys():
                for entry in journal.read(seq):
                    seq, event = entry.seq, entry.event
                    if isinstance(event, OrderAccepted | OrderFilled | OrderRejected):
                        told[event.cl_ord_id].add(type(event).__name__)
                await asyncio.sleep(0.05)
    return told


async def _far_price(desk: EngineDesk, symbol: str) -> Decimal:
    quote = await desk.touch(symbol)
    assert quote.bid_px is not None
    return (quote.bid_px * Decimal("0.97")).quantize(Decimal("0.01"))
