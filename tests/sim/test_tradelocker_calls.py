"""The TradeLocker face over HTTP: what it answers, with which status and words."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from openbell_sim import testing
from openbell_sim.faces.port import RequestKind, Trouble
from openbell_sim.faces.tradelocker import columns
from openbell_sim.faces.tradelocker.call import account_id
from openbell_sim.faces.tradelocker.errors import _WORDS
from openbell_sim.faces.tradelocker.tokens import ACCESS, LIFE_S, REFRESH, Tokens
from openbell_sim.interventions import Interventions
from openbell_sim.market.events import Snapshot, Traded
from openbell_sim.refusals import Reason
from openbell_sim.server import Venue
from openbell_sim.sessions import MarketState

D = Decimal
ID = account_id("main")
EURUSD, USDJPY, NAS100 = 278, 280, 817
INFO, TRADE = 452, 1152263
MARKET = {
    "EURUSD": ("1.08490", "1.08510", "10000000"),
    "USDJPY": ("149.990", "150.010", "10000000"),
    "NAS100": ("18399.0", "18401.0", "1000"),
}


@dataclass
class Client:
    """One user's calls."""

    venue: Venue
    session: aiohttp.ClientSession
    headers: dict[str, str] = field(default_factory=dict)

    async def log_in(self, email: str = testing.KEY, password: str = testing.SECRET) -> Any:
        body = {"email": email, "password": password, "server": "SIM"}
        told = await self("POST", "/auth/jwt/token", body, status=201)
        self.headers = {"Authorization": f"Bearer {told['accessToken']}", "accNum": "1"}
        return told

    async def __call__(
        self, method: str, path: str, body: object = None, *, status: int = 200, **params: object
    ) -> Any:
        """`path` below the account's; a leading slash: below the base."""
        path = path if path.startswith("/") else f"/trade/accounts/{ID}/{path}"
        query = {name.rstrip("_"): str(value) for name, value in params.items()}
        async with self.session.request(
            method,
            f"{self.venue.url}/backend-api{path}",
            json=body,
            params=query,
            headers=self.headers,
        ) as response:
            told = await response.json()
            assert response.status == status, told
            return told

    async def order(self, **spec: object) -> Any:
        spec = {
            "tradableInstrumentId": EURUSD, "routeId": TRADE, "qty": "0.1", "side": "buy",
            "type": "market", "validity": "IOC", **spec,
        }  # fmt: skip
        return await self("POST", "orders", spec)

    async def limit(self, price: str = "1.05", **spec: object) -> Any:
        return await self.order(type="limit", validity="GTC", price=price, **spec)

    async def rows(self, name: str, **params: object) -> list[dict[str, Any]]:
        known = {
            "orders": columns.ORDER,
            "ordersHistory": columns.ORDER,
            "positions": columns.POSITION,
            "executions": columns.EXECUTION,
        }
        told = await self("GET", name, **params)
        return [dict(zip(known[name], row, strict=True)) for row in told["d"][name]]

    async def state(self) -> dict[str, Any]:
        told = await self("GET", "state")
        return dict(zip(columns.ACCOUNT, told["d"]["accountDetailsData"], strict=True))

    def move(self, bid: str, ask: str) -> None:
        """The market, and its last price with it."""
        play = self.venue.exchange.play
        play(Snapshot("EURUSD", ((D(bid), D(10_000_000)),), ((D(ask), D(10_000_000)),)))
        play(Traded("EURUSD", D(bid), D(1000), aggressor_is_buyer=False))


async def _client(http: aiohttp.ClientSession, **changes: Any) -> AsyncIterator[Client]:
    settings = testing.settings(
        [testing.StillMarket("tradelocker", **MARKET)], face="tradelocker", **changes
    )
    async with testing.running_venue(settings) as venue:
        made = Client(venue, http)
        await made.log_in()
        yield made


@pytest.fixture
async def client(http: aiohttp.ClientSession) -> AsyncIterator[Client]:
    async for made in _client(http, limit_scale=0):
        yield made


@pytest.fixture
async def limited(http: aiohttp.ClientSession) -> AsyncIterator[Client]:
    async for made in _client(http):
        yield made


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    told: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return told


# Who it is.


