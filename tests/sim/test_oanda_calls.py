"""The OANDA face over HTTP: what it answers, with which status and code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from openbell_sim import testing
from openbell_sim.faces.oanda import reasons
from openbell_sim.faces.oanda.book import account_id
from openbell_sim.faces.oanda.limits import Limits
from openbell_sim.faces.port import RequestKind, Trouble
from openbell_sim.interventions import Interventions
from openbell_sim.market.events import Snapshot, Traded
from openbell_sim.refusals import Reason
from openbell_sim.server import Venue
from openbell_sim.sessions import MarketState

D = Decimal
ID = account_id("main")
MARKET = {"EUR_USD": ("1.08490", "1.08510", "1000"), "USD_JPY": ("149.990", "150.010", "100000")}


@dataclass
class Client:
    """One account's calls."""

    venue: Venue
    session: aiohttp.ClientSession

    async def __call__(
        self, method: str, path: str, body: object = None, *, status: int = 200, **headers: str
    ) -> Any:
        """`path` below the account's; a leading slash: below the host."""
        path = path if path.startswith("/") else f"/v3/accounts/{ID}/{path}".rstrip("/")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(
            method, self.venue.url + path, json=body, headers=named
        ) as response:
            told = await response.json()
            assert response.status == status, told
            return told

    async def order(self, status: int = 201, **spec: object) -> Any:
        spec = {"type": "MARKET", "instrument": "EUR_USD", "units": "100", **spec}
        return await self("POST", "orders", {"order": spec}, status=status)

    def move(self, bid: str, ask: str, symbol: str = "EUR_USD") -> None:
        self.venue.exchange.play(
            Snapshot(symbol, ((D(bid), D(1000)),), ((D(ask), D(1000)),)),
        )


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    settings = testing.settings(
        [testing.StillMarket("oanda", **MARKET)], face="oanda", limit_scale=0
    )
    async with testing.running_venue(settings) as venue:
        headers = {"Authorization": f"Bearer {testing.SECRET}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            yield Client(venue, session)


async def test_the_token_is_the_secret_and_reaches_its_own_account_only(client: Client) -> None:
    assert (await client("GET", "/v3/accounts"))["accounts"] == [{"id": ID, "tags": []}]
    for token in (f"Bearer {testing.KEY}", "Bearer ", f"Basic {testing.SECRET}", ""):
        refused = await client("GET", "/v3/accounts", status=401, Authorization=token)
        assert refused == {"errorMessage": "Insufficient authorization to perform request."}
    other = account_id("counterparty")
    await client("GET", f"/v3/accounts/{other}/summary", status=403)
    client.venue.keys.revoke_only({"main"})
    await client("GET", "summary", status=401)


async def test_times_are_written_as_the_request_asks(client: Client) -> None:
    rfc = (await client("GET", ""))["account"]["createdTime"]
    unix = (await client("GET", "", Accept_Datetime_Format="UNIX"))["account"]["createdTime"]
    seconds, _, rest = unix.partition(".")
    assert rfc.endswith(f".{rest}Z")
    assert abs(int(seconds) - client.venue.exchange.now_ns() // 10**9) < 60
    await client("GET", "", status=400, Accept_Datetime_Format="ISO")


async def test_instruments_tell_their_exact_grids(client: Client) -> None:
    listed = (await client("GET", "instruments?instruments=USD_JPY"))["instruments"]
    assert [
        (i["name"], i["pipLocation"], i["displayPrecision"], i["tradeUnitsPrecision"])
        for i in listed
    ] == [("USD_JPY", -2, 3, 0)]
    assert listed[0]["marginRate"] == "0.0333"
    refused = await client("GET", "instruments?instruments=DOGE_USD", status=400)
    assert refused["errorMessage"] == "Invalid value specified for 'instrument'"


# Orders.


async def test_a_limit_order_lives_and_is_cancelled(client: Client) -> None:
    made = await client.order(
        type="LIMIT", price="1.08000", clientExtensions={"id": "a", "tag": "t", "comment": "c"}
    )
    created = made["orderCreateTransaction"]
    assert (created["type"], created["price"], created["units"]) == (
        "LIMIT_ORDER",
        "1.08000",
        "100",
    )
    assert made["relatedTransactionIDs"] == [created["id"]] == [made["lastTransactionID"]]
    for specifier in (created["id"], "@a"):
        order = (await client("GET", f"orders/{specifier}"))["order"]
        assert (order["id"], order["state"]) == (created["id"], "PENDING")
        assert order["clientExtensions"] == {"id": "a", "tag": "t", "comment": "c"}
    assert (await client("GET", "pendingOrders"))["orders"] == [order]
    cancelled = (await client("PUT", "orders/@a/cancel"))["orderCancelTransaction"]
    assert (cancelled["orderID"], cancelled["reason"]) == (created["id"], "CLIENT_REQUEST")
    assert (await client("GET", f"orders/{created['id']}"))["order"]["state"] == "CANCELLED"
    again = await client("PUT", f"orders/{created['id']}/cancel", status=404)
    assert again["errorCode"] == "ORDER_DOESNT_EXIST"
    # By the client's id it is found while it is pending, and no longer.
    assert (await client("GET", "orders/@a", status=404))["errorCode"] == "NO_SUCH_ORDER"


async def test_a_client_id_is_unique_among_pending_orders_of_all_instruments(
    client: Client,
) -> None:
    name = {"clientExtensions": {"id": "a"}}
    await client.order(type="LIMIT", price="1.08000", **name)
    again = await client.order(400, type="LIMIT", instrument="USD_JPY", price="140", **name)
    assert again["errorCode"] == "CLIENT_ORDER_ID_ALREADY_EXISTS"
    assert again["orderRejectTransaction"]["type"] == "LIMIT_ORDER_REJECT"
    await client("PUT", "orders/@a/cancel")
    await client.order(type="LIMIT", price="1.08000", **name)


async def test_a_market_order_is_filled_or_killed_unless_it_says_otherwise(client: Client) -> None:
    filled = await client.order(units=-600)
    assert filled["orderFillTransaction"]["units"] == "-600"
    killed = await client.order(units="-600")
    assert killed["orderCancelTransaction"]["reason"] == "INSUFFICIENT_LIQUIDITY"
    part = await client.order(units="-600", timeInForce="IOC")
    assert part["orderFillTransaction"]["units"] == "-400"
    assert part["orderCancelTransaction"]["orderID"] == part["orderCreateTransaction"]["id"]
    number = part["orderCreateTransaction"]["id"]
    order = (await client("GET", f"orders/{number}"))["order"]
    assert (order["state"], order["fillingTransactionID"]) == (
        "CANCELLED",
        part["orderFillTransaction"]["id"],
    )


async def test_a_price_bound_holds(client: Client) -> None:
    killed = await client.order(priceBound="1.08500")
    assert killed["orderCancelTransaction"]["reason"] == "BOUNDS_VIOLATION"
    assert "orderFillTransaction" in await client.order(priceBound="1.08510")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"units": None}, "UNITS_MISSING"),
        ({"units": "0"}, "UNITS_INVALID"),
        ({"units": "1.5"}, "UNITS_PRECISION_EXCEEDED"),
        ({"units": "100000001"}, "UNITS_LIMIT_EXCEEDED"),
        ({"type": "LIMIT"}, "PRICE_MISSING"),
        ({"type": "LIMIT", "price": "-1"}, "PRICE_INVALID"),
        ({"type": "LIMIT", "price": "1.080001"}, "PRICE_PRECISION_EXCEEDED"),
        ({"type": "LIMIT", "price": "1.08", "timeInForce": "DAY"}, "TIME_IN_FORCE_INVALID"),
        (
            {"type": "LIMIT", "price": "1.08", "timeInForce": "GTD"},
            "TIME_IN_FORCE_GTD_TIMESTAMP_MISSING",
        ),
        (
            {"type": "LIMIT", "price": "1.08", "timeInForce": "GTD", "gtdTime": "1.0"},
            "TIME_IN_FORCE_GTD_TIMESTAMP_IN_PAST",
        ),
        ({"priceBound": "1.080001"}, "PRICE_BOUND_PRECISION_EXCEEDED"),
        ({"positionFill": "SOMEHOW"}, "ORDER_FILL_POSITION_ACTION_INVALID"),
        ({"instrument": "DOGE_USD"}, "INSTRUMENT_UNKNOWN"),
        ({"clientExtensions": {"id": "x" * 129}}, "CLIENT_ORDER_ID_INVALID"),
        ({"stopLossOnFill": {"price": "1.080001"}}, "STOP_LOSS_ON_FILL_PRICE_PRECISION_EXCEEDED"),
        ({"positionFill": "REDUCE_ONLY"}, "CLOSEOUT_POSITION_DOESNT_EXIST"),
        (
            {"type": "LIMIT", "price": "1.08", "units": "99999999"},
            "INSUFFICIENT_MARGIN",
        ),
    ],
)
async def test_what_cannot_be_an_order_is_a_reject_transaction(
    client: Client, spec: dict[str, Any], reason: str
) -> None:
    told = await client.order(400, **spec)
    rejected = told["orderRejectTransaction"]
    assert (rejected["rejectReason"], told["errorCode"]) == (reason, reason)
    assert told["lastTransactionID"] == rejected["id"] == "3"
    assert (await client("GET", "transactions/3"))["transaction"] == rejected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "The request was missing required data"),
        ({"order": {"type": "FANCY"}}, "Invalid value specified for 'order.type'"),
        (
            {"order": {"type": "MARKET", "units": "many"}},
            "Invalid value specified for 'order.units'",
        ),
    ],
)
async def test_what_cannot_be_read_leaves_no_transaction(
    client: Client, body: object, message: str
) -> None:
    told = await client("POST", "orders", body, status=400)
    assert told == {"errorMessage": message}
    assert (await client("GET", "summary"))["lastTransactionID"] == "2"
    # But for the venue's own record of it.
    assert [each.reason for each in client.venue.exchange.ledger.refused] == ["malformed"]


