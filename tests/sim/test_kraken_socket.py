"""WebSocket v2 of the Kraken face: books that add up, numbered messages, tokens, calls."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from tests.sim.kraken_client import Quotes, Raw, settings

from openbell_sim import testing
from openbell_sim.faces.kraken.pairs import KNOWN, Pair
from openbell_sim.faces.kraken.socket_render import checksum
from openbell_sim.server import Venue
from openbell_sim.sessions import MarketState

WAIT_S = 60


class Socket:
    """A connection; what it was told and not asked for yet waits."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._heard: list[dict[str, Any]] = []
        self._number = 0

    async def say(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to it."""
        self._number += 1
        await self.socket.send_json({"method": method, "params": params, "req_id": self._number})
        return await self.until(lambda message: message.get("req_id") == self._number)

    async def of(self, channel: str, kind: str = "update") -> dict[str, Any]:
        """The next message of a channel."""
        return await self.until(lambda m: m.get("channel") == channel and m.get("type") == kind)

    async def until(self, wanted: Any) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            while True:
                for index, message in enumerate(self._heard):
                    if wanted(message):
                        return self._heard.pop(index)
                received = await self.socket.receive()
                assert received.type is aiohttp.WSMsgType.TEXT, received
                self._heard.append(json.loads(received.data, parse_float=Decimal))


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    async with testing.running_venue(settings([Quotes()])) as running:
        yield running


@pytest.fixture
def raw(venue: Venue, http: aiohttp.ClientSession) -> Raw:
    return Raw(http, venue.url)


@pytest.fixture
async def socket(venue: Venue, http: aiohttp.ClientSession) -> AsyncIterator[Socket]:
    async with http.ws_connect(f"{venue.url}/v2") as opened:
        yield Socket(opened)


@pytest.fixture
async def token(raw: Raw) -> str:
    _, result = await raw("GetWebSocketsToken")
    assert result["expires"] == 900
    text: str = result["token"]
    return text


# The market.


def crc(bids: dict[str, str], asks: dict[str, str]) -> int:
    """As Kraken's guide says, from the digits on the wire."""

    def digits(text: str) -> str:
        return text.replace(".", "").lstrip("0")

    rows = [
        *sorted(asks.items(), key=lambda level: Decimal(level[0]))[:10],
        *sorted(bids.items(), key=lambda level: -Decimal(level[0]))[:10],
    ]
    return zlib.crc32("".join(digits(p) + digits(q) for p, q in rows).encode())


def test_the_checksum_is_krakens() -> None:
    """Its documentation's own example ("Book checksum (WebSocket v2)")."""
    asks = (
        "45285.2 0.00100000, 45286.4 1.54571953, 45286.6 1.54571109, 45289.6 1.54560911, "
        "45290.2 0.15890660, 45291.8 1.54553491, 45294.7 0.04454749, 45296.1 0.35380000, "
        "45297.5 0.09945542, 45299.5 0.18772827"
    )
    bids = (
        "45283.5 0.10000000, 45283.4 1.54582015, 45282.1 0.10000000, 45281.0 0.10000000, "
        "45280.3 1.54592586, 45279.0 0.07990000, 45277.6 0.03310103, 45277.5 0.30000000, "
        "45277.3 1.54602737, 45276.6 0.15445238"
    )

    def levels(text: str) -> dict[int, int]:
        pairs = [level.split() for level in text.split(", ")]
        return {int(Decimal(p) * 10): int(Decimal(q) * 10**8) for p, q in pairs}

    assert checksum(Pair(KNOWN["XBTUSD"]), levels(bids), levels(asks)) == 3310070434


@pytest.mark.parametrize("depth", [10, 25])
async def test_a_book_that_is_kept_has_the_checksum_it_was_sent_with(
    http: aiohttp.ClientSession, depth: int
) -> None:
    async with (
        testing.running_venue(settings(speed=20.0)) as venue,
        http.ws_connect(f"{venue.url}/v2") as opened,
    ):
        socket = Socket(opened)
        answer = await socket.say("subscribe", channel="book", symbol=["BTC/USD"], depth=depth)
        assert (answer["success"], answer["result"]["depth"]) == (True, depth)
        book: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}
        kind = "snapshot"
        for _ in range(30):
            (data,) = (await socket.of("book", kind))["data"]
            kind = "update"
            for side, best in (("bids", -1), ("asks", 1)):
                for level in data[side]:
                    price, qty = str(level["price"]), format(level["qty"], "f")
                    if Decimal(qty) == 0:
                        book[side].pop(price, None)
                    else:
                        book[side][price] = qty
                kept = sorted(book[side], key=lambda p, best=best: best * Decimal(p))[:depth]
                book[side] = {price: book[side][price] for price in kept}
            assert len(book["bids"]) == len(book["asks"]) == depth
            assert crc(book["bids"], book["asks"]) == data["checksum"]


