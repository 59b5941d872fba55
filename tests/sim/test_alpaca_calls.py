"""What the Alpaca face answers to calls that no well-behaved client makes, and its odds and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from datetime import time as clock_time
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from openbell_sim import testing
from openbell_sim.clock import VenueClock
from openbell_sim.keys import Credentials
from openbell_sim.server import Settings, Venue
from openbell_sim.session_calendar import SessionCalendar, Weekday, Window
from openbell_sim.sessions import MarketState
from openbell_sim.testing import StillMarket

KEYS = {"APCA-API-KEY-ID": testing.KEY, "APCA-API-SECRET-KEY": testing.SECRET}
LIMIT = {"symbol": "AAPL", "side": "buy", "type": "limit", "time_in_force": "gtc", "qty": "1"}
ORDER = {**LIMIT, "limit_price": "150"}
MARKET = {"symbol": "AAPL", "side": "buy", "type": "market", "time_in_force": "day", "qty": "1"}


def settings(**changes: Any) -> Settings:
    still = StillMarket("alpaca", AAPL=("199.99", "200.01", "50"), MSFT=("400", "400.02", "50"))
    return testing.settings([still], face="alpaca", **changes)


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    async with testing.running_venue(settings(limit_scale=0)) as running:
        yield running


class Api:
    """Raw calls."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def __call__(
        self, method: str, path: str, body: object = None, *, headers: Any = KEYS, **query: str
    ) -> tuple[int, Any]:
        async with self._session.request(
            method, self.url + path, json=body, params=query, headers=headers
        ) as reply:
            text = await reply.text()
            self.headers = reply.headers
            return reply.status, msgspec.json.decode(text) if text else None

    async def order(self, **changes: object) -> tuple[int, Any]:
        return await self("POST", "/v2/orders", {**ORDER, **changes})

    async def placed(self, **changes: object) -> Any:
        status, body = await self.order(**changes)
        assert status == 200, body
        return body


@pytest.fixture
def api(venue: Venue, http: aiohttp.ClientSession) -> Api:
    return Api(http, venue.url)


# Who calls, and how often


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"APCA-API-KEY-ID": testing.KEY},
        {**KEYS, "APCA-API-SECRET-KEY": "wrong"},
        {**KEYS, "APCA-API-KEY-ID": "nobody"},
    ],
)
async def test_a_call_without_a_known_pair_is_not_authorized(api: Api, headers: Any) -> None:
    assert await api("GET", "/v2/account", headers=headers) == (
        401,
        {"code": 40110000, "message": "request is not authorized"},
    )


async def test_a_minute_has_two_hundred_requests_of_each_api(http: aiohttp.ClientSession) -> None:
    async with testing.running_venue(settings(limit_scale=0.02)) as venue:
        api = Api(http, venue.url)
        statuses = [(await api("GET", "/v2/clock"))[0] for _ in range(5)]
        # Four of them are in one minute, or two minutes have had a part each.
        while statuses[-1] == 200:
            statuses.append((await api("GET", "/v2/clock"))[0])
        assert statuses.count(429) == 1
        assert api.headers["X-RateLimit-Limit"] == "4"
        assert api.headers["X-RateLimit-Remaining"] == "0"
        assert int(api.headers["X-RateLimit-Reset"]) % 60 == 0
        quotes = await api("GET", "/v2/stocks/quotes/latest", symbols="AAPL")
        assert quotes[0] == 200