async def test_a_login_gives_tokens_that_tell_when_they_end(client: Client) -> None:
    told = await client.log_in()
    access, refresh = claims(told["accessToken"]), claims(told["refreshToken"])
    assert access["exp"] - access["iat"] == 3600
    assert refresh["exp"] - refresh["iat"] == 7 * 86400
    assert told["expireDate"].endswith("Z")
    again = await client(
        "POST", "/auth/jwt/refresh", {"refreshToken": told["refreshToken"]}, status=201
    )
    assert again["accessToken"] != told["accessToken"]


async def test_a_login_that_is_wrong_is_refused_with_400(client: Client) -> None:
    good = {"email": testing.KEY, "password": testing.SECRET, "server": "SIM"}
    for wrong in ({"email": "nobody"}, {"password": "no"}, {"server": ""}):
        told = await client("POST", "/auth/jwt/token", {**good, **wrong}, status=400)
        assert told == {"s": "error", "errmsg": "Invalid credentials"}
    await client("POST", "/auth/jwt/token", {"email": testing.KEY}, status=400)
    await client("POST", "/auth/jwt/refresh", {"refreshToken": "x.y.z"}, status=400)
    await client("POST", "/auth/jwt/refresh", {}, status=400)


async def test_only_a_genuine_access_token_opens_anything(client: Client) -> None:
    good = await client.log_in()
    access = good["accessToken"]
    head, payload, signature = access.split(".")
    told = json.loads(base64.urlsafe_b64decode(payload + "=="))
    told["uid"] = testing.COUNTERPARTY_KEY
    forged = base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=").decode()
    for bearer in (
        "",
        "Bearer ",
        f"Basic {access}",
        f"Bearer {head}.{forged}.{signature}",
        f"Bearer {head}.{payload}.",
        f"Bearer {good['refreshToken']}",
        f"Bearer {Tokens().mint(ACCESS, testing.KEY, 'SIM', told['iat'])}",
    ):
        client.headers["Authorization"] = bearer
        await client("GET", "state", status=401)
    client.headers["Authorization"] = f"Bearer {access}"
    await client("GET", "state")


def test_a_token_ends_when_it_says() -> None:
    tokens = Tokens()
    token = tokens.mint(ACCESS, "me@example.com", "SIM", 1000)
    assert tokens.read(token, ACCESS, 1000 + LIFE_S[ACCESS] - 1) == ("me@example.com", "SIM")
    assert tokens.read(token, ACCESS, 1000 + LIFE_S[ACCESS]) is None
    assert tokens.read(token, REFRESH, 1000) is None
    assert tokens.read("", ACCESS, 1000) is None


async def test_a_revoked_user_is_out_at_once(client: Client) -> None:
    told = await client.log_in()
    client.venue.keys.revoke_only({"main"})
    await client("GET", "state", status=401)
    refresh = {"refreshToken": told["refreshToken"]}
    await client("POST", "/auth/jwt/refresh", refresh, status=400)


async def test_an_account_is_reached_by_its_user_and_its_number_only(client: Client) -> None:
    other = account_id("counterparty")
    await client("GET", f"/trade/accounts/{other}/state", status=404)
    client.headers["accNum"] = "2"
    await client("GET", "state", status=400)
    del client.headers["accNum"]
    await client("GET", "state", status=400)
    [account] = (await client("GET", "/auth/jwt/all-accounts"))["accounts"]
    assert (account["id"], account["accNum"], account["currency"]) == (ID, "1", "USD")
    assert D(account["accountBalance"]) == 100_000


# Configuration and limits.


async def test_the_config_names_every_column_and_limit(client: Client) -> None:
    config = (await client("GET", "/trade/config"))["d"]
    told = {
        name: tuple(column["id"] for column in config[f"{name}Config"]["columns"])
        for name in ("orders", "ordersHistory", "positions", "filledOrders", "accountDetails")
    }
    assert told == {
        "orders": columns.ORDER,
        "ordersHistory": columns.ORDER,
        "positions": columns.POSITION,
        "filledOrders": columns.EXECUTION,
        "accountDetails": columns.ACCOUNT,
    }
    assert [len(each) for each in told.values()] == [22, 22, 11, 8, 26]
    assert len(config["rateLimits"]) == 18


