"""Coinbase's REST API and WebSocket without a client: signatures, failures, pages, limits, numbers
of messages."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp
import ccxt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from openbell_sim import testing
from openbell_sim.keys import Credentials
from openbell_sim.server import Venue
from openbell_sim.sessions import MarketState

API = "/api/v3/brokerage"
ORDERS = f"{API}/orders"
KEY_NAME = "organizations/5c3f/apiKeys/91ab"
READER = ("sim-key-of-the-reader", "sim-secret-of-the-reader")
WITHIN_S = 60


def pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


PEM = pem()


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    still = testing.StillMarket(
        "coinbase",
        **{"BTC-USD": ("60000", "60001", "1"), "ETH-USD": ("2500", "2500.5", "10")},
    )
    settings = testing.settings([still], face="coinbase", limit_scale=0)
    more = (
        Credentials("main", KEY_NAME, PEM),
        Credentials("main", *READER, may_trade=False),
    )
    changed = testing.settings(
        [still], face="coinbase", limit_scale=0, credentials=(*settings.credentials, *more)
    )
    async with testing.running_venue(changed) as running:
        yield running


def hmac_headers(
    method: str, path: str, body: str = "", *, pair: tuple[str, str] | None = None, skew_s: int = 0
) -> dict[str, str]:
    key, secret = pair or (testing.KEY, testing.SECRET)
    timestamp = str(int(time.time()) + skew_s)
    text = timestamp + method + path + body
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return {
        "CB-ACCESS-KEY": key, "CB-ACCESS-TIMESTAMP": timestamp, "CB-ACCESS-SIGN": signature,
    }  # fmt: skip


def jwt(*, secret: str = PEM, kid: str = KEY_NAME, **changes: Any) -> str:
    now = int(time.time())
    claims = {
        "sub": KEY_NAME, "iss": "cdp", "nbf": now, "exp": now + 120,
        "uri": f"GET api.coinbase.com{API}/accounts",
    }  # fmt: skip
    made = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    token = ccxt.Exchange.jwt(
        made, secret.encode(), "sha256", False, {"kid": kid, "nonce": "1", "alg": "ES256"}
    )
    return str(token)


@dataclass
class Client:
    venue: Venue
    http: aiohttp.ClientSession
    pair: tuple[str, str] | None = None

    async def get(self, path: str, **query: Any) -> tuple[int, Any]:
        pairs = [
            (name, each)
            for name, value in query.items()
            for each in (value if isinstance(value, list) else [value])
        ]
        headers = hmac_headers("GET", path, pair=self.pair)
        async with self.http.get(self.venue.url + path, params=pairs, headers=headers) as reply:
            return reply.status, _read(await reply.read())

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        text = orjson.dumps(body).decode()
        headers = hmac_headers("POST", path, text, pair=self.pair)
        async with self.http.post(self.venue.url + path, data=text, headers=headers) as reply:
            return reply.status, _read(await reply.read())

    async def place(self, client_order_id: str, **changes: Any) -> Any:
        """A limit order far below the market, unless told otherwise; the answer's body."""
        limit = {"base_size": "0.01", "limit_price": "50000", "post_only": False}
        body: dict[str, Any] = {
            "client_order_id": client_order_id, "product_id": "BTC-USD", "side": "BUY",
            "order_configuration": {"limit_limit_gtc": limit},
        }  # fmt: skip
        status, answer = await self.post(ORDERS, {**body, **changes})
        assert status == 200, answer
        return answer


