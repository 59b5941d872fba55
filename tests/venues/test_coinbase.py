"""What is particular to the Coinbase adapter: reasons in a 200, ids of its own, pages, the user
channel. What every adapter keeps is tried by the conformance suite."""

from __future__ import annotations

import asyncio
import base64
import json
import traceback
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import ClOrdID, NewOrder, OrdStatus, OrdType, Side, TimeInForce
from openbell.errors import ConfigError
from openbell.venues.coinbase import pacing, wire
from openbell.venues.coinbase.pacing import CoinbasePacing
from openbell.venues.coinbase.problems import problem_in
from openbell.venues.coinbase.requests import new_order
from openbell.venues.coinbase.venue import CoinbaseVenue
from openbell.venues.credentials import Credentials
from openbell.venues.port import (
    Accepted,
    OrderReport,
    Rejected,
    StreamDown,
    StreamEvent,
    StreamUp,
    Unknown,
    VenueAuthError,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.problem import Meaning
from openbell_sim import testing
from openbell_sim.faces.coinbase.client import Client
from openbell_sim.keys import Credentials as SimCredentials
from openbell_sim.server import Venue as Sim

API = "/api/v3/brokerage"
ORDERS, BATCH, CANCEL = (
    f"{API}/orders", f"{API}/orders/historical/batch", f"{API}/orders/batch_cancel",
)  # fmt: skip
FILLS = f"{API}/orders/historical/fills"
SYMBOL = "BTC/USD"
KEY_NAME = "organizations/5c3f/apiKeys/91ab"
WITHIN_S = 60


# What answers mean, and what is sent.


def failed(**reasons: str) -> bytes:
    return json.dumps({"success": False, "error_response": reasons}).encode()


@pytest.mark.parametrize(
    ("status", "body", "meaning", "code"),
    [
        (200, failed(error="INSUFFICIENT_FUND"), Meaning.REFUSED, "INSUFFICIENT_FUND"),
        (
            200,
            failed(error="UNKNOWN_FAILURE_REASON", preview_failure_reason="PREVIEW_INVALID_PRICE"),
            Meaning.REFUSED,
            "PREVIEW_INVALID_PRICE",
        ),
        (
            200,
            failed(error="UNKNOWN_FAILURE_REASON", new_order_failure_reason="INVALID_SIDE"),
            Meaning.REFUSED,
            "INVALID_SIDE",
        ),
        (200, failed(error="UNKNOWN_FAILURE_REASON"), Meaning.UNCERTAIN, "UNKNOWN_FAILURE_REASON"),
        (200, failed(), Meaning.UNCERTAIN, "UNKNOWN_FAILURE_REASON"),
        (401, b"Unauthorized", Meaning.NOT_ALLOWED, "http_401"),
        (403, b'{"error":"PERMISSION_DENIED"}', Meaning.NOT_ALLOWED, "PERMISSION_DENIED"),
        (400, b'{"error":"INVALID_ARGUMENT"}', Meaning.REFUSED, "INVALID_ARGUMENT"),
        (400, b"<html>", Meaning.UNCERTAIN, "http_400"),
        (
            404,
            b'{"error":"unknown","error_details":"order with this orderID was not found"}',
            Meaning.NO_SUCH_ORDER,
            "unknown",
        ),
        (404, b"not found", Meaning.UNCERTAIN, "http_404"),
        (
            429,
            b'{"errors":[{"id":"rate_limit_exceeded","message":"Too many requests"}]}',
            Meaning.THROTTLED,
            "rate_limit_exceeded",
        ),
        (429, b"", Meaning.THROTTLED, "http_429"),
        (500, b'{"error":"INTERNAL"}', Meaning.UNCERTAIN, "INTERNAL"),
        (503, b"", Meaning.UNCERTAIN, "http_503"),
        (302, b"", Meaning.UNCERTAIN, "http_302"),
    ],
)
def test_each_refusal_has_a_meaning(status, body, meaning, code):
    problem = problem_in(status, body)
    assert problem is not None
    assert (problem.meaning, problem.code) == (meaning, code)


def test_a_success_is_no_problem_though_it_names_the_reason_that_there_is_none():
    body = b'{"success":true,"failure_reason":"UNKNOWN_FAILURE_REASON","success_response":{}}'
    assert problem_in(200, body) is None


def make_order(cl_ord_id: str = "ob00000000-1-1", **changes: Any) -> NewOrder:
    fields: dict[str, Any] = {
        "cl_ord_id": ClOrdID(cl_ord_id),
        "venue": "sim",
        "symbol": SYMBOL,
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "order_qty": Decimal("0.0100"),
        "price": Decimal("50000.10"),
    }
    return NewOrder(**{**fields, **changes})


MARKET = {"ord_type": OrdType.MARKET, "price": None}


@pytest.mark.parametrize(
    ("changes", "configuration"),
    [
        (
            {},
            {
                "limit_limit_gtc": {
                    "base_size": "0.01", "limit_price": "50000.1", "post_only": False,
                }
            },
        ),
        (
            {"post_only": True},
            {
                "limit_limit_gtc": {
                    "base_size": "0.01", "limit_price": "50000.1", "post_only": True,
                }
            },
        ),
        (
            {"time_in_force": TimeInForce.IOC},
            {"sor_limit_ioc": {"base_size": "0.01", "limit_price": "50000.1"}},
        ),
        (
            {"time_in_force": TimeInForce.FOK},
            {"limit_limit_fok": {"base_size": "0.01", "limit_price": "50000.1"}},
        ),
        (MARKET, {"market_market_ioc": {"base_size": "0.01"}}),
    ],
)  # fmt: skip
def test_an_order_is_sent_as_the_configuration_it_is(changes, configuration):
    body = new_order(make_order(**changes))
    assert body == {
        "client_order_id": "ob00000000-1-1",
        "product_id": "BTC-USD",
        "side": "BUY",
        "order_configuration": configuration,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"price": None},
        {"ord_type": OrdType.MARKET},
        {**MARKET, "post_only": True},
        {"post_only": True, "time_in_force": TimeInForce.IOC},
        {"ord_type": OrdType.STOP_LIMIT},
    ],
)
def test_an_order_that_makes_no_sense_is_not_sent(changes):
    assert isinstance(new_order(make_order(**changes)), str)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2023-02-09T20:33:57.609931463Z", 1675974837609931463),
        ("2023-02-09T20:33:57.6Z", 1675974837600000000),
        ("2023-02-09T20:33:57Z", 1675974837000000000),
    ],
)
def test_times_keep_every_digit(text, ns):
    assert wire.nanoseconds(text) == ns