async def test_quotes_are_told_as_they_change(socket: Socket, raw: Raw) -> None:
    asked = {"channel": "ticker", "symbol": ["BTC/USD"], "event_trigger": "bbo"}
    assert (await socket.say("subscribe", **asked))["success"]
    (first,) = (await socket.of("ticker", "snapshot"))["data"]
    assert (str(first["bid"]), str(first["ask"])) == ("59990.0", "60000.0")
    await raw.limit("59991")
    (quote,) = (await socket.of("ticker"))["data"]
    assert (str(quote["bid"]), format(quote["bid_qty"], "f")) == ("59991.0", "0.01000000")


async def test_trades_carry_who_took(socket: Socket, raw: Raw) -> None:
    await socket.say("subscribe", channel="trade", symbol=["BTC/USD"])
    await raw("AddOrder", pair="XBTUSD", type="sell", ordertype="market", volume="0.1")
    (trade,) = (await socket.of("trade"))["data"]
    assert (trade["symbol"], trade["side"], str(trade["price"])) == ("BTC/USD", "sell", "59990.0")


async def test_a_session_that_changes_is_told_to_who_watches_instruments(
    socket: Socket, venue: Venue
) -> None:
    await socket.say("subscribe", channel="instrument")
    listed = (await socket.of("instrument", "snapshot"))["data"]
    assert {pair["symbol"] for pair in listed["pairs"]} == {"BTC/USD", "ETH/USD"}
    assert {asset["id"] for asset in listed["assets"]} == {"BTC", "ETH", "USD"}
    venue.exchange.set_session("XBTUSD", MarketState.CANCEL_ONLY)
    (pair,) = (await socket.of("instrument"))["data"]["pairs"]
    assert (pair["symbol"], pair["status"]) == ("BTC/USD", "cancel_only")


async def test_who_subscribed_hears_a_heartbeat_when_nothing_happens(socket: Socket) -> None:
    await socket.say("subscribe", channel="instrument")
    assert await socket.until(lambda message: message.get("channel") == "heartbeat")


@pytest.mark.parametrize(
    ("params", "error"),
    [
        (
            {"channel": "book", "symbol": ["BTC/USD"], "depth": 7},
            "Subscription depth not supported",
        ),
        ({"channel": "gossip"}, "Subscription name invalid"),
        ({"channel": "ticker", "symbol": ["XBT/USD"]}, "Currency pair not supported XBT/USD"),
        ({"channel": "ohlc", "symbol": ["BTC/USD"], "interval": 2}, "interval not supported"),
        ({"channel": "executions", "token": "none"}, "ESession:Invalid session"),
    ],
)
async def test_a_subscription_is_refused_with_its_reason(
    socket: Socket, params: dict[str, Any], error: str
) -> None:
    answer = await socket.say("subscribe", **params)
    assert answer["success"] is False
    assert error in answer["error"]


async def test_a_subscription_is_made_once_and_ended(socket: Socket) -> None:
    params = {"channel": "ticker", "symbol": ["BTC/USD"]}
    assert (await socket.say("subscribe", **params))["success"]
    assert (await socket.say("subscribe", **params))["error"] == "Already subscribed"
    assert (await socket.say("unsubscribe", **params))["success"]
    assert (await socket.say("unsubscribe", **params))["error"] == "Subscription Not Found"


async def test_what_is_no_message_is_answered(socket: Socket) -> None:
    await socket.socket.send_str("hello")
    answer = await socket.until(lambda message: message.get("error") == "Malformed request")
    assert answer["success"] is False
    assert (await socket.say("dance"))["error"] == "Event(s) not found"
    assert (await socket.say("ping"))["method"] == "pong"


# The account.