def _read(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode()


@pytest.fixture
def client(venue: Venue, http: aiohttp.ClientSession) -> Client:
    return Client(venue, http)


def configured(kind: str, **terms: Any) -> dict[str, Any]:
    return {"order_configuration": {kind: terms}}


# Who calls


@pytest.mark.parametrize(
    "headers",
    [
        dict,
        lambda: {"CB-ACCESS-KEY": testing.KEY},
        lambda: hmac_headers("GET", f"{API}/accounts", pair=("nobody", "nothing")),
        lambda: hmac_headers("GET", f"{API}/accounts", pair=(testing.KEY, "another secret")),
        lambda: hmac_headers("GET", f"{API}/orders/historical/batch"),
        lambda: hmac_headers("GET", f"{API}/accounts", skew_s=-120),
        lambda: {"Authorization": "Bearer nonsense"},
        lambda: {"Authorization": f"Bearer {jwt(secret=pem())}"},
        lambda: {"Authorization": f"Bearer {jwt(uri='GET api.coinbase.com/api/v3/brokerage/orders')}"},
        lambda: {"Authorization": f"Bearer {jwt(uri=None)}"},
        lambda: {"Authorization": f"Bearer {jwt(iss='somebody')}"},
        lambda: {"Authorization": f"Bearer {jwt(sub='another key')}"},
        lambda: {"Authorization": f"Bearer {jwt(exp=int(time.time()) - 1)}"},
        lambda: {"Authorization": f"Bearer {jwt(exp=int(time.time()) + 3600)}"},
        lambda: {"Authorization": f"Bearer {jwt(nbf=int(time.time()) + 60)}"},
        lambda: {"Authorization": f"Bearer {jwt(kid='another key')}"},
    ],
    ids=[
        "nothing", "no signature", "unknown key", "wrong secret", "another path", "old time stamp",
        "no token", "another private key", "another address", "no address", "issuer", "subject",
        "expired", "too long a life", "not yet valid", "unknown key name",
    ],
)  # fmt: skip
async def test_who_does_not_prove_to_be_known_is_unauthorized(
    venue: Venue, http: aiohttp.ClientSession, headers: Callable[[], dict[str, str]]
) -> None:
    """The headers are made now, since they age."""
    async with http.get(f"{venue.url}{API}/accounts", headers=headers()) as reply:
        assert (reply.status, await reply.text()) == (401, "Unauthorized")


async def test_a_token_of_a_cdp_key_opens_the_account(
    venue: Venue, http: aiohttp.ClientSession
) -> None:
    headers = {"Authorization": f"Bearer {jwt()}"}
    async with http.get(f"{venue.url}{API}/accounts", headers=headers) as reply:
        assert reply.status == 200
        assert {each["currency"] for each in (await reply.json())["accounts"]} >= {"USD", "BTC"}


async def test_a_key_that_may_not_trade_reads_and_cancels_and_sends_nothing(
    client: Client, venue: Venue, http: aiohttp.ClientSession
) -> None:
    order_id = (await client.place("one"))["success_response"]["order_id"]
    reader = Client(venue, http, READER)
    assert (await reader.get(f"{API}/key_permissions"))[1]["can_trade"] is False
    status, refused = await reader.post(ORDERS, {"client_order_id": "two"})
    assert (status, refused["error"]) == (403, "PERMISSION_DENIED")
    edit = {"order_id": order_id, "price": "51000", "size": "0.02"}
    status, refused = await reader.post(f"{ORDERS}/edit", edit)
    assert (status, refused["error"]) == (403, "PERMISSION_DENIED")
    status, cancelled = await reader.post(f"{ORDERS}/batch_cancel", {"order_ids": [order_id]})
    assert (status, cancelled["results"][0]["success"]) == (200, True)


# Orders


@pytest.mark.parametrize(
    ("terms", "status", "filled"),
    [
        (configured("limit_limit_gtc", base_size="0.01", limit_price="50000"), "OPEN", "0"),
        (configured("limit_limit_gtc", base_size="0.01", limit_price="60001"), "FILLED", "0.01"),
        (configured("sor_limit_ioc", base_size="2", limit_price="60001"), "CANCELLED", "1"),
        (configured("limit_limit_fok", base_size="2", limit_price="60001"), "CANCELLED", "0"),
        (configured("market_market_ioc", base_size="0.5"), "FILLED", "0.5"),
        (configured("market_market_ioc", quote_size="30000.5"), "FILLED", "0.5"),
        (
            configured(
                "stop_limit_stop_limit_gtc", base_size="0.01", limit_price="61100",
                stop_price="61000", stop_direction="STOP_DIRECTION_STOP_UP",
            ),
            "OPEN",
            "0",
        ),
    ],
    ids=["rests", "takes", "IOC", "FOK", "market", "market by cost", "stop limit"],
)  # fmt: skip
async def test_each_configuration_does_what_it_says(
    client: Client, terms: dict[str, Any], status: str, filled: str
) -> None:
    placed = await client.place("one", **terms)
    assert placed["success"] is True
    code, found = await client.get(f"{ORDERS}/historical/{placed['success_response']['order_id']}")
    order = found["order"]
    assert (code, order["client_order_id"]) == (200, "one")
    assert (order["status"], order["filled_size"]) == (status, filled)
    (kind,) = terms["order_configuration"]
    assert list(order["order_configuration"]) == [kind]


@pytest.mark.parametrize(
    ("changes", "reason", "preview"),
    [
        ({"side": "UP"}, "INVALID_SIDE", "PREVIEW_INVALID_SIDE"),
        ({"product_id": "BTC-XYZ"}, "INVALID_PRODUCT_ID", "PREVIEW_INVALID_PRODUCT_ID"),
        (
            configured("limit_limit_gtc", base_size="0.01", limit_price="50000.001"),
            "INVALID_PRICE_PRECISION",
            "PREVIEW_INVALID_PRICE_PRECISION",
        ),
        (
            configured("limit_limit_gtc", base_size="0.010000001", limit_price="50000"),
            "INVALID_SIZE_PRECISION",
            "PREVIEW_INVALID_SIZE_PRECISION",
        ),
        (
            configured("limit_limit_gtc", base_size="500", limit_price="50000"),
            "INSUFFICIENT_FUND",
            "PREVIEW_INSUFFICIENT_FUND",
        ),
        (
            configured("limit_limit_gtc", base_size="1", limit_price="60001", post_only=True),
            "INVALID_LIMIT_PRICE_POST_ONLY",
            "PREVIEW_INVALID_LIMIT_PRICE_POST_ONLY",
        ),
        (
            configured("limit_limit_gtc", base_size="0.00001", limit_price="50000"),
            "UNKNOWN_FAILURE_REASON",
            "PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL",
        ),
        (
            configured("limit_limit_gtc", base_size="much", limit_price="50000"),
            "INVALID_REQUEST",
            "PREVIEW_INVALID_ORDER_CONFIG",
        ),
        (
            configured("twap_limit_gtd", base_size="1", limit_price="50000"),
            "UNSUPPORTED_ORDER_CONFIGURATION",
            "PREVIEW_INVALID_ORDER_CONFIG",
        ),
    ],
)
async def test_an_order_that_fails_is_answered_with_200_and_a_reason(
    client: Client, venue: Venue, changes: dict[str, Any], reason: str, preview: str
) -> None:
    answer = await client.place("one", **changes)
    assert answer["success"] is False
    failure = answer["error_response"]
    assert (failure["error"], failure["preview_failure_reason"]) == (reason, preview)
    assert [each.cl_ord_id for each in venue.exchange.ledger.refused] == ["one"]
    _, checked = await client.post(
        f"{ORDERS}/preview",
        {
            "product_id": changes.get("product_id", "BTC-USD"),
            "side": changes.get("side", "BUY"),
            "order_configuration": changes.get(
                "order_configuration",
                {"limit_limit_gtc": {"base_size": "0.01", "limit_price": "50000"}},
            ),
        },
    )
    assert checked["errs"] == [preview]


async def test_an_order_of_a_known_client_order_id_is_answered_with_the_first_one(
    client: Client, venue: Venue
) -> None:
    first = await client.place("one")
    other = configured("market_market_ioc", base_size="0.1")
    assert (await client.place("one", **other))["success_response"] == first["success_response"]
    assert len(venue.exchange.ledger.orders) == 1
    order_id = first["success_response"]["order_id"]
    await client.post(f"{ORDERS}/batch_cancel", {"order_ids": [order_id]})
    assert (await client.place("one"))["success_response"]["order_id"] == order_id


async def test_a_batch_cancel_answers_for_each_order(client: Client) -> None:
    ids = [(await client.place(f"c{n}"))["success_response"]["order_id"] for n in range(3)]
    unknown = "00000000-0000-0000-0000-000000000001"
    wanted = [ids[0], unknown, ids[1], "no identifier"]
    _, answer = await client.post(f"{ORDERS}/batch_cancel", {"order_ids": wanted})
    results = [(r["order_id"], r["success"], r["failure_reason"]) for r in answer["results"]]
    assert results == [
        (ids[0], True, "UNKNOWN_CANCEL_FAILURE_REASON"),
        (unknown, False, "UNKNOWN_CANCEL_ORDER"),
        (ids[1], True, "UNKNOWN_CANCEL_FAILURE_REASON"),
        ("no identifier", False, "UNKNOWN_CANCEL_ORDER"),
    ]
    _, left = await client.get(f"{ORDERS}/historical/batch", order_status="OPEN")
    assert [each["order_id"] for each in left["orders"]] == [ids[2]]


async def test_anothers_order_is_neither_seen_nor_cancelled(
    client: Client, venue: Venue, http: aiohttp.ClientSession
) -> None:
    order_id = (await client.place("one"))["success_response"]["order_id"]
    other = Client(venue, http, (testing.COUNTERPARTY_KEY, testing.COUNTERPARTY_SECRET))
    assert (await other.get(f"{ORDERS}/historical/{order_id}"))[0] == 404
    _, answer = await other.post(f"{ORDERS}/batch_cancel", {"order_ids": [order_id]})
    assert answer["results"][0]["failure_reason"] == "UNKNOWN_CANCEL_ORDER"


async def test_an_order_is_edited_in_price_and_size_and_keeps_its_id(client: Client) -> None:
    order_id = (await client.place("one"))["success_response"]["order_id"]
    edit = {"order_id": order_id, "price": "51000", "size": "0.02"}
    assert (await client.post(f"{ORDERS}/edit", edit))[1] == {"success": True, "errors": []}
    _, found = await client.get(f"{ORDERS}/historical/{order_id}")
    terms = found["order"]["order_configuration"]["limit_limit_gtc"]
    assert (terms["limit_price"], terms["base_size"]) == ("51000", "0.02")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"price": "51000"}, "INVALID_EDITED_SIZE"),
        ({"size": "0.02"}, "INVALID_EDITED_PRICE"),
        ({"price": "50000", "size": "0.01"}, "EDIT_REQUEST_NO_CHANGE"),
        ({"price": "51000.001", "size": "0.01"}, "COMMANDER_REJECTED_EDIT_ORDER"),
    ],
)
async def test_an_edit_that_fails_changes_nothing(
    client: Client, edit: dict[str, str], reason: str
) -> None:
    order_id = (await client.place("one"))["success_response"]["order_id"]
    _, answer = await client.post(f"{ORDERS}/edit", {"order_id": order_id, **edit})
    assert answer["success"] is False
    assert answer["errors"][0]["edit_failure_reason"] == reason
    _, found = await client.get(f"{ORDERS}/historical/{order_id}")
    assert found["order"]["order_configuration"]["limit_limit_gtc"]["limit_price"] == "50000"


