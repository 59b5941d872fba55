"""An execution engine as a process of its own, with what it needs around it: the simulated venue
(another process), a controller that grants permits, and a market that quotes what the venue does.

Between engine and venue stands a `Cutter`: a relay that can keep the answer to an order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from tests.harness.wall_clock import WallClock

from openbell.config.layout import DeskLayout
from openbell.domain.market import Quote
from openbell.domain.orders import ClOrdID, OrdType, Side
from openbell.trading.bus import Publisher, Requester
from openbell.trading.messages import (
    INTENTS_SOCKET,
    MARKET_SOCKET,
    CancelIntent,
    Intent,
    IntentReply,
    SubmitIntent,
    quote_topic,
)
from openbell_sim.testing import KEY, SECRET, VenueProcess, venue_process

VENUE = "binance"
WAIT_S = 60.0
TOKEN = "t" * 43

_DESK = """
[desk]
name = "engine"
[permit]
ttl = "{ttl}"
renew_every = "200ms"
[risk]
max_orders_per_second = {orders_per_second}
max_open_orders = 100000
[venues.binance]
url = "{url}"
symbols = ["BTC/USDT", "ETH/USDT", "LTC/USDT"]
timeout = "{timeout}"
poll_every = "{poll_every}"
key_env = "OPENBELL_VENUE_BINANCE_KEY"
secret_env = "OPENBELL_VENUE_BINANCE_SECRET"
[venues.binance.holdings]
BTC = "5"
ETH = "100"
LTC = "1000"
[services.execution-engine]
command = ["{{python}}", "-m", "openbell.services.execution_engine"]
port = 1
role = "engine"
venues = ["binance"]
"""


class Cutter:
    """Relays bytes to the venue. While `armed`, the connection that carries the next new order
    gets no answer any more; `seen` is set when the venue has answered: before that, a connection that
    breaks may take the order with it."""

    def __init__(self, port: int) -> None:
        self.armed = False
        self.seen = asyncio.Event()
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, there[1]}
        kept = asyncio.Event()

        async def onward() -> None:
            while data := await reader.read(1 << 16):
                if self.armed and b"POST /api/v3/order" in data:
                    self.armed = False
                    kept.set()
                there[1].write(data)
                await there[1].drain()

        async def back() -> None:
            while data := await there[0].read(1 << 16):
                if kept.is_set():
                    self.seen.set()
                    continue
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(onward()), asyncio.create_task(back())]
        with contextlib.suppress(OSError):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in (writer, there[1]):
            self._writers.discard(each)
            each.close()


class EngineDesk:
    def __init__(self, folder: Path, sim: VenueProcess, url: str, cutter: Cutter | None) -> None:
        self.layout = DeskLayout.for_desk(folder, {})
        self.layout.make()
        self.sim = sim
        self.cutter = cutter
        self.scope = "trade"
        self.pid = 0
        self.clock: WallClock | None = None
        """Of engine and market, where a test sets it before the start."""
        self.controller_answers = True
        self.quoted: Callable[[Quote], Quote] = lambda quote: quote
        """What the market makes of the venue's quotes."""
        self._url = url
        self._process: asyncio.subprocess.Process | None = None
        self._requester: Requester[Intent, IntentReply] | None = None
        self._port = 0
        (self.layout.state / "service.token").write_text(TOKEN)

    async def open(
        self,
        *,
        ttl: str = "1s",
        timeout: str = "1s",
        poll_every: str = "500ms",
        orders_per_second: int = 100_000,
    ) -> None:
        text = _DESK.format(
            url=self._url,
            ttl=ttl,
            timeout=timeout,
            poll_every=poll_every,
            orders_per_second=orders_per_second,
        )
        (self.layout.desk / "desk.toml").write_text(text)
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"})
        app = web.Application()
        app.router.add_post("/api/v1/permit", self._permit)
        self._controller = web.AppRunner(app, access_log=None)
        await self._controller.setup()
        await web.UnixSite(self._controller, str(self.layout.controller_socket)).start()
        self._market = Publisher(self.layout.run / MARKET_SOCKET, producer="market/1")
        self._quoting = asyncio.create_task(self._quote())

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._requester is not None:
            await self._requester.close()
        self._quoting.cancel()
        await asyncio.gather(self._quoting, return_exceptions=True)
        self._market.close()
        await self._controller.cleanup()
        await self._session.close()
        if self.cutter is not None:
            await self.cutter.close()

    async def start(self, *, until_trading: bool = True) -> None:
        log = (self.layout.logs / "engine.log").open("ab")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "openbell.services.execution_engine",
            stdout=log, stderr=log, start_new_session=True,
            env={
                **os.environ,
                "OPENBELL_DESK": str(self.layout.desk),
                "OPENBELL_STATE": str(self.layout.state),
                "OPENBELL_SERVICE": "execution-engine",
                "OPENBELL_PORT": "0",
                "OPENBELL_VENUE_BINANCE_KEY": KEY,
                "OPENBELL_VENUE_BINANCE_SECRET": SECRET,
                **(self.clock.environment if self.clock is not None else {}),
            },
        )  # fmt: skip
        log.close()
        self.pid = self._process.pid
        self._port = await self._read_port()
        if until_trading:
            await self.until_state("trading", True)
            async with asyncio.timeout(WAIT_S):
                # Until it has heard quotes its gate opens no position.
                while any(
                    row["mark_px"] is None for row in (await self.get("/v1/positions"))["positions"]
                ):
                    await asyncio.sleep(0.05)

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def terminate(self) -> int:
        """Exit status after SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), WAIT_S)

    async def wait(self) -> int:
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), WAIT_S)

    def log(self) -> str:
        return (self.layout.logs / "engine.log").read_text()

    async def get(self, path: str) -> Any:
        async with self._session.get(f"http://127.0.0.1:{self._port}{path}") as response:
            if response.content_type == "application/json":
                return await response.json()
            return await response.text()

    async def post(self, path: str, **body: Any) -> Any:
        async with self._session.post(
            f"http://127.0.0.1:{self._port}{path}", json=body
        ) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def truth(self, what: str) -> Any:
        """What the venue says of itself."""
        async with self._session.get(f"{self.sim.url}/sim/v1/{what}") as response:
            return (await response.json())[what]

    async def until_listed(self, count: int) -> list[dict[str, Any]]:
        """The open orders, once the venue lists so many: a send is answered before it arrives."""
        async with asyncio.timeout(WAIT_S):
            while True:
                told: list[dict[str, Any]] = (await self.get("/v1/orders"))["orders"]
                rows = [row for row in told if row["listed"]]
                if len(rows) == count:
                    return rows
                await asyncio.sleep(0.05)

    async def until_agreed(self, symbol: str) -> Decimal:
        """The position, once the venue and the books, which know of it, tell the same."""
        async with asyncio.timeout(WAIT_S):
            while True:
                rows = (await self.get("/v1/positions"))["positions"]
                row = next(row for row in rows if row["symbol"] == symbol)
                held, said = Decimal(row["quantity"]), row["venue_quantity"]
                if said is not None and held == Decimal(said):
                    return held
                await asyncio.sleep(0.05)

    async def until_state(self, key: str, value: object) -> dict[str, Any]:
        state: dict[str, Any] = {}
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    with contextlib.suppress(aiohttp.ClientError, KeyError):
                        state = await self.get("/v1/state")
                        if state[key] == value:
                            return state
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{key} is not {value}: {state}\n{self.log()}") from None

    def requester(self) -> Requester[Intent, IntentReply]:
        if self._requester is None:
            self._requester = Requester(self.layout.run / INTENTS_SOCKET, IntentReply)
        return self._requester

    async def send(self, intent_id: str, **changes: Any) -> IntentReply:
        return await self.requester().ask(
            SubmitIntent(
                **{
                    "intent_id": intent_id, "strategy": "s", "venue": VENUE,
                    "symbol": "BTC/USDT", "side": Side.BUY, "ord_type": OrdType.LIMIT,
                    "order_qty": Decimal("0.01"), **changes,
                }
            ),
            timeout_s=WAIT_S,
        )  # fmt: skip

    async def cancel(self, intent_id: str, cl_ord_id: ClOrdID) -> IntentReply:
        return await self.requester().ask(
            CancelIntent(intent_id=intent_id, strategy="s", cl_ord_id=cl_ord_id), timeout_s=WAIT_S
        )

    async def touch(self, symbol: str = "BTC/USDT") -> Quote:
        """The venue's best bid and offer."""
        url = f"{self.sim.url}/api/v3/ticker/bookTicker"
        async with self._session.get(url, params={"symbol": symbol.replace("/", "")}) as response:
            ticker = await response.json()
        return Quote(
            venue=VENUE, symbol=symbol,
            bid_px=Decimal(ticker["bidPrice"]), bid_qty=Decimal(ticker["bidQty"]),
            ask_px=Decimal(ticker["askPrice"]), ask_qty=Decimal(ticker["askQty"]),
            venue_time_ns=0, received_ns=self.clock.now_ns() if self.clock else time.time_ns(),
        )  # fmt: skip

    async def _permit(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if not self.controller_answers:
            raise web.HTTPServiceUnavailable
        if not asked["reconciled"]:
            return web.json_response({"granted": False, "scope": "none", "why_not": "reconcile"})
        return web.json_response({"granted": True, "scope": self.scope, "ttl_s": 1.0})

    async def _quote(self) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                for symbol in ("BTC/USDT", "ETH/USDT", "LTC/USDT"):
                    quote = self.quoted(await self.touch(symbol))
                    self._market.publish(quote_topic(VENUE, symbol), quote)
            await asyncio.sleep(0.2)

    async def _read_port(self) -> int:
        """From the engine's own line; the last start's is the newest."""
        assert self._process is not None
        marker = f'"pid":{self.pid}'
        async with asyncio.timeout(WAIT_S):
            while True:
                for line in self.log().splitlines():
                    if '"event":"listening"' in line and marker in line:
                        return int(line.split('"port":')[1].split(",")[0].split("}")[0])
                assert self._process.returncode is None, self.log()
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running_sim(folder: Path, *, port: int = 0) -> AsyncIterator[VenueProcess]:
    """The venue, with the orders and balances of its earlier starts in this folder."""
    arguments = ("--log", str(folder / "venue.jsonl"), "--port", str(port))
    manager = venue_process(*arguments, "--no-limits")
    # In a thread: it waits for the venue's first line, and for its end.
    sim = await asyncio.to_thread(manager.__enter__)
    try:
        yield sim
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


@contextlib.asynccontextmanager
async def engine_desk(
    folder: Path,
    *,
    relayed: bool = True,
    timeout: str = "1s",
    poll_every: str = "500ms",
    orders_per_second: int = 100_000,
) -> AsyncIterator[EngineDesk]:
    """With the venue running and the engine not started yet."""
    async with running_sim(folder) as sim:
        cutter = Cutter(sim.port) if relayed else None
        url = await cutter.start() if cutter is not None else sim.url
        desk = EngineDesk(folder, sim, url, cutter)
        await desk.open(timeout=timeout, poll_every=poll_every, orders_per_second=orders_per_second)
        try:
            yield desk
        finally:
            await desk.close()
