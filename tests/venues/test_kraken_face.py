"""The Kraken adapter and feed at the simulated venue: nonces, the stream's gaps, the rate limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from tests.sim.kraken_client import KEY, SECRET, Quotes, Raw, settings

from openbell.config.models import Venue as VenueConfig
from openbell.domain.ids import mint
from openbell.domain.market import Quote
from openbell.domain.orders import NewOrder, OrdStatus, OrdType, Side
from openbell.trading.feeds import make_feed
from openbell.venues.credentials import Credentials
from openbell.venues.kraken.venue import KrakenVenue
from openbell.venues.port import Accepted, OrderReport, Rejected, StreamDown, StreamUp
from openbell_sim import testing
from openbell_sim.faults.kinds import DuplicateEvents, MissingEvents
from openbell_sim.faults.latency import Latency, LatencyModel
from openbell_sim.server import Venue

HOUR_NS = 3600 * 10**9
ROOMY = {"call_limit": "100000", "order_limit": "100000"}


@pytest.fixture
async def sim() -> AsyncIterator[Venue]:
    async with testing.running_venue(settings([Quotes()])) as running:
        yield running


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., KrakenVenue]]:
    made: list[KrakenVenue] = []

    def make(sim: Venue, options: dict[str, str] = ROOMY) -> KrakenVenue:
        config = VenueConfig(
            adapter="kraken", url=sim.url, symbols=("BTC/USD",), timeout=10.0, options=options
        )
        made.append(KrakenVenue("krk", config, Credentials(KEY, SECRET)))
        return made[-1]

    yield make
    for venue in made:
        await venue.close()


def order(number: int, **changes: Any) -> NewOrder:
    fields: dict[str, Any] = {
        "cl_ord_id": mint("3f9a01c4", 71, number),
        "venue": "krk",
        "symbol": "BTC/USD",
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "order_qty": Decimal("0.001"),
        "price": Decimal(50000),
    }
    return NewOrder(**{**fields, **changes})


# Nonces.


async def test_a_desk_whose_clock_was_set_back_an_hour_trades_and_cancels(
    sim: Venue, opened: Callable[..., KrakenVenue]
) -> None:
    async with aiohttp.ClientSession() as session:
        errors, _ = await Raw(session, sim.url)("Balance", nonce=time.time_ns() + HOUR_NS)
    assert errors == []
    venue = opened(sim)
    await venue.connect()
    assert isinstance(await venue.submit(order(1)), Accepted)
    assert isinstance(await venue.cancel("BTC/USD", order(1).cl_ord_id), Accepted)


async def test_an_effect_whose_nonce_is_too_small_is_proven_undone(
    sim: Venue, opened: Callable[..., KrakenVenue]
) -> None:
    venue = opened(sim)
    await venue.connect()
    async with aiohttp.ClientSession() as session:
        await Raw(session, sim.url)("Balance", nonce=time.time_ns() + HOUR_NS)
    outcome = await venue.submit(order(1))
    assert isinstance(outcome, Rejected)
    assert outcome.code == "EAPI:Invalid nonce"
    assert not sim.exchange.ledger.orders
    # A query finds the way ahead for all that follows.
    assert await venue.order("BTC/USD", order(1).cl_ord_id) is None
    assert isinstance(await venue.submit(order(2)), Accepted)


async def test_requests_on_their_way_together_do_not_spoil_each_others_nonces(
    sim: Venue, opened: Callable[..., KrakenVenue]
) -> None:
    venue = opened(sim)
    await venue.connect()
    sim.faults.set_latency(Latency(model=LatencyModel.UNIFORM, low_ms=0, high_ms=60))
    orders = [order(number) for number in range(12)]
    queries = [venue.open_orders() for _ in range(6)]
    queries += [venue.balances() for _ in range(6)]
    outcomes, *_ = await asyncio.gather(
        asyncio.gather(*(venue.submit(each) for each in orders)), *queries
    )
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    outcomes, *_ = await asyncio.gather(
        asyncio.gather(*(venue.cancel("BTC/USD", each.cl_ord_id) for each in orders)),
        venue.open_orders(),
    )
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert (await venue.open_orders()).orders == ()


# Rate limits.


async def test_new_orders_stop_in_time_for_their_cancels(
    opened: Callable[..., KrakenVenue],
) -> None:
    async with testing.running_venue(settings([Quotes()], limit_scale=1.0)) as sim:
        # The counter hardly falls, so that it does not matter how long they take.
        venue = opened(sim, {"call_limit": "1000", "order_limit": "60", "order_decay": "0.001"})
        await venue.connect()
        outcomes = [await venue.submit(order(number)) for number in range(52)]
        accepted = [o for o in outcomes if isinstance(o, Accepted)]
        assert len(accepted) == 48, "four fifths of the counter"
        held = outcomes[-1]
        assert isinstance(held, Rejected)
        assert held.code == "throttled"
        # More than the venue takes one by one: each costs up to eight. All at once go through.
        ids = [order(number).cl_ord_id for number in range(len(accepted))]
        cancelled = await venue.cancel_many("BTC/USD", ids)
        assert all(isinstance(outcome, Accepted) for outcome in cancelled)
        assert sim.exchange.ledger.open.get("main", {}) == {}


async def test_mass_cancel_goes_through_where_single_cancels_are_refused(
    opened: Callable[..., KrakenVenue], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with testing.running_venue(settings([Quotes()], limit_scale=1.0)) as sim:
        # The venue's clock stands still: its counter falls, and orders grow old, by nothing else.
        now_ns = sim.clock.true_ns()
        monkeypatch.setattr(sim.clock, "true_ns", lambda: now_ns)
        venue = opened(sim)
        await venue.connect()
        orders = [order(number) for number in range(20)]
        for each in orders:
            assert isinstance(await venue.submit(each), Accepted)
        outcomes = [await venue.cancel("BTC/USD", each.cl_ord_id) for each in orders]
        # Each counts eight, and the venue takes cancels as long as it has not counted 125.
        refused = [outcome for outcome in outcomes if isinstance(outcome, Rejected)]
        assert {outcome.code for outcome in refused} == {"throttled"}
        assert len(sim.exchange.ledger.open["main"]) == len(refused) == 6
        assert isinstance(await venue.cancel_account(), Accepted)
        assert sim.exchange.ledger.open.get("main", {}) == {}


# The stream.


async def test_a_lost_event_is_noticed_at_the_next_one(
    sim: Venue, opened: Callable[..., KrakenVenue]
) -> None:
    venue = opened(sim)
    await venue.connect()
    async with asyncio.timeout(30), aclosing(venue.stream()) as events:  # type: ignore[type-var]
        assert await anext(events) == StreamUp()
        await venue.submit(order(1))
        told = await anext(events)
        assert isinstance(told, OrderReport)
        assert told.order.status is OrdStatus.NEW
        await sim.faults.add(MissingEvents(count=1))
        await venue.cancel("BTC/USD", order(1).cl_ord_id)
        await venue.submit(order(2))
        down = await anext(events)
        assert isinstance(down, StreamDown)
        assert "missing" in down.why
        assert await anext(events) == StreamUp()
        await venue.cancel("BTC/USD", order(2).cl_ord_id)
        told = await anext(events)
        assert isinstance(told, OrderReport)
        assert (told.order.cl_ord_id, told.order.status) == (
            order(2).cl_ord_id,
            OrdStatus.CANCELED,
        )


async def test_doubled_events_are_told_once(sim: Venue, opened: Callable[..., KrakenVenue]) -> None:
    venue = opened(sim)
    await venue.connect()
    async with asyncio.timeout(30), aclosing(venue.stream()) as events:  # type: ignore[type-var]
        assert await anext(events) == StreamUp()
        await sim.faults.add(DuplicateEvents())
        await venue.submit(order(1, ord_type=OrdType.MARKET, price=None))
        fills = []
        while True:
            event = await anext(events)
            assert isinstance(event, OrderReport)
            if event.fill is not None:
                fills.append(event.fill)
            if event.order.status.is_final:
                break
        assert [(fill.last_qty, fill.last_px) for fill in fills] == [
            (Decimal("0.001"), Decimal(60000))
        ]
        listed = await venue.fills("BTC/USD")
        assert [fill.exec_id for fill in listed] == [fills[0].exec_id]


# The feed.


async def test_the_feed_gives_the_venues_prices(sim: Venue) -> None:
    feed = make_feed("krk", VenueConfig(adapter="kraken", url=sim.url, symbols=("BTC/USD",)))
    (rules,) = await feed.connect()
    async with asyncio.timeout(30):
        quote = await anext(feed.messages())
    await feed.close()
    assert rules.symbol == "BTC/USD"
    assert isinstance(quote, Quote)
    assert (quote.bid_px, quote.ask_px) == (Decimal(59990), Decimal(60000))