@pytest.mark.parametrize("text", ["NaN", "Infinity", "ten"])
def test_what_is_no_number_is_not_taken_for_one(text):
    with pytest.raises(ValueError, match=text):
        wire.number(text)


def test_an_unknown_state_is_in_doubt():
    assert wire.status("SOMETHING_NEW", Decimal(0)) is OrdStatus.UNKNOWN


def test_queries_take_turns_inside_four_fifths_of_the_budget_and_cancels_do_not_wait():
    pacing = CoinbasePacing()
    waits = [pacing.turn_s(100.0) for _ in range(48)]
    assert waits == [0.0] * 24 + [1.0] * 24
    assert pacing.wait_s(100.0, query=False) == 0.0
    assert pacing.refused(429, {}, 100.0) == 1.0
    assert pacing.refused(429, {"Retry-After": "7"}, 100.0) == 7.0


# Against a venue over a bare socket.


PRODUCT = {
    "product_id": "BTC-USD", "base_currency_id": "BTC", "quote_currency_id": "USD",
    "base_increment": "0.00000001", "quote_increment": "0.01", "price_increment": "0.01",
    "base_min_size": "0.00000001", "base_max_size": "3400", "quote_min_size": "1",
}  # fmt: skip


def listed(order_id: str, cl_ord_id: str, status: str = "OPEN", **changes: Any) -> dict[str, Any]:
    terms = {"base_size": "0.01", "limit_price": "50000.1", "post_only": False}
    order = {
        "order_id": order_id, "client_order_id": cl_ord_id, "product_id": "BTC-USD",
        "side": "BUY", "status": status, "order_type": "LIMIT", "filled_size": "0",
        "created_time": "2026-01-01T00:00:00Z",
        "order_configuration": {"limit_limit_gtc": terms},
    }  # fmt: skip
    return {**order, **changes}


