"""What is particular to the adapter of any ccxt exchange: how exceptions are read, that nothing is
sent twice or without its ClOrdID, that numbers keep their digits, that lists are read to their end."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import ccxt
import pytest
from tests.venues.subjects import all_subjects

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import ClOrdID, NewOrder, OrdStatus, OrdType, Side, TimeInForce
from openbell.errors import ConfigError
from openbell.venues.credentials import Credentials
from openbell.venues.generic import unified
from openbell.venues.generic.outcomes import outcome_of
from openbell.venues.generic.paging import DAY_MS, Pages, looks_cut
from openbell.venues.generic.quirks import TRIED, Quirks
from openbell.venues.generic.venue import GenericVenue
from openbell.venues.port import (
    Accepted,
    NotSupportedError,
    Rejected,
    Unknown,
    VenueAuthError,
    VenueRefusedError,
    VenueThrottledError,
    VenueUnavailableError,
)
from openbell_sim import testing
from openbell_sim.server import Venue as Sim

ORDER, OPEN_ORDERS, BOOK = "/api/v3/order", "/api/v3/openOrders", "/api/v3/depth"
SYMBOL = "BTC/USDT"
MARKET = {"ord_type": OrdType.MARKET, "price": None}


def config(url: str | None, exchange: str, **changes: Any) -> VenueConfig:
    fields: dict[str, Any] = {
        "adapter": "ccxt", "url": url, "symbols": (SYMBOL,), "timeout": 10.0,
        "options": {"exchange": exchange},
    }  # fmt: skip
    return VenueConfig(**{**fields, **changes})


@pytest.fixture
async def make_venue(canaries) -> AsyncIterator[Callable[..., GenericVenue]]:
    made: list[GenericVenue] = []

    def make(url: str, exchange: str = "binance", **changes: Any) -> GenericVenue:
        venue = GenericVenue("sim", config(url, exchange, **changes), Credentials(*canaries))
        made.append(venue)
        return venue

    yield make
    for venue in made:
        await venue.close()


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    """Coinbase, simulated."""
    still = testing.StillMarket("coinbase", **{"BTC-USD": ("60000", "60001", "1")})
    settings = testing.settings([still], face="coinbase", limit_scale=0)
    async with testing.running_venue(settings) as running:
        yield running


INFO = {
    "symbols": [
        {
            "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT",
            "baseAssetPrecision": 8, "quotePrecision": 8, "isSpotTradingAllowed": True,
            "orderTypes": ["LIMIT", "MARKET"], "permissions": ["SPOT"],
            "filters": [
                {
                    "filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000",
                    "tickSize": "0.01",
                },
                {
                    "filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000",
                    "stepSize": "0.00001",
                },
                {"filterType": "NOTIONAL", "minNotional": "5"},
            ],
        }
    ]
}  # fmt: skip
BALANCES = {"balances": [{"asset": "USDT", "free": "1000", "locked": "0"}]}
ACK = {
    "symbol": "BTCUSDT", "orderId": 77, "clientOrderId": "ob00000000-1-1", "status": "NEW",
    "type": "LIMIT", "side": "BUY", "origQty": "0.001", "executedQty": "0", "price": "20000.1",
    "time": 1_700_000_000_000, "updateTime": 1_700_000_000_000,
}  # fmt: skip


@pytest.fixture
async def venue(make_venue, scripted, answers) -> GenericVenue:
    """Connected to the scripted venue as Binance."""
    scripted.on("GET", "/api/v3/exchangeInfo", answers.reply(INFO))
    scripted.on("GET", "/api/v3/account", answers.reply(BALANCES))
    made = make_venue(scripted.url)
    await made.connect()
    return made


# Exceptions, by class.


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ccxt.InsufficientFunds, Rejected),
        (ccxt.InvalidOrder, Rejected),
        (ccxt.OrderImmediatelyFillable, Rejected),
        (ccxt.OrderNotFound, Rejected),
        (ccxt.BadSymbol, Rejected),
        (ccxt.MarketClosed, Rejected),
        (ccxt.PermissionDenied, Rejected),
        (ccxt.NotSupported, Rejected),
        (ccxt.DuplicateOrderId, Unknown),
        (ccxt.ExchangeError, Unknown),
        (ccxt.RequestTimeout, Unknown),
        (ccxt.ExchangeNotAvailable, Unknown),
        (ccxt.OnMaintenance, Unknown),
        (ccxt.NetworkError, Unknown),
        (ccxt.InvalidNonce, Unknown),
        (ccxt.BadResponse, Unknown),
        (ccxt.CancelPending, Unknown),
        (TypeError, Unknown),
        (KeyError, Unknown),
    ],
)
def test_what_was_sent_and_raised_is_rejected_only_where_the_class_says_so(error, outcome):
    assert isinstance(outcome_of(error("words"), "words"), outcome)


def test_every_class_of_ccxt_has_an_outcome():
    """A new one is unknown until somebody decides."""
    for found in vars(ccxt).values():
        if isinstance(found, type) and issubclass(found, ccxt.BaseError):
            assert isinstance(outcome_of(found("x"), "x"), Rejected | Unknown)


# Once each, and with its ClOrdID.


@pytest.mark.parametrize("kind", ["hang", "cut", "half", "503", "502", "redirect", "teapot", "500"])
async def test_a_submit_that_is_not_answered_is_sent_once(
    venue, scripted, limit_order, answers, kind
):
    odd = {
        "503": answers.reply({}, 503),
        "502": answers.reply("bad gateway", 502),
        "500": answers.refusal(-1000, "unknown", 500),
        "redirect": answers.reply({}, 307, Location="/elsewhere"),
        "teapot": answers.reply({}, 429),
    }
    scripted.on("POST", ORDER, odd[kind] if kind in odd else getattr(answers, kind))
    if kind == "hang":
        venue.config = venue.config.model_copy(update={"timeout": 2.0})
    outcome = await venue.submit(limit_order())
    assert isinstance(outcome, Rejected if kind == "teapot" else Unknown), outcome
    assert sum(seen.method == "POST" for seen in scripted.seen) == 1


async def test_a_cancel_on_a_connection_that_was_closed_is_not_repeated(
    venue, scripted, answers, limit_order
):
    """aiohttp by itself repeats a DELETE whose kept-alive connection closes under it."""
    scripted.on("POST", ORDER, answers.reply(ACK))
    assert isinstance(await venue.submit(limit_order()), Accepted)
    scripted.on("DELETE", ORDER, answers.cut)
    assert isinstance(await venue.cancel(SYMBOL, ClOrdID("ob00000000-1-1")), Unknown)
    assert scripted.count("DELETE", ORDER) == 1


async def test_an_option_to_retry_does_not_reach_ccxt(make_venue, scripted):
    venue = make_venue(scripted.url, options={"exchange": "binance", "maxRetriesOnFailure": "3"})
    assert venue._exchange.options["maxRetriesOnFailure"] == 0
    assert not venue._exchange.enableRateLimit


async def test_the_moment_of_sending_is_told_once(venue, scripted, limit_order, answers):
    scripted.on("POST", ORDER, answers.reply(ACK))
    sent: list[ClOrdID] = []
    venue.on_sent = lambda cl_ord_id, _at_ns: sent.append(cl_ord_id)
    order = limit_order()
    await venue.submit(order)
    assert sent == [order.cl_ord_id]


async def test_an_order_that_would_go_without_its_id_is_not_sent(sim):
    """ccxt drops `clientOrderId` on Coinbase without a word, and on who knows which others."""
    venue = GenericVenue(
        "sim",
        config(sim.url, "coinbase", symbols=("BTC/USD",), timeout=5.0),
        Credentials(testing.KEY, testing.SECRET),
    )
    await venue.connect()
    order = NewOrder(
        cl_ord_id=ClOrdID("ob00000000-1-1"), venue="sim", symbol="BTC/USD", side=Side.BUY,
        ord_type=OrdType.LIMIT, order_qty=Decimal("0.01"), price=Decimal(50000),
    )  # fmt: skip
    quirks, venue._quirks = venue._quirks, Quirks()
    outcome = await venue.submit(order)
    assert isinstance(outcome, Rejected)
    assert outcome.code == "bad_order"
    assert not sim.exchange.ledger.orders
    venue._quirks = quirks
    assert isinstance(await venue.submit(order), Accepted)
    await venue.close()


async def test_nothing_leaves_where_no_connection_can_be_made(venue, scripted, limit_order):
    await venue.close()
    venue._exchange.urls["api"] = json.loads(
        json.dumps(venue._exchange.urls["api"]).replace(scripted.url, "http://127.0.0.1:1")
    )
    outcome = await venue.submit(limit_order())
    assert isinstance(outcome, Rejected)
    assert outcome.code == "never_arrived"


async def test_a_second_sending_that_is_refused_says_nothing_of_the_first(
    venue, scripted, limit_order, answers
):
    scripted.on("POST", ORDER, answers.reply(ACK), answers.refusal(-2010, "Duplicate order sent."))
    assert isinstance(await venue.submit(limit_order()), Accepted)
    assert isinstance(await venue.submit(limit_order()), Unknown)


async def test_after_too_many_requests_nothing_is_sent_until_the_time_named(
    venue, scripted, limit_order, answers
):
    scripted.on("GET", OPEN_ORDERS, answers.refusal(-1003, "slow", 429, Retry_After="30"))
    with pytest.raises(VenueThrottledError) as raised:
        await venue.open_orders()
    assert 29 < raised.value.retry_after_s <= 30
    outcome = await venue.submit(limit_order())
    assert isinstance(outcome, Rejected)
    assert outcome.code == "throttled"
    # The open orders, among which its order is looked for, may not be asked for either.
    cancelled = await venue.cancel("BTC/USDT", ClOrdID("nobody"))
    assert isinstance(cancelled, Rejected)
    assert cancelled.code == "throttled" and cancelled.retry_after_s > 0
    assert scripted.count("POST", ORDER) == 0


async def test_no_text_carries_an_address_or_a_secret(
    venue, scripted, limit_order, answers, canaries
):
    key, secret = canaries
    said = f"no, {key} and {secret}"
    scripted.on("GET", OPEN_ORDERS, answers.reply(said, 503))
    scripted.on("POST", ORDER, answers.reply(said, 503))
    with pytest.raises(VenueUnavailableError) as raised:
        await venue.open_orders()
    outcome = await venue.submit(limit_order())
    # ccxt's own error names the signed URL; a log of ours shows all that is chained to it.
    logged = "".join(traceback.format_exception(raised.value))
    assert "ExchangeNotAvailable" in logged
    assert not any(each in logged for each in ("signature=", venue.config.url, key, secret))
    for text in (raised.value.message, repr(outcome)):
        assert "http" not in text
        assert "signature" not in text
        assert key not in text
        assert secret not in text


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        (-2014, 401, VenueAuthError),
        (-1121, 400, VenueRefusedError),
        (-1000, 500, VenueUnavailableError),
    ],
)
async def test_queries_raise_the_ports_errors(venue, scripted, answers, code, status, error):
    scripted.on("GET", OPEN_ORDERS, answers.refusal(code, "words", status))
    with pytest.raises(error):
        await venue.open_orders()


# What is checked here because ccxt would not.


@pytest.mark.parametrize(
    "changes",
    [
        {"price": Decimal("20000.105")},
        {"order_qty": Decimal("0.000015")},
        {"order_qty": Decimal("0.00001")},
        {"order_qty": Decimal(9001)},
        {"price": None},
        {"ord_type": OrdType.MARKET},
        {"ord_type": OrdType.STOP},
        {"post_only": True, "time_in_force": TimeInForce.IOC},
    ],
)
async def test_what_ccxt_would_cut_to_the_grid_is_refused(venue, scripted, limit_order, changes):
    outcome = await venue.submit(limit_order(**changes))
    assert isinstance(outcome, Rejected)
    assert outcome.code == "bad_order"
    assert scripted.count("POST", ORDER) == 0


async def test_a_market_buy_that_ccxt_can_only_size_in_money_is_refused(make_venue, scripted):
    venue = make_venue(scripted.url, "bybit")
    venue._rules = {SYMBOL: unified.rules(_market(), unified.TICK_SIZE)}
    order = NewOrder(
        cl_ord_id=ClOrdID("a"), venue="sim", symbol=SYMBOL, side=Side.BUY,
        order_qty=Decimal(1), **MARKET,
    )  # fmt: skip
    outcome = await venue.submit(order)
    assert isinstance(outcome, Rejected)
    assert outcome.code == "bad_order"


def _market() -> dict[str, Any]:
    return {
        "symbol": SYMBOL, "base": "BTC", "quote": "USDT",
        "precision": {"amount": "0.001", "price": "0.1"},
        "limits": {"amount": {"min": "0.001", "max": None}, "cost": {"min": None}},
    }  # fmt: skip


# Numbers.


async def test_prices_keep_every_digit_also_where_json_has_numbers(venue, scripted, answers):
    book = b'{"lastUpdateId":1,"bids":[[0.1234567890123456789,1.10]],"asks":[["0.2","3"]]}'
    scripted.on("GET", BOOK, replace(answers.reply({}), body=book))
    quote = await venue.quote(SYMBOL)
    assert str(quote.bid_px) == "0.1234567890123456789"
    assert (quote.bid_qty, quote.ask_px, quote.ask_qty) == (
        Decimal("1.1"),
        Decimal("0.2"),
        Decimal(3),
    )


def test_a_number_that_was_a_float_is_refused():
    with pytest.raises(ValueError, match="float"):
        unified.number(0.1)
    assert unified.number("0.1") == Decimal("0.1")
    assert unified.number(None) is None


@pytest.mark.parametrize(
    ("mode", "precision", "step"),
    [
        (unified.TICK_SIZE, "0.05", Decimal("0.05")),
        (unified.DECIMAL_PLACES, 3, Decimal("0.001")),
    ],
)
def test_the_grid_is_what_ccxts_precision_mode_makes_of_it(mode, precision, step):
    market = {**_market(), "precision": {"amount": precision, "price": precision}}
    rules = unified.rules(market, mode)
    assert (rules.tick_size, rules.lot_size) == (step, step)
    assert rules.max_qty == unified.NO_MAXIMUM


def test_prices_in_significant_digits_have_no_grid():
    with pytest.raises(ValueError, match="significant"):
        unified.rules(_market(), 3)


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"status": "open", "filled": "0"}, OrdStatus.NEW),
        ({"status": "open", "filled": "1"}, OrdStatus.PARTIALLY_FILLED),
        ({"status": "closed", "filled": "2"}, OrdStatus.FILLED),
        ({"status": "closed", "filled": "1"}, OrdStatus.CANCELED),
        ({"status": "canceled", "filled": "1"}, OrdStatus.CANCELED),
        ({"status": "expired"}, OrdStatus.EXPIRED),
        ({"status": "rejected"}, OrdStatus.REJECTED),
        ({"status": None}, OrdStatus.UNKNOWN),
        ({"status": "PENDING_REVIEW"}, OrdStatus.UNKNOWN),
    ],
)
def test_a_status_that_ccxt_does_not_unify_is_in_doubt(told, status):
    order = {"id": "1", "symbol": SYMBOL, "side": "buy", "type": "limit", "amount": "2", **told}
    assert unified.order(order).status is status


# Lists, to their end.


class Exchange:
    """Lists entries of these times, in ms, as one of ccxt's methods does."""

    def __init__(self, times: list[int], page: int, *, newest: bool, until: bool) -> None:
        self.times, self.page, self.newest, self.until = times, page, newest, until
        self.calls = 0

    async def fetch_my_trades(
        self, _symbol: str, since: int, _limit: int | None, params: dict[str, Any]
    ) -> list[dict[str, Any]]:
        self.calls += 1
        end = params.get("until", 1 << 62) if self.until else 1 << 62
        found = [t for t in self.times if since <= t <= end][params.get("ofs", 0) :]
        part = found[-self.page :] if self.newest else found[: self.page]
        return [{"id": str(t), "timestamp": t} for t in part]