def test_every_refusal_has_a_word() -> None:
    for reason in Reason:
        assert reasons.of_reason(reason).isupper()


async def test_a_market_order_without_margin_is_created_and_cancelled(client: Client) -> None:
    client.move("1.08490", "1.08510")
    client.venue.exchange.play(
        Snapshot("EUR_USD", (), ((D("1.08510"), D(90_000_000)),)),
    )
    told = await client.order(units="90000000")
    assert told["orderCancelTransaction"]["reason"] == "INSUFFICIENT_MARGIN"
    number = told["orderCreateTransaction"]["id"]
    assert (await client("GET", f"orders/{number}"))["order"]["state"] == "CANCELLED"


@pytest.mark.parametrize("state", [MarketState.CLOSED, MarketState.CANCEL_ONLY, MarketState.HALTED])
async def test_a_closed_market_cancels_what_it_cannot_fill(
    client: Client, state: MarketState
) -> None:
    await client.order(type="LIMIT", price="1.08000", clientExtensions={"id": "a"})
    client.venue.exchange.set_session("EUR_USD", state)
    told = await client.order()
    assert told["orderCancelTransaction"]["reason"] == "MARKET_HALTED"
    [price] = (await client("GET", "pricing?instruments=EUR_USD"))["prices"]
    assert (price["tradeable"], price["status"]) == (False, "non-tradeable")
    if state is MarketState.HALTED:
        refused = await client("PUT", "orders/@a/cancel", status=404)
        assert refused["errorCode"] == "ACCOUNT_ORDER_CANCEL_LOCKED"
    else:
        await client("PUT", "orders/@a/cancel")