@pytest.fixture
async def make_venue() -> AsyncIterator[Callable[..., CoinbaseVenue]]:
    made: list[CoinbaseVenue] = []

    def make(
        url: str, *, key: str = testing.KEY, secret: str = testing.SECRET, **changes: Any
    ) -> CoinbaseVenue:
        fields = {"adapter": "coinbase", "url": url, "symbols": (SYMBOL,), "timeout": 5.0}
        venue = CoinbaseVenue("sim", VenueConfig(**{**fields, **changes}), Credentials(key, secret))
        made.append(venue)
        return venue

    yield make
    for venue in made:
        await venue.close()


@pytest.fixture
async def venue(make_venue, scripted, answers) -> CoinbaseVenue:
    """Connected to the scripted venue."""
    scripted.on("GET", f"{API}/time", answers.reply({"epochMillis": "1700000000000"}))
    scripted.on("GET", f"{API}/market/products", answers.reply({"products": [PRODUCT]}))
    permissions = {
        "can_view": True, "can_trade": True, "can_transfer": False, "portfolio_uuid": "p-1",
    }  # fmt: skip
    scripted.on("GET", f"{API}/key_permissions", answers.reply(permissions))
    made = make_venue(scripted.url, timeout=10.0)
    await made.connect()
    return made


def page(*orders: dict[str, Any], cursor: str = "") -> dict[str, Any]:
    return {"orders": list(orders), "has_next": bool(cursor), "cursor": cursor}


PLACED = {
    "success": True,
    "success_response": {"order_id": "v-1", "client_order_id": "ob00000000-1-1"},
}


@pytest.mark.parametrize("kind", ["hang", "cut", "half", "503", "redirect", "shape", "other order"])
async def test_a_submit_that_is_not_answered_as_it_should_be_is_unknown_and_sent_once(
    venue, scripted, answers, kind
):
    odd = {
        "503": answers.reply({}, 503),
        "redirect": answers.reply({}, 307, Location="/elsewhere"),
        "shape": answers.reply({"success": True}),
        "other order": answers.reply(
            {"success": True, "success_response": {"order_id": "v", "client_order_id": "another"}}
        ),
    }
    scripted.on("POST", ORDERS, odd[kind] if kind in odd else getattr(answers, kind))
    if kind == "hang":
        venue.config = venue.config.model_copy(update={"timeout": 2.0})
    assert isinstance(await venue.submit(make_order()), Unknown)
    assert scripted.count("POST", ORDERS) == 1


async def test_after_429_nothing_is_sent_for_a_second_and_then_again(
    venue, scripted, answers, monkeypatch
):
    assert pacing.REFUSED_WAIT_S == 1
    monkeypatch.setattr(pacing, "REFUSED_WAIT_S", 3)  # a busy machine may take a second by itself
    scripted.on("POST", ORDERS, answers.reply({}, 429), answers.reply(PLACED))
    refused = await venue.submit(make_order())
    assert isinstance(refused, Rejected)
    assert refused.code == "throttled"
    held_back = await venue.submit(make_order())
    assert isinstance(held_back, Rejected)
    assert scripted.count("POST", ORDERS) == 1
    async with asyncio.timeout(WITHIN_S):
        while not isinstance(await venue.submit(make_order()), Accepted):
            await asyncio.sleep(0.05)
    assert scripted.count("POST", ORDERS) == 2


async def test_an_order_is_looked_for_to_the_last_page_before_it_is_said_not_to_be(
    venue, scripted, answers
):
    scripted.on(
        "GET", BATCH,
        answers.reply(page(listed("v-3", "c"), cursor="x")),
        answers.reply(page(listed("v-2", "b"), cursor="y")),
        answers.reply(page(listed("v-1", "a"))),
    )  # fmt: skip
    found = await venue.order(SYMBOL, ClOrdID("a"))
    assert (found.venue_order_id, found.price) == ("v-1", Decimal("50000.1"))
    assert [seen.params.get("cursor") for seen in scripted.seen[-3:]] == [None, "x", "y"]
    scripted.on("GET", BATCH, answers.reply(page(listed("v-3", "c"))))
    assert await venue.order(SYMBOL, ClOrdID("nobody")) is None


async def test_a_list_that_does_not_end_is_no_answer(venue, scripted, answers):
    scripted.on("GET", BATCH, answers.reply(page(listed("v-3", "c"), cursor="x")))
    with pytest.raises(VenueUnavailableError):
        await venue.order(SYMBOL, ClOrdID("a"))
    with pytest.raises(VenueUnavailableError):
        await venue.open_orders()


