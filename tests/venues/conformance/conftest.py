"""Fixtures of the suite, and the record of what it tried.

Each test names the operation it tries:

    @operation("cancel many", needs=lambda venue: venue.batch_cancel > 0)

`needs` is asked of the adapter's capabilities: where it is not met, the test is skipped as "not
supported by the venue". An operation in the subject's `untested` is skipped as "not tested".

All of it runs in one process, whatever runs beside it: the last test looks at the results of all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.venues.conformance.harness import Relay, Sim, Trader, running_sim
from tests.venues.conformance.results import RESULTS, Result
from tests.venues.subjects import Subject, chosen_subjects

from openbell.config.models import Venue as VenueConfig
from openbell.venues.credentials import Credentials
from openbell.venues.port import Venue
from openbell.venues.registry import load_adapter, open_venue


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: Any = yield
    marker = item.get_closest_marker("operation")
    callspec = getattr(item, "callspec", None)
    if marker is not None and callspec is not None and "subject" in callspec.params:
        reason = report.longrepr[2] if report.skipped else ""
        if report.when == "call" or not report.passed:
            item.config.stash[RESULTS].append(
                Result(
                    operation=marker.args[0],
                    subject=callspec.params["subject"].name,
                    place=(item.location[0], item.location[1] or 0),
                    outcome=report.outcome,
                    reason=reason.removeprefix("Skipped: "),
                )
            )
    return report


@pytest.fixture(scope="module", params=chosen_subjects(), ids=lambda subject: subject.name)
def subject(request: pytest.FixtureRequest) -> Subject:
    given: Subject = request.param
    return given


@pytest.fixture(autouse=True)
def _applies(request: pytest.FixtureRequest, subject: Subject) -> None:
    marker = request.node.get_closest_marker("operation")
    if marker is None:
        return
    needs = marker.kwargs.get("needs")
    if needs is not None and not needs(_capabilities(subject)):
        pytest.skip("not supported by the venue")
    if marker.args[0] in subject.untested:
        pytest.skip(f"not tested: {subject.untested[marker.args[0]]}")


def _capabilities(subject: Subject) -> Any:
    config = VenueConfig(
        adapter=subject.adapter, url="http://127.0.0.1:1", symbols=subject.symbols, **subject.config
    )
    adapter = load_adapter(subject.adapter)
    return adapter("sim", config, Credentials(subject.key, subject.secret)).capabilities


@pytest.fixture(scope="module")
def sim(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    with running_sim(subject, tmp_path_factory.mktemp("sim")) as running:
        yield running


@pytest.fixture
async def relay(sim: Sim) -> AsyncIterator[Relay]:
    host, _, port = sim.url.removeprefix("http://").partition(":")
    made = Relay((host, int(port)))
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(made.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()
    made.cut_all()
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def opened(subject: Subject, relay: Relay) -> AsyncIterator[Callable[..., Venue]]:
    """Makes venues over the relay, and closes them."""
    made: list[Venue] = []

    def make(*, key: str = subject.key, secret: str = subject.secret, **changes: Any) -> Venue:
        fields = {"url": relay.url, "symbols": subject.symbols, "timeout": 10.0, "poll_every": 0.2}
        config = VenueConfig(adapter=subject.adapter, **{**fields, **subject.config, **changes})
        venue = open_venue("sim", config, Credentials(key, secret))
        made.append(venue)
        return venue

    yield make
    for venue in made:
        await venue.close()


@pytest.fixture
async def venue(opened: Callable[..., Venue]) -> AsyncIterator[Venue]:
    """Connected. Afterwards nothing of the test rests."""
    made = opened()
    await made.connect()
    yield made
    for order in (await made.open_orders()).orders:
        await made.cancel(order.symbol, order.cl_ord_id, venue_order_id=order.venue_order_id)


@pytest.fixture
def trader(venue: Venue, subject: Subject) -> Trader:
    return Trader(venue, subject)