async def test_an_order_is_replaced_by_one_of_its_kind(client: Client) -> None:
    made = await client.order(type="LIMIT", price="1.08000", clientExtensions={"id": "a"})
    old = made["orderCreateTransaction"]["id"]
    spec = {"type": "LIMIT", "instrument": "EUR_USD", "units": "200", "price": "1.07000"}
    told = await client("PUT", "orders/@a", {"order": spec}, status=201)
    new = told["orderCreateTransaction"]
    assert told["orderCancelTransaction"]["replacedByOrderID"] == new["id"]
    assert (new["replacesOrderID"], new["units"], new["price"]) == (old, "200", "1.07000")
    order = (await client("GET", "orders/@a"))["order"]
    assert (order["id"], order["units"]) == (new["id"], "200")
    assert (await client("GET", f"orders/{old}"))["order"]["replacedByOrderID"] == new["id"]
    refused = await client("PUT", "orders/@a", {"order": {**spec, "units": "-200"}}, status=400)
    assert refused["errorCode"] == "REPLACING_ORDER_INVALID"
    assert (await client("GET", "orders/@a"))["order"]["id"] == new["id"]
    await client("PUT", "orders/@b", {"order": spec}, status=404)


async def test_an_order_good_till_a_time_ends_then(client: Client) -> None:
    soon = client.venue.exchange.now_ns() + 2_000_000_000
    made = await client.order(
        type="LIMIT", price="1.08", timeInForce="GTD", gtdTime=f"{soon // 10**9}.{soon % 10**9:09d}"
    )
    number = made["orderCreateTransaction"]["id"]
    order: dict[str, Any] = {}
    while order.get("state") != "CANCELLED":
        order = (await client("GET", f"orders/{number}"))["order"]
    ended = await client("GET", f"transactions/{order['cancellingTransactionID']}")
    assert ended["transaction"]["reason"] == "TIME_IN_FORCE_EXPIRED"