# Lists


async def test_orders_are_paged_newest_first_to_the_last_one(client: Client) -> None:
    names = [f"c{n}" for n in range(7)]
    for name in names:
        await client.place(name)
    seen: list[str] = []
    cursor = ""
    while True:
        _, page = await client.get(f"{ORDERS}/historical/batch", limit=3, cursor=cursor)
        seen += [each["client_order_id"] for each in page["orders"]]
        cursor = page["cursor"]
        if not page["has_next"]:
            break
    assert (seen, cursor) == (names[::-1], "")


async def test_orders_are_listed_by_state_product_time_and_id(client: Client) -> None:
    eth = configured("limit_limit_gtc", base_size="1", limit_price="2000")
    one = (await client.place("one"))["success_response"]["order_id"]
    await client.place("two", product_id="ETH-USD", **eth)
    _, between = await client.get(f"{API}/time")
    await client.place("three")
    await client.post(f"{ORDERS}/batch_cancel", {"order_ids": [one]})

    async def names(**query: Any) -> list[str]:
        status, page = await client.get(f"{ORDERS}/historical/batch", **query)
        assert status == 200
        return [each["client_order_id"] for each in page["orders"]]

    assert await names(order_status="OPEN") == ["three", "two"]
    assert await names(order_status=["CANCELLED", "FILLED"]) == ["one"]
    assert await names(product_ids=["ETH-USD"]) == ["two"]
    assert await names(order_ids=[one]) == ["one"]
    assert await names(start_date=between["iso"]) == ["three"]
    assert await names(end_date=between["iso"]) == ["two", "one"]
    assert (await client.get(f"{ORDERS}/historical/batch", start_date="yesterday"))[0] == 400


