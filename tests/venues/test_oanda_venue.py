"""The OANDA adapter: at a venue that behaves, at its limits, and at one that answers as told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    OrdStatus,
    OrdType,
    Purpose,
    Side,
    TimeInForce,
)
from openbell.venues.credentials import Credentials
from openbell.venues.oanda.venue import OandaVenue
from openbell.venues.port import (
    Accepted,
    Rejected,
    Unknown,
    VenueAuthError,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.transport import CONNECTIONS_MAX
from openbell_sim import testing
from openbell_sim.checks import OrderRequest
from openbell_sim.faces.oanda import queries
from openbell_sim.faces.oanda.book import account_id
from openbell_sim.interventions import Interventions
from openbell_sim.market.events import Snapshot
from openbell_sim.server import Venue

D = Decimal
ID = account_id("main")
TOKEN = "canary-token-77ab31"
MARKET = {"EUR_USD": ("1.08490", "1.08510", "1000"), "USD_JPY": ("149.990", "150.010", "100000")}

Open = Callable[..., OandaVenue]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    made: list[OandaVenue] = []

    def make(url: str, *, secret: str = testing.SECRET, **keys: Any) -> OandaVenue:
        fields = {"symbols": ("EUR/USD", "USD/JPY"), "timeout": 5.0, **keys}
        venue = OandaVenue(
            "sim", VenueConfig(url=url, adapter="oanda", **fields), Credentials("", secret)
        )
        made.append(venue)
        return venue

    yield make
    for venue in made:
        await venue.close()


@pytest.fixture
async def sim() -> AsyncIterator[Venue]:
    settings = testing.settings(
        [testing.StillMarket("oanda", **MARKET)], face="oanda", limit_scale=0
    )
    async with testing.running_venue(settings) as running:
        yield running


@pytest.fixture
async def venue(sim: Venue, opened: Open) -> OandaVenue:
    made = opened(sim.url)
    await made.connect()
    return made


def order(cl_ord_id: str = "ob00000000-1-1", **changes: Any) -> NewOrder:
    fields: dict[str, Any] = {
        "cl_ord_id": ClOrdID(cl_ord_id),
        "venue": "sim",
        "symbol": "EUR/USD",
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "order_qty": D(100),
        "price": D("1.08000"),
    }
    return NewOrder(**{**fields, **changes})


def market(cl_ord_id: str, side: Side = Side.BUY, qty: int = 100, **changes: Any) -> NewOrder:
    return order(
        cl_ord_id, ord_type=OrdType.MARKET, price=None, side=side, order_qty=D(qty), **changes
    )


# At a venue that behaves.


async def test_the_account_is_the_first_one_unless_desk_toml_names_another(sim, opened) -> None:
    venue = opened(sim.url)
    await venue.connect()
    [account] = await venue.accounts()
    assert (account.account_id, account.active, account.currency) == (ID, True, "USD")
    assert account.equity == D(100_000)
    await opened(sim.url, account=ID).connect()
    with pytest.raises(VenueAuthError):
        await opened(sim.url, account="101-001-0000000-001").connect()
    with pytest.raises(VenueRefusedError) as refused:
        await opened(sim.url, symbols=("EUR/USD", "DOGE/USD")).connect()
    assert refused.value.facts["symbols"] == ["DOGE/USD"]


async def test_rules_are_exact_to_the_pip(venue) -> None:
    rules = venue.rules("USD/JPY")
    assert (rules.tick_size, rules.lot_size, rules.min_qty) == (D("0.001"), D(1), D(1))
    assert rules.max_qty == D(100_000_000)
    assert rules.min_notional == 0


async def test_a_market_order_that_finds_no_liquidity_is_accepted_and_ends(venue) -> None:
    outcome = await venue.submit(market("m1", qty=5000, time_in_force=TimeInForce.FOK))
    assert isinstance(outcome, Accepted)
    found = await venue.order("EUR/USD", ClOrdID("m1"))
    assert (found.status, found.cum_qty) == (OrdStatus.EXPIRED, 0)
    outcome = await venue.submit(market("m2", qty=5000))
    found = await venue.order("EUR/USD", ClOrdID("m2"))
    assert (found.status, found.cum_qty, found.order_qty) == (OrdStatus.EXPIRED, 1000, 5000)
    [fill] = await venue.fills("EUR/USD", venue_order_id=outcome.venue_order_id)
    assert (fill.last_qty, fill.last_px, fill.fee) == (1000, D("1.08510"), 0)


async def test_a_limit_order_filled_in_parts_is_one_order_of_several_executions(
    venue, sim, opened
) -> None:
    outcome = await venue.submit(order("parts", order_qty=D(2500), price=D("1.08495")))
    other = opened(sim.url, secret=testing.COUNTERPARTY_SECRET)
    await other.connect()
    for number, qty in enumerate((400, 600)):
        await other.submit(market(f"other-{number}", Side.SELL, qty))
    [listed] = (await venue.open_orders()).orders
    assert (listed.status, listed.cum_qty) == (OrdStatus.PARTIALLY_FILLED, 1000)
    assert listed == await venue.order("EUR/USD", ClOrdID("parts"))
    fills = await venue.fills("EUR/USD", venue_order_id=outcome.venue_order_id)
    assert [fill.last_qty for fill in fills] == [400, 600]
    # Another process sees the same, having to read back.
    fresh = opened(sim.url)
    await fresh.connect()
    assert (await fresh.open_orders()).orders == (listed,)
    assert await fresh.fills("EUR/USD", venue_order_id=outcome.venue_order_id) == fills
    assert await fresh.fills("EUR/USD", since_ns=fills[1].venue_time_ns) == fills[1:]
    assert await fresh.fills("EUR/USD") == fills
    assert await fresh.fills("USD/JPY") == []


async def test_an_ended_order_is_found_by_a_process_that_did_not_see_it(venue, sim, opened) -> None:
    """OANDA finds by the client's id what is pending, and perhaps nothing else: then the
    transactions of the last day are searched."""
    for name, side in (("filled", Side.BUY), ("gone", Side.SELL)):
        await venue.submit(market(name, side))
    await venue.submit(order("old"))
    fresh = opened(sim.url)
    await fresh.connect()
    for name, status in (("filled", OrdStatus.FILLED), ("old", OrdStatus.NEW)):
        found = await fresh.order("EUR/USD", ClOrdID(name))
        assert found is not None
        assert found.status is status
    assert await fresh.order("EUR/USD", ClOrdID("never")) is None


async def test_a_large_history_is_read_in_pages(venue, sim, opened) -> None:
    first = await venue.submit(market("first"))
    resting = await venue.submit(order("resting"))
    for number in range(1200):
        request = OrderRequest(
            account="main", cl_ord_id=f"n{number}", symbol="EUR_USD", side=Side.BUY,
            ord_type=OrdType.LIMIT, qty=D(1), price=D("1.08"), received_ns=1,
        )  # fmt: skip
        sim.exchange.cancel(sim.exchange.submit(request))
    last = await venue.submit(market("last"))
    fresh = opened(sim.url)
    await fresh.connect()
    before = sum(sim.face.replies.values())
    [listed] = (await fresh.open_orders()).orders
    assert listed.venue_order_id == resting.venue_order_id
    # The list, the count, what is new, and three pages back.
    assert sum(sim.face.replies.values()) - before == 6
    found = await fresh.order("EUR/USD", ClOrdID("n600"))
    assert found is not None
    assert found.status is OrdStatus.CANCELED
    assert [fill.venue_order_id for fill in await fresh.fills("EUR/USD")] == [
        first.venue_order_id, last.venue_order_id,
    ]  # fmt: skip


async def test_positions_net_and_name_their_side(venue) -> None:
    await venue.submit(market("a", Side.SELL, 300))
    euro, yen = await venue.positions()
    assert (euro.symbol, euro.quantity, euro.leg, euro.avg_px) == (
        "EUR/USD", D(-300), "SHORT", D("1.08490"),
    )  # fmt: skip
    assert (yen.symbol, yen.quantity, yen.leg) == ("USD/JPY", 0, "")
    await venue.submit(market("b", Side.BUY, 500))
    euro, _ = await venue.positions()
    assert (euro.quantity, euro.leg) == (D(200), "LONG")


async def test_a_flattening_order_is_reduce_only_and_is_cut_to_the_position(venue) -> None:
    await venue.submit(market("open", qty=300))
    await venue.submit(market("close", Side.SELL, 900, purpose=Purpose.FLATTEN))
    found = await venue.order("EUR/USD", ClOrdID("close"))
    assert (found.reduce_only, found.status, found.cum_qty) == (True, OrdStatus.FILLED, 300)
    assert (await venue.positions())[0].quantity == 0
    refused = await venue.submit(market("again", Side.SELL, purpose=Purpose.FLATTEN))
    assert isinstance(refused, Rejected)


async def test_protection_that_others_set_is_listed_and_can_be_cancelled(venue, sim) -> None:
    body = {
        "type": "MARKET", "instrument": "USD_JPY", "units": "-700",
        "takeProfitOnFill": {"price": "140"}, "stopLossOnFill": {"price": "160"},
    }  # fmt: skip
    await _post(sim, {"order": body})
    listing = await venue.open_orders()
    assert listing.complete
    assert {(o.ord_type, o.side, o.order_qty, o.price, o.stop_px) for o in listing.orders} == {
        (OrdType.LIMIT, Side.BUY, D(700), D(140), None),
        (OrdType.STOP, Side.BUY, D(700), None, D(160)),
    }
    for each in listing.orders:
        assert (each.symbol, each.reduce_only) == ("USD/JPY", True)
        outcome = await venue.cancel(
            each.symbol, each.cl_ord_id, venue_order_id=each.venue_order_id
        )
        assert isinstance(outcome, Accepted)
    assert (await venue.open_orders()).orders == ()


async def test_a_stop_that_the_venue_loses_is_known_no_more(venue, sim) -> None:
    """No transaction tells that it is gone; what the transactions say must not be believed alone."""
    body = {
        "type": "STOP", "instrument": "EUR_USD", "units": "100", "price": "1.09",
        "clientExtensions": {"id": "stop"},
    }  # fmt: skip
    await _post(sim, {"order": body})
    assert (await venue.order("EUR/USD", ClOrdID("stop"))).status is OrdStatus.NEW
    sim.exchange.intervene(Interventions(drop_stops=True))
    listing = await venue.open_orders()
    assert (listing.orders, listing.complete) == ((), True)
    assert await venue.order("EUR/USD", ClOrdID("stop")) is None


async def _post(sim: Venue, body: object) -> None:
    headers = {"Authorization": f"Bearer {testing.SECRET}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(f"{sim.url}/v3/accounts/{ID}/orders", json=body) as response:
            assert response.status == 201, await response.text()


@pytest.mark.parametrize("kept", [0, 1])
async def test_lists_that_a_fault_cuts_are_noticed(venue, sim, monkeypatch, kept) -> None:
    for name in ("a", "b"):
        await venue.submit(order(name))
    await venue.submit(market("c", qty=300))
    await venue.submit(market("d", symbol="USD/JPY"))
    assert (await venue.open_orders()).complete
    monkeypatch.setattr(queries, "shown", lambda items: items[:kept])
    listing = await venue.open_orders()
    assert (len(listing.orders), listing.complete) == (kept, False)
    with pytest.raises(VenueUnavailableError):
        await venue.positions()
    await venue.submit(order("e"))
    with pytest.raises(VenueUnavailableError, match="cut list"):
        await venue.fills("EUR/USD")
    monkeypatch.undo()
    assert (await venue.open_orders()).complete
    assert len(await venue.fills("EUR/USD")) == 1


async def test_a_limit_order_that_may_not_rest_is_sent_as_oanda_documents_it(venue, sim) -> None:
    outcome = await venue.submit(order("ioc", time_in_force=TimeInForce.IOC, price=D("1.08510")))
    assert isinstance(outcome, Accepted)
    found = await venue.order("EUR/USD", ClOrdID("ioc"))
    assert (found.ord_type, found.price, found.status) == (
        OrdType.LIMIT, D("1.08510"), OrdStatus.FILLED,
    )  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    [
        order(post_only=True),
        order(price=None),
        order(ord_type=OrdType.STOP),
        order(ord_type=OrdType.MARKET),
    ],
)
async def test_what_oanda_cannot_do_is_not_sent(venue, sim, bad) -> None:
    outcome = await venue.submit(bad)
    assert isinstance(outcome, Rejected)
    assert outcome.code == "bad_order"
    assert sim.exchange.ledger.refused == []


async def test_no_order_is_sent_before_an_account_is_known(sim, opened) -> None:
    outcome = await opened(sim.url).submit(order())
    assert isinstance(outcome, Rejected)
    assert outcome.code == "never_arrived"


async def test_quotes_carry_size_and_the_venues_time(venue, sim) -> None:
    quote = await venue.quote("USD/JPY")
    assert (quote.bid_px, quote.ask_qty) == (D("149.990"), D(100_000))
    assert abs(quote.venue_time_ns - time.time_ns()) < 60 * 10**9
    sim.exchange.play(Snapshot("USD_JPY", (), ()))
    with pytest.raises(VenueUnavailableError):
        await venue.quote("USD/JPY")


async def test_balances_are_the_accounts_money_and_no_order_locks_it(venue) -> None:
    await venue.submit(order())
    [balance] = (await venue.balances()).values()
    assert (balance.currency, balance.free, balance.locked) == ("USD", D(100_000), 0)


# At its limits.


async def test_a_burst_stays_within_the_documented_limits(opened) -> None:
    """Forty orders at once, at a venue that allows two new connections in a second."""
    settings = testing.settings([testing.StillMarket("oanda", **MARKET)], face="oanda")
    async with testing.running_venue(settings) as sim:
        venue = opened(sim.url)
        await venue.connect()
        outcomes = await asyncio.gather(*(venue.submit(order(f"o{n}")) for n in range(40)))
        assert all(isinstance(each, Accepted) for each in outcomes), outcomes
        # Not one connection for each, which would take nineteen seconds.
        assert venue._transport._lanes.count <= CONNECTIONS_MAX < 40
        assert not [status for _, _, status in sim.face.replies if status == 429]


async def test_a_429_is_over_after_a_second_and_nothing_is_sent_until_then(
    scripted, answers, opened
) -> None:
    _serve_account(scripted, answers)
    refusal = answers.reply({"errorMessage": "too many"}, 429)
    scripted.on("POST", f"/v3/accounts/{ID}/orders", refusal)
    venue = opened(scripted.url)
    await venue.connect()
    first = await venue.submit(order("a"))
    second = await venue.submit(order("b"))
    assert [(each.code) for each in (first, second)] == ["throttled", "throttled"]
    assert "1.0 s" in first.text
    assert scripted.count("POST", f"/v3/accounts/{ID}/orders") == 1


# At a venue that answers as told.


def _serve_account(scripted: Any, answers: Any) -> None:
    account = {
        "id": ID, "currency": "USD", "balance": "1000", "NAV": "1000", "pendingOrderCount": 0,
        "openPositionCount": 0,
    }  # fmt: skip
    listed = [
        {
            "name": name, "displayPrecision": 5, "tradeUnitsPrecision": 0, "minimumTradeSize": "1",
            "maximumOrderUnits": "100000",
        }
        for name in ("EUR_USD", "USD_JPY")
    ]  # fmt: skip
    path = f"/v3/accounts/{ID}"
    scripted.on("GET", "/v3/accounts", answers.reply({"accounts": [{"id": ID}]}))
    scripted.on("GET", f"{path}/instruments", answers.reply({"instruments": listed}))
    summary = {"account": account, "lastTransactionID": "7"}
    scripted.on("GET", f"{path}/summary", answers.reply(summary))


@pytest.mark.parametrize("fault", ["hang", "cut", "half", "502", "html", "another shape"])
async def test_a_submit_of_which_nothing_is_known_is_unknown_and_was_sent_once(
    scripted, answers, opened, fault
) -> None:
    _serve_account(scripted, answers)
    path = f"/v3/accounts/{ID}/orders"
    answer = {
        "502": answers.reply({"errorMessage": "bad gateway"}, 502),
        "html": type(answers.hang)(403, b"<html>"),
        "another shape": answers.reply({"lastTransactionID": "8"}, 201),
    }.get(fault) or getattr(answers, fault)
    scripted.on("POST", path, answer)
    venue = opened(scripted.url, timeout=2.0 if fault == "hang" else 10.0)
    await venue.connect()
    outcome = await venue.submit(order())
    assert isinstance(outcome, Unknown), outcome
    assert scripted.count("POST", path) == 1


async def test_the_token_is_in_no_text(scripted, answers, opened) -> None:
    _serve_account(scripted, answers)
    said = {"errorMessage": f"no such token {TOKEN}", "errorCode": "X"}
    scripted.on("POST", f"/v3/accounts/{ID}/orders", answers.reply(said, 401))
    scripted.on("GET", f"/v3/accounts/{ID}/pricing", answers.reply(said, 401))
    venue = opened(scripted.url, secret=TOKEN)
    await venue.connect()
    outcome = await venue.submit(order())
    assert TOKEN not in repr(outcome)
    with pytest.raises(VenueAuthError) as refused:
        await venue.quote("EUR/USD")
    assert TOKEN not in str(refused.value)
    assert scripted.seen[-1].headers["authorization"] == f"Bearer {TOKEN}"


async def test_a_metatrader_account_is_passed_over(scripted, answers, opened) -> None:
    _serve_account(scripted, answers)
    known = [{"id": "101-001-1-002", "mt4AccountID": 7}, {"id": ID, "tags": []}]
    scripted.on("GET", "/v3/accounts", answers.reply({"accounts": known}))
    venue = opened(scripted.url)
    await venue.connect()
    scripted.on("GET", "/v3/accounts", answers.reply({"accounts": known[:1]}))
    with pytest.raises(VenueRefusedError):
        await opened(scripted.url).connect()


async def test_a_cut_page_of_transactions_is_no_answer(scripted, answers, opened) -> None:
    _serve_account(scripted, answers)
    venue = opened(scripted.url)
    await venue.connect()
    line = {"id": "9", "time": "9.0", "type": "TRANSFER_FUNDS"}
    for transactions, last in (([], "9"), ([line], "9")):
        answer = {"transactions": transactions, "lastTransactionID": last}
        scripted.on("GET", f"/v3/accounts/{ID}/transactions/sinceid", answers.reply(answer))
        with pytest.raises(VenueUnavailableError, match="cut list"):
            await venue.order("EUR/USD", ClOrdID("a"))