async def test_each_route_has_the_budget_that_the_config_tells(
    limited: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = limited.venue.face._limits
    take = limits.take
    # By a clock of ours: however long it takes, all of it is asked in one second.
    monkeypatch.setattr(limits, "take", lambda who, route, _: take(who, route, 0.0))
    told = (await limited("GET", "/trade/config"))["d"]["rateLimits"]
    most = {each["rateLimitType"]: each["limit"] for each in told}
    assert (most["GET_ORDERS"], most["GET_ORDERS_HISTORY"]) == (2, 1)
    for _ in range(2):
        await limited("GET", "orders")
    assert (await limited("GET", "orders", status=429))["errmsg"] == "Too many requests"
    await limited("GET", "ordersHistory")
    await limited("GET", "ordersHistory", status=429)
    await limited("GET", "state")
    other = Client(limited.venue, limited.session)
    await other.log_in(testing.COUNTERPARTY_KEY, testing.COUNTERPARTY_SECRET)
    await other("GET", f"/trade/accounts/{account_id('counterparty')}/orders")


# Markets.


async def test_instruments_have_their_own_lots_and_routes(client: Client) -> None:
    listed = (await client("GET", "instruments"))["d"]["instruments"]
    assert {each["name"]: each["tradableInstrumentId"] for each in listed} == {
        "EURUSD": EURUSD, "USDJPY": USDJPY, "NAS100": NAS100,
    }  # fmt: skip
    assert listed[0]["routes"] == [{"id": INFO, "type": "INFO"}, {"id": TRADE, "type": "TRADE"}]
    facts = {}
    for number in (EURUSD, NAS100):
        told = (await client("GET", f"/trade/instruments/{number}", routeId=INFO))["d"]
        facts[told["name"]] = (told["lotSize"], told["type"], told["symbolStatus"])
    assert facts == {
        "EURUSD": (100_000, "FOREX", "FULLY_OPEN"),
        "NAS100": (1, "INDICES", "FULLY_OPEN"),
    }
    await client("GET", "/trade/instruments/1", routeId=INFO, status=404)
    await client("GET", f"/trade/instruments/{EURUSD}", routeId=1, status=400)


async def test_quotes_and_depth_are_of_the_info_route(client: Client) -> None:
    asked = {"tradableInstrumentId": EURUSD, "routeId": INFO}
    told = await client("GET", "/trade/quotes", **asked)
    assert told["d"] == {"bp": 1.0849, "ap": 1.0851, "bs": 100, "as": 100}
    depth = (await client("GET", "/trade/depth", **asked))["d"]
    assert depth == {"asks": [[1.0851, 100]], "bids": [[1.0849, 100]]}
    await client("GET", "/trade/quotes", **{**asked, "routeId": TRADE}, status=400)
    client.venue.exchange.play(Snapshot("EURUSD", (), ()))
    assert await client("GET", "/trade/quotes", **asked) == {"s": "no_data"}


async def test_bars_are_asked_for_by_their_time(client: Client) -> None:
    client.move("1.08480", "1.08500")
    asked = {"tradableInstrumentId": EURUSD, "routeId": INFO, "resolution": "1m"}
    now_ms = client.venue.exchange.now_ns() // 1_000_000
    told = await client("GET", "/trade/history", **asked, from_=0, to=now_ms)
    assert [bar["c"] for bar in told["d"]["barDetails"]] == [1.0848]
    assert await client("GET", "/trade/history", **asked, from_=1, to=2) == {"s": "no_data"}
    await client("GET", "/trade/history", **{**asked, "resolution": "2m"}, status=400)
    daily = {"tradableInstrumentId": EURUSD, "routeId": INFO, "barType": "BID"}
    assert (await client("GET", "/trade/dailyBar", **daily))["d"]["o"] == 1.0848


async def test_a_closed_market_says_so_in_every_way(client: Client) -> None:
    resting = (await client.limit())["d"]["orderId"]
    allowed = {}
    for state in MarketState:
        client.venue.exchange.set_session("EURUSD", state)
        told = (await client("GET", f"/trade/instruments/{EURUSD}", routeId=INFO))["d"]
        status = told["tradeSessionStatusId"]
        said = (await client("GET", f"/trade/sessionStatuses/{status}"))["d"]
        allowed[state] = (told["symbolStatus"], said["allowedOperations"])
        placed = (await client.limit())["s"]
        assert placed == ("ok" if said["allowedOperations"][0] else "error"), state
    assert allowed[MarketState.HALTED] == ("TRADING_HALT", [0, 0, 0])
    client.venue.exchange.set_session("EURUSD", MarketState.HALTED)
    assert (await client("DELETE", f"/trade/orders/{resting}"))["s"] == "error"
    assert (await client("DELETE", "orders"))["s"] == "error"
    client.venue.exchange.set_session("EURUSD", MarketState.CLOSED)
    assert (await client("DELETE", f"/trade/orders/{resting}"))["s"] == "ok"
    await client("GET", "/trade/sessionStatuses/9", status=404)


# Orders.


async def test_a_resting_order_is_listed_changed_and_cancelled(client: Client) -> None:
    number = (await client.limit(strategyId="mine"))["d"]["orderId"]
    [row] = await client.rows("orders")
    told = {name: row[name] for name in ("id", "qty", "status", "price", "isOpen", "strategyId")}
    assert told == {
        "id": number, "qty": "0.1", "status": "New", "price": "1.05", "isOpen": "true",
        "strategyId": "mine",
    }  # fmt: skip
    changed = await client("PATCH", f"/trade/orders/{number}", {"price": 1.06, "qty": "0.2"})
    assert changed["d"]["orders"][0][:4] == [number, str(EURUSD), str(TRADE), "0.2"]
    assert await client("DELETE", f"/trade/orders/{number}") == {"s": "ok"}
    gone = await client("DELETE", f"/trade/orders/{number}")
    assert gone == {"s": "error", "errmsg": "Order not found or not active"}
    assert await client.rows("orders") == []
    [ended] = await client.rows("ordersHistory")
    assert (ended["status"], ended["filledQty"], ended["isOpen"]) == ("Cancelled", None, "false")
    assert (await client("PATCH", f"/trade/orders/{number}", {"price": 1}))["s"] == "error"


async def test_what_is_refused_is_told_in_words_with_200(client: Client) -> None:
    for spec, words in (
        ({"validity": "GTC"}, "Invalid TIF"),
        ({"type": "limit", "validity": "IOC", "price": 1}, "Invalid TIF"),
        ({"routeId": INFO}, "Invalid routeId"),
        ({"qty": "0.001"}, "Invalid quantity"),
        ({"qty": "0.015"}, "Invalid quantity"),
        ({"type": "limit", "validity": "GTC"}, "Invalid price"),
        ({"type": "limit", "validity": "GTC", "price": "1.000001"}, "Invalid price"),
        ({"type": "stop", "validity": "GTC", "stopPrice": "1.0"}, "Invalid stop price"),
        ({"strategyId": "x" * 33}, "strategyId"),
        ({"stopLoss": 5, "stopLossType": "offset"}, "not supported"),
        ({"qty": "100", "side": "sell"}, "Not enough margin"),
    ):
        told = await client.order(**spec)
        assert told["s"] == "error", spec
        assert words in told["errmsg"], spec
    body = {"tradableInstrumentId": EURUSD}
    await client("POST", "orders", body, status=400)
    await client("POST", "orders", {**body, "routeId": "x"}, status=400)
    assert client.venue.exchange.ledger.open["main"] == {}


def test_every_refusal_has_words() -> None:
    assert set(_WORDS) == set(Reason)


async def test_one_strategy_id_may_have_many_orders(client: Client) -> None:
    numbers = {(await client.limit(strategyId="same"))["d"]["orderId"] for _ in range(3)}
    assert {row["id"] for row in await client.rows("orders")} == numbers


async def test_orders_are_filtered_by_instrument_and_time(client: Client) -> None:
    first = (await client.limit())["d"]["orderId"]
    other = (await client.limit("100", tradableInstrumentId=USDJPY))["d"]["orderId"]
    assert [r["id"] for r in await client.rows("orders", tradableInstrumentId=USDJPY)] == [other]
    [row] = await client.rows("orders", tradableInstrumentId=EURUSD)
    created = int(row["createdDate"])
    assert len(await client.rows("orders", from_=created, to=created + 10_000)) == 2
    assert await client.rows("orders", to=created - 1) == []
    assert await client("DELETE", "orders", tradableInstrumentId=USDJPY) == {"s": "ok"}
    assert [row["id"] for row in await client.rows("orders")] == [first]
    assert await client("DELETE", "orders") == {"s": "ok"}
    assert [row["id"] for row in await client.rows("ordersHistory")] == [other, first]


async def test_a_long_history_is_cut_and_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "HISTORY_MAX", 2)
    for _ in range(3):
        await client.limit()
    await client("DELETE", "orders")
    told = (await client("GET", "ordersHistory"))["d"]
    assert (len(told["ordersHistory"]), told["hasMore"]) == (2, True)
    monkeypatch.setattr(columns, "HISTORY_MAX", 3)
    told = (await client("GET", "ordersHistory"))["d"]
    assert (len(told["ordersHistory"]), told["hasMore"]) == (3, False)