async def test_an_orders_life_is_told_in_numbered_messages(
    socket: Socket, raw: Raw, token: str
) -> None:
    await raw.limit("50000", cl_ord_id="before")
    answer = await socket.say("subscribe", channel="executions", token=token)
    assert answer["result"]["snap_orders"] is True
    snapshot = await socket.of("executions", "snapshot")
    (standing,) = snapshot["data"]
    assert (standing["cl_ord_id"], standing["order_status"]) == ("before", "new")
    assert format(standing["order_qty"], "f") == "0.01000000"
    _, added = await raw.limit("60000", cl_ord_id="mine", volume="0.5")
    told = [await socket.of("executions") for _ in range(4)]
    assert [each["sequence"] for each in told] == [
        snapshot["sequence"] + number for number in range(1, 5)
    ]
    rows = [each["data"][0] for each in told]
    assert [row["exec_type"] for row in rows] == ["pending_new", "new", "trade", "filled"]
    assert [row["order_status"] for row in rows] == [
        "pending_new",
        "new",
        "partially_filled",
        "filled",
    ]
    assert {row["order_id"] for row in rows} == set(added["txid"])
    assert "symbol" not in rows[1]
    assert "symbol" not in rows[3]
    trade = rows[2]
    (fee,) = trade["fees"]
    assert (fee["asset"], fee["qty"], trade["liquidity_ind"]) == ("USD", Decimal(120), "t")
    _, history = await raw("TradesHistory")
    assert trade["exec_id"] in history["trades"]


async def test_balances_are_told_after_each_trade(socket: Socket, raw: Raw, token: str) -> None:
    await socket.say("subscribe", channel="balances", token=token)
    snapshot = await socket.of("balances", "snapshot")
    held = {row["asset"]: row["balance"] for row in snapshot["data"]}
    assert (held["BTC"], held["USD"]) == (5, 1_000_000)
    await raw("AddOrder", pair="XBTUSD", type="buy", ordertype="market", volume="0.5")
    entries = [(await socket.of("balances"))["data"][0] for _ in range(2)]
    assert [(entry["asset"], entry["amount"], entry["balance"]) for entry in entries] == [
        ("BTC", Decimal("0.5"), Decimal("5.5")),
        ("USD", Decimal(-30000), Decimal(969_880)),
    ]
    assert entries[1]["fee"] == 120
    assert entries[0]["ref_id"] == entries[1]["ref_id"]


async def test_a_token_dies_with_its_key(
    socket: Socket, venue: Venue, raw: Raw, token: str
) -> None:
    venue.keys.revoke_only({"main"})
    answer = await socket.say("cancel_all", token=token)
    assert answer["error"] == "ESession:Invalid session"


async def test_orders_are_placed_amended_and_cancelled(
    socket: Socket, raw: Raw, token: str
) -> None:
    order = {
        "order_type": "limit",
        "side": "buy",
        "order_qty": 0.01,
        "limit_price": 50000.1,
        "symbol": "BTC/USD",
        "token": token,
    }
    placed = await socket.say("add_order", **order, cl_ord_id="mine")
    assert placed["success"] is True
    assert placed["result"]["cl_ord_id"] == "mine"
    txid = placed["result"]["order_id"]
    amended = await socket.say("amend_order", cl_ord_id="mine", limit_price=50001.2, token=token)
    assert amended["result"]["cl_ord_id"] == "mine"
    _, listed = await raw("OpenOrders")
    assert listed["open"][txid]["descr"]["price"] == "50001.2"
    assert (await socket.say("cancel_order", order_id=[txid], token=token))["success"] is True
    gone = await socket.say("cancel_order", cl_ord_id=["mine"], token=token)
    assert (gone["success"], gone["error"]) == (False, "EOrder:Unknown order")
    batch = await socket.say(
        "batch_add",
        symbol="BTC/USD",
        token=token,
        orders=[{k: v for k, v in order.items() if k not in ("symbol", "token")}] * 2,
    )
    txids = [each["order_id"] for each in batch["result"]]
    cancelled = await socket.say("batch_cancel", orders=txids, token=token)
    assert cancelled["result"] == {"count": 2}
    refused = await socket.say("add_order", **{**order, "limit_price": 50000.15})
    assert refused["error"] == "EOrder:Tick size check failed"
    stop = {**order, "order_type": "stop-loss", "side": "sell", "triggers": {"price": 50000.5}}
    assert (await socket.say("add_order", **stop))["success"] is True
    armed = await socket.say("cancel_all_orders_after", timeout=60, token=token)
    assert armed["result"]["triggerTime"] > armed["result"]["currentTime"]
    assert (await socket.say("cancel_all", token=token))["result"] == {"count": 1}
