"""Prices that are no numbers, at an engine as a process: no order of them, nothing stopped or latched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
from tests.harness.engine_desk import EngineDesk, engine_desk

from openbell.domain.market import Quote
from openbell.domain.orders import OrdType
from openbell.state.latch import Latches
from openbell.trading.messages import IntentReply

UNSOUND = [Decimal(text) for text in ("NaN", "-NaN", "sNaN", "Infinity", "-Infinity")]


async def test_a_price_that_is_no_number_makes_no_order_and_the_engine_trades_on(
    folder: Path,
) -> None:
    """Of an intent, and of the market: from then on nothing is judged by the last that was sound."""
    async with engine_desk(folder) as desk, asyncio.timeout(170):
        await desk.start()
        pid, price = desk.pid, (await desk.touch()).bid_px
        far = (price * Decimal("0.98")).quantize(Decimal("0.01"))
        assert (await desk.send("sound", price=far)).taken
        await desk.until_listed(1)

        for number, bad in enumerate(UNSOUND):
            for name, fields in (
                ("price", {"price": bad}),
                ("quantity", {"price": far, "order_qty": bad}),
                ("market", {"ord_type": OrdType.MARKET, "order_qty": bad}),
            ):
                reply = await desk.send(f"{name}{number}", **fields)
                assert not reply.taken and reply.code == "bad_order", (name, bad, reply)
        assert len(await desk.truth("orders")) == 1

        for number, bad in enumerate([*UNSOUND, Decimal(0), Decimal(-1)]):
            desk.quoted = _with_prices(bad)
            name = f"quote{number}"
            refused = await _until(desk, name, far, lambda reply: not reply.taken)
            assert refused.code == "stale_quote", refused
            seen = len(await desk.truth("orders"))
            market = await desk.send(f"{name}-market", ord_type=OrdType.MARKET)
            assert not market.taken, market
            assert not (await desk.send(f"{name}-limit", price=far)).taken
            assert len(await desk.truth("orders")) == seen
            desk.quoted = lambda quote: quote
            await _until(desk, f"{name}-sound", far, lambda reply: reply.taken)
        assert desk.pid == pid and not Latches(desk.layout).scopes()


def _with_prices(bad: Decimal) -> Callable[[Quote], Quote]:
    return lambda quote: msgspec.structs.replace(quote, bid_px=bad, ask_px=bad)


async def _until(
    desk: EngineDesk, name: str, price: Decimal, wanted: Callable[[IntentReply], bool]
) -> IntentReply:
    """Intents until one is answered so: a quote that was sound is good for some seconds."""
    number = 0
    while True:
        reply = await desk.send(f"{name}-{number}", price=price)
        if wanted(reply):
            return reply
        number += 1
        await asyncio.sleep(0.1)