async def test_an_order_that_the_venue_loses_is_told_to_nobody(client: Client) -> None:
    client.venue.exchange.intervene(Interventions(drop_stops=True))
    assert (await client.order(type="stop", validity="GTC", stopPrice=1.2))["s"] == "ok"
    assert await client.rows("orders") == []
    assert await client.rows("ordersHistory") == []


# Positions.


async def test_an_order_opens_a_position_of_its_own_id(client: Client) -> None:
    number = (await client.order(strategyId="mine"))["d"]["orderId"]
    [order] = await client.rows("ordersHistory")
    [held] = await client.rows("positions")
    assert (order["id"], order["status"], order["avgPrice"]) == (number, "Filled", "1.0851")
    assert held["id"] == order["positionId"] != number
    assert (held["side"], held["qty"], held["strategyId"]) == ("buy", "0.1", "mine")
    client.move("1.08400", "1.08420")
    assert [row["unrealizedPl"] for row in await client.rows("positions")] == ["-11.00"]
    [done] = await client.rows("executions")
    assert (done["orderId"], done["positionId"]) == (number, held["id"])
    assert (done["qty"], done["price"]) == ("0.1", "1.0851")


async def test_positions_are_counted_in_lots_of_their_instrument(client: Client) -> None:
    await client.order(tradableInstrumentId=NAS100, qty=2)
    [held] = await client.rows("positions")
    assert (held["qty"], held["avgPrice"]) == ("2", "18401")
    assert client.venue.exchange.ledger.position("main", "NAS100").quantity == 2