@pytest.mark.parametrize("kind", ["STOP", "MARKET_IF_TOUCHED"])
async def test_a_stop_waits_for_its_price(client: Client, kind: str) -> None:
    price = "1.09000" if kind == "STOP" else "1.08000"
    await client.order(type=kind, price=price)
    [order] = (await client("GET", "pendingOrders"))["orders"]
    assert (order["type"], order["price"], order["state"]) == (kind, price, "PENDING")


async def test_a_stop_whose_price_was_reached_is_filled_at_once(client: Client) -> None:
    await client.order()  # so that there is a last price
    told = await client.order(type="STOP", price="1.08000")
    assert told["orderFillTransaction"]["reason"] == "STOP_ORDER"


# Positions and trades.


async def test_positions_and_trades_follow_fills_and_are_closed(client: Client) -> None:
    for units in ("300", "200"):
        await client.order(units=units, tradeClientExtensions={"id": f"t{units}"})
    [position] = (await client("GET", "openPositions"))["positions"]
    assert (position["long"]["units"], position["short"]["units"]) == ("500", "0")
    assert (await client("GET", "positions/EUR_USD"))["position"] == position
    newest, oldest = (await client("GET", "openTrades"))["trades"]
    assert (oldest["initialUnits"], newest["currentUnits"]) == ("300", "200")
    assert position["long"]["tradeIDs"] == [oldest["id"], newest["id"]]
    closed = await client("PUT", "trades/@t200/close", {"units": "50"})
    assert closed["orderCreateTransaction"]["tradeClose"] == {
        "tradeID": newest["id"], "units": "50",
    }  # fmt: skip
    assert closed["orderFillTransaction"]["tradeReduced"]["tradeID"] == newest["id"]
    told = await client("PUT", "positions/EUR_USD/close", {"longUnits": "ALL"})
    fill = told["longOrderFillTransaction"]
    assert fill["reason"] == "MARKET_ORDER_POSITION_CLOSEOUT"
    assert {each["tradeID"] for each in fill["tradesClosed"]} == {oldest["id"], newest["id"]}
    assert (await client("GET", "openPositions"))["positions"] == []
    trade = (await client("GET", f"trades/{newest['id']}"))["trade"]
    assert (trade["state"], len(trade["closingTransactionIDs"])) == ("CLOSED", 2)
    account = (await client("GET", ""))["account"]
    assert (account["balance"], account["pl"]) == ("99999.9000", "-0.1000")
    await client("PUT", f"trades/{newest['id']}/close", status=404)
    refused = await client("PUT", "positions/EUR_USD/close", {"longUnits": "ALL"}, status=400)
    assert refused["errorCode"] == "CLOSEOUT_POSITION_DOESNT_EXIST"
    assert refused["longOrderRejectTransaction"]["reason"] == "CLIENT_ORDER"