async def listed(
    exchange: Exchange, since: int, feature: dict[str, Any], offset_param: str = ""
) -> set[int]:
    async def ask(question: Callable[[Any], Any]) -> Any:
        return await question(exchange)

    pages = Pages(ask, "fetch_my_trades", SYMBOL, feature, offset_param)
    return {entry["timestamp"] async for entry in pages.since(since)}


@pytest.mark.parametrize("newest", [True, False], ids=["newest first", "oldest first"])
@pytest.mark.parametrize("days", [1, 7, 10_000])
async def test_a_cut_list_is_read_in_smaller_windows(newest, days):
    now = time.time_ns() // 1_000_000
    times = [now - 3 * DAY_MS + n * 1000 for n in range(333)] + [now - n for n in range(60)]
    exchange = Exchange(sorted(times), 100, newest=newest, until=True)
    found = await listed(exchange, now - 5 * DAY_MS, {"limit": 100, "untilDays": days})
    assert found == set(times)


async def test_more_in_a_moment_than_a_list_holds_is_no_answer():
    now = time.time_ns() // 1_000_000
    exchange = Exchange([now] * 200, 100, newest=True, until=True)
    with pytest.raises(VenueUnavailableError):
        await listed(exchange, now - DAY_MS, {"limit": 100, "untilDays": 7})
    assert exchange.calls < 60


