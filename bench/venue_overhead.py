"""What an adapter adds to the bare HTTP call that it makes.

Calls alternate: one as the adapter makes it, and one in which the very request that the adapter
has signed is sent by a bare aiohttp session instead of the adapter's transport, and only that
sending is timed. So both go to the same venue in the same run, each request is signed anew, and
none is sent twice. The difference of the medians is what is ours: making and signing the request,
its way out and back, reading the answer and turning it into the port's words. Where an adapter
needs several requests for one answer, it is divided by their number. What an adapter waits to stay
inside the venue's request budget is not counted.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import aiohttp
from tests.venues.conformance.harness import Trader, running_sim
from tests.venues.subjects import Subject, all_subjects
from yarl import URL

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import NewOrder
from openbell.venues.credentials import Credentials
from openbell.venues.port import Accepted, SubmitOutcome, Venue
from openbell.venues.registry import open_venue
from openbell.venues.rest import RestVenue
from openbell.venues.transport import Reply, Request

_T = TypeVar("_T")

CALLS = 60
"""Of each kind, after a tenth of it unmeasured: no more, for adapters keep their looks inside a part
of the venue's request budget."""


@dataclass(frozen=True)
class Overhead:
    """Medians, in seconds."""

    subject: str
    submit_s: float
    bare_submit_s: float
    open_orders_s: float
    bare_open_orders_s: float
    submit_requests: int
    open_orders_requests: int

    @property
    def submit_added_s(self) -> float:
        return (self.submit_s - self.bare_submit_s) / self.submit_requests

    @property
    def open_orders_added_s(self) -> float:
        return (self.open_orders_s - self.bare_open_orders_s) / self.open_orders_requests


class _Bare:
    """Stands in for an adapter's transport, and times its requests."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._spans: list[tuple[float, float]] = []

    async def send(
        self, request: Request, *, timeout_s: float, on_sent: Callable[[], None] | None = None
    ) -> Reply:
        began = time.perf_counter()
        async with self._session.request(
            request.method,
            URL(request.url, encoded=True),
            data=request.body,
            headers=request.headers,
        ) as response:
            body = await response.read()
        self._spans.append((began, time.perf_counter()))
        return Reply(response.status, response.headers, body)

    def taken(self) -> tuple[float, int]:
        """Seconds in which a request was under way, and the number of requests, since last asked.
        Requests at the same time count once."""
        spans, self._spans = sorted(self._spans), []
        seconds, until = 0.0, 0.0
        for began, ended in spans:
            seconds += max(0.0, ended - max(began, until))
            until = max(until, ended)
        return seconds, len(spans)


def overheads() -> list[Overhead]:
    """Of every adapter with a subject that sends by the common transport."""
    found = [_measured(subject) for subject in all_subjects()]
    return [overhead for overhead in found if overhead is not None]


def _measured(subject: Subject) -> Overhead | None:
    with tempfile.TemporaryDirectory() as folder:
        with running_sim(subject, Path(folder)) as sim:
            return asyncio.run(_measure(subject, sim.url))


async def _measure(subject: Subject, url: str) -> Overhead | None:
    fields = {"url": url, "symbols": subject.symbols, "timeout": 10.0, **subject.config}
    config = VenueConfig(adapter=subject.adapter, **fields)
    venue = open_venue("sim", config, Credentials(subject.key, subject.secret))
    rest: object = venue
    if not isinstance(rest, RestVenue):
        print(f"   {subject.name}: sends by a library of its own, not measured", flush=True)
        return None
    trader = Trader(venue, subject)
    try:
        await venue.connect()
        price = (await trader.resting()).price
        async with aiohttp.ClientSession() as session:
            timed = _Timed(venue, rest, _Bare(session))
            for number in range(CALLS + CALLS // 10):
                if number == CALLS // 10:
                    timed.forget()
                for bare in (False, True):
                    order = trader.order(price=price)
                    await timed.submit(order, bare=bare)
                    await timed.open_orders(bare=bare)
                    await venue.cancel(order.symbol, order.cl_ord_id)
    finally:
        await venue.close()
    submit, bare_submit, listing, bare_listing = map(statistics.median, timed.taken)
    requests = (timed.requests[0], timed.requests[2])
    return Overhead(subject.name, submit, bare_submit, listing, bare_listing, *requests)


class _Timed:
    """Calls of one adapter, by its own transport or a bare session."""

    def __init__(self, port: Venue, venue: RestVenue, bare: _Bare) -> None:
        """`port` and `venue` are the same object: as what it does, and as what it is."""
        self._port = port
        self._venue = venue
        self._bare = bare
        self._own = venue._transport
        self.requests: dict[int, int] = {}
        """Sent by the last call of a kind."""
        self.forget()

    def forget(self) -> None:
        self.taken: tuple[list[float], ...] = ([], [], [], [])
        """Of submit, bare submit, open orders, bare open orders."""

    async def submit(self, order: NewOrder, *, bare: bool) -> None:
        async def call() -> SubmitOutcome:
            return await self._port.submit(order)

        outcome = await self._time(call, 0, bare=bare)
        if not isinstance(outcome, Accepted):
            raise RuntimeError(f"{self._venue.name}: an order was not accepted: {outcome}")

    async def open_orders(self, *, bare: bool) -> None:
        listing = await self._time(self._port.open_orders, 2, bare=bare)
        if not listing.complete:
            raise RuntimeError(f"{self._venue.name}: a list was not complete")

    async def _time(self, call: Callable[[], Awaitable[_T]], index: int, *, bare: bool) -> _T:
        if not bare:
            with _sleeps_counted() as slept:
                began = time.perf_counter()
                result = await call()
                took = time.perf_counter() - began
            self.taken[index].append(took - sum(slept))
            return result
        self._venue._transport = self._bare  # type: ignore[assignment] # it has what is used of it
        try:
            result = await call()
        finally:
            self._venue._transport = self._own
        seconds, self.requests[index] = self._bare.taken()
        self.taken[index + 1].append(seconds)
        return result


@contextmanager
def _sleeps_counted() -> Iterator[list[float]]:
    """The seconds of each sleep that an adapter takes."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def counted(delay: float) -> None:
        began = time.perf_counter()
        await sleep(delay)
        slept.append(time.perf_counter() - began)

    with patch.object(asyncio, "sleep", counted):
        yield slept
