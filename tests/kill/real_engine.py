"""Openbell's own engine as a service of a desk: spawned and recorded as the supervisor does it, so that an
emergency stop knows it; between a simulated venue, a controller that grants permits, and a market."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from tests.harness.engine_desk import VENUE, WAIT_S, EngineDesk, running_sim
from tests.harness.ports import free_ports

from openbell.config.loader import load_desk
from openbell.domain.market import Quote
from openbell.domain.orders import OrdType, Side
from openbell.kill.marker import clear_marker
from openbell.runtime.host import Host
from openbell.runtime.plan import build_specs
from openbell.runtime.processes import system_processes
from openbell.runtime.run import Run, spawn_run
from openbell.state.latch import Latches
from openbell.trading.bus import Requester
from openbell.trading.messages import INTENTS_SOCKET, IntentReply, SubmitIntent
from openbell_sim.testing import KEY, SECRET

ENGINE = "execution-engine"
TRADES_WITHIN_S = 240.0
"""Two turns of the minute that Binance counts by, and what a busy machine takes."""
CREDENTIALS = {"OPENBELL_VENUE_BINANCE_KEY": KEY, "OPENBELL_VENUE_BINANCE_SECRET": SECRET}


class RealEngine(EngineDesk):
    run: Run | None = None

    async def start(self, *, until_trading: bool = True) -> None:
        file = self.layout.desk / "desk.toml"
        (self._port,) = free_ports(1)
        lines = file.read_text().splitlines()
        file.write_text(
            "\n".join(
                f"port = {self._port}" if line.startswith("port = ") else line for line in lines
            )
        )
        self.end_run()
        environ = {**os.environ, **CREDENTIALS}
        spec = build_specs(
            load_desk(self.layout.desk), self.layout, environ, {}, {ENGINE: CREDENTIALS}
        )
        self.run = spawn_run(
            Host.of(self.layout, lambda _: None), spec[ENGINE], time.time_ns(), 0, ()
        )
        await asyncio.sleep(0.02)  # its start time is slow to read while it is executed
        self.run.settle()
        self.pid = self.run.process.pid
        if until_trading:
            await self.until_trading()

    async def until_trading(self) -> None:
        """After a stop it asks the venue for each order that its books hold open, within Binance's budget."""
        state: dict[str, Any] = {}
        try:
            async with asyncio.timeout(TRADES_WITHIN_S):
                while not state.get("trading"):
                    with contextlib.suppress(aiohttp.ClientError):
                        state = await self.get("/v1/state")
                    await asyncio.sleep(0.05)
                while any(
                    row["mark_px"] is None for row in (await self.get("/v1/positions"))["positions"]
                ):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"it does not trade: {state}\n{self.log()[-3000:]}") from None

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.gone()

    async def gone(self) -> None:
        assert self.run is not None
        async with asyncio.timeout(WAIT_S):
            await asyncio.wait([self.run.process.exit])

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def is_alive(self) -> bool:
        facts = system_processes().facts(self.pid)
        return facts is not None and facts.alive

    def log(self) -> str:
        return self.layout.service_log(ENGINE).read_text()

    def end_run(self) -> None:
        if self.run is not None:
            self.run.process.close()
            self.run = None

    async def close(self) -> None:
        if self.run is not None:
            self.signal(signal.SIGKILL)
            await self.gone()
            self.end_run()
        await super().close()

    def release(self) -> None:
        """As a person does before the next opening."""
        clear_marker(self.layout)
        latches = Latches(self.layout)
        latches.release(latches.read())

    async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
        """A press, by a process of its own, with no controller and no guard."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "openbell.kill", "--desk", str(self.layout.desk), "--events",
            "--reason", "test", *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 26,
            env={**os.environ, **CREDENTIALS},
        )  # fmt: skip

    async def press(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        """Its statement."""
        found, stated, said = await ended(await self.begin(*arguments))
        assert found == status, said
        return stated

    async def resting(self) -> list[str]:
        """Orders that could still trade, by the venue's own record."""
        ended = {"CANCELED", "FILLED", "REJECTED", "EXPIRED"}
        return [
            each["cl_ord_id"] for each in await self.truth("orders") if each["status"] not in ended
        ]

    async def fault(self, **fault: Any) -> None:
        url = f"{self.sim.url}/sim/v1/control/faults"
        async with self._session.post(url, json={"faults": [fault]}) as response:
            assert response.status == 201, await response.text()

    async def no_faults(self) -> None:
        url = f"{self.sim.url}/sim/v1/control/faults"
        async with self._session.delete(url) as response:
            assert response.status < 300, await response.text()

    async def hits(self) -> int:
        async with self._session.get(f"{self.sim.url}/sim/v1/control/faults") as response:
            return sum(each["hits"] for each in (await response.json())["faults"])

    async def far_price(self) -> Decimal:
        """Of a buy that rests, within the collar."""
        return ((await self.touch()).bid_px * Decimal("0.98")).quantize(Decimal("0.01"))


async def ended(process: asyncio.subprocess.Process) -> tuple[int, dict[str, Any], str]:
    """Exit status, statement (empty where it was killed), and what it said."""
    async with asyncio.timeout(180):
        output, errors = await process.communicate()
    told = [msgspec.json.decode(line) for line in output.splitlines() if line]
    done = [each["statement"] for each in told if each["event"] == "done"]
    assert process.returncode is not None
    said = f"{output[-3000:].decode()} {errors[-3000:].decode()}"
    return process.returncode, done[-1] if done else {}, said


class Strategy:
    """Asks for orders that rest, `at_once` at the same time, until it is stopped; nobody may answer. Each of
    them every `pause_s`: Binance counts by the minute, and an engine that has used up its requests trades
    again in the next one."""

    def __init__(
        self, desk: RealEngine, quote: Quote, seed: str, *, at_once: int = 4, pause_s: float = 0.2
    ) -> None:
        self._desk, self._seed, self._pause_s = desk, seed, pause_s
        self._price = (quote.bid_px * Decimal("0.98")).quantize(Decimal("0.01"))
        self._numbers = itertools.count()
        self.taken = 0
        self._requester: Requester[Any, IntentReply] = Requester(
            desk.layout.run / INTENTS_SOCKET, IntentReply
        )
        self._tasks = [asyncio.create_task(self._fire()) for _ in range(at_once)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._requester.close()

    async def _fire(self) -> None:
        while True:
            intent = SubmitIntent(
                intent_id=f"{self._seed}-{next(self._numbers)}", strategy="s", venue=VENUE,
                symbol="BTC/USDT", side=Side.BUY, ord_type=OrdType.LIMIT,
                order_qty=Decimal("0.001"), price=self._price,
            )  # fmt: skip
            reply = await self._requester.ask(intent, timeout_s=WAIT_S)
            self.taken += reply.taken
            await asyncio.sleep(self._pause_s)


@contextlib.asynccontextmanager
async def real_engine(folder: Path, *, timeout: str = "3s") -> AsyncIterator[RealEngine]:
    """With the venue running and the engine not started yet."""
    async with running_sim(folder) as sim:
        desk = RealEngine(folder, sim, sim.url, None)
        await desk.open(timeout=timeout)
        try:
            yield desk
        finally:
            await desk.close()
