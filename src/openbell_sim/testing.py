"""Venues for tests: inside the test's own event loop, in a thread, or as a process that can be killed.

async with running_venue() as venue:
    exchange.urls["api"] = ...  # f"http://127.0.0.1:{venue.port}"

with venue_thread("--log", str(path)) as venue:
    ...  # venue.url: what is tried is another process, or waits

with venue_process("--log", str(path)) as process:
    ...  # process.url
    process.kill()
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import orjson

from openbell_sim import arguments as command_line
from openbell_sim import defaults
from openbell_sim.faces import face_kind
from openbell_sim.keys import Credentials
from openbell_sim.log import lines_to
from openbell_sim.market.events import MarketEvent, Snapshot
from openbell_sim.market.source import MarketSource
from openbell_sim.server import Settings, Venue

KEY = "sim-key-of-the-tests"
SECRET = "sim-secret-of-the-tests"  # noqa: S105 # opens nothing but a venue on loopback
COUNTERPARTY_KEY = "sim-key-of-the-counterparty"
COUNTERPARTY_SECRET = "sim-secret-of-the-counterparty"  # noqa: S105


class StillMarket:
    """A market source in which nothing happens after its first quotes, so that every fill is the
    test's own doing: `StillMarket(BTCUSDT=("59990", "60000", "1"))` is bid, ask and the quantity
    at each; with empty bid and ask there is no crowd at all. Symbols of another face that are no
    Python names: `StillMarket("kraken", **{"XBT/USD": (...)})`."""

    name = "still"

    def __init__(self, face: str = "binance", /, **quotes: tuple[str, str, str]) -> None:
        self.instruments = tuple(defaults.instruments(face_kind(face), quotes))
        self._quotes = quotes

    def events(self) -> Iterator[tuple[int, MarketEvent]]:
        for symbol, (bid, ask, qty) in self._quotes.items():
            bids, asks = (
                ((Decimal(price), Decimal(qty)),) if price else () for price in (bid, ask)
            )
            yield 0, Snapshot(symbol, bids, asks)


def settings(
    sources: Sequence[MarketSource] | None = None, *, face: str = "binance", **changes: object
) -> Settings:
    """Two accounts, `main` and `counterparty`, with the keys above and the face's deposits; a free
    port; generated markets of the face unless there are `sources`."""
    accounts = ("main", "counterparty")
    kind = face_kind(face)
    plain = Settings(
        face=face,
        sources=[defaults.generated(kind, kind.symbols, 1)] if sources is None else sources,
        accounts=accounts,
        credentials=(
            Credentials("main", KEY, SECRET),
            Credentials("counterparty", COUNTERPARTY_KEY, COUNTERPARTY_SECRET),
        ),
        deposits=defaults.deposits(kind, accounts),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def running_venue(given: Settings | None = None) -> AsyncIterator[Venue]:
    """A venue on this event loop; `.port` and `.url` say where, `.exchange` what it knows."""
    venue = Venue(given or settings())
    await venue.start()
    running = asyncio.create_task(venue.run())
    try:
        yield venue
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await venue.stop()


@dataclass
class VenueThread:
    """A venue on an event loop of its own, in a thread of this process."""

    port: int
    lines: io.BytesIO = field(repr=False)
    """What it has logged."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def venue_thread(
    *arguments: str, environ: Mapping[str, str] | None = None
) -> Iterator[VenueThread]:
    """What `venue_process` gives, from the same command line, but for the signals and for its start,
    which costs a hundredth of a process's: all is loaded already. `environ` has the variables that the
    arguments name; None: this process's. Raises what the start raises; what the venue dies of while it
    runs comes when it is left."""
    named = {"OPENBELL_SIM_KEY": KEY, "OPENBELL_SIM_SECRET": SECRET}
    given = command_line.settings(
        ["--port", "0", *arguments], {**(os.environ if environ is None else environ), **named}
    )
    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
    lines = io.BytesIO()

    async def serve() -> None:
        lines_to.set(lines)
        venue = Venue(given)
        try:
            await venue.start()
            running = asyncio.create_task(venue.run())
            started.set_result((venue.port, asyncio.get_running_loop(), running))
            with contextlib.suppress(asyncio.CancelledError):
                await running
        finally:
            await venue.stop()

    with ThreadPoolExecutor(1, "venue") as thread:
        ended = thread.submit(lambda: asyncio.run(serve()))
        either: tuple[Future[Any], ...] = (started, ended)
        wait(either, return_when=FIRST_COMPLETED)
        if not started.done():
            ended.result()
        port, loop, running = started.result()
        try:
            yield VenueThread(port, lines)
        finally:
            with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended by itself
                loop.call_soon_threadsafe(running.cancel)
            ended.result()


class VenueProcess:
    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def kill(self) -> None:
        """SIGKILL, as a crash would have it."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def venue_process(*arguments: str) -> Iterator[VenueProcess]:
    """A venue as a process of its own, on a free port unless told otherwise; account `main` with
    the keys above. Raises RuntimeError where it does not start."""
    environ = {**os.environ, "OPENBELL_SIM_KEY": KEY, "OPENBELL_SIM_SECRET": SECRET}
    process = subprocess.Popen(
        [sys.executable, "-m", "openbell_sim", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        env=environ,
    )
    try:
        yield VenueProcess(process, _port_of(process))
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _port_of(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        event = orjson.loads(line)
        if event.get("event") == "ready":
            return int(event["port"])
    raise RuntimeError(f"the venue ended with status {process.wait()} before it was ready")
