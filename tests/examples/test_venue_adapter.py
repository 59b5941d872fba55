"""The template adapter against the server of its imaginary venue."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest
from tests.examples.moon import now_ms
from tests.examples.moon_server import KEY, SECRET, MoonServer, running_moon

from moonvenue.venue import MoonVenue
from openbell.config.models import Venue as VenueConfig
from openbell.domain.ids import mint
from openbell.domain.orders import NewOrder, OrdStatus, OrdType, Side, TimeInForce
from openbell.errors import ConfigError
from openbell.venues.credentials import Credentials
from openbell.venues.port import (
    Accepted,
    Balance,
    OrderReport,
    Rejected,
    StreamDown,
    StreamUp,
    Unknown,
    VenueAuthError,
    VenueError,
    VenueRefusedError,
    VenueThrottledError,
    VenueUnavailableError,
)

SUBMIT = "POST /v1/orders"
BY_ID = "GET /v1/orders/by-client-id/"
LOST = ["lose", "hang", "503", "502 html", "nonsense", "new code"]
_numbers = itertools.count(1)


@pytest.fixture
async def moon() -> AsyncIterator[MoonServer]:
    async with running_moon(MoonServer()) as server:
        yield server


@pytest.fixture
async def opened(moon: MoonServer) -> AsyncIterator[Callable[..., MoonVenue]]:
    """Makes adapters, and closes them."""
    made: list[MoonVenue] = []

    def make(key: str = KEY, secret: str = SECRET, **changes: Any) -> MoonVenue:
        fields = {"url": moon.url, "symbols": ("BTC/USD", "ETH/USD"), "poll_every": 0.05}
        config = VenueConfig(adapter="moon", **{**fields, **changes})
        made.append(MoonVenue("luna", config, Credentials(key, secret)))
        return made[-1]

    yield make
    for venue in made:
        await venue.close()


@pytest.fixture
async def venue(opened: Callable[..., MoonVenue]) -> MoonVenue:
    made = opened()
    await made.connect()
    return made


async def test_an_option_that_it_does_not_know_is_refused_at_its_line(
    opened: Callable[..., MoonVenue],
) -> None:
    with pytest.raises(ConfigError, match='"colour"') as caught:
        opened(options={"colour": "red"})
    assert caught.value.facts["key"] == ("options", "colour")


def limit_order(**changes: Any) -> NewOrder:
    fields: dict[str, Any] = {
        "cl_ord_id": mint("c0ffee00", 1, next(_numbers)),
        "venue": "luna",
        "symbol": "BTC/USD",
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "order_qty": Decimal("0.01"),
        "price": Decimal("45000.10"),
    }
    return NewOrder(**{**fields, **changes})


def market_order(**changes: Any) -> NewOrder:
    return limit_order(ord_type=OrdType.MARKET, price=None, **changes)


# Connecting.


async def test_connecting_loads_the_rules_as_exact_decimals(venue):
    rules = venue.rules("BTC/USD")
    assert (rules.base, rules.quote) == ("BTC", "USD")
    assert str(rules.lot_size) == "0.00001"
    assert (rules.min_qty, rules.min_notional) == (Decimal("0.0001"), 10)
    with pytest.raises(KeyError):
        venue.rules("DOGE/USD")


@pytest.mark.parametrize("wrong", [{"key": "of-somebody-else"}, {"secret": "of-somebody-else"}])
async def test_wrong_credentials_are_told_at_connect_without_naming_them(opened, wrong):
    with pytest.raises(VenueAuthError) as raised:
        await opened(**wrong).connect()
    assert KEY not in raised.value.message  # Moon's own words have it


async def test_a_symbol_that_moon_does_not_trade_is_named(opened):
    with pytest.raises(VenueRefusedError, match="DOGE/USD"):
        await opened(symbols=("BTC/USD", "DOGE/USD")).connect()


async def test_a_venue_out_of_reach_is_unavailable(opened):
    venue = opened(url="http://127.0.0.1:1")
    with pytest.raises(VenueUnavailableError):
        await venue.connect()
    outcome = await venue.submit(limit_order())
    assert isinstance(outcome, Rejected)
    assert outcome.code == "never_arrived"


async def test_expiries_are_by_the_venues_clock_and_not_by_ours(opened, moon):
    moon.clock_ahead_ms = 3_600_000
    venue = opened()
    await venue.connect()
    assert isinstance(await venue.submit(limit_order()), Accepted)


async def test_a_long_time_out_asks_for_no_longer_life_than_the_venue_gives(opened):
    venue = opened(timeout=120.0)
    await venue.connect()
    assert isinstance(await venue.submit(limit_order()), Accepted)


async def test_quotes_and_rules_need_no_credentials(opened):
    venue = opened(key="", secret="")
    await venue.connect_public()
    quote = await venue.quote("BTC/USD")
    assert (quote.bid_px, quote.ask_px) == (Decimal("50000.10"), Decimal("50000.30"))
    assert (quote.bid_qty, quote.ask_qty) == (Decimal("1.5"), Decimal("2.25"))


async def test_the_keys_permissions_are_told(venue, moon):
    moon.can_trade = False
    permissions = await venue.key_permissions()
    assert (permissions.trade, permissions.withdraw) == (False, False)
    assert isinstance(await venue.submit(limit_order()), Rejected)


# Orders.


async def test_an_order_is_accepted_once_and_found_by_its_id(venue, moon):
    order = limit_order()
    outcome = await venue.submit(order)
    assert outcome == Accepted(venue_order_id="o1")
    assert moon.requests[SUBMIT] == 1
    found = await venue.order("BTC/USD", order.cl_ord_id)
    assert (found.venue_order_id, found.cl_ord_id, found.status) == (
        "o1",
        order.cl_ord_id,
        OrdStatus.NEW,
    )
    assert (found.order_qty, found.price) == (order.order_qty, order.price)


async def test_every_digit_arrives_as_it_was_sent(venue, moon):
    moon.moon.markets["BTC-USD"] = type(moon.moon.markets["BTC-USD"])(
        "BTC-USD", *map(Decimal, ("0.0000000001", "0.000000000000000001", "1E-18", "100", "0"))
    )
    price, size = Decimal("44999.0000000001"), Decimal("0.123456789012345678")
    order = limit_order(price=price, order_qty=size)
    await venue.submit(order)
    found = await venue.order("BTC/USD", order.cl_ord_id)
    assert (str(found.price), str(found.order_qty)) == (str(price), str(size))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"price": Decimal("45000.105")}, "off_grid"),
        ({"order_qty": Decimal("0.0001")}, "too_small"),
        ({"order_qty": Decimal(50)}, "no_funds"),
        ({"price": Decimal(51_000), "post_only": True}, "would_take"),
        ({"symbol": "DOGE/USD"}, "unknown_market"),
    ],
)
async def test_what_moon_refuses_is_rejected_with_its_own_code(venue, moon, changes, code):
    outcome = await venue.submit(limit_order(**changes))
    assert isinstance(outcome, Rejected)
    assert outcome.code == code
    assert (moon.requests[SUBMIT], moon.moon.orders) == (1, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"price": None},
        {"ord_type": OrdType.MARKET},
        {"post_only": True, "time_in_force": TimeInForce.IOC},
        {"ord_type": OrdType.STOP},
    ],
)
async def test_an_order_that_makes_no_sense_at_moon_is_not_sent(venue, moon, changes):
    outcome = await venue.submit(limit_order(**changes))
    assert isinstance(outcome, Rejected)
    assert (outcome.code, moon.requests[SUBMIT]) == ("bad_order", 0)


@pytest.mark.parametrize("kind", LOST)
async def test_a_submit_without_a_clear_answer_is_unknown_sent_once_and_found(opened, moon, kind):
    venue = opened(timeout=2.0)
    await venue.connect()
    order = limit_order()
    moon.fault(kind, SUBMIT)
    assert isinstance(await venue.submit(order), Unknown)
    assert moon.requests[SUBMIT] == 1
    found = await venue.order("BTC/USD", order.cl_ord_id)
    assert found.status is OrdStatus.NEW


async def test_a_repeated_intent_is_not_taken_for_refused(venue, moon):
    order = limit_order()
    await venue.submit(order)
    assert isinstance(await venue.submit(order), Unknown)
    assert len(moon.moon.orders) == 1


async def test_an_order_that_never_arrived_is_none_and_only_by_moons_own_word(venue, moon):
    assert await venue.order("BTC/USD", limit_order().cl_ord_id) is None
    for kind in ("404 html", "503", "nonsense"):
        moon.fault(kind, BY_ID)
        with pytest.raises(VenueUnavailableError):
            await venue.order("BTC/USD", limit_order().cl_ord_id)


async def test_a_proxys_404_refuses_no_order(venue, moon):
    moon.fault("404 html", SUBMIT)
    assert isinstance(await venue.submit(limit_order()), Unknown)


async def test_a_throttled_submit_is_rejected_and_nothing_is_sent_before_the_time(venue, moon):
    moon.fault("429", SUBMIT)
    outcome = await venue.submit(limit_order())
    assert (outcome.code, moon.moon.orders) == ("throttled", [])
    assert (await venue.submit(limit_order())).code == "throttled"
    assert moon.requests[SUBMIT] == 1
    with pytest.raises(VenueThrottledError) as raised:
        await venue.balances()
    assert 0 < raised.value.retry_after_s <= 1


async def test_near_the_budgets_end_queries_wait_and_cancels_do_not(opened, moon):
    moon.clock_ahead_ms = 10_000 - now_ms() % 60_000  # no minute begins meanwhile
    venue = opened()
    await venue.connect()
    order = limit_order()
    await venue.submit(order)
    moon.spend(480)
    await venue.balances()
    with pytest.raises(VenueThrottledError):
        await venue.balances()
    assert isinstance(await venue.cancel("BTC/USD", order.cl_ord_id), Accepted)


# Cancels.


async def test_a_cancelled_order_is_gone_and_a_second_cancel_is_rejected(venue):
    order = limit_order()
    await venue.submit(order)
    assert isinstance(await venue.cancel("BTC/USD", order.cl_ord_id), Accepted)
    assert (await venue.order("BTC/USD", order.cl_ord_id)).status is OrdStatus.CANCELED
    assert (await venue.open_orders()).orders == ()
    assert (await venue.cancel("BTC/USD", order.cl_ord_id)).code == "not_open"
    assert (await venue.cancel("BTC/USD", limit_order().cl_ord_id)).code == "no_such_order"


@pytest.mark.parametrize("kind", LOST)
async def test_a_cancel_without_a_clear_answer_is_unknown_and_sent_once(opened, moon, kind):
    venue = opened(timeout=2.0)
    await venue.connect()
    order = limit_order()
    await venue.submit(order)
    moon.fault(kind, "DELETE ")
    assert isinstance(await venue.cancel("BTC/USD", order.cl_ord_id), Unknown)
    cancels = [times for name, times in moon.requests.items() if name.startswith("DELETE ")]
    assert cancels == [1]
    assert (await venue.order("BTC/USD", order.cl_ord_id)).status is OrdStatus.CANCELED


async def test_an_order_made_by_hand_is_listed_and_cancelled_by_the_venues_id(venue, moon):
    made = moon.moon.by_hand("BTC-USD", "sell", Decimal("0.5"), Decimal("40000.00"))
    (stop,) = (await venue.open_orders()).orders
    assert (stop.ord_type, stop.stop_px, stop.cl_ord_id) == (OrdType.STOP, made.stop_price, "")
    outcome = await venue.cancel("BTC/USD", stop.cl_ord_id, venue_order_id=stop.venue_order_id)
    assert isinstance(outcome, Accepted)
    assert moon.moon.open_orders == []


# Lists.


async def test_open_orders_are_read_to_the_last_page(venue, moon):
    moon.page = 2
    orders = [limit_order(symbol=s) for s in ("BTC/USD", "ETH/USD") for _ in range(2)]
    orders[2:] = [limit_order(symbol="ETH/USD", price=Decimal(2000)) for _ in range(3)]
    for order in orders:
        assert isinstance(await venue.submit(order), Accepted)
    listing = await venue.open_orders()
    assert listing.complete
    assert {o.cl_ord_id for o in listing.orders} == {o.cl_ord_id for o in orders}
    quiet = await venue.open_orders(["ETH/USD"])
    assert ([o.symbol for o in quiet.orders], quiet.complete) == (["ETH/USD"] * 3, True)


@pytest.mark.parametrize("page", [100, 2, 1])
async def test_a_cut_page_makes_the_list_incomplete(venue, moon, page):
    moon.page = page
    for _ in range(3):
        await venue.submit(limit_order())
    moon.fault("cut", "GET /v1/orders")
    assert not (await venue.open_orders()).complete
    assert (await venue.open_orders()).complete


async def test_an_order_that_comes_between_two_pages_makes_the_list_incomplete(venue, moon):
    moon.page = 2
    for _ in range(3):
        await venue.submit(limit_order())
    moon.before_page = lambda after: after and moon.moon.cancel(moon.moon.orders[0])
    assert not (await venue.open_orders()).complete


async def test_a_cut_that_a_cancel_hides_makes_the_list_incomplete(venue, moon):
    """Two are told by the last page, and two came; yet one of them is gone, and one is missing."""
    moon.page = 2
    orders = [limit_order() for _ in range(3)]
    for order in orders:
        await venue.submit(order)
    moon.fault("cut", "GET /v1/orders")
    moon.before_page = lambda after: after and moon.moon.cancel(moon.moon.orders[0])
    listing = await venue.open_orders()
    assert [o.cl_ord_id for o in listing.orders] == [orders[0].cl_ord_id, orders[2].cl_ord_id]
    assert not listing.complete


async def test_a_venue_that_repeats_its_first_page_is_not_asked_for_ever(venue, moon):
    moon.page, moon.ignores_cursors = 1, True
    for _ in range(2):
        await venue.submit(limit_order())
        await venue.submit(market_order())
    assert not (await venue.open_orders()).complete
    assert moon.requests["GET /v1/orders"] == 2
    with pytest.raises(VenueUnavailableError):
        await venue.fills("BTC/USD")
    assert moon.requests["GET /v1/fills"] == 2


async def test_no_orders_are_a_complete_list(venue):
    listing = await venue.open_orders()
    assert (listing.orders, listing.complete) == ((), True)


async def test_fills_are_read_to_the_last_page_and_by_order(venue, moon):
    moon.page = 1
    first, second = market_order(), market_order(side=Side.SELL)
    accepted = [await venue.submit(each) for each in (first, second)]
    fills = await venue.fills("BTC/USD")
    assert [fill.cl_ord_id for fill in fills] == [first.cl_ord_id, second.cl_ord_id]
    bought = fills[0]
    assert (bought.last_px, bought.last_qty) == (Decimal("50000.30"), first.order_qty)
    assert (bought.fee, bought.fee_currency) == (Decimal("0.500003"), "USD")
    of_second = await venue.fills("BTC/USD", venue_order_id=accepted[1].venue_order_id)
    assert of_second == fills[1:]
    assert await venue.fills("BTC/USD", since_ns=fills[1].venue_time_ns + 10**9) == []
    assert await venue.fills("ETH/USD") == []


async def test_fills_of_which_a_page_is_missing_are_an_error_and_no_short_list(venue, moon):
    moon.page = 1
    for _ in range(3):
        await venue.submit(market_order())
    moon.fault("cut", "GET /v1/fills")
    with pytest.raises(VenueUnavailableError):
        await venue.fills("BTC/USD")


# The account.


async def test_positions_are_what_is_held_less_the_holdings(opened):
    venue = opened(holdings={"BTC": "9.5"})
    await venue.connect()
    held = {p.symbol: p.quantity for p in await venue.positions()}
    assert held == {"BTC/USD": Decimal("0.5"), "ETH/USD": 0}
    await venue.submit(market_order(order_qty=Decimal("0.25")))
    assert (await venue.positions())[0].quantity == Decimal("0.75")


async def test_an_account_without_its_currencies_is_no_position_of_zero(venue, moon):
    moon.fault("cut", "GET /v1/account")
    with pytest.raises(VenueUnavailableError, match="BTC"):
        await venue.positions()


async def test_an_open_order_locks_what_it_may_spend(venue):
    await venue.submit(limit_order())
    locked = Decimal("0.01") * Decimal("45000.10") * Decimal("1.001")
    assert (await venue.balances())["USD"] == Balance(
        currency="USD", free=1_000_000 - locked, locked=locked
    )


# Order events.


async def test_the_polled_stream_tells_an_orders_whole_life(venue, moon):
    events = venue.stream()
    async with asyncio.timeout(30):
        assert await anext(events) == StreamUp()
        order = limit_order()
        await venue.submit(order)
        assert (await anext(events)).order.status is OrdStatus.NEW
        resting = moon.moon.found(client_id=order.cl_ord_id)
        moon.moon.execute(resting, Decimal("0.004"), resting.price, maker=True)
        part = await anext(events)
        assert (part.order.status, part.fill.last_qty) == (
            OrdStatus.PARTIALLY_FILLED,
            Decimal("0.004"),
        )
        assert part.fill.is_maker
        await venue.cancel("BTC/USD", order.cl_ord_id)
        gone = await anext(events)
        assert (gone.order.status, gone.order.cum_qty, gone.fill) == (
            OrdStatus.CANCELED,
            Decimal("0.004"),
            None,
        )
    await events.aclose()


async def test_a_gap_in_the_polled_stream_is_told_and_nothing_of_it_lost(venue, moon):
    events = venue.stream()
    async with asyncio.timeout(30):
        assert await anext(events) == StreamUp()
        fault = moon.fault("503", "GET /v1/orders", times=1_000_000)
        assert isinstance(await anext(events), StreamDown)
        order = market_order()
        await venue.submit(order)
        fault.times = 0
        assert await anext(events) == StreamUp()
        report = await anext(events)
    assert isinstance(report, OrderReport)
    assert (report.order.status, report.fill.cl_ord_id) == (OrdStatus.FILLED, order.cl_ord_id)
    await events.aclose()


async def test_a_query_raises_the_ports_errors_only(opened, moon):
    venue = opened(timeout=2.0)
    await venue.connect()
    for kind in ("hang", "503", "502 html", "404 html", "nonsense", "new code", "429"):
        moon.fault(kind, "GET /v1/account")
        with pytest.raises(VenueError):
            await venue.balances()