async def test_the_state_counts_what_the_lists_have(client: Client) -> None:
    await client.order()
    await client.limit()
    client.move("1.08400", "1.08420")
    state = await client.state()
    assert (state["positionsCount"], state["ordersCount"], state["todayTradesCount"]) == (1, 1, 1)
    assert state["balance"] == 100_000
    assert (state["projectedBalance"], state["openNetPnL"]) == (99_989, -11)
    used = state["initialMarginReq"]
    assert 350 < used < 750
    assert state["availableFunds"] == pytest.approx(99_989 - used)


async def test_an_opposite_order_closes_the_oldest_position_first(client: Client) -> None:
    first = (await client.order())["d"]["orderId"]
    await client.order()
    await client.order(side="sell", qty="0.15")
    [left] = await client.rows("positions")
    assert left["qty"] == "0.05"
    done = await client.rows("executions")
    [opening] = [row for row in done if row["orderId"] == first]
    assert done[-1]["side"] == "sell"
    assert done[-1]["positionId"] == opening["positionId"]


async def test_a_position_is_closed_in_parts_and_whole(client: Client) -> None:
    await client.order()
    [held] = await client.rows("positions")
    path = f"/trade/positions/{held['id']}"
    assert await client("DELETE", path, {"qty": "0.04"}, strategyId="bye") == {"s": "ok"}
    assert [row["qty"] for row in await client.rows("positions")] == ["0.06"]
    closing = (await client.rows("ordersHistory"))[0]
    assert (closing["strategyId"], closing["side"]) == ("bye", "sell")
    assert closing["positionId"] == held["id"]
    await client("DELETE", path, {"qty": "-1"}, status=400)
    assert await client("DELETE", path, {"qty": 0}) == {"s": "ok"}
    assert await client.rows("positions") == []
    assert await client("DELETE", path) == {"s": "error", "errmsg": "Position not found"}


async def test_a_close_never_opens_the_other_side(client: Client) -> None:
    await client.order()
    [held] = await client.rows("positions")
    await client("DELETE", f"/trade/positions/{held['id']}", {"qty": "5"})
    assert client.venue.exchange.ledger.position("main", "EURUSD").quantity == 0


async def test_all_positions_are_closed_by_instrument_or_strategy(client: Client) -> None:
    await client.order(strategyId="a")
    await client.order(strategyId="b")
    await client.order(tradableInstrumentId=USDJPY, side="sell", strategyId="a")
    told = await client("DELETE", "positions", tradableInstrumentId=EURUSD, strategyId="b")
    assert len(told["d"]["positions"]) == 1
    assert [row["strategyId"] for row in await client.rows("positions")] == ["a", "a"]
    await client("DELETE", "positions")
    assert await client.rows("positions") == []


