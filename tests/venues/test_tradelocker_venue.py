"""The TradeLocker adapter: at a venue that behaves, and at one that answers as told."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

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
from openbell.errors import ConfigError
from openbell.venues.credentials import Credentials
from openbell.venues.port import (
    Accepted,
    Rejected,
    Unknown,
    VenueAuthError,
    VenueRefusedError,
    VenueThrottledError,
    VenueUnavailableError,
)
from openbell.venues.tradelocker import reader
from openbell.venues.tradelocker import venue as adapter
from openbell.venues.tradelocker.routes import MARGIN_S
from openbell.venues.tradelocker.venue import TradeLockerVenue
from openbell_sim import testing
from openbell_sim.checks import OrderRequest
from openbell_sim.faces.tradelocker import columns
from openbell_sim.faces.tradelocker.call import account_id
from openbell_sim.server import Venue

D = Decimal
EMAIL, PASSWORD = "canary-user@example.com", "canary-password-5f2d9e"
MARKET = {
    "EURUSD": ("1.08490", "1.08510", "10000000"),
    "USDJPY": ("149.990", "150.010", "10000000"),
    "NAS100": ("18399.0", "18401.0", "1000"),
}

Open = Callable[..., TradeLockerVenue]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    made: list[TradeLockerVenue] = []

    def make(
        url: str, *, key: str = testing.KEY, secret: str = testing.SECRET, **keys: Any
    ) -> TradeLockerVenue:
        fields = {
            "symbols": ("EUR/USD", "USD/JPY"),
            "timeout": 5.0,
            "options": {"server": "SIM"},
            **keys,
        }
        config = VenueConfig(url=url, adapter="tradelocker", **fields)
        venue = TradeLockerVenue("sim", config, Credentials(key, secret))
        made.append(venue)
        return venue

    yield make
    for venue in made:
        await venue.close()


@pytest.fixture
async def sim() -> AsyncIterator[Venue]:
    settings = testing.settings(
        [testing.StillMarket("tradelocker", **MARKET)], face="tradelocker", limit_scale=0
    )
    async with testing.running_venue(settings) as running:
        yield running


@pytest.fixture
async def venue(sim: Venue, opened: Open) -> TradeLockerVenue:
    made = opened(sim.url)
    await made.connect()
    return made


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "LOOK_PAUSE_S", 0.01)


def order(cl_ord_id: str = "ob00000000-1-1", **changes: Any) -> NewOrder:
    fields: dict[str, Any] = {
        "cl_ord_id": ClOrdID(cl_ord_id),
        "venue": "sim",
        "symbol": "EUR/USD",
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "order_qty": D(10_000),
        "price": D("1.05000"),
    }
    return NewOrder(**{**fields, **changes})


def market(cl_ord_id: str, side: Side = Side.BUY, **changes: Any) -> NewOrder:
    return order(cl_ord_id, ord_type=OrdType.MARKET, price=None, side=side, **changes)


# At a venue that behaves.


async def test_symbols_are_found_by_the_names_that_brokers_give_them(sim, opened) -> None:
    venue = opened(sim.url, symbols=("EUR/USD", "NAS100/USD"))
    await venue.connect()
    rules = venue.rules("NAS100/USD")
    assert (rules.base, rules.quote, rules.lot_size, rules.tick_size) == (
        "NAS100", "USD", D("0.01"), D("0.1"),
    )  # fmt: skip
    rules = venue.rules("EUR/USD")
    assert (rules.lot_size, rules.min_qty, rules.max_qty) == (1000, 1000, 10_000_000)
    for wrong, said in (
        ({"symbols": ("DOGE/USD",)}, "no instrument is called so"),
        ({"symbols": ("NAS100/EUR",)}, "quoted in USD"),
        ({"options": {"server": "SIM", "suffix": ".x"}}, "no instrument is called so"),
    ):
        with pytest.raises(VenueRefusedError, match=said):
            await opened(sim.url, **wrong).connect()


async def test_orders_in_lots_are_told_in_units(venue, sim) -> None:
    sent = order()
    accepted = await venue.submit(sent)
    assert isinstance(accepted, Accepted)
    [resting] = sim.exchange.ledger.open["main"].values()
    assert (resting.order_qty, resting.price, resting.cl_ord_id) == (
        sent.order_qty, sent.price, sent.cl_ord_id,
    )  # fmt: skip
    found = await venue.order("EUR/USD", sent.cl_ord_id)
    assert (found.order_qty, found.price, found.status) == (10_000, sent.price, OrdStatus.NEW)


async def test_what_cannot_be_sent_is_refused_before_it_is_sent(venue, sim) -> None:
    for wrong in (
        order("x" * 32),
        order(post_only=True),
        order(time_in_force=TimeInForce.IOC),
        order(price=None),
        order(ord_type=OrdType.STOP),
        order(ord_type=OrdType.MARKET),
        order(symbol="GBP/USD"),
    ):
        outcome = await venue.submit(wrong)
        assert isinstance(outcome, Rejected), wrong
        assert outcome.code == "bad_order"
    assert not sim.exchange.ledger.orders
    assert not sim.exchange.ledger.refused


async def test_a_flatten_is_an_order_of_its_own_and_closes_the_oldest(venue, sim) -> None:
    """Not reduce-only, and said so: it is one request that is found by its id."""
    assert not venue.capabilities.reduce_only
    await venue.submit(market("ob00000000-1-1"))
    await venue.submit(market("ob00000000-1-2"))
    legs = [leg for leg in await venue.positions() if leg.symbol == "EUR/USD"]
    assert [leg.quantity for leg in legs] == [10_000, 10_000]
    assert len({leg.leg for leg in legs}) == 2
    closing = market("ob00000000-1-3", Side.SELL, order_qty=D(20_000), purpose=Purpose.FLATTEN)
    await venue.submit(closing)
    found = await venue.order("EUR/USD", closing.cl_ord_id)
    assert (found.status, found.cum_qty) == (OrdStatus.FILLED, 20_000)
    assert {leg.quantity for leg in await venue.positions()} == {0}


async def test_executions_of_an_order_that_another_process_sent_bear_its_id(
    sim, opened, venue
) -> None:
    await venue.submit(market("ob00000000-1-1"))
    other = opened(sim.url)
    await other.connect()
    [fill] = await other.fills("EUR/USD")
    assert (fill.cl_ord_id, fill.last_qty, fill.last_px) == ("ob00000000-1-1", 10_000, D("1.0851"))
    assert (fill.fee, fill.fee_currency) == (0, "USD")
    assert await other.fills("USD/JPY") == []
    assert await other.fills("EUR/USD", venue_order_id="1") == []
    assert await other.fills("EUR/USD", since_ns=fill.venue_time_ns + 10**9) == []


async def test_an_order_without_an_id_keeps_its_own(venue, sim) -> None:
    """A person's, at the venue: listed, cancelled by the venue's id, its executions nameless."""
    submit = sim.exchange.submit
    request = OrderRequest(
        account="main", cl_ord_id="", symbol="EURUSD", side=Side.BUY, ord_type=OrdType.MARKET,
        qty=D(1000), received_ns=sim.exchange.now_ns(),
    )  # fmt: skip
    submit(request)
    [fill] = await venue.fills("EUR/USD")
    assert fill.cl_ord_id == ""


async def test_a_cancel_finds_an_order_that_it_did_not_send(sim, opened, venue) -> None:
    await venue.submit(order())
    other = opened(sim.url)
    await other.connect()
    assert isinstance(await other.cancel("EUR/USD", ClOrdID("ob00000000-9-9")), Rejected)
    outcome = await other.cancel("EUR/USD", ClOrdID("ob00000000-1-1"))
    assert isinstance(outcome, Accepted)
    assert not sim.exchange.ledger.open["main"]


async def test_the_account_is_told_with_its_equity(venue) -> None:
    [account] = await venue.accounts()
    assert (account.account_id, account.active) == (account_id("main"), True)
    assert (account.currency, account.equity) == ("USD", 100_000)
    permissions = await venue.key_permissions()
    assert (permissions.trade, permissions.withdraw) == (None, False)


async def test_before_it_is_connected_nothing_is_sent(sim, opened) -> None:
    venue = opened(sim.url)
    assert isinstance(await venue.submit(order()), Rejected)
    assert isinstance(await venue.cancel("EUR/USD", ClOrdID("x")), Rejected)
    assert isinstance(await venue.cancel_all("EUR/USD"), Rejected)
    assert isinstance(await venue.cancel_account(), Rejected)
    with pytest.raises(VenueUnavailableError):
        await venue.open_orders()


def test_a_login_without_a_server_is_a_mistake_in_the_desk_file(opened) -> None:
    with pytest.raises(ConfigError, match="server"):
        opened("http://127.0.0.1:1", options={})


async def test_queries_wait_for_their_turn_and_orders_do_not(opened) -> None:
    """At the budgets that the config states: 2 a second for orders."""
    settings = testing.settings(
        [testing.StillMarket("tradelocker", **MARKET)], face="tradelocker", limit_scale=1
    )
    async with testing.running_venue(settings) as sim:
        venue = opened(sim.url)
        await venue.connect()
        assert venue.capabilities.costs.fills == 1 / 120
        began_s = time.monotonic()
        await asyncio.gather(*(venue.quote("EUR/USD") for _ in range(4)))
        assert time.monotonic() - began_s >= 1, "two at once, and two a second later"
        # Together: one by one they could take a second on a busy machine.
        outcomes = await asyncio.gather(
            *(venue.submit(order(f"ob00000000-1-{n}")) for n in range(3))
        )
        assert [type(each) for each in outcomes] == [Accepted, Accepted, Rejected]
        assert outcomes[2].code == "throttled"
        assert 0 < outcomes[2].retry_after_s <= 1 + MARGIN_S
        assert isinstance(await venue.cancel("EUR/USD", ClOrdID("ob00000000-1-0")), Accepted)
        # A query that arrives late may be refused with the next, and is asked again.
        throttled = {method for method, _, status in sim.face.replies if status == 429}
        assert throttled <= {"GET"}


# At one that answers as told.


def token(life_s: float, number: int = 0) -> str:
    now = time.time() - 7200  # its clock is wrong, and must not matter
    body = json.dumps({"iat": now, "exp": now + life_s, "n": number}).encode()
    return f"e30.{base64.urlsafe_b64encode(body).rstrip(b'=').decode()}.canary-signature-{number}"


Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass
class Scripted:
    """A venue with one account; a test replaces answers by path."""

    url: str = ""
    life_s: float = 3600.0
    columns: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "positions": columns.POSITION,
            "orders": columns.ORDER,
            "ordersHistory": columns.ORDER,
            "filledOrders": columns.EXECUTION,
            "accountDetails": columns.ACCOUNT,
        }
    )
    accounts: list[dict[str, object]] = field(
        default_factory=lambda: [{"id": "7080", "accNum": "3", "currency": "USD", "name": "N"}]
    )
    counts: dict[str, int] = field(default_factory=dict)
    """`ordersCount` and `positionsCount` of the state."""
    lists: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    """Rows by the name of their list; what they do not name is null."""
    special: dict[tuple[str, str], Handler] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    rate_limits: list[dict[str, object]] = field(default_factory=list)

    def count(self, method: str, end: str) -> int:
        return sum(m == method and path.endswith(end) for m, path in self.seen)

    async def serve(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/backend-api")
        self.seen.append((request.method, path))
        special = self.special.get((request.method, path))
        if special is not None:
            return await special(request)
        if path in ("/auth/jwt/token", "/auth/jwt/refresh"):
            self.tokens.append(token(self.life_s, len(self.tokens)))
            pair = {"accessToken": self.tokens[-1], "refreshToken": token(86400, 1000)}
            return web.json_response(pair, status=201)
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if bearer in self.revoked or bearer not in self.tokens:
            return web.json_response({"s": "error", "errmsg": "Unauthorized"}, status=401)
        if path == "/auth/jwt/all-accounts":
            return web.json_response({"accounts": self.accounts})
        if request.headers.get("accNum") != self.accounts[0]["accNum"]:
            return web.json_response({"errmsg": "accNum"}, status=400)
        return web.json_response({"s": "ok", "d": self._data(path)})

    def _data(self, path: str) -> dict[str, Any]:
        name = path.rpartition("/")[2]
        match name:
            case "config":
                return {
                    "rateLimits": self.rate_limits,
                    **{
                        f"{each}Config": {"columns": [{"id": column} for column in named]}
                        for each, named in self.columns.items()
                    },
                }
            case "instruments":
                routes = [{"id": 11, "type": "INFO"}, {"id": "12", "type": "TRADE"}]
                return {
                    "instruments": [
                        {"name": "EURUSD.x", "tradableInstrumentId": 278, "routes": routes}
                    ]
                }
            case "278":
                ticks = [{"leftRangeLimit": None, "tickSize": 1e-05}]
                return {
                    "quotingCurrency": "USD", "lotSize": 100000, "lotStep": 0.01, "minLot": 0.01,
                    "maxLot": None, "tickSize": ticks,
                }  # fmt: skip
            case "state":
                return {"accountDetailsData": self.row("accountDetails", self.counts, 0)}
            case "orders" | "ordersHistory" | "positions" | "executions":
                rows = [self.row(name, row) for row in self.lists.get(name, [])]
                return {name: rows}
            case _:
                raise AssertionError(f"nothing is scripted for {path}")

    def row(self, name: str, facts: dict[str, Any], default: object = None) -> list[object]:
        named = self.columns["filledOrders" if name == "executions" else name]
        return [facts.get(column, default) for column in named]

    def answer(self, method: str, path: str, body: object, status: int = 200) -> None:
        async def told(request: web.Request) -> web.Response:
            if isinstance(body, bytes):
                return web.Response(body=body, status=status)
            return web.json_response(body, status=status)

        self.special[method, path] = told


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    script = Scripted()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield script
    await runner.cleanup()


@pytest.fixture
def told(opened: Open, scripted: Scripted) -> Open:
    def make(**keys: Any) -> TradeLockerVenue:
        options = {"server": "BRK", "suffix": ".x"}
        fields = {"symbols": ("EUR/USD",), "options": options, **keys}
        return opened(scripted.url, key=EMAIL, secret=PASSWORD, **fields)

    return make


ORDERS = "/trade/accounts/7080/orders"
RESTING = {
    "id": "71", "tradableInstrumentId": "278", "qty": "0.10", "side": "buy", "type": "limit",
    "status": "New", "price": "1.05", "createdDate": "1767886346666",
    "lastModified": "1767886346000", "isOpen": "true", "strategyId": "mine",
}  # fmt: skip
LEG = {"id": "9", "tradableInstrumentId": "278", "side": "buy", "qty": "0.1", "avgPrice": "1.05"}


# Being logged in.


async def test_one_login_serves_everything_and_is_told_to_nobody(told, scripted) -> None:
    venue = told()
    await venue.connect()
    await asyncio.gather(*(venue.open_orders() for _ in range(5)))
    assert scripted.count("POST", "token") == 1
    scripted.answer("POST", ORDERS, {"s": "error", "errmsg": f"no {PASSWORD} {scripted.tokens[0]}"})
    refused = await venue.submit(order())
    assert isinstance(refused, Rejected)
    assert "canary" not in refused.text
    assert "canary" not in repr(vars(venue)["_session"])


async def test_a_token_is_renewed_before_its_end_by_the_refresh_token(told, scripted) -> None:
    """The last 30 s of a life count as over, so one of 20 s is renewed by every query."""
    scripted.life_s = 20.0
    venue = told()
    await venue.connect()
    assert scripted.count("POST", "token") == 1
    assert scripted.count("POST", "refresh") > 1
    scripted.life_s = 3600.0
    await venue.open_orders()
    before = scripted.count("POST", "refresh")
    await venue.open_orders()
    assert scripted.count("POST", "refresh") == before


async def test_after_a_401_a_query_is_asked_once_more_and_an_order_is_not(told, scripted) -> None:
    venue = told()
    await venue.connect()
    scripted.revoked.add(scripted.tokens[-1])
    assert (await venue.open_orders()).complete
    assert scripted.count("POST", "refresh") == 1
    scripted.revoked.add(scripted.tokens[-1])
    refused = await venue.submit(order())
    assert isinstance(refused, Rejected)
    assert refused.code == "http_401"
    assert scripted.count("POST", ORDERS) == 1
    scripted.answer("POST", ORDERS, {"s": "ok", "d": {"orderId": "5"}})
    assert isinstance(await venue.submit(order()), Accepted)
    assert scripted.count("POST", "refresh") == 2


async def test_a_refresh_token_that_is_refused_leads_to_a_login(told, scripted) -> None:
    venue = told()
    await venue.connect()
    scripted.answer("POST", "/auth/jwt/refresh", {"errmsg": "Invalid"}, 400)
    scripted.revoked.add(scripted.tokens[-1])
    assert (await venue.open_orders()).complete
    assert scripted.count("POST", "token") == 2


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_login_that_was_refused_is_not_repeated(told, scripted, status) -> None:
    scripted.answer("POST", "/auth/jwt/token", {"errmsg": "Invalid credentials"}, status)
    venue = told()
    for _ in range(5):
        with pytest.raises(VenueAuthError, match="Invalid credentials"):
            await venue.connect()
    assert scripted.count("POST", "token") == 1


async def test_a_login_that_was_not_answered_is_not_repeated_at_once(told, scripted) -> None:
    scripted.answer("POST", "/auth/jwt/token", {}, 503)
    venue = told()
    for _ in range(5):
        with pytest.raises(VenueUnavailableError):
            await venue.connect()
    assert scripted.count("POST", "token") == 1


async def test_a_user_who_is_out_is_told_so_without_a_loop(told, scripted) -> None:
    """Logins work, and whatever token they give is refused."""
    venue = told()
    await venue.connect()
    scripted.revoked.update(token(3600, n) for n in range(100))

    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"errmsg": "Unauthorized"}, status=401)

    for end in ("orders", "state"):
        scripted.special["GET", f"/trade/accounts/7080/{end}"] = refuse
    with pytest.raises(VenueAuthError):
        await venue.open_orders()
    assert len(scripted.seen) < 30


# The account.


async def test_with_several_accounts_one_must_be_named(told, scripted) -> None:
    scripted.accounts.append({"id": "7081", "accNum": "4", "currency": "EUR", "name": "M"})
    with pytest.raises(VenueRefusedError, match="7080, 7081"):
        await told().connect()
    with pytest.raises(VenueRefusedError):
        await told(account="7").connect()
    for name in ("7080", "3"):
        venue = told(account=name)
        await venue.connect()
        assert [each.active for each in await venue.accounts()] == [True, False]


async def test_columns_are_read_by_their_names_in_whatever_order(told, scripted) -> None:
    scripted.columns["orders"] = ("new", *reversed(columns.ORDER))
    scripted.lists["orders"] = [RESTING]
    scripted.counts["ordersCount"] = 1
    venue = told()
    await venue.connect()
    listing = await venue.open_orders()
    assert listing.complete
    [found] = listing.orders
    assert (found.cl_ord_id, found.price, found.order_qty) == ("mine", D("1.05"), 10_000)
    assert found.updated_ns == found.created_ns == 1767886346666 * 10**6


async def test_a_list_that_does_not_fit_its_columns_is_no_answer(told, scripted) -> None:
    venue = told()
    await venue.connect()
    for wrong in ([["71"]], [scripted.row("orders", {**RESTING, "qty": "much"})], [[278] * 22]):
        scripted.answer("GET", ORDERS, {"s": "ok", "d": {"orders": wrong}})
        with pytest.raises(VenueUnavailableError, match="another shape"):
            await venue.open_orders()
    scripted.answer("GET", ORDERS, b"<html>")
    with pytest.raises(VenueUnavailableError):
        await venue.open_orders()


async def test_a_list_shorter_than_its_count_is_not_complete(told, scripted) -> None:
    venue = told()
    await venue.connect()
    scripted.counts.update(ordersCount=1, positionsCount=1)
    listing = await venue.open_orders()
    assert (listing.orders, listing.complete) == ((), False)
    assert scripted.count("GET", ORDERS) == reader.ROUNDS
    with pytest.raises(VenueUnavailableError, match="positions is not complete"):
        await venue.positions()
    scripted.lists.update(orders=[RESTING], positions=[LEG])
    assert (await venue.open_orders()).complete
    assert [leg.quantity for leg in await venue.positions()] == [10_000]


async def test_an_account_that_hedges_is_refused(told, scripted) -> None:
    """At connect, and when it shows later: a long and a short leg net to nothing and are not flat."""
    venue = told()
    await venue.connect()
    scripted.lists["positions"] = [LEG, {**LEG, "id": "10", "side": "sell"}]
    with pytest.raises(VenueRefusedError, match="EUR/USD long and short at once"):
        await venue.positions()
    with pytest.raises(VenueRefusedError, match="EUR/USD long and short at once") as refused:
        await told().connect()
    assert "nets" in refused.value.hint


# Looking for an order.


def ended(strategy_id: str, **changes: object) -> dict[str, object]:
    return {
        **RESTING, "status": "Filled", "filledQty": "0.1", "isOpen": "false",
        "strategyId": strategy_id, **changes,
    }  # fmt: skip


async def test_none_is_said_after_complete_lists_were_searched_twice(told, scripted) -> None:
    venue = told()
    await venue.connect()
    assert await venue.order("EUR/USD", ClOrdID("mine")) is None
    assert scripted.count("GET", "ordersHistory") == adapter.LOOKS
    # The list was behind: what the second look finds counts.
    scripted.lists["ordersHistory"] = [ended("other"), ended("mine", id="72")]
    found = await venue.order("EUR/USD", ClOrdID("mine"))
    assert (found.venue_order_id, found.status, found.cum_qty) == ("72", OrdStatus.FILLED, 10_000)


async def test_an_incomplete_list_proves_nothing(told, scripted) -> None:
    venue = told()
    await venue.connect()
    scripted.counts["ordersCount"] = 1
    with pytest.raises(VenueUnavailableError):
        await venue.order("EUR/USD", ClOrdID("mine"))
    scripted.counts["ordersCount"] = 0
    # It opened a position, so there is an order, whatever the lists of orders say.
    scripted.lists["positions"] = [{**LEG, "strategyId": "mine"}]
    scripted.counts["positionsCount"] = 1
    with pytest.raises(VenueUnavailableError):
        await venue.order("EUR/USD", ClOrdID("mine"))


async def test_of_several_orders_of_one_id_the_newest_is_told(told, scripted) -> None:
    rows = [ended("mine", id=str(n), createdDate=str(1767886346666 + n)) for n in (1, 3, 2)]
    scripted.lists["ordersHistory"] = rows
    venue = told()
    await venue.connect()
    assert (await venue.order("EUR/USD", ClOrdID("mine"))).venue_order_id == "3"


async def test_a_long_history_is_read_in_parts(told, scripted) -> None:
    """100 orders over six days, of which an answer holds ten, told newest first."""
    now_ms = time.time_ns() // 1_000_000
    rows = [
        ended(f"n{n}", id=str(n), createdDate=str(now_ms - n * 5_000_000)) for n in range(1, 101)
    ]

    async def history(request: web.Request) -> web.Response:
        begin, end = int(request.query.get("from", 0)), int(request.query.get("to", 2**60))
        found = [row for row in rows if begin <= int(str(row["createdDate"])) <= end]
        page = [scripted.row("ordersHistory", row) for row in found[:10]]
        d = {"ordersHistory": page, "hasMore": len(found) > 10}
        return web.json_response({"s": "ok", "d": d})

    scripted.special["GET", "/trade/accounts/7080/ordersHistory"] = history
    venue = told()
    await venue.connect()
    for number in (1, 57, 100):
        found = await venue.order("EUR/USD", ClOrdID(f"n{number}"))
        assert found.venue_order_id == str(number)
    assert await venue.order("EUR/USD", ClOrdID("n101")) is None


async def test_a_history_that_never_fits_is_not_called_searched(told, scripted) -> None:
    answer = {"s": "ok", "d": {"ordersHistory": [], "hasMore": True}}
    scripted.answer("GET", "/trade/accounts/7080/ordersHistory", answer)
    venue = told()
    await venue.connect()
    with pytest.raises(VenueUnavailableError, match="history is not complete"):
        await venue.order("EUR/USD", ClOrdID("mine"))
    assert scripted.count("GET", "ordersHistory") <= reader.PAGES_MAX + 1


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("Cancelled", OrdStatus.CANCELED),
        ("Rejected", OrdStatus.REJECTED),
        ("Refused", OrdStatus.REJECTED),
        ("Unplaced", OrdStatus.REJECTED),
        ("Removed", OrdStatus.EXPIRED),
        ("None", OrdStatus.UNKNOWN),
        ("Filled", OrdStatus.UNKNOWN),
    ],
)
async def test_an_end_is_told_by_its_word_and_never_guessed(told, scripted, word, status) -> None:
    """The last: filled, it says, and less than the whole of it."""
    scripted.lists["ordersHistory"] = [ended("mine", status=word, filledQty=None)]
    venue = told()
    await venue.connect()
    assert (await venue.order("EUR/USD", ClOrdID("mine"))).status is status


# What comes of an order.


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, {"s": "ok", "d": {"orderId": 7277816997907673698}}, Accepted),
        (200, {"s": "error", "errmsg": "Not enough margin"}, Rejected),
        (200, {"s": "error", "errmsg": "Request timed out"}, Unknown),
        (200, {"s": "error", "errmsg": "Internal error, try again"}, Unknown),
        (200, {"s": "error"}, Rejected),
        (200, {"s": "ok"}, Unknown),
        (200, b"<html>maintenance</html>", Unknown),
        (400, {"message": ["qty must be a number", "side"]}, Rejected),
        (403, b"Forbidden", Rejected),
        (404, {"errmsg": "Account not found"}, Rejected),
        (408, b"", Unknown),
        (500, {"s": "error", "errmsg": "x"}, Unknown),
        (502, b"Bad gateway", Unknown),
    ],
)
async def test_an_answer_to_an_order_is_taken_for_what_it_says(
    told, scripted, status, body, outcome
) -> None:
    venue = told()
    await venue.connect()
    scripted.answer("POST", ORDERS, body, status)
    said = await venue.submit(order())
    assert isinstance(said, outcome), said
    assert not isinstance(said, Rejected) or (said.code and said.text)
    assert scripted.count("POST", ORDERS) == 1


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, {"s": "ok"}, Accepted),
        (204, b"", Accepted),
        (200, {"s": "error", "errmsg": "Order not found"}, Rejected),
        (200, b"<html>", Unknown),
        (200, {"said": "fine"}, Unknown),
        (503, b"", Unknown),
    ],
)
async def test_an_answer_to_a_cancel_is_taken_for_what_it_says(
    told, scripted, status, body, outcome
) -> None:
    venue = told()
    await venue.connect()
    scripted.answer("DELETE", "/trade/orders/71", body, status)
    said = await venue.cancel("EUR/USD", ClOrdID(""), venue_order_id="71")
    assert isinstance(said, outcome), said


async def test_the_order_is_sent_as_the_reference_says(told, scripted) -> None:
    """Numbers as numbers, exactly; the TRADE route."""
    bodies: list[str] = []

    async def take(request: web.Request) -> web.Response:
        bodies.append(await request.text())
        return web.json_response({"s": "ok", "d": {"orderId": "5"}})

    scripted.special["POST", ORDERS] = take
    venue = told()
    await venue.connect()
    await venue.submit(order("mine", order_qty=D(1000), price=D("1.10000")))
    await venue.submit(market("other", Side.SELL))
    assert [json.loads(body, parse_float=D) for body in bodies] == [
        {
            "tradableInstrumentId": 278, "routeId": 12, "side": "buy", "type": "limit",
            "qty": D("0.01"), "strategyId": "mine", "validity": "GTC", "price": D("1.10000"),
        },
        {
            "tradableInstrumentId": 278, "routeId": 12, "side": "sell", "type": "market",
            "qty": D("0.1"), "strategyId": "other", "validity": "IOC", "price": 0,
        },
    ]  # fmt: skip


# Too many requests.


async def test_a_429_shuts_its_route_and_leaves_cancels_open(told, scripted) -> None:
    venue = told(timeout=2.0)
    await venue.connect()
    scripted.answer("GET", ORDERS, {"errmsg": "Too many requests"}, 429)
    with pytest.raises(VenueThrottledError):
        await venue.open_orders()
    scripted.answer("DELETE", "/trade/orders/71", {"s": "ok"})
    said = await venue.cancel("EUR/USD", ClOrdID(""), venue_order_id="71")
    assert isinstance(said, Accepted)
    # One whose order has to be looked for first says how long that is held back.
    by_our_id = await venue.cancel("EUR/USD", ClOrdID("mine"))
    assert isinstance(by_our_id, Rejected)
    assert by_our_id.code == "throttled" and by_our_id.retry_after_s > 0


async def test_a_query_whose_budget_others_used_up_is_asked_again(
    told, scripted, monkeypatch
) -> None:
    monkeypatch.setattr("openbell.venues.tradelocker.routes.THROTTLED_S", 0.05)
    venue = told()
    await venue.connect()
    answers = [429, 429, 200]

    async def orders(request: web.Request) -> web.Response:
        body = {"s": "ok", "d": {"orders": []}}
        return web.json_response(body, status=answers.pop(0))

    scripted.special["GET", ORDERS] = orders
    assert (await venue.open_orders()).complete
    assert answers == []


async def test_a_429_that_names_its_time_shuts_everything(told, scripted) -> None:
    """It comes from what stands before TradeLocker and counts every request."""
    venue = told()
    await venue.connect()

    async def limited(request: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "30"})

    scripted.special["POST", ORDERS] = limited
    assert isinstance(await venue.submit(order()), Rejected)
    before = len(scripted.seen)
    with pytest.raises(VenueThrottledError):
        await venue.open_orders()
    assert isinstance(await venue.submit(order("other")), Rejected)
    assert len(scripted.seen) == before