async def test_where_entries_can_be_left_out_lists_are_read_by_their_number():
    now = time.time_ns() // 1_000_000
    exchange = Exchange([now + n % 3 for n in range(170)], 50, newest=False, until=False)
    assert await listed(exchange, now - DAY_MS, {}, "ofs") == {now, now + 1, now + 2}
    assert exchange.calls == 5


async def test_without_an_end_to_ask_for_lists_are_read_onwards():
    now = time.time_ns() // 1_000_000
    times = [now - 1000 + n for n in range(250)]
    exchange = Exchange(times, 100, newest=False, until=False)
    assert await listed(exchange, now - DAY_MS, {"limit": 100, "untilDays": None}) == set(times)


@pytest.mark.parametrize(
    ("count", "most", "cut"),
    [(0, None, False), (7, None, False), (50, None, True), (99, 100, False), (100, 100, True)],
)
def test_a_list_as_long_as_a_page_may_be_one(count, most, cut):
    assert looks_cut(count, most) is cut


async def test_open_orders_that_look_cut_are_not_all(venue, scripted, answers):
    orders = [{**ACK, "orderId": n, "clientOrderId": f"c{n}"} for n in range(50)]
    scripted.on("GET", OPEN_ORDERS, answers.reply(orders), answers.reply(orders[:49]))
    assert not (await venue.open_orders()).complete
    assert (await venue.open_orders()).complete