async def test_reduce_only_closes_and_never_turns(client: Client) -> None:
    await client.order(units="300")
    told = await client.order(units="-900", positionFill="REDUCE_ONLY")
    assert told["orderFillTransaction"]["units"] == "-300"
    await client.order(units="-100")
    refused = await client.order(400, units="100", positionFill="OPEN_ONLY")
    assert refused["errorCode"] == "ORDER_FILL_POSITION_ACTION_INVALID"


async def test_protection_hangs_on_the_trade_and_goes_with_it(client: Client) -> None:
    told = await client.order(
        takeProfitOnFill={"price": "1.09000"}, stopLossOnFill={"price": "1.08000"}
    )
    trade = told["orderFillTransaction"]["tradeOpened"]["tradeID"]
    hanging = (await client("GET", "pendingOrders"))["orders"]
    assert {(o["type"], o["price"], o["tradeID"]) for o in hanging} == {
        ("TAKE_PROFIT", "1.09000", trade),
        ("STOP_LOSS", "1.08000", trade),
    }
    assert len(told["relatedTransactionIDs"]) == 4
    told = await client("PUT", f"trades/{trade}/orders", {"stopLoss": {"price": "1.07000"}})
    assert told["stopLossOrderCancelTransaction"]["reason"] == "CLIENT_REQUEST_REPLACED"
    assert told["stopLossOrderTransaction"]["price"] == "1.07000"
    again = await client.order(400, type="STOP_LOSS", tradeID=trade, price="1.06000")
    assert again["errorCode"] == "STOP_LOSS_ORDER_ALREADY_EXISTS"
    await client("PUT", f"trades/{trade}/orders", {"takeProfit": None})
    assert len((await client("GET", "pendingOrders"))["orders"]) == 1
    await client("PUT", f"trades/{trade}/close")
    assert (await client("GET", "pendingOrders"))["orders"] == []
    last = (await client("GET", "changes?sinceTransactionID=2"))["changes"]["transactions"][-1]
    assert (last["type"], last["reason"]) == ("ORDER_CANCEL", "LINKED_TRADE_CLOSED")


async def test_a_stop_loss_that_is_triggered_ends_its_trade_and_the_take_profit(
    client: Client,
) -> None:
    told = await client.order(
        takeProfitOnFill={"price": "1.09000"}, stopLossOnFill={"price": "1.08000"}
    )
    trade = told["orderFillTransaction"]["tradeOpened"]["tradeID"]
    client.move("1.07000", "1.07020")
    client.venue.exchange.play(
        Traded("EUR_USD", D("1.07000"), D(1), aggressor_is_buyer=False),
    )
    new = (await client("GET", "transactions/sinceid?id=6"))["transactions"]
    assert [(each["type"], each["reason"]) for each in new] == [
        ("ORDER_FILL", "STOP_LOSS_ORDER"),
        ("ORDER_CANCEL", "LINKED_TRADE_CLOSED"),
    ]
    assert new[0]["tradesClosed"][0]["tradeID"] == trade
    assert (await client("GET", "pendingOrders"))["orders"] == []


async def test_a_stop_that_the_venue_loses_is_listed_no_more(client: Client) -> None:
    made = await client.order(type="STOP", price="1.09000")
    number = made["orderCreateTransaction"]["id"]
    client.venue.exchange.intervene(Interventions(drop_stops=True))
    assert (await client("GET", "pendingOrders"))["orders"] == []
    summary = await client("GET", "summary")
    assert summary["account"]["pendingOrderCount"] == 0
    # Without a word: no transaction tells it.
    assert summary["lastTransactionID"] == number
    assert (await client("GET", f"orders/{number}", status=404))["errorCode"] == "NO_SUCH_ORDER"
    await client("PUT", f"orders/{number}/cancel", status=404)