async def test_brackets_hang_on_a_position_until_it_closes(client: Client) -> None:
    await client.order(
        stopLoss=1.0, stopLossType="absolute", takeProfit="1.2", takeProfitType="absolute"
    )
    [held] = await client.rows("positions")
    orders = {row["id"]: row for row in await client.rows("orders")}
    stop, limit = orders[held["stopLossId"]], orders[held["takeProfitId"]]
    assert (stop["type"], stop["stopPrice"], stop["side"]) == ("stop", "1", "sell")
    assert (limit["type"], limit["price"], limit["positionId"]) == ("limit", "1.2", held["id"])
    path = f"/trade/positions/{held['id']}"
    await client("PATCH", path, {"stopLoss": 1.01, "takeProfit": None})
    [left] = await client.rows("orders")
    assert (left["id"], left["stopPrice"]) == (held["stopLossId"], "1.01")
    await client("DELETE", path, {"qty": "0.04"})
    assert [row["qty"] for row in await client.rows("orders")] == ["0.06"]
    await client("DELETE", path)
    assert await client.rows("orders") == []


async def test_a_stop_loss_that_is_triggered_takes_the_take_profit_with_it(
    client: Client, eventually: Any
) -> None:
    await client.order()
    [held] = await client.rows("positions")
    await client("PATCH", f"/trade/positions/{held['id']}", {"stopLoss": 1.08, "takeProfit": 1.1})
    client.move("1.07900", "1.07920")
    assert await client.rows("positions") == []
    await eventually(lambda: not client.venue.exchange.ledger.open["main"])
    ended = {row["type"]: row["status"] for row in await client.rows("ordersHistory")}
    assert ended == {"stop": "Filled", "limit": "Cancelled", "market": "Filled"}


async def test_a_bracket_the_market_is_beyond_is_refused(client: Client) -> None:
    await client.order()
    [held] = await client.rows("positions")
    told = await client("PATCH", f"/trade/positions/{held['id']}", {"stopLoss": 1.2})
    assert told["errmsg"].startswith("Invalid stop price")


async def test_what_was_is_told_again_after_a_restart(
    http: aiohttp.ClientSession, tmp_path: Any
) -> None:
    lists: list[Any] = []
    for again in (False, True):
        async for client in _client(http, limit_scale=0, log=tmp_path / "venue.jsonl"):
            if not again:
                await client.order(strategyId="mine", stopLoss=1.0, stopLossType="absolute")
                await client.limit()
            names = ("orders", "ordersHistory", "positions", "executions")
            told = [await client.rows(name) for name in names]
            for row in told[2]:
                del row["unrealizedPl"]  # the market of the first run went with it
            lists.append(told)
    assert lists[0] == lists[1]
    assert all(lists[0])


async def test_a_user_who_may_not_trade_can_close(http: aiohttp.ClientSession) -> None:
    cancels = testing.Credentials("main", "closer@example.com", "pass-word", may_trade=False)
    both = (*testing.settings(face="tradelocker").credentials, cancels)
    async for client in _client(http, limit_scale=0, credentials=both):
        await client.order()
        resting = await client.limit()
        [held] = await client.rows("positions")
        await client.log_in("closer@example.com", "pass-word")
        refused = "Trading is not allowed on this account"
        assert (await client.order())["errmsg"] == refused
        path = f"/trade/orders/{resting['d']['orderId']}"
        assert (await client("PATCH", path, {"qty": 1}))["errmsg"] == refused
        assert await client("DELETE", path) == {"s": "ok"}
        assert await client("DELETE", f"/trade/positions/{held['id']}") == {"s": "ok"}


# Faults.


async def test_every_trouble_has_its_status(client: Client) -> None:
    face = client.venue.face
    told = {trouble: face.trouble(trouble, 503).status for trouble in Trouble}
    assert told == {
        Trouble.UNAVAILABLE: 503,
        Trouble.THROTTLED: 429,
        Trouble.CANCEL_REFUSED: 200,
        Trouble.BAD_NONCE: 401,
        Trouble.KEY_REVOKED: 401,
    }
    base = f"/backend-api/trade/accounts/{ID}"
    assert face.kind_of("POST", f"{base}/orders") is RequestKind.SUBMIT
    assert face.kind_of("DELETE", f"{base}/orders") is RequestKind.MASS_CANCEL
    assert face.kind_of("GET", f"{base}/executions") is RequestKind.FILLS
    assert face.stream_counts() == (0, 0)
    assert await face.disconnect() == 0
