"""The engine and its standby: how long orders stand still, as the venue's own order log tells.

A whole desk by `openbell up`: controller, simulated venue, market data, the engine and its standby.
This process sends intents over the bus as a strategy does, at a steady rate, whether or not the
earlier ones were answered.

Binance lets one account send 10 orders a second, and one address ask for a weight of 100. The desk of
these benchmarks and tests has a venue with 20 times that, which says so: else the engine, which stays
inside what its venue lets it ask, would be measured waiting for the end of the minute.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
from tests.harness.loaded_desk import ENGINE, LoadedDesk
from tests.harness.paper_desk import end_everything

from bench.measurement import Measurement
from openbell.domain.external import OfVenue
from openbell.domain.orders import ClOrdID, OrderInDoubt, OrdType, Side
from openbell.errors import OpenbellError
from openbell.state.journal_reader import JournalReader
from openbell.trading.bus import Requester
from openbell.trading.messages import (
    INTENTS_SOCKET,
    CancelIntent,
    Intent,
    IntentReply,
    SubmitIntent,
)

RATE = 100
HAND_OVERS = 3
KILLS = 5
REST_S = 0.25
AROUND_NS = 1_000_000_000
"""The hand-over's gap is looked for so close to it; elsewhere the machine's own gaps would count."""
QUIET_S = 8.0
"""As long without a hand-over, for comparison."""


def run() -> list[Measurement]:
    with tempfile.TemporaryDirectory(prefix="ob-") as folder:
        desk = LoadedDesk.make(Path(folder) / "d", orders_per_s=1)
        _without_strategies_and_risk(desk)
        try:
            desk.open()
            return asyncio.run(_measure(desk))
        finally:
            desk.desk.run("down", "--yes", expect=None)
            end_everything(desk.desk)


def _without_strategies_and_risk(desk: LoadedDesk) -> None:
    """They would only share the cores with what is measured."""
    file = desk.desk.folder / "desk.toml"
    text = file.read_text()
    for name in ("risk-management", "market-analysis"):
        text = re.sub(rf"^\[services\.{name}\]\n(?:(?!^\[).*\n)*", "", text, flags=re.M)
    text = re.sub(
        r"^\[strategies\.(?:.*\n)+?(?=^\[services|^# --- the services)", "", text, flags=re.M
    )
    text = re.sub(r"^\[strategies\.load\]\n(?:.+\n)*", "", text, flags=re.M)
    text = re.sub(r"^max_daily_loss.*\n", "", text, flags=re.M)
    file.write_text(text)


async def _measure(desk: LoadedDesk) -> list[Measurement]:
    await asyncio.to_thread(desk.until_paired)
    load = _Load(desk)
    sending = asyncio.create_task(load.send())
    try:
        await asyncio.sleep(3.0)
        quiet = await _quiet(desk)
        planned = [await _handed_over(desk) for _ in range(HAND_OVERS)]
        load.mark()
        killed = [await _killed(desk) for _ in range(KILLS)]
    finally:
        load.stop()
        await sending
    lost, twice = load.judge(await asyncio.to_thread(desk.orders))
    rows = [gap for gap, _ in planned]
    return [
        Measurement(
            f"planned hand-over, longest gap at {RATE} orders/s",
            statistics.median(rows),
            "ms",
            bound=100.0,
            method=f"`openbell restart --rolling {ENGINE}`, median of {HAND_OVERS}: the longest time "
            "between two orders that the venue accepted, one after the other, within a second of the "
            f"change of the epoch; all: {', '.join(f'{each:.0f}' for each in rows)} ms",
            limited_by=f"the cores: without any hand-over the longest gap within {QUIET_S:.0f} s was "
            f"{quiet:.0f} ms on this machine at this time",
        ),
        Measurement(
            "longest gap without a hand-over",
            quiet,
            "ms",
            method=f"the same desk, the same load, {QUIET_S:.0f} s in the same run",
        ),
        Measurement(
            "planned hand-over, last order of the old to first of the new",
            statistics.median(between for _, between in planned),
            "ms",
        ),
        Measurement(
            "intents lost in planned hand-overs",
            float(lost),
            "intents",
            bound=0.0,
            method=f"of {load.marked} intents: those without an order at the venue; "
            f"refused or unanswered: {load.told()}",
        ),
        Measurement(
            "orders sent twice",
            float(twice),
            "orders",
            bound=0.0,
            method="over everything, the kills included: ClOrdIDs that stand twice in the venue's "
            "log, and intents that made two orders",
        ),
        Measurement(
            "kill -9 of the engine to the next accepted order, less the time in doubt",
            statistics.median(each.seconds for each in killed),
            "s",
            bound=1.0,
            method=f"median of {KILLS} kills under the same load: from the signal, or from when the "
            "last order in doubt was resolved where that is later, to the next order that the venue "
            f"accepted; all: {', '.join(f'{each.seconds:.2f}' for each in killed)} s",
        ),
        Measurement(
            "the same with the time in doubt",
            statistics.median(each.whole_s for each in killed),
            "s",
            method="all: "
            + ", ".join(f"{each.whole_s:.2f} s with {each.in_doubt} in doubt" for each in killed),
        ),
    ]


async def _quiet(desk: LoadedDesk) -> float:
    began_ns = time.time_ns()
    await asyncio.sleep(QUIET_S)
    return _longest_gap_ms(await asyncio.to_thread(desk.orders), began_ns, time.time_ns())


async def _handed_over(desk: LoadedDesk) -> tuple[float, float]:
    """Longest gap, and from the last order of the old engine to the first of the new one, ms."""
    before = (await asyncio.to_thread(desk.until_paired))["engine"]["name"]
    done = await asyncio.to_thread(
        lambda: desk.desk.run("restart", "--rolling", "--yes", before).document
    )
    assert done["outcome"] == "restarted", done
    rows = sorted(await asyncio.to_thread(desk.orders), key=lambda row: row["received_ns"])
    epochs = list(dict.fromkeys(_epoch(row) for row in rows))
    old = [row["received_ns"] for row in rows if _epoch(row) == epochs[-2]]
    new = [row["received_ns"] for row in rows if _epoch(row) == epochs[-1]]
    gap = _longest_gap_ms(rows, old[-1] - AROUND_NS, new[0] + AROUND_NS)
    return gap, (new[0] - old[-1]) / 1e6


@dataclass(frozen=True)
class _Killed:
    whole_s: float
    seconds: float
    in_doubt: int


async def _killed(desk: LoadedDesk) -> _Killed:
    pair = await asyncio.to_thread(desk.until_paired)
    epochs_before = {_epoch(row) for row in await asyncio.to_thread(desk.orders)}
    killed_ns = time.time_ns()
    os.kill(pair["engine"]["pid"], signal.SIGKILL)
    while True:
        rows = await asyncio.to_thread(desk.orders)
        new = [row["accepted_ns"] for row in rows if _epoch(row) not in epochs_before]
        if len([each for each in new if each]) >= 5:
            break
        await asyncio.sleep(0.2)
    first_ns = min(each for each in new if each)
    doubted, resolved_ns = _doubts(desk, killed_ns, first_ns)
    since_ns = max(killed_ns, min(resolved_ns, first_ns))
    return _Killed((first_ns - killed_ns) / 1e9, (first_ns - since_ns) / 1e9, doubted)


def _doubts(desk: LoadedDesk, from_ns: int, until_ns: int) -> tuple[int, int]:
    """Orders that were in doubt between the two moments, and when the last of them was resolved."""
    reader = JournalReader.open(desk.layout.database)
    doubted: set[ClOrdID] = set()
    resolved_ns = 0
    try:
        for entry in reader.read():
            if not from_ns <= entry.at_ns <= until_ns:
                continue
            if isinstance(entry.event, OrderInDoubt):
                doubted.add(entry.event.cl_ord_id)
            elif not isinstance(entry.event, OfVenue) and entry.event.cl_ord_id in doubted:
                resolved_ns = max(resolved_ns, entry.at_ns)
    finally:
        reader.close()
    return len(doubted), resolved_ns


def _longest_gap_ms(rows: list[dict[str, Any]], from_ns: int, until_ns: int) -> float:
    accepted = sorted(
        row["accepted_ns"]
        for row in rows
        if row["accepted_ns"] and from_ns <= row["accepted_ns"] <= until_ns
    )
    return max(float(after - before) / 1e6 for before, after in pairwise(accepted))


def _epoch(row: dict[str, Any]) -> str:
    return str(row["cl_ord_id"].split("-")[1])


@dataclass
class _Load:
    """Far limit orders at a steady rate, each cancelled a moment later."""

    desk: LoadedDesk
    marked: int = 0
    """Intents before the kills: none of them may be lost."""
    _taken: dict[int, ClOrdID | None] = field(default_factory=dict)
    _why_not: dict[int, str] = field(default_factory=dict)
    """Codes of refusals, and the kind of what was raised instead of an answer."""
    _sent: int = 0
    _over: bool = False

    async def send(self) -> None:
        requester: Requester[Intent, IntentReply] = Requester(
            self.desk.layout.run / INTENTS_SOCKET, IntentReply
        )
        price = await self._price()
        under_way: set[asyncio.Task[None]] = set()
        begun = time.perf_counter()
        while not self._over:
            due = begun + self._sent / RATE
            if (wait_s := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            task = asyncio.create_task(self._one(requester, self._sent, price))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            self._sent += 1
        await asyncio.gather(*under_way)
        await requester.close()

    async def _one(
        self, requester: Requester[Intent, IntentReply], number: int, price: Decimal
    ) -> None:
        intent = SubmitIntent(
            intent_id=f"b{number}", strategy="bench", venue="binance", symbol="BTC/USDT",
            side=Side.BUY, ord_type=OrdType.LIMIT, order_qty=Decimal("0.001"), price=price,
        )  # fmt: skip
        try:
            reply = await requester.ask(intent, timeout_s=4.0, attempts=2)
            self._taken[number] = reply.cl_ord_id if reply.taken else None
            if not reply.taken or reply.cl_ord_id is None:
                self._why_not[number] = reply.code
                return
            await asyncio.sleep(REST_S)
            cancel = CancelIntent(
                intent_id=f"c{number}", strategy="bench", cl_ord_id=reply.cl_ord_id
            )
            await requester.ask(cancel, timeout_s=4.0, attempts=2)
        except OpenbellError as error:
            self._taken.setdefault(number, None)  # unknown; the venue's log tells
            self._why_not.setdefault(number, type(error).__name__)

    async def _price(self) -> Decimal:
        url = f"{self.desk.sim_url}/api/v3/ticker/bookTicker"
        async with aiohttp.ClientSession() as session:
            async with session.get(url, params={"symbol": "BTCUSDT"}) as response:
                bid = Decimal(json.loads(await response.text())["bidPrice"])
        return (bid * Decimal("0.97")).quantize(Decimal("0.01"))

    def mark(self) -> None:
        self.marked = self._sent

    def stop(self) -> None:
        self._over = True

    def told(self) -> str:
        """Why intents before the kills made no order, as far as anybody said."""
        why = Counter(why for number, why in self._why_not.items() if number < self.marked)
        return ", ".join(f"{code} {count}" for code, count in why.most_common()) or "none"

    def judge(self, rows: list[dict[str, Any]]) -> tuple[int, int]:
        """Intents before the kills that made no order, and orders there are too many of."""
        ids = [row["cl_ord_id"] for row in rows]
        there = set(ids)
        lost = sum(self._taken.get(number) not in there for number in range(self.marked))
        made = [each for each in self._taken.values() if each is not None]
        return lost, len(ids) - len(there) + len(made) - len(set(made))