async def test_more_pages_without_a_cursor_are_no_answer(venue, scripted, answers):
    scripted.on("GET", BATCH, answers.reply({"orders": [], "has_next": True, "cursor": ""}))
    with pytest.raises(VenueUnavailableError):
        await venue.open_orders()


async def test_open_orders_are_asked_for_in_every_state_in_which_they_may_be_filled(
    venue, scripted, answers
):
    by_state = {
        "QUEUED": [listed("v-1", "a", "PENDING")],
        "OPEN": [listed("v-1", "a"), listed("v-2", "b", filled_size="0.005")],
        "EDIT_QUEUED": [listed("v-3", "c", "CANCEL_QUEUED")],
    }
    scripted.answered_by = lambda seen: (
        answers.reply(page(*by_state[seen.params["order_status"]])) if seen.path == BATCH else None
    )
    listing = await venue.open_orders()
    assert listing.complete
    assert {o.venue_order_id: o.status for o in listing.orders} == {
        "v-1": OrdStatus.NEW,
        "v-2": OrdStatus.PARTIALLY_FILLED,
        "v-3": OrdStatus.PENDING_CANCEL,
    }


async def test_a_cancel_by_our_id_finds_the_venues_id_or_sends_nothing(venue, scripted, answers):
    scripted.on("GET", BATCH, answers.reply(page(listed("v-1", "a"))))
    result = {"success": True, "failure_reason": "", "order_id": "v-1"}
    scripted.on("POST", CANCEL, answers.reply({"results": [result]}))
    assert await venue.cancel(SYMBOL, ClOrdID("a")) == Accepted(venue_order_id="v-1")
    missing = await venue.cancel(SYMBOL, ClOrdID("nobody"))
    assert isinstance(missing, Rejected)
    scripted.on("GET", BATCH, answers.reply({}, 503))
    unlisted = await venue.cancel(SYMBOL, ClOrdID("somebody"))
    assert isinstance(unlisted, Rejected)
    assert unlisted.code == "never_arrived"
    scripted.on("GET", BATCH, answers.reply({}, 429, Retry_After="7"))
    held_back = await venue.cancel(SYMBOL, ClOrdID("somebody"))
    assert isinstance(held_back, Rejected)
    assert (held_back.code, held_back.retry_after_s) == ("throttled", 7)
    assert scripted.count("POST", CANCEL) == 1


async def test_each_order_of_a_batch_has_the_outcome_that_is_its_own(venue, scripted, answers):
    orders = [listed(f"v-{n}", f"c{n}") for n in range(5)]
    scripted.on("GET", BATCH, answers.reply(page(*orders)))
    results = [
        {"success": False, "failure_reason": "ORDER_IS_FULLY_FILLED", "order_id": "v-2"},
        {"success": True, "failure_reason": "UNKNOWN_CANCEL_FAILURE_REASON", "order_id": "v-0"},
        {"success": False, "failure_reason": "UNKNOWN_CANCEL_FAILURE_REASON", "order_id": "v-3"},
    ]
    scripted.on("POST", CANCEL, answers.reply({"results": results}))
    wanted = [ClOrdID(name) for name in ("c0", "nobody", "c2", "c3", "c4")]
    outcomes = await venue.cancel_many(SYMBOL, wanted)
    assert [type(each) for each in outcomes] == [Accepted, Rejected, Rejected, Unknown, Unknown]
    assert outcomes[2].code == "ORDER_IS_FULLY_FILLED"
    assert scripted.count("POST", CANCEL) == 1


async def test_reversals_are_not_counted_as_fills(venue, scripted, answers):
    fill = {
        "trade_id": "t-1", "order_id": "v-1", "trade_time": "2026-01-01T00:00:01Z",
        "trade_type": "FILL", "price": "60000", "size": "0.01", "commission": "3.6",
        "product_id": "BTC-USD", "side": "BUY", "liquidity_indicator": "MAKER",
    }  # fmt: skip
    told = [{**fill, "trade_id": "t-2", "trade_type": "REVERSAL"}, fill]
    scripted.on("GET", FILLS, answers.reply({"fills": told, "cursor": ""}))
    (found,) = await venue.fills(SYMBOL, venue_order_id="v-1")
    assert (found.exec_id, found.fee, found.fee_currency) == ("t-1", Decimal("3.6"), "USD")