async def test_open_orders_are_not_listed_together_with_others(client: Client) -> None:
    status, answer = await client.get(
        f"{ORDERS}/historical/batch", order_status=["OPEN", "PENDING"]
    )
    assert (status, answer["error"]) == (400, "INVALID_ARGUMENT")


async def test_fills_are_paged_and_their_commissions_are_dollars(client: Client) -> None:
    buy = configured("market_market_ioc", base_size="0.01")
    ids = [(await client.place(f"c{n}", **buy))["success_response"]["order_id"] for n in range(5)]
    seen: list[dict[str, Any]] = []
    cursor = ""
    while True:
        _, page = await client.get(f"{ORDERS}/historical/fills", limit=2, cursor=cursor)
        seen += page["fills"]
        cursor = page["cursor"]
        if not cursor:
            break
    assert [fill["order_id"] for fill in seen] == ids[::-1]
    assert len({fill["trade_id"] for fill in seen}) == 5
    assert {Decimal(fill["commission"]) for fill in seen} == {
        Decimal("0.01") * 60001 * Decimal("0.006")
    }
    _, accounts = await client.get(f"{API}/accounts")
    dollars = next(a for a in accounts["accounts"] if a["currency"] == "USD")
    paid = sum(Decimal(f["size"]) * Decimal(f["price"]) + Decimal(f["commission"]) for f in seen)
    assert Decimal(dollars["available_balance"]["value"]) == 1_000_000 - paid
    _, one = await client.get(f"{ORDERS}/historical/fills", order_ids=[ids[2]])
    assert [fill["order_id"] for fill in one["fills"]] == [ids[2]]