async def test_absence_is_not_concluded_from_a_list_that_looks_cut(venue, scripted, answers):
    orders = [{**ACK, "orderId": n, "clientOrderId": f"c{n}"} for n in range(50)]
    scripted.on("GET", OPEN_ORDERS, answers.reply(orders))
    with pytest.raises(VenueUnavailableError):
        await venue.order(SYMBOL, ClOrdID("nobody"))


# What is promised.


def test_capabilities_say_what_ccxt_says_and_that_nobody_tried_it():
    venue = GenericVenue("sim", config("http://127.0.0.1:1", "bybit"), Credentials("k", "s"))
    can = venue.capabilities
    assert not can.conformance_tested
    assert not (can.mass_cancel or can.batch_cancel or can.reduce_only or can.positions)
    assert can.dead_mans_switch is None
    assert can.mass_cancel_per_symbol
    assert can.server_time
    assert not can.cl_ord_id_unique
    assert not can.order_stream, "a push only makes the asking happen at once"


def test_an_exchange_counts_as_tried_only_where_the_conformance_suite_runs_over_it():
    run_over = {
        subject.config["options"]["exchange"]
        for subject in all_subjects()
        if subject.adapter == "ccxt"
    }
    assert run_over == TRIED
    for exchange in run_over:
        made = GenericVenue("sim", config("http://127.0.0.1:1", exchange), Credentials("k", "s"))
        assert made.capabilities.conformance_tested


