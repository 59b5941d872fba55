"""What an adapter adds to the bare HTTP call that it makes.

Calls alternate: one as the adapter makes it, and one in which the very request that the adapter
has signed is sent by a bare aiohttp session instead of the adapter's transport, and only that
sending is timed. So both go to the same venue in the same run, each request is signed anew, and
none is sent twice. The difference of the medians is what is ours: making and signing the request,
its way out and back, reading the answer and turning it into the port's words. Where an adapter
needs several requests for one answer, it is divided by their number. An adapter whose library has
its own aiohttp session keeps it, and what that session takes is the bare call. What an adapter waits to stay
inside the venue's request budget is not counted.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
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


class _Spans:
    """When requests were under way."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self._requests = 0

    @contextmanager
    def _span(self, *, begins_request: bool = True) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._spans.append((began, time.perf_counter()))
        self._requests += begins_request

    def taken(self) -> tuple[float, int]:
        """Seconds in which a request was under way, and the number of requests, since last asked.
        Requests at the same time count once."""
        spans, self._spans = sorted(self._spans), []
        requests, self._requests = self._requests, 0
        seconds, until = 0.0, 0.0
        for began, ended in spans:
            seconds += max(0.0, ended - max(began, until))
            until = max(until, ended)
        return seconds, requests

    def at_work(self) -> AbstractContextManager[None]:
        """While it lasts, requests are timed."""
        raise NotImplementedError


class _Bare(_Spans):
    """A bare aiohttp session in the place of an adapter's transport."""

    def __init__(self, venue: RestVenue, session: aiohttp.ClientSession) -> None:
        super().__init__()
        self._venue = venue
        self._session = session

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with patch.object(self._venue, "_transport", self):
            yield

    async def send(
        self, request: Request, *, timeout_s: float, on_sent: Callable[[], None] | None = None
    ) -> Reply:
        with self._span():
            async with self._session.request(
                request.method,
                URL(request.url, encoded=True),
                data=request.body,
                headers=request.headers,
            ) as response:
                body = await response.read()
        return Reply(response.status, response.headers, body)


class _Inside(_Spans):
    """For an adapter whose library has an aiohttp session of its own: what that session takes."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        request, read = aiohttp.ClientSession._request, aiohttp.ClientResponse.read

        async def timed_request(*given: Any, **named: Any) -> aiohttp.ClientResponse:
            with self._span():
                return await request(*given, **named)

        async def timed_read(response: aiohttp.ClientResponse) -> bytes:
            with self._span(begins_request=False):
                return await read(response)

        with (
            patch.object(aiohttp.ClientSession, "_request", timed_request),
            patch.object(aiohttp.ClientResponse, "read", timed_read),
        ):
            yield


def overheads() -> list[Overhead]:
    """Of every adapter with a subject."""
    return [_measured(subject) for subject in all_subjects()]


def _measured(subject: Subject) -> Overhead:
    if not {"--no-limits", "--limit-scale"} & set(subject.sim):
        subject = replace(subject, sim=(*subject.sim, "--no-limits"))
    with tempfile.TemporaryDirectory() as folder:
        with running_sim(subject, Path(folder), apart=True) as sim:
            return asyncio.run(_measure(subject, sim.url))


async def _measure(subject: Subject, url: str) -> Overhead:
    fields = {"url": url, "symbols": subject.symbols, "timeout": 10.0, **subject.config}
    config = VenueConfig(adapter=subject.adapter, **fields)
    venue = open_venue("sim", config, Credentials(subject.key, subject.secret))
    rest: object = venue
    trader = Trader(venue, subject)
    try:
        await venue.connect()
        price = (await trader.resting()).price
        async with aiohttp.ClientSession() as session:
            bare = _Bare(rest, session) if isinstance(rest, RestVenue) else _Inside()
            timed = _Timed(venue, bare)
            for number in range(CALLS + CALLS // 10):
                if number == CALLS // 10:
                    timed.forget()
                for timed.bare in (False, True):
                    order = trader.order(price=price)
                    await timed.submit(order)
                    await timed.open_orders()
                    await venue.cancel(order.symbol, order.cl_ord_id)
    finally:
        await venue.close()
    submit, bare_submit, listing, bare_listing = map(statistics.median, timed.taken)
    requests = (timed.requests[0], timed.requests[2])
    return Overhead(subject.name, submit, bare_submit, listing, bare_listing, *requests)


class _Timed:
    """Calls of one adapter: as it makes them, or only what `spans` measures of them (`bare`)."""

    def __init__(self, venue: Venue, spans: _Spans) -> None:
        self._venue = venue
        self._spans = spans
        self.bare = False
        self.requests: dict[int, int] = {}
        """Sent by the last call of a kind."""
        self.forget()

    def forget(self) -> None:
        self.taken: tuple[list[float], ...] = ([], [], [], [])
        """Of submit, bare submit, open orders, bare open orders."""

    async def submit(self, order: NewOrder) -> None:
        async def call() -> SubmitOutcome:
            return await self._venue.submit(order)

        outcome = await self._time(call, 0)
        if not isinstance(outcome, Accepted):
            raise RuntimeError(f"an order was not accepted: {outcome}")

    async def open_orders(self) -> None:
        listing = await self._time(self._venue.open_orders, 2)
        if not listing.complete:
            raise RuntimeError("a list was not complete")

    async def _time(self, call: Callable[[], Awaitable[_T]], index: int) -> _T:
        if self.bare:
            with self._spans.at_work():
                result = await call()
            seconds, self.requests[index] = self._spans.taken()
            self.taken[index + 1].append(seconds)
            return result
        with _sleeps_counted() as slept:
            began = time.perf_counter()
            result = await call()
            took = time.perf_counter() - began
        self.taken[index].append(took - sum(slept))
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
