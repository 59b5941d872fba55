"""The venue, the relay before it, and a trader whose orders fit the market."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.harness.ports import free_ports
from tests.venues.subjects import Subject

from openbell.domain.ids import mint
from openbell.domain.orders import ClOrdID, NewOrder, OrdStatus, OrdType, Side
from openbell.venues.port import Venue
from openbell_sim.testing import venue_thread

DESK_ID = "c0f0a0ce"
WAIT_S = 30.0

# The venue.


@dataclass
class Sim:
    """A simulated venue: where it is, and what it says happened to it."""

    url: str
    own_id: Callable[[str], str] = str

    def told(self, path: str) -> Any:
        return self._call("GET", path)

    def ask_for(self, path: str, body: object) -> Any:
        """A person's hands at the venue: `POST /sim/v1/...`."""
        return self._call("POST", path, body)

    def clear_faults(self) -> None:
        self._call("DELETE", "/sim/v1/control/faults")

    def rows(self) -> list[dict[str, Any]]:
        """Every order that ever reached it, as its log has them, but under our ClOrdIDs."""
        rows: list[dict[str, Any]] = self.told("/sim/v1/orders")["orders"]
        return [{**row, "cl_ord_id": self.own_id(row["cl_ord_id"])} for row in rows]

    def arrivals(self, cl_ord_id: str) -> int:
        """How many orders of this id ever reached the venue."""
        return sum(row["cl_ord_id"] == cl_ord_id for row in self.rows())

    def _call(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)


@contextmanager
def running_sim(subject: Subject, folder: Path, *, apart: bool = False) -> Iterator[Sim]:
    """A thread of this process, or, `apart` and where the subject brings a server, one of its own.
    Raises what the start raises, RuntimeError with the process's own words."""
    if apart or subject.server:
        with _server(subject, folder) as sim:
            yield sim
    else:
        with venue_thread(*_arguments(subject, folder), environ=_keys(subject)) as venue:
            yield Sim(venue.url, subject.own_id)


@contextmanager
def _server(subject: Subject, folder: Path) -> Iterator[Sim]:
    port = free_ports(1)[0]
    own = [argument.replace("{port}", str(port)) for argument in subject.server]
    ours = [sys.executable, "-m", "openbell_sim", "--port", str(port), *_arguments(subject, folder)]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            own or ours, env=os.environ | _keys(subject), stdout=output, stderr=output
        )
    venue = Sim(f"http://127.0.0.1:{port}", subject.own_id)
    give_up_s = time.monotonic() + 60
    while True:
        with suppress(OSError):
            with urllib.request.urlopen(venue.url + "/ready", timeout=5) as response:
                if response.status == 200:
                    break
        if process.poll() is not None or time.monotonic() > give_up_s:
            process.kill()
            process.wait()
            raise RuntimeError((folder / "output").read_text(errors="replace")[-2000:])
        time.sleep(0.05)
    try:
        yield venue
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _keys(subject: Subject) -> dict[str, str]:
    return {"CONFORMANCE_KEY": subject.key, "CONFORMANCE_SECRET": subject.secret}


def _arguments(subject: Subject, folder: Path) -> list[str]:
    return [
        "--face", subject.face, "--log", str(folder / "venue.jsonl"),
        "--key-env", "CONFORMANCE_KEY", "--secret-env", "CONFORMANCE_SECRET",
        *subject.sim,
    ]  # fmt: skip


# The relay.

_OVERLOADED = b'{"error":"the server is overloaded"}'
_REPLY_503 = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_OVERLOADED), _OVERLOADED)
)


@dataclass
class Relay:
    """Forwards TCP to the venue. `fault` says what becomes of the reply to a request that starts
    with `of`, once; the request itself always goes through, except under `refusing`."""

    target: tuple[str, int]
    url: str = ""
    fault: str = ""
    of: bytes = b""
    struck: int = 0
    refusing: bool = False
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def strike(self, fault: str, of: bytes) -> None:
        """`lose`: cut instead of a reply. `hold`: no reply. `503`: another reply."""
        self.fault, self.of = fault, of

    def cut_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        upstream_reader, upstream = await asyncio.open_connection(*self.target)
        self._writers |= {writer, upstream}
        struck: list[str] = []
        back = asyncio.ensure_future(self._back(upstream_reader, writer, struck))
        try:
            while data := await reader.read(1 << 16):
                if self.fault and data.startswith(self.of):
                    struck.append(self.fault)
                    self.fault = ""
                upstream.write(data)
                await upstream.drain()
        except ConnectionError:
            pass
        finally:
            back.cancel()
            for each in (writer, upstream):
                self._writers.discard(each)
                each.close()

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, struck: list[str]
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if struck:
                    # The venue has answered, so it has done what it was asked to.
                    fault = struck.pop()
                    self.struck += 1
                    if fault == "hold":
                        continue
                    if fault == "lose":
                        writer.transport.abort()
                        return
                    data = _REPLY_503
                writer.write(data)
                await writer.drain()
            writer.close()


# The trader.

_counter = itertools.count(1)


def new_id() -> ClOrdID:
    return mint(DESK_ID, os.getpid(), next(_counter))


@dataclass
class Trader:
    """Makes orders that fit the market as it is."""

    venue: Venue
    subject: Subject

    @property
    def symbol(self) -> str:
        return self.subject.symbols[0]

    async def resting(self, side: Side = Side.BUY, **changes: Any) -> NewOrder:
        """A limit order 2 % away from the market, so that it rests."""
        quote = await self.venue.quote(self.symbol)
        price = (
            quote.bid_px * Decimal("0.98") if side is Side.BUY else quote.ask_px * Decimal("1.02")
        )
        rules = self.venue.rules(self.symbol)
        return self.order(**{"side": side, "price": rules.round_price(price), **changes})

    def order(self, **changes: Any) -> NewOrder:
        fields: dict[str, Any] = {
            "cl_ord_id": new_id(),
            "venue": "sim",
            "symbol": self.symbol,
            "side": Side.BUY,
            "ord_type": OrdType.LIMIT,
            "order_qty": self.subject.quantity,
        }
        return NewOrder(**{**fields, **changes})

    def market(self, side: Side = Side.BUY, **changes: Any) -> NewOrder:
        return self.order(ord_type=OrdType.MARKET, side=side, **changes)

    async def settled(self, cl_ord_id: ClOrdID) -> OrdStatus:
        """The order's status once it is final."""
        async with asyncio.timeout(WAIT_S):
            while True:
                found = await self.venue.order(self.symbol, cl_ord_id)
                if found is not None and found.status.is_final:
                    return found.status
                await asyncio.sleep(0.05)

    async def listed(self, cl_ord_id: ClOrdID, *, within_s: float = WAIT_S) -> bool:
        """Whether the order is among the open ones, asked until it is or the time is up."""
        async with asyncio.timeout(within_s):
            while True:
                orders = (await self.venue.open_orders([self.symbol])).orders
                if any(order.cl_ord_id == cl_ord_id for order in orders):
                    return True
                await asyncio.sleep(0.05)

    async def position(self) -> Decimal:
        return sum(
            (p.quantity for p in await self.venue.positions() if p.symbol == self.symbol),
            Decimal(0),
        )