async def test_what_ccxt_does_not_have_is_refused(make_venue, scripted):
    venue = make_venue(scripted.url, "coinbase", symbols=("BTC/USD",))
    with pytest.raises(NotSupportedError):
        await venue.cancel_all("BTC/USD")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {}}, "the option exchange is missing"),
        ({"options": {"exchange": "moonx"}}, "moonx"),
        (
            {
                "environment": "practice", "url": None, "secret_env": "S",
                "options": {"exchange": "coinbase"},
            },
            "no test system",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_told(changes, words):
    fields = {"adapter": "ccxt", "url": "http://127.0.0.1:1", "symbols": (SYMBOL,)}
    with pytest.raises(ConfigError, match=words):
        made = VenueConfig(**{**fields, **changes})
        GenericVenue("x", made, Credentials("k", "s"))


async def test_a_symbol_that_is_not_traded_is_named(scripted, answers, make_venue):
    scripted.on("GET", "/api/v3/exchangeInfo", answers.reply(INFO))
    venue = make_venue(scripted.url, symbols=("BTC/USDT", "MOON/USDT"))
    with pytest.raises(VenueRefusedError, match="MOON/USDT"):
        await venue.connect()


async def test_a_push_makes_the_asking_happen_at_once(sim):
    """`poll_every` is an hour here, so only ccxt.pro's watched orders can bring the event."""
    made = config(sim.url, "coinbase", symbols=("BTC/USD",), poll_every=3600.0, timeout=5.0)
    venue = GenericVenue("sim", made, Credentials(testing.KEY, testing.SECRET))
    await venue.connect()
    events = venue.stream()
    try:
        async with asyncio.timeout(60):
            await anext(events)
            while not any(client.account for client in sim.face.hub.clients):
                await asyncio.sleep(0.01)
            pending = asyncio.ensure_future(anext(events))
            order = NewOrder(
                cl_ord_id=ClOrdID("a"), venue="sim", symbol="BTC/USD", side=Side.BUY,
                ord_type=OrdType.LIMIT, order_qty=Decimal("0.01"), price=Decimal(50000),
            )  # fmt: skip
            assert isinstance(await venue.submit(order), Accepted)
            assert (await pending).order.cl_ord_id == "a"
    finally:
        await events.aclose()
        await venue.close()


async def test_a_push_that_fails_is_told_once_and_the_asking_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing said that orders were only asked for, every `poll_every`."""
    monkeypatch.setattr("openbell.venues.generic.venue.WATCH_AGAIN_S", 0)
    venue = GenericVenue("sim", config("http://127.0.0.1:1", "bybit"), Credentials("k", "s"))
    failures = iter([KeyError("a"), KeyError("b"), ValueError("c"), ValueError("d")])
    through = asyncio.Event()

    async def watch_orders() -> None:
        failure = next(failures, None)
        if failure is None:
            through.set()
            await asyncio.Event().wait()
        else:
            raise failure

    monkeypatch.setattr(venue._exchange, "watch_orders", watch_orders)
    told: list[str] = []
    log = SimpleNamespace(warning=lambda _event, **facts: told.append(facts["why"]))
    monkeypatch.setattr("openbell.venues.generic.venue.log", log)
    nudge = asyncio.Event()
    watching = asyncio.create_task(venue._watch(nudge))
    try:
        async with asyncio.timeout(30):
            await through.wait()
        assert nudge.is_set(), "asked at once after each of them"
        assert told == ["KeyError", "ValueError"]
    finally:
        watching.cancel()
        await venue.close()