async def test_holds_and_pages_of_wallets_are_told(client: Client) -> None:
    await client.place("one")
    seen: dict[str, dict[str, Any]] = {}
    cursor = ""
    while True:
        _, page = await client.get(f"{API}/accounts", limit=2, cursor=cursor)
        seen |= {each["currency"]: each for each in page["accounts"]}
        cursor = page["cursor"]
        if not page["has_next"]:
            break
    assert seen["USD"]["hold"] == {"value": "500", "currency": "USD"}
    assert seen["BTC"]["available_balance"] == {"value": "5", "currency": "BTC"}


# Limits and sessions


@pytest.mark.parametrize(("path", "most"), [(f"{API}/accounts", 30), (f"{API}/time", 10)])
async def test_more_requests_a_second_than_documented_are_refused(
    http: aiohttp.ClientSession, path: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = testing.StillMarket("coinbase", **{"BTC-USD": ("60000", "60001", "1")})
    second = 0
    async with testing.running_venue(testing.settings([still], face="coinbase")) as venue:
        limits = venue.face._limits
        allows = limits.allows
        # By a clock of ours: however long they take, they are asked in one second.
        monkeypatch.setattr(limits, "allows", lambda who, _, **how: allows(who, second, **how))
        client = Client(venue, http)
        answers = await asyncio.gather(*(client.get(path) for _ in range(3 * most)))
        refused = [answer for status, answer in answers if status == 429]
        assert len(refused) == 2 * most
        assert refused[0]["errors"][0]["id"] == "rate_limit_exceeded"
        second = 1
        assert (await client.get(path))[0] == 200


async def test_a_market_that_does_not_trade_says_so_in_products_orders_and_cancels(
    client: Client, venue: Venue
) -> None:
    order_id = (await client.place("one"))["success_response"]["order_id"]
    venue.exchange.set_session("BTC-USD", MarketState.CANCEL_ONLY)
    _, product = await client.get(f"{API}/products/BTC-USD")
    assert (product["cancel_only"], product["trading_disabled"]) == (True, False)
    failure = (await client.place("two"))["error_response"]
    assert failure["error"] == "ORDER_ENTRY_DISABLED"
    venue.exchange.set_session("BTC-USD", MarketState.HALTED)
    _, product = await client.get(f"{API}/products/BTC-USD")
    assert (product["cancel_only"], product["trading_disabled"]) == (False, True)
    _, answer = await client.post(f"{ORDERS}/batch_cancel", {"order_ids": [order_id]})
    assert answer["results"][0]["failure_reason"] == "COMMANDER_REJECTED_CANCEL_ORDER"


# Streams


@asynccontextmanager
async def subscribed(
    venue: Venue, http: aiohttp.ClientSession, *messages: dict[str, Any]
) -> AsyncIterator[Callable[[], Any]]:
    """Reads messages one after the other."""
    async with http.ws_connect(venue.url.replace("http", "ws") + "/") as socket:
        for message in messages:
            await socket.send_json(message)

        async def read() -> Any:
            return await socket.receive_json(timeout=WITHIN_S)

        yield read


def subscribe(channel: str, *products: str, **more: Any) -> dict[str, Any]:
    return {"type": "subscribe", "channel": channel, "product_ids": list(products), **more}


def signed_subscribe(*products: str, secret: str = testing.SECRET) -> dict[str, Any]:
    timestamp = str(int(time.time()))
    text = timestamp + "user" + ",".join(products)
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return subscribe(
        "user", *products, api_key=testing.KEY, timestamp=timestamp, signature=signature
    )


async def test_messages_of_all_channels_are_numbered_together(
    client: Client, venue: Venue, http: aiohttp.ClientSession
) -> None:
    wanted = [
        subscribe("ticker", "BTC-USD"),
        subscribe("level2", "BTC-USD"),
        subscribe("heartbeats"),
        signed_subscribe(),
    ]
    async with subscribed(venue, http, *wanted) as read:
        seen = [await read()]
        await client.place("one")
        while {"ticker", "l2_data", "heartbeats", "user", "subscriptions"} - {
            each["channel"] for each in seen
        }:
            seen.append(await read())
    assert [each["sequence_num"] for each in seen] == list(range(len(seen)))


async def test_the_user_channel_tells_open_orders_first_and_then_each_change(
    client: Client, venue: Venue, http: aiohttp.ClientSession
) -> None:
    for n in range(60):
        await client.place(f"c{n}")
    async with subscribed(venue, http, signed_subscribe()) as read:
        first, second = await read(), await read()
        assert [len(m["events"][0]["orders"]) for m in (first, second)] == [50, 10]
        assert {m["events"][0]["type"] for m in (first, second)} == {"snapshot"}
        assert (await read())["channel"] == "subscriptions"
        await client.place("big", **configured("market_market_ioc", base_size="0.5"))
        pushed = [(await read())["events"][0] for _ in range(2)]
    orders = [event["orders"][0] for event in pushed]
    assert {event["type"] for event in pushed} == {"update"}
    assert [(o["status"], o["cumulative_quantity"], o["number_of_fills"]) for o in orders] == [
        ("OPEN", "0", "0"),
        ("FILLED", "0.5", "1"),
    ]


@pytest.mark.parametrize(
    "message",
    [
        subscribe("user"),
        signed_subscribe(secret="another"),
        subscribe("user", jwt=jwt(uri=None, secret=pem())),
        subscribe("gossip"),
        subscribe("ticker", "BTC-XYZ"),
    ],
    ids=["unsigned", "wrong secret", "another private key", "no such channel", "no such product"],
)
async def test_a_subscription_that_is_not_right_is_answered_with_an_error(
    venue: Venue, http: aiohttp.ClientSession, message: dict[str, Any]
) -> None:
    async with subscribed(venue, http, message) as read:
        assert (await read())["type"] == "error"


async def test_a_token_opens_the_user_channel(
    client: Client, venue: Venue, http: aiohttp.ClientSession
) -> None:
    await client.place("one")
    async with subscribed(venue, http, subscribe("user", jwt=jwt(uri=None))) as read:
        (order,) = (await read())["events"][0]["orders"]
        assert (order["client_order_id"], order["limit_price"]) == ("one", "50000")


async def test_who_unsubscribes_is_told_what_is_left(
    venue: Venue, http: aiohttp.ClientSession
) -> None:
    wanted = [subscribe("status", "BTC-USD"), subscribe("heartbeats")]
    gone = {"type": "unsubscribe", "channel": "heartbeats", "product_ids": []}
    async with subscribed(venue, http, *wanted, gone) as read:
        told = [await read() for _ in range(4)]
    assert told[0]["events"][0]["products"][0]["status"] == "online"
    assert [list(m["events"][0]["subscriptions"]) for m in told[1:]] == [
        ["status"],
        ["status", "heartbeats"],
        ["status"],
    ]


async def test_the_level2_channel_keeps_the_venues_book(
    client: Client, venue: Venue, http: aiohttp.ClientSession
) -> None:
    async with subscribed(venue, http, subscribe("level2", "BTC-USD")) as read:
        book: dict[tuple[str, str], str] = {}

        async def apply() -> None:
            message = await read()
            for event in message["events"]:
                for each in event.get("updates", ()):
                    book[each["side"], each["price_level"]] = each["new_quantity"]

        await apply()
        assert (book["bid", "60000"], book["offer", "60001"]) == ("1", "1")
        await client.place("one")
        while ("bid", "50000") not in book:
            await apply()
        await client.place("two", **configured("market_market_ioc", base_size="0.25"))
        while book["offer", "60001"] != "0.75":
            await apply()


async def test_a_client_that_subscribes_to_nothing_is_disconnected(
    venue: Venue, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openbell_sim.faces.coinbase.face.SUBSCRIBE_WITHIN_S", 0.05)
    async with http.ws_connect(venue.url.replace("http", "ws") + "/") as socket:
        assert (await socket.receive(timeout=WITHIN_S)).type in (
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.CLOSED,
        )