async def test_a_cancel_may_be_acknowledged_and_done_later(client: Client) -> None:
    await client.order(type="LIMIT", price="1.08000", clientExtensions={"id": "a"})
    client.venue.exchange.intervene(Interventions(lazy_cancels_s=3600))
    told = await client("PUT", "orders/@a/cancel")
    assert told["orderCancelTransaction"]["reason"] == "CLIENT_REQUEST"
    assert [each["state"] for each in (await client("GET", "pendingOrders"))["orders"]] == [
        "PENDING"
    ]


async def test_protection_is_cut_with_its_trade_though_the_position_is_larger(
    client: Client,
) -> None:
    await client.order(units="200")
    told = await client.order(units="100", takeProfitOnFill={"price": "1.09000"})
    trade = told["orderFillTransaction"]["tradeOpened"]["tradeID"]
    before = (await client("GET", "summary"))["lastTransactionID"]
    await client("PUT", f"trades/{trade}/close", {"units": "40"})
    [resting] = client.venue.exchange.ledger.open["main"].values()
    assert resting.leaves_qty == 60
    told = await client("GET", f"changes?sinceTransactionID={before}")
    # It has no units of its own, so nothing is told of it.
    assert [each["type"] for each in told["changes"]["transactions"]] == [
        "MARKET_ORDER",
        "ORDER_FILL",
    ]


async def test_a_key_that_may_not_trade_closes_and_opens_nothing(client: Client) -> None:
    from openbell_sim.keys import Credentials

    await client.order(units="100")
    client.venue.keys.add(Credentials("main", "closer", "closing-token", may_trade=False))
    token = {"Authorization": "Bearer closing-token"}
    spec = {"type": "MARKET", "instrument": "EUR_USD", "units": "100"}
    refused = await client("POST", "orders", {"order": spec}, status=400, **token)
    assert refused["errorCode"] == "ACCOUNT_ORDER_CREATION_LOCKED"
    await client.order(type="LIMIT", price="1.08000", clientExtensions={"id": "a"})
    larger = {"order": {**spec, "type": "LIMIT", "units": "200", "price": "1.07000"}}
    refused = await client("PUT", "orders/@a", larger, status=400, **token)
    assert refused["errorCode"] == "ACCOUNT_ORDER_CREATION_LOCKED"
    assert (await client("GET", "orders/@a"))["order"]["units"] == "100"
    await client("PUT", "positions/EUR_USD/close", {}, **token)


# Transactions.


async def test_a_large_history_is_paged(client: Client) -> None:
    for _ in range(120):
        await client.order(type="LIMIT", price="1.08000")
    index = await client("GET", "transactions?pageSize=50")
    assert (index["count"], len(index["pages"])) == (122, 3)
    found: list[str] = []
    for page in index["pages"]:
        path = page.removeprefix(client.venue.url)
        found += [each["id"] for each in (await client("GET", path))["transactions"]]
    assert found == [str(number) for number in range(1, 123)]
    only = await client("GET", "transactions?type=TRANSFER_FUNDS")
    assert only["count"] == 1
    page = await client("GET", only["pages"][0].removeprefix(client.venue.url))
    assert [each["type"] for each in page["transactions"]] == ["TRANSFER_FUNDS"]
    since = await client("GET", "transactions/sinceid?id=120")
    assert [each["id"] for each in since["transactions"]] == ["121", "122"]
    await client("GET", "transactions/sinceid?id=999", status=416)
    orders = (await client("GET", "orders?count=3&state=ALL&beforeID=100"))["orders"]
    assert [each["id"] for each in orders] == ["99", "98", "97"]