async def test_a_refused_key_makes_the_next_query_read_the_clock_first(venue, scripted, answers):
    scripted.on("GET", BATCH, answers.reply("Unauthorized", 401), answers.reply(page()))
    with pytest.raises(VenueAuthError):
        await venue.open_orders()
    before = scripted.count("GET", f"{API}/time")
    await venue.open_orders()
    assert scripted.count("GET", f"{API}/time") == before + 1


async def test_a_portfolio_that_is_not_the_keys_is_refused(venue, scripted, make_venue):
    await make_venue(scripted.url, account="p-1").connect()
    with pytest.raises(VenueRefusedError, match="p-1"):
        await make_venue(scripted.url, account="p-2").connect()


def test_there_is_no_test_system():
    table = VenueConfig(
        adapter="coinbase", environment="practice", symbols=(SYMBOL,), secret_env="SECRET"
    )
    with pytest.raises(ConfigError, match="no test system"):
        CoinbaseVenue("real", table, Credentials("key", "secret"))


# Against the simulated venue.


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    still = testing.StillMarket("coinbase", **{"BTC-USD": ("60000", "60001", "1")})
    private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    settings = testing.settings([still], face="coinbase", limit_scale=0)
    cdp = SimCredentials("main", KEY_NAME, private.decode())
    settings = testing.settings(
        [still], face="coinbase", limit_scale=0, credentials=(*settings.credentials, cdp)
    )
    async with testing.running_venue(settings) as running:
        yield running


async def next_of(events: AsyncIterator[StreamEvent]) -> StreamEvent:
    async with asyncio.timeout(WITHIN_S):
        return await anext(events)


async def report_of(events: AsyncIterator[StreamEvent]) -> OrderReport:
    event = await next_of(events)
    assert isinstance(event, OrderReport), event
    return event


@pytest.mark.parametrize("written_out", [False, True], ids=["as is", "line breaks written out"])
async def test_a_cdp_key_trades_and_hears_of_its_orders(sim, make_venue, written_out):
    pem = sim.keys.find(KEY_NAME).secret
    secret = pem.replace("\n", "\\n") if written_out else pem
    venue = make_venue(sim.url, key=KEY_NAME, secret=secret)
    await venue.connect()
    events = venue.stream()
    assert await next_of(events) == StreamUp()
    assert isinstance(await venue.submit(make_order()), Accepted)
    assert (await report_of(events)).order.cl_ord_id == "ob00000000-1-1"
    await events.aclose()