async def test_a_key_that_may_not_trade_may_cancel_and_close(http: aiohttp.ClientSession) -> None:
    given = settings(limit_scale=0)
    closing = Credentials("main", "key-that-closes", "its-secret", may_trade=False)
    full = given.credentials
    async with testing.running_venue(
        settings(limit_scale=0, credentials=(*full, closing))
    ) as venue:
        api = Api(http, venue.url)
        await api("POST", "/v2/orders", MARKET)
        resting = await api.placed()
        api_of_closing = {"APCA-API-KEY-ID": closing.key, "APCA-API-SECRET-KEY": closing.secret}

        async def call(method: str, path: str, body: object = None) -> int:
            return (await api(method, path, body, headers=api_of_closing))[0]

        assert await call("POST", "/v2/orders", ORDER) == 403
        assert await call("PATCH", f"/v2/orders/{resting['id']}", {"qty": "3"}) == 403
        assert await call("DELETE", f"/v2/orders/{resting['id']}") == 204
        assert await call("POST", "/v2/orders", {**MARKET, "side": "sell"}) == 200
        _, account = await api("GET", "/v2/account", headers=api_of_closing)
        assert account["trading_blocked"] is True


# Orders


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"symbol": None}, 422, 40010001),
        ({"side": "hold"}, 422, 40010001),
        ({"type": "magic"}, 422, 40010001),
        ({"type": "trailing_stop"}, 422, 42210000),
        ({"time_in_force": "week"}, 422, 40010001),
        ({"time_in_force": "cls"}, 422, 42210000),
        ({"limit_price": None}, 422, 42210000),
        ({"stop_price": "1"}, 422, 42210000),
        ({"qty": "-1"}, 422, 42210000),
        ({"qty": "0.1234567891", "time_in_force": "day"}, 422, 42210000),
        ({"qty": None}, 422, 40010001),
        ({"notional": "100"}, 422, 40010001),
        ({"qty": "much"}, 422, 40010001),
        ({"order_class": "bracket"}, 422, 42210000),
        ({"take_profit": {"limit_price": "1"}}, 422, 42210000),
        ({"client_order_id": "x" * 129}, 422, 40010001),
        ({"position_intent": "sideways"}, 422, 40010001),
        ({"extended_hours": True, "time_in_force": "ioc"}, 422, 42210000),
    ],
)
async def test_what_is_no_order_is_refused_and_recorded(
    venue: Venue, api: Api, changes: dict[str, Any], status: int, code: int
) -> None:
    got, body = await api.order(**changes)
    assert (got, body["code"]) == (status, code), body
    assert not venue.exchange.ledger.orders
    assert len(venue.exchange.ledger.refused) == 1