async def test_changes_tell_what_happened_since(client: Client) -> None:
    await client.order(type="LIMIT", price="1.08000")
    await client.order(units="-300")
    told = await client("GET", "changes?sinceTransactionID=2")
    changes = told["changes"]
    assert [each["state"] for each in changes["ordersCreated"]] == ["PENDING", "FILLED"]
    assert [each["currentUnits"] for each in changes["tradesOpened"]] == ["-300"]
    assert [each["short"]["units"] for each in changes["positions"]] == ["-300"]
    assert told["state"]["unrealizedPL"] == "0.0000"
    assert told["lastTransactionID"] == "5"


# Prices.


async def test_prices_candles_and_the_book(client: Client) -> None:
    [price] = (await client("GET", "pricing?instruments=USD_JPY"))["prices"]
    assert (price["bids"], price["asks"]) == (
        [{"price": "149.990", "liquidity": 100000}],
        [{"price": "150.010", "liquidity": 100000}],
    )
    await client.order()
    candles = await client("GET", "/v3/instruments/EUR_USD/candles?price=MBA&granularity=M1")
    [candle] = candles["candles"]
    assert (candle["mid"]["c"], candle["complete"]) == ("1.08510", False)
    book = (await client("GET", "/v3/instruments/EUR_USD/orderBook"))["orderBook"]
    assert [each["price"] for each in book["buckets"]] == ["1.08490", "1.08510"]
    await client("GET", "pricing?instruments=DOGE_USD", status=400)
    await client("GET", "/v3/instruments/EUR_USD/candles?granularity=S5", status=400)


# Limits, kinds, troubles.


def test_limits_are_those_that_are_documented() -> None:
    limits = Limits(1.0)
    assert [limits.requests.take("a", 0.0) for _ in range(121)] == [True] * 120 + [False]
    assert limits.requests.take("b", 0.0)
    assert not limits.requests.take("a", 0.99)
    assert limits.requests.take("a", 1.0)
    assert [limits.connections.take("a", n / 4) for n in range(6)] == [
        True, True, False, False, True, True,
    ]  # fmt: skip
    assert (limits.streams, Limits(0.0).streams) == (20, 0)
    assert all(Limits(0.0).requests.take("a", 0.0) for _ in range(500))


@pytest.mark.parametrize("kept_alive", [True, False])
async def test_requests_and_connections_too_many_are_refused(kept_alive: bool) -> None:
    market = testing.StillMarket("oanda", **MARKET)
    settings = testing.settings([market], face="oanda", limit_scale=0.05)
    async with testing.running_venue(settings) as venue:
        headers = {"Authorization": f"Bearer {testing.SECRET}"}
        connector = aiohttp.TCPConnector(force_close=not kept_alive)
        if not kept_alive:
            venue.face.limits.requests.most = 0
        statuses: list[int] = []
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
            while 429 not in statuses:
                async with session.get(f"{venue.url}/v3/accounts") as response:
                    statuses.append(response.status)
                    told = await response.json()
        assert statuses[0] == 200
        assert told == {"errorMessage": "The request rate limit has been exceeded."}


async def test_kinds_and_troubles_are_told_in_oandas_words(client: Client) -> None:
    face = client.venue.face
    account = f"/v3/accounts/{ID}"
    for method, path, kind in (
        ("POST", "orders", RequestKind.SUBMIT),
        ("PUT", "orders/7", RequestKind.AMEND),
        ("PUT", "orders/@a/cancel", RequestKind.CANCEL),
        ("GET", "pendingOrders", RequestKind.OPEN_ORDERS),
        ("GET", "orders/7", RequestKind.ORDER),
        ("GET", "transactions/sinceid", RequestKind.FILLS),
        ("PUT", "positions/EUR_USD/close", RequestKind.CLOSE_POSITION),
        ("GET", "transactions/stream", RequestKind.STREAM),
        ("GET", "nothing", RequestKind.OTHER),
    ):
        assert face.kind_of(method, f"{account}/{path}") is kind
    assert face.trouble(Trouble.THROTTLED, 418).status == 429
    assert face.trouble(Trouble.UNAVAILABLE, 504).status == 504
    assert face.trouble(Trouble.KEY_REVOKED, 401).status == 401
    assert face.trouble(Trouble.CANCEL_REFUSED, 400).status == 404
