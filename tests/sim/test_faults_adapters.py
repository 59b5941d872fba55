"""Faults as Openbell's own adapters meet them: every venue's requests are found by what they mean
and by whose key they bear, and what is answered is not taken for something else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.venues.conformance.harness import Trader
from tests.venues.subjects import Subject, all_subjects

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import OrdStatus
from openbell.venues.credentials import Credentials
from openbell.venues.port import Accepted, Rejected, Unknown, VenueError, VenueUnavailableError
from openbell.venues.port import Venue as Adapter
from openbell.venues.registry import open_venue
from openbell.venues.rest import THROTTLED
from openbell_sim import testing
from openbell_sim.arguments import settings
from openbell_sim.faces.port import RequestKind
from openbell_sim.faults.document import PlanDocument
from openbell_sim.faults.kinds import (
    AnyFault,
    BadNonce,
    DropReply,
    EmptyList,
    HttpStatus,
    KeyRefused,
    KeyRevoked,
    LazyCancels,
    RejectCancels,
    StatusUnknown,
)
from openbell_sim.server import Venue

OpenAdapter = Callable[..., Awaitable[Adapter]]
"""A connected one, that remembers nothing of the others."""


@pytest.fixture(params=all_subjects(), ids=lambda subject: subject.name)
def subject(request: pytest.FixtureRequest) -> Subject:
    given: Subject = request.param
    return given


@pytest.fixture
async def venue(subject: Subject) -> AsyncIterator[Venue]:
    environ = {"OPENBELL_SIM_KEY": subject.key, "OPENBELL_SIM_SECRET": subject.secret}
    given = settings(["--face", subject.face, *subject.sim], environ)
    async with testing.running_venue(replace(given, port=0)) as running:
        yield running


@pytest.fixture
async def open_adapter(subject: Subject, venue: Venue) -> AsyncIterator[OpenAdapter]:
    opened: list[Adapter] = []

    async def connected(key: str = subject.key, secret: str = subject.secret) -> Adapter:
        fields: dict[str, Any] = {
            "url": venue.url,
            "symbols": subject.symbols,
            "timeout": 10.0,
            **subject.config,
        }
        config = VenueConfig(adapter=subject.adapter, **fields)
        made = open_venue("sim", config, Credentials(key, secret))
        opened.append(made)
        await made.connect()
        return made

    yield connected
    for made in opened:
        await made.close()


@pytest.fixture
async def adapter(open_adapter: OpenAdapter) -> Adapter:
    return await open_adapter()


async def set_fault(venue: Venue, fault: AnyFault) -> None:
    """Alone in the plan."""
    venue.faults.clear()
    await venue.faults.load(PlanDocument(faults=(fault,)))


def hits(venue: Venue) -> int:
    return venue.faults.armed[0].hits


def arrivals(subject: Subject, venue: Venue, cl_ord_id: str) -> list[str]:
    """What struck each request for this order that ever arrived, whatever became of it."""
    return [
        arrival.fault
        for arrival in venue.faults.arrivals.all
        if cl_ord_id in map(subject.own_id, arrival.cl_ord_ids)
    ]


async def test_what_becomes_of_an_order_is_never_guessed_and_it_is_sent_once(
    subject: Subject, venue: Venue, open_adapter: OpenAdapter
) -> None:
    trader = Trader(await open_adapter(), subject)
    submit: dict[str, Any] = {"kinds": (RequestKind.SUBMIT,), "account": "main", "count": 1}
    arrived = 0
    for fault, outcomes, arrives in (
        (DropReply(**submit), Unknown, True),
        (StatusUnknown(accepted=True, **submit), Unknown, True),
        (StatusUnknown(accepted=False, **submit), Unknown, False),
        (HttpStatus(status=504, **submit), Unknown, False),
        (BadNonce(**submit), (Rejected, Unknown), False),
        (KeyRefused(**submit), (Rejected, Unknown), False),
        (HttpStatus(status=429, **submit), (Rejected, Unknown), False),
    ):
        await set_fault(venue, fault)
        order = await trader.resting()
        outcome = await trader.venue.submit(order)
        assert isinstance(outcome, outcomes), (fault, outcome)
        assert hits(venue) == 1, fault
        arrived += arrives
        assert len(venue.exchange.ledger.orders) == arrived, fault
        assert arrivals(subject, venue, order.cl_ord_id) == [fault.name]
        if isinstance(outcome, Rejected) and outcome.code == THROTTLED:
            # This one holds back from here on. ccxt takes Binance's answer to an unknown key for a
            # ban where the key was good before.
            trader = Trader(await open_adapter(), subject)


async def test_an_empty_list_of_positions_is_never_taken_for_flat(
    subject: Subject, venue: Venue, adapter: Adapter
) -> None:
    if not adapter.capabilities.positions:
        pytest.skip("the venue keeps no positions")
    trader = Trader(adapter, subject)
    order = trader.market()
    assert isinstance(await adapter.submit(order), Accepted)
    assert await trader.settled(order.cl_ord_id) is OrdStatus.FILLED
    assert await trader.position() == subject.quantity

    await set_fault(venue, EmptyList(kinds=(RequestKind.POSITIONS,), account="main"))
    with pytest.raises(VenueUnavailableError):
        await adapter.positions()
    assert hits(venue) >= 1
    assert sum(fill.last_qty for fill in await adapter.fills(order.symbol)) == subject.quantity

    venue.faults.clear()
    assert await trader.position() == subject.quantity


async def test_lies_about_orders_and_keys_are_told_by_every_venue(
    subject: Subject, venue: Venue, adapter: Adapter
) -> None:
    trader = Trader(adapter, subject)
    order = await trader.resting()
    assert isinstance(await adapter.submit(order), Accepted)
    assert await trader.listed(order.cl_ord_id)
    (resting,) = venue.exchange.ledger.orders.values()

    await set_fault(venue, RejectCancels(account="main"))
    await adapter.cancel(order.symbol, order.cl_ord_id)
    assert hits(venue) >= 1
    assert resting.is_open

    await set_fault(venue, EmptyList(account="main"))
    assert not (await adapter.open_orders()).orders
    assert hits(venue) >= 1

    await set_fault(venue, LazyCancels(account="main", delay_s=3600))
    await adapter.cancel(order.symbol, order.cl_ord_id)
    assert hits(venue) >= 1
    assert resting.is_open
    assert await trader.listed(order.cl_ord_id)

    await set_fault(venue, KeyRevoked(account="main"))
    with pytest.raises(VenueError):
        await adapter.open_orders()