async def test_a_token_lives_no_longer_than_we_wait(sim, make_venue):
    """A submit that was given up must not be taken a minute later."""
    pem = sim.keys.find(KEY_NAME).secret
    venue = make_venue(sim.url, key=KEY_NAME, secret=pem, timeout=3.0)
    request = venue._signed("POST", "v3/private", "brokerage/orders", {"a": "b"})
    _, body, _ = request.headers["Authorization"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert claims["exp"] - claims["nbf"] == 4
    assert claims["uri"].startswith("POST ")


async def test_a_secret_that_is_no_key_is_told_as_such(sim, make_venue):
    venue = make_venue(sim.url, key=KEY_NAME, secret="-----BEGIN EC PRIVATE KEY-----\nnonsense")
    with pytest.raises(VenueAuthError):
        await venue.connect()


@pytest.fixture
async def connected(sim, make_venue) -> CoinbaseVenue:
    venue = make_venue(sim.url)
    await venue.connect()
    return venue


async def test_a_lost_message_is_noticed_and_what_it_said_is_told_after_coming_back(
    sim, connected, monkeypatch
):
    """The venue's heartbeat shows it, so nobody need wait for another event of an order."""
    events = connected.stream()
    assert await next_of(events) == StreamUp()
    order = make_order()
    await connected.submit(order)
    assert (await report_of(events)).order.status is OrdStatus.NEW
    send = Client.send

    def losing(self: Client, data: bytes, *, private: bool = False) -> None:
        if not private:
            send(self, data, private=private)

    with monkeypatch.context() as patched:
        patched.setattr(Client, "send", losing)
        await connected.cancel(SYMBOL, order.cl_ord_id)
        down = await next_of(events)
    assert isinstance(down, StreamDown)
    assert "missing" in down.why
    assert await next_of(events) == StreamUp()
    assert (await connected.order(SYMBOL, order.cl_ord_id)).status is OrdStatus.CANCELED
    await events.aclose()


async def test_a_doubled_message_is_heard_once(sim, connected, monkeypatch):
    events = connected.stream()
    assert await next_of(events) == StreamUp()
    send = Client.send

    def doubling(self: Client, data: bytes, *, private: bool = False) -> None:
        send(self, data, private=private)
        send(self, data, private=private)

    monkeypatch.setattr(Client, "send", doubling)
    for name in ("one", "two"):
        await connected.submit(make_order(name))
    heard = [(await report_of(events)).order.cl_ord_id for _ in range(2)]
    assert heard == ["one", "two"]
    await events.aclose()


async def test_an_order_of_somebody_else_is_told_with_its_price_and_edits(sim, connected):
    """It was not sent by this process, so what the event leaves out is asked for."""
    events = connected.stream()
    assert await next_of(events) == StreamUp()
    other = CoinbaseVenue("other", connected.config, Credentials(testing.KEY, testing.SECRET))
    await other.connect()
    await other.submit(make_order("theirs"))
    told = (await report_of(events)).order
    assert (told.price, told.order_qty) == (Decimal("50000.1"), Decimal("0.01"))
    (order,) = sim.exchange.ledger.orders.values()
    sim.exchange.amend(order, qty=Decimal("0.02"), price=Decimal("50001"))
    told = (await report_of(events)).order
    assert (told.price, told.order_qty) == (Decimal("50001"), Decimal("0.02"))
    await other.close()
    await events.aclose()


async def test_what_rested_before_is_not_told_and_its_later_fills_are(sim, connected):
    resting = make_order(price=Decimal("60001"), order_qty=Decimal("1.5"))
    outcome = await connected.submit(resting)
    events = connected.stream()
    assert await next_of(events) == StreamUp()
    seller = CoinbaseVenue(
        "counterparty",
        connected.config,
        Credentials(testing.COUNTERPARTY_KEY, testing.COUNTERPARTY_SECRET),
    )
    await seller.connect()
    await seller.submit(make_order("sell", side=Side.SELL, order_qty=Decimal("0.5"), **MARKET))
    await seller.close()
    told = await report_of(events)
    assert (told.order.status, told.order.cum_qty) == (OrdStatus.FILLED, Decimal("1.5"))
    assert told.fill is not None
    assert (told.fill.last_qty, told.fill.is_maker) == (Decimal("0.5"), True)
    fills = await connected.fills(SYMBOL, venue_order_id=outcome.venue_order_id)
    assert told.fill == fills[-1]
    await events.aclose()


async def test_orders_of_an_earlier_process_are_found_by_their_client_order_ids(
    sim, connected, make_venue
):
    for n in range(3):
        await connected.submit(make_order(f"c{n}"))
    await connected.cancel(SYMBOL, ClOrdID("c1"))
    later = make_venue(sim.url)
    await later.connect()
    found = [await later.order(SYMBOL, ClOrdID(f"c{n}")) for n in range(3)]
    assert [order.status for order in found] == [OrdStatus.NEW, OrdStatus.CANCELED, OrdStatus.NEW]
    assert isinstance(await later.cancel(SYMBOL, ClOrdID("c2")), Accepted)


def test_capabilities_promise_what_is_there():
    can = CoinbaseVenue.capabilities
    assert not (can.mass_cancel or can.mass_cancel_per_symbol or can.reduce_only)
    assert can.dead_mans_switch is None
    assert (can.batch_cancel, can.lookup_by_cl_ord_id, can.cl_ord_id_unique) == (100, True, True)
    assert msgspec.json.encode(can)


def test_a_secret_that_is_no_private_key_is_in_nothing_that_a_log_of_the_error_shows():
    secret = "-----BEGIN EC PRIVATE KEY-----\ncanary81c04b\n-----END EC PRIVATE KEY-----"
    config = VenueConfig(adapter="coinbase", url="http://127.0.0.1:1", symbols=(SYMBOL,))
    venue = CoinbaseVenue("sim", config, Credentials(KEY_NAME, secret))
    with pytest.raises(VenueAuthError, match="no private key") as raised:
        venue._signed("GET", "v3/private", "brokerage/accounts")
    logged = "".join(traceback.format_exception(raised.value))
    assert "canary" not in logged
    assert KEY_NAME not in logged