async def test_a_body_that_is_no_json_is_refused(venue: Venue, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{venue.url}/v2/orders", data=b"qty=1", headers=KEYS) as reply:
        assert reply.status == 422
        assert (await reply.json())["code"] == 40010001


async def test_numbers_are_taken_as_text_and_as_numbers(api: Api) -> None:
    as_number = await api.placed(qty=2, limit_price=150.25)
    assert (as_number["qty"], as_number["limit_price"]) == ("2", "150.25")


async def test_a_name_is_taken_once_and_for_ever(api: Api) -> None:
    first = await api.placed(client_order_id="one")
    await api("DELETE", f"/v2/orders/{first['id']}")
    assert await api.order(client_order_id="one", symbol="MSFT") == (
        422,
        {"code": 40010001, "message": "client_order_id must be unique"},
    )
    # An order that was refused has used no name up.
    assert (await api.order(client_order_id="two", limit_price="0.001"))[0] == 422
    assert (await api.order(client_order_id="two"))[0] == 200


async def test_orders_are_listed_in_pages_by_time(api: Api) -> None:
    placed = [(await api.placed(limit_price=str(150 + n))) for n in range(5)]

    async def prices(**query: str) -> list[str]:
        _, rows = await api("GET", "/v2/orders", **query)
        return [row["limit_price"] for row in rows]

    assert await prices() == ["154", "153", "152", "151", "150"]
    assert await prices(limit="2", direction="asc") == ["150", "151"]
    after = placed[1]["submitted_at"]
    assert await prices(after=after, limit="2", direction="asc") == ["152", "153"]
    assert await prices(until=after) == ["150"]
    assert await prices(side="sell") == []
    assert await prices(status="closed") == []
    assert await prices(symbols="MSFT,AAPL") == await prices()
    for wrong in ({"status": "odd"}, {"limit": "0"}, {"after": "yesterday"}):
        assert (await api("GET", "/v2/orders", **wrong))[0] == 422


async def test_another_accounts_order_is_not_found(api: Api) -> None:
    order = await api.placed(client_order_id="mine")
    theirs = {
        "APCA-API-KEY-ID": testing.COUNTERPARTY_KEY,
        "APCA-API-SECRET-KEY": testing.COUNTERPARTY_SECRET,
    }
    for method, path in (
        ("GET", f"/v2/orders/{order['id']}"),
        ("DELETE", f"/v2/orders/{order['id']}"),
        ("GET", "/v2/orders:by_client_order_id?client_order_id=mine"),
    ):
        status, body = await api(method, path, headers=theirs)
        assert (status, body["code"]) == (404, 40410000)
    assert (await api("GET", "/v2/orders/no-uuid"))[0] == 422


async def test_a_replacement_that_is_refused_leaves_the_order(api: Api) -> None:
    order = await api.placed()
    for wrong in ({"qty": "900000"}, {"limit_price": "1.001"}, {"trail": "1"}, {"qty": "0"}):
        assert (await api("PATCH", f"/v2/orders/{order['id']}", wrong))[0] in (403, 422)
    _, rows = await api("GET", "/v2/orders")
    assert [(row["id"], row["status"]) for row in rows] == [(order["id"], "new")]


async def test_a_restart_keeps_what_alpaca_alone_knows(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    given = settings(limit_scale=0, log=tmp_path / "venue.jsonl")
    async with testing.running_venue(given) as venue:
        api = Api(http, venue.url)
        old = await api.placed(time_in_force="day", extended_hours=True)
        _, new = await api("PATCH", f"/v2/orders/{old['id']}", {"limit_price": "140"})
    async with testing.running_venue(given) as venue:
        api = Api(http, venue.url)
        _, gone = await api("GET", f"/v2/orders/{old['id']}")
        assert (gone["status"], gone["replaced_by"]) == ("replaced", new["id"])
        _, kept = await api("GET", f"/v2/orders/{new['id']}")
        assert (kept["replaces"], kept["time_in_force"], kept["extended_hours"]) == (
            old["id"],
            "day",
            True,
        )


# Positions


async def test_an_order_that_says_it_closes_never_opens(api: Api) -> None:
    closing = {**MARKET, "side": "sell", "position_intent": "sell_to_close"}
    assert await api("POST", "/v2/orders", closing) == (
        422,
        {
            "code": 42210000,
            "message": "position intent mismatch, inferred: sell_to_open, specified: sell_to_close",
        },
    )
    await api("POST", "/v2/orders", {**MARKET, "qty": "3"})
    resting = await api.placed(side="sell", qty="2", limit_price="250")
    status, body = await api("POST", "/v2/orders", {**closing, "qty": "2"})
    assert (status, body["held_for_orders"], body["available"]) == (403, "2", "1")
    await api("DELETE", f"/v2/orders/{resting['id']}")
    assert (await api("POST", "/v2/orders", {**closing, "qty": "3"}))[0] == 200
    assert (await api("GET", "/v2/positions"))[1] == []


async def test_shares_that_orders_hold_cannot_be_closed(api: Api) -> None:
    await api("POST", "/v2/orders", {**MARKET, "qty": "3"})
    await api.placed(side="sell", qty="3", limit_price="250")
    _, position = await api("GET", "/v2/positions/AAPL")
    assert (position["qty"], position["qty_available"]) == ("3", "0")
    assert (await api("DELETE", "/v2/positions/AAPL"))[0] == 403
    _, rows = await api("DELETE", "/v2/positions")
    assert [(row["symbol"], row["status"]) for row in rows] == [("AAPL", 403)]
    _, rows = await api("DELETE", "/v2/positions", cancel_orders="true")
    assert [row["status"] for row in rows] == [200]
    assert (await api("GET", "/v2/positions"))[1] == []


async def test_a_part_of_a_position_is_closed(api: Api) -> None:
    await api("POST", "/v2/orders", {**MARKET, "qty": "4"})
    assert (await api("DELETE", "/v2/positions/AAPL", qty="1"))[0] == 200
    assert (await api("DELETE", "/v2/positions/AAPL", percentage="50"))[0] == 200
    assert (await api("GET", "/v2/positions/AAPL"))[1]["qty"] == "1.5"
    for wrong in ({"qty": "1", "percentage": "1"}, {"qty": "few"}, {"qty": "0"}):
        assert (await api("DELETE", "/v2/positions/AAPL", **wrong))[0] == 422
    assert (await api("DELETE", "/v2/positions/AAPL", qty="2"))[0] == 403


async def test_money_is_cash_and_shares_at_their_price(api: Api) -> None:
    await api("POST", "/v2/orders", {**MARKET, "qty": "10"})
    _, account = await api("GET", "/v2/account")
    told = {name: Decimal(account[name]) for name in ("cash", "equity", "long_market_value")}
    assert told["cash"] == 100_000 - 10 * Decimal("200.01")
    assert told["equity"] == told["cash"] + told["long_market_value"]
    assert Decimal(account["buying_power"]) == 2 * (told["equity"] - told["long_market_value"] / 2)


async def test_fills_are_paged_by_the_id_of_the_last(api: Api) -> None:
    for _ in range(5):
        await api("POST", "/v2/orders", MARKET)

    async def page(**query: str) -> list[Any]:
        status, rows = await api("GET", "/v2/account/activities/FILL", **query)
        assert status == 200, rows
        return list(rows)

    everything = await page(direction="asc")
    assert len(everything) == 5
    assert [row["id"] for row in await page()] == [row["id"] for row in everything[::-1]]
    found: list[Any] = []
    while rows := await page(
        direction="asc",
        page_size="2",
        **({"page_token": found[-1]["id"]} if found else {}),
    ):
        found += rows
    assert found == everything
    assert await page(direction="asc", after=everything[2]["transaction_time"]) == everything[3:]
    _, others = await api("GET", "/v2/account/activities", activity_types="DIV,FEE")
    assert others == []
    for wrong in ({"page_token": "1"}, {"page_size": "101"}, {"until": "x"}):
        assert (await api("GET", "/v2/account/activities", **wrong))[0] == 422
    assert (await api("GET", "/v2/account/activities/nonsense"))[0] == 422


# The session


async def test_clock_and_calendar_tell_the_hours_that_the_venue_was_given(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half day, a holiday and a weekend, by a clock of ours."""
    days = tuple(Weekday)[:5]
    calendar = SessionCalendar(
        timezone="UTC",
        holidays=(date(2026, 12, 25),),
        windows=(
            Window(days=days[:3], start=clock_time(14, 30), end=clock_time(21)),
            Window(days=days[3:], start=clock_time(14, 30), end=clock_time(18)),
        ),
    )
    at = datetime(2026, 12, 24, 15, tzinfo=UTC)
    monkeypatch.setattr(VenueClock, "true_ns", lambda _: int(at.timestamp()) * 10**9)
    async with testing.running_venue(settings(limit_scale=0, calendar=calendar)) as venue:
        api = Api(http, venue.url)
        _, told = await api("GET", "/v2/clock")
        assert told["timestamp"].startswith("2026-12-24T")
        assert (told["is_open"], told["next_close"], told["next_open"]) == (
            True,
            "2026-12-24T13:00:00-05:00",
            "2026-12-28T09:30:00-05:00",
        )
        venue.exchange.set_session(None, MarketState.HALTED)
        assert (await api("GET", "/v2/clock"))[1]["is_open"] is False
        _, rows = await api("GET", "/v2/calendar", start="2026-12-23", end="2026-12-28")
        assert [(row["date"], row["open"], row["close"]) for row in rows] == [
            ("2026-12-23", "09:30", "16:00"),
            ("2026-12-24", "09:30", "13:00"),
            ("2026-12-28", "09:30", "16:00"),
        ]
        assert rows[1]["session_close"] == "1300"
        assert (await api("GET", "/v2/calendar", start="x"))[0] == 422


async def test_without_a_calendar_the_regular_hours_are_told_of_a_market_that_never_closes(
    api: Api,
) -> None:
    _, told = await api("GET", "/v2/clock")
    assert told["is_open"] is True
    assert [told[name][11:16] for name in ("next_open", "next_close")] == ["09:30", "16:00"]
    _, rows = await api("GET", "/v2/calendar", start="2026-12-21", end="2026-12-28")
    assert [row["date"][-2:] for row in rows] == ["21", "22", "23", "24", "25", "28"]
    assert {(row["open"], row["close"]) for row in rows} == {("09:30", "16:00")}


async def test_a_market_that_never_closes_tells_times_that_a_client_can_read(
    http: aiohttp.ClientSession,
) -> None:
    always = SessionCalendar(otherwise=MarketState.OPEN)
    async with testing.running_venue(settings(limit_scale=0, calendar=always)) as venue:
        api = Api(http, venue.url)
        _, told = await api("GET", "/v2/clock")
        assert datetime.fromisoformat(told["next_close"]).astimezone(UTC).year == 9999
        _, rows = await api("GET", "/v2/calendar", start="2026-12-26", end="2026-12-26")
        assert [(row["open"], row["close"]) for row in rows] == [("00:00", "23:59")]


async def test_the_end_of_the_session_ends_day_orders(venue: Venue, api: Api) -> None:
    day = await api.placed(time_in_force="day")
    good = await api.placed(time_in_force="gtc")
    venue.exchange.set_session(None, MarketState.CLOSED)
    assert (await api("GET", f"/v2/orders/{day['id']}"))[1]["status"] == "expired"
    assert (await api("GET", f"/v2/orders/{good['id']}"))[1]["status"] == "new"
    assert (await api("GET", "/v2/clock"))[1]["is_open"] is False
    status, body = await api.order()
    assert (status, body["code"]) == (422, 42210000)
    assert "queues no orders" in body["message"]
    assert (await api("DELETE", f"/v2/orders/{good['id']}"))[0] == 204
    venue.exchange.set_session(None, MarketState.OPEN)
    assert (await api.order())[0] == 200


async def test_a_stop_waits_for_its_price(api: Api) -> None:
    stop = await api.placed(type="stop", limit_price=None, stop_price="210")
    assert (stop["type"], stop["stop_price"], stop["limit_price"]) == ("stop", "210", None)
    assert (await api("GET", f"/v2/orders/{stop['id']}"))[1]["status"] == "new"
    assert (await api("PATCH", f"/v2/orders/{stop['id']}", {"stop_price": "220"}))[0] == 200
    _, (row,) = await api("GET", "/v2/orders")
    assert row["stop_price"] == "220"


# Streams


async def _next(socket: aiohttp.ClientWebSocketResponse) -> Any:
    async with asyncio.timeout(60):
        message = await socket.receive()
    assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
    return message


async def test_trade_updates_are_told_who_asks_with_the_right_pair(
    venue: Venue, api: Api, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect(f"{venue.url}/stream") as socket:

        async def say(action: str, **data: object) -> Any:
            await socket.send_json({"action": action, "data": data})
            message = await _next(socket)
            assert message.type is aiohttp.WSMsgType.BINARY
            return msgspec.json.decode(message.data)

        listen = {"streams": ["trade_updates", "account_updates"]}
        assert (await say("listen", **listen))["data"]["status"] == "unauthorized"
        wrong = await say("authenticate", key_id=testing.KEY, secret_key="no")
        assert wrong["data"]["status"] == "unauthorized"
        right = await say("authenticate", key_id=testing.KEY, secret_key=testing.SECRET)
        assert right["data"]["status"] == "authorized"
        assert (await say("listen", **listen))["data"]["streams"] == ["trade_updates"]
        order = await api.placed()
        _, new = await api("PATCH", f"/v2/orders/{order['id']}", {"limit_price": "151"})
        told = [msgspec.json.decode((await _next(socket)).data)["data"] for _ in range(3)]
        assert [(each["event"], each["order"]["id"]) for each in told] == [
            ("new", order["id"]),
            ("replaced", order["id"]),
            ("new", new["id"]),
        ]


async def test_market_data_is_told_in_json_and_in_messagepack(
    venue: Venue, api: Api, http: aiohttp.ClientSession
) -> None:
    packed = {"Content-Type": "application/msgpack"}
    async with (
        http.ws_connect(f"{venue.url}/v2/iex", headers=KEYS) as text,
        http.ws_connect(f"{venue.url}/v2/sip", headers=packed) as binary,
    ):
        told = [(await _next(text)).json() for _ in range(2)]
        assert [each[0]["msg"] for each in told] == ["connected", "authenticated"]
        assert msgspec.msgpack.decode((await _next(binary)).data)[0]["msg"] == "connected"

        async def say(message: object) -> Any:
            await binary.send_bytes(msgspec.msgpack.encode(message))
            return msgspec.msgpack.decode((await _next(binary)).data)[0]

        assert (await say({"action": "subscribe", "quotes": ["AAPL"]}))["code"] == 401
        assert (await say({"action": "auth", "key": "x", "secret": "y"}))["code"] == 402
        right = {"action": "auth", "key": testing.KEY, "secret": testing.SECRET}
        assert (await say(right))["msg"] == "authenticated"
        assert (await say(right))["code"] == 403
        assert (await say({"action": "dance"}))["code"] == 410
        subscribed = await say({"action": "subscribe", "trades": ["*"]})
        assert subscribed == {"T": "subscription", "trades": ["*"], "quotes": [], "bars": []}
        await text.send_json({"action": "subscribe", "quotes": ["AAPL"], "trades": ["AAPL"]})
        assert (await _next(text)).json()[0]["T"] == "subscription"

        await api("POST", "/v2/orders", {**MARKET, "qty": "50"})
        quote, trade = [(await _next(text)).data for _ in range(2)]
        assert '"bp":199.99,"bs":50' in quote
        assert '"p":200.01,"s":50' in trade
        unpacked = msgspec.msgpack.decode((await _next(binary)).data)[0]
        assert (unpacked["T"], unpacked["p"]) == ("t", 200.01)
        assert unpacked["t"].year >= 2024


async def test_an_account_has_one_connection_to_a_feed(http: aiohttp.ClientSession) -> None:
    async with testing.running_venue(settings()) as venue:
        async with http.ws_connect(f"{venue.url}/v2/iex", headers=KEYS) as first:
            assert (await _next(first)).json()[0]["msg"] == "connected"
            assert (await _next(first)).json()[0]["msg"] == "authenticated"
            async with http.ws_connect(f"{venue.url}/v2/iex", headers=KEYS) as second:
                await _next(second)
                assert (await _next(second)).json()[0]["code"] == 406
            async with http.ws_connect(f"{venue.url}/v2/sip", headers=KEYS) as other:
                await _next(other)
                assert (await _next(other)).json()[0]["msg"] == "authenticated"


async def test_data_of_a_symbol_in_the_address_and_of_unknown_ones(api: Api) -> None:
    _, single = await api("GET", "/v2/stocks/AAPL/quotes/latest")
    assert (single["symbol"], single["quote"]["bp"]) == ("AAPL", 199.99)
    _, several = await api("GET", "/v2/stocks/quotes/latest", symbols="AAPL,NOPE")
    assert list(several["quotes"]) == ["AAPL"]
    assert (await api("GET", "/v2/stocks/trades/latest", symbols="AAPL"))[1] == {"trades": {}}
    assert (await api("GET", "/v2/stocks/AAPL/trades/latest"))[0] == 404
    for path, wrong in (
        ("/v2/stocks/quotes/latest", {}),
        ("/v2/stocks/bars", {"symbols": "AAPL", "timeframe": "3Years"}),
        ("/v2/stocks/trades", {"symbols": "AAPL", "start": "x"}),
    ):
        assert (await api("GET", path, **wrong))[0] == 400
