"""The queue between a strategy and the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openbell.config.models import Strategy as Declared
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID
from openbell.trading.bus import NoReplyError
from openbell.trading.host import StrategyState
from openbell.trading.hosting import StrategyHosts
from openbell.trading.messages import CancelIntent, EngineHeartbeat, Instruments, Intent

D = Decimal
BTC = "BTC/USDT"
RULES = InstrumentRules(
    symbol=BTC, base="BTC", quote="USDT", tick_size=D("0.01"), lot_size=D("0.01"),
    min_qty=D("0.01"), max_qty=D(100), min_notional=D(1),
)  # fmt: skip
QUOTE = Quote(
    venue="sim", symbol=BTC, bid_px=D(100), bid_qty=D(1), ask_px=D(101), ask_qty=D(1),
    venue_time_ns=0, received_ns=0,
)  # fmt: skip
ORDERS = (ClOrdID("ob00000000-1-1"), ClOrdID("ob00000000-1-2"))
CANCELLER = f"""
from openbell.domain.orders import ClOrdID
from openbell.trading.strategy import Cancel, Strategy

class Canceller(Strategy):
    def on_quote(self, quote, view):
        return [Cancel(ClOrdID(each)) for each in {ORDERS!r}]
"""


class Market:
    """Gives what the test puts in; `seen` when all of it was taken."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[object] = asyncio.Queue()

    async def receive(self) -> Any:
        return SimpleNamespace(body=await self.messages.get())

    async def seen(self) -> None:
        while not self.messages.empty():
            await asyncio.sleep(0)


class SilentEngine:
    """Answers no request, and gives up on all of them once it is told to."""

    def __init__(self) -> None:
        self.asked: list[Intent] = []
        self.gives_up = asyncio.Event()

    async def ask(self, intent: Intent, *, timeout_s: float, attempts: int) -> Any:
        self.asked.append(intent)
        await self.gives_up.wait()
        raise NoReplyError("no engine")


def cancels(intents: list[Intent]) -> list[ClOrdID]:
    return [intent.cl_ord_id for intent in intents if isinstance(intent, CancelIntent)]


async def test_a_cancel_that_is_asked_for_at_every_quote_waits_for_the_engine_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the engine was away each quote added its cancels to the queue: hundreds of thousands
    within an hour, all of them to be answered before the strategy's next order."""
    (tmp_path / "canceller_strategy.py").write_text(CANCELLER)
    monkeypatch.syspath_prepend(tmp_path)
    declared = Declared(type="canceller_strategy:Canceller", venue="sim", symbols=(BTC,))
    engine, market = SilentEngine(), Market()
    hosts = StrategyHosts({"c": declared}, engine, run="r1", why_disabled=lambda _: "")  # type: ignore[arg-type]
    market.messages.put_nowait(Instruments(venue="sim", rules=(RULES,)))
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(hosts.watch_market(market)),  # type: ignore[arg-type]
            tasks.create_task(hosts.run_sender("c")),
        ]
        for _ in range(50):
            market.messages.put_nowait(QUOTE)
        await market.seen()
        engine.gives_up.set()
        while len(engine.asked) < 2:
            await asyncio.sleep(0)
        assert cancels(engine.asked) == list(ORDERS)

        # Nobody knows what became of them: whoever asks again is heard again.
        market.messages.put_nowait(QUOTE)
        while len(engine.asked) < 4:
            await asyncio.sleep(0)
        assert cancels(engine.asked) == [*ORDERS, *ORDERS]
        for task in running:
            task.cancel()


async def test_at_a_heartbeat_of_the_engine_it_is_seen_who_is_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "canceller_strategy.py").write_text(CANCELLER)
    monkeypatch.syspath_prepend(tmp_path)
    declared = Declared(type="canceller_strategy:Canceller", venue="sim", symbols=(BTC,))
    why = ""
    hosts = StrategyHosts({"c": declared}, SilentEngine(), run="r1", why_disabled=lambda _: why)  # type: ignore[arg-type]

    async def beat() -> AsyncIterator[EngineHeartbeat]:
        yield EngineHeartbeat(trading=True)

    for told, state in (("", "WAITING"), ("c is disabled by ann", "DISABLED"), ("", "WAITING")):
        why = told
        await hosts.watch_engine(beat())  # type: ignore[arg-type]
        assert hosts.hosts["c"].state is StrategyState(state)
