"""What the USD-M face answers to calls that ccxt does not make, and what it streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from openbell.domain.orders import OrdStatus
from openbell_sim import testing
from openbell_sim.faces.binance.common import listen_keys
from openbell_sim.keys import Credentials
from openbell_sim.server import Venue

ORDER = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.010",
    "price": "50000",
}
MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.010"}
ALGO = {
    "algoType": "CONDITIONAL",
    "symbol": "BTCUSDT",
    "side": "SELL",
    "type": "STOP_MARKET",
    "quantity": "0.010",
    "triggerPrice": "59900",
}
CLOSER_KEY = "sim-key-of-the-closer"
CLOSER_SECRET = "sim-secret-of-the-closer"


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    """A market in which nothing happens by itself: 59,990 / 60,000, ten of each."""
    still = testing.StillMarket("binance-usdm", BTCUSDT=("59990", "60000", "10"))
    async with testing.running_venue(testing.settings([still], face="binance-usdm")) as running:
        running.keys.add(Credentials("main", CLOSER_KEY, CLOSER_SECRET, may_trade=False))
        yield running


@pytest.fixture
def call(signed: Any) -> Callable[..., Any]:
    async def make(method: str, path: str, **parameters: object) -> tuple[int, Any]:
        status, body, _ = await signed(method, path, **parameters)
        return status, body

    return make


@pytest.fixture
def order(call: Callable[..., Any]) -> Callable[..., Any]:
    async def place(**parameters: object) -> tuple[int, Any]:
        result: tuple[int, Any] = await call("POST", "/fapi/v1/order", **parameters)
        return result

    return place


async def within(coroutine: Any) -> Any:
    return await asyncio.wait_for(coroutine, 60)


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({**ORDER, "symbol": "NOPE"}, -1121, "symbol"),
        ({**ORDER, "side": "HOLD"}, -1117, "side"),
        ({**ORDER, "type": "PEGGED"}, -1116, "orderType"),
        ({**ORDER, "type": "STOP_MARKET", "stopPrice": "1"}, -4120, "Algo Order API"),
        ({**ORDER, "type": "TAKE_PROFIT", "stopPrice": "1"}, -4120, "Algo Order API"),
        ({**ORDER, "timeInForce": "GTD"}, -1115, "timeInForce"),
        ({**ORDER, "positionSide": "LONG"}, -4061, "position side"),
        ({**ORDER, "quantity": "0.0101"}, -1111, "Precision"),
        ({**ORDER, "quantity": "0"}, -4003, "zero"),
        ({**ORDER, "quantity": "10000"}, -4005, "max quantity"),
        ({**ORDER, "price": "50000.01"}, -4014, "tick size"),
        ({**ORDER, "price": "50000.001"}, -1111, "Precision"),
        ({**ORDER, "price": "9999999"}, -4002, "max price"),
        ({**ORDER, "price": "0"}, -4013, "min price"),
        ({**ORDER, "price": "300000.1"}, -4016, "multiplier"),
        ({**ORDER, "quantity": "0.001"}, -4164, "no smaller than 100"),
        ({**ORDER, "quantity": "999"}, -2019, "Margin"),
        ({**ORDER, "timeInForce": "GTX", "price": "60000"}, -5022, "maker"),
        ({**ORDER, "reduceOnly": "true"}, -2022, "ReduceOnly"),
        ({**ORDER, "reduceOnly": "perhaps"}, -1130, "reduceOnly"),
        ({**MARKET, "price": "1"}, -1106, "price"),
        ({**ORDER, "newOrderRespType": "FULL"}, -1136, "newOrderRespType"),
    ],
)
async def test_a_bad_order_has_the_venues_code_and_stays_on_record(
    venue: Venue, order: Any, given: dict[str, str], code: int, words: str
) -> None:
    status, body = await order(**given)
    assert (status, body["code"]) == (400, code), body
    assert words in body["msg"]
    (refused,) = venue.exchange.ledger.refused
    assert refused.symbol == given["symbol"]
    assert not venue.exchange.ledger.orders


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({**ALGO, "algoType": "VP"}, -1130),
        ({**ALGO, "type": "TRAILING_STOP_MARKET"}, -1020),
        ({**ALGO, "closePosition": "true"}, -1020),
        ({**ALGO, "type": "LIMIT"}, -1116),
        ({**ALGO, "triggerPrice": ""}, -1102),
        ({**ALGO, "triggerPrice": "60500"}, -2021),
        ({**ALGO, "type": "STOP"}, -1102),
    ],
)
async def test_a_bad_conditional_order_too(
    venue: Venue, call: Any, given: dict[str, str], code: int
) -> None:
    status, body = await call("POST", "/fapi/v1/algoOrder", **given)
    assert (status, body["code"]) == (400, code), body
    assert len(venue.exchange.ledger.refused) == 1


async def test_a_market_order_is_acknowledged_before_it_is_filled(order: Any, call: Any) -> None:
    _, acknowledged = await order(**MARKET)
    assert (acknowledged["status"], acknowledged["executedQty"]) == ("NEW", "0.000")
    _, found = await call(
        "GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=acknowledged["orderId"]
    )
    assert (found["status"], found["executedQty"], found["avgPrice"]) == (
        "FILLED",
        "0.010",
        "60000.00000",
    )
    _, result = await order(**MARKET, newOrderRespType="RESULT")
    assert result["status"] == "FILLED"


async def test_a_conditional_order_becomes_one_of_the_matching_engine(
    venue: Venue, call: Any, order: Any
) -> None:
    await order(**MARKET)
    _, placed = await call(
        "POST", "/fapi/v1/algoOrder", **ALGO, clientAlgoId="stop", reduceOnly="true"
    )
    algo_id = placed["algoId"]
    assert (placed["algoStatus"], placed["actualOrderId"]) == ("NEW", "")
    plain = {"symbol": "BTCUSDT", "orderId": algo_id}
    assert (await call("GET", "/fapi/v1/order", **plain))[1]["code"] == -2013
    assert (await call("DELETE", "/fapi/v1/order", **plain))[1]["code"] == -2011
    # Someone sells through the bids, so that the last price falls to the stop.
    await call(
        "POST",
        "/fapi/v1/order",
        **{**ORDER, "price": "59800", "quantity": "1"},
        key=testing.COUNTERPARTY_KEY,
        secret=testing.COUNTERPARTY_SECRET,
    )
    seller = {"side": "SELL", "type": "MARKET", "quantity": "10.5"}
    await order(symbol="BTCUSDT", **seller)
    _, algo = await call("GET", "/fapi/v1/algoOrder", algoId=algo_id)
    assert (algo["algoStatus"], algo["actualOrderId"]) == ("FINISHED", str(algo_id))
    _, ended = await call("GET", "/fapi/v1/order", **plain)
    assert (ended["type"], ended["origType"]) == ("MARKET", "STOP_MARKET")
    assert venue.exchange.ledger.orders[algo_id].triggered


async def test_a_batch_answers_for_each_order(call: Any) -> None:
    batch = json.dumps([ORDER, {**ORDER, "quantity": "0.001"}])
    status, placed = await call("POST", "/fapi/v1/batchOrders", batchOrders=batch)
    assert (status, placed[0]["status"], placed[1]["code"]) == (200, "NEW", -4164)
    both = json.dumps([placed[0]["orderId"], 1])
    _, cancelled = await call("DELETE", "/fapi/v1/batchOrders", symbol="BTCUSDT", orderIdList=both)
    assert (cancelled[0]["status"], cancelled[1]["code"]) == ("CANCELED", -2011)
    many = json.dumps([f"n{n}" for n in range(11)])
    _, refused = await call(
        "DELETE", "/fapi/v1/batchOrders", symbol="BTCUSDT", origClientOrderIdList=many
    )
    assert refused["code"] == -4032
    _, refused = await call("POST", "/fapi/v1/batchOrders", batchOrders=json.dumps([ORDER] * 6))
    assert refused["code"] == -4082


async def test_an_amendment_below_what_was_executed_ends_the_order(order: Any, call: Any) -> None:
    _, placed = await order(**{**ORDER, "price": "60000", "quantity": "11"})
    amended = {"symbol": "BTCUSDT", "side": "BUY", "orderId": placed["orderId"]}
    _, body = await call("PUT", "/fapi/v1/order", **amended, quantity="12", price="60000")
    assert (body["status"], body["origQty"]) == ("PARTIALLY_FILLED", "12.000")
    _, body = await call("PUT", "/fapi/v1/order", **amended, quantity="5", price="60000")
    assert (body["status"], body["executedQty"]) == ("CANCELED", "10.000")
    _, body = await call("PUT", "/fapi/v1/order", **amended, quantity="9", price="60000")
    assert body["code"] == -2013


async def test_a_countdown_cancels_the_orders_of_its_symbol(
    venue: Venue, order: Any, call: Any, eventually: Callable[..., Any]
) -> None:
    _, placed = await order(**ORDER)
    path = "/fapi/v1/countdownCancelAll"
    status, body = await call("POST", path, symbol="BTCUSDT", countdownTime=60_000)
    assert (status, body) == (200, {"symbol": "BTCUSDT", "countdownTime": "60000"})
    await call("POST", path, symbol="BTCUSDT", countdownTime=0)
    assert venue.exchange.dead_man("main", "BTCUSDT") is None
    await call("POST", path, symbol="BTCUSDT", countdownTime=100)
    resting = venue.exchange.ledger.orders[placed["orderId"]]
    await eventually(lambda: resting.status is OrdStatus.CANCELED)
    assert (await call("POST", path, symbol="BTCUSDT", countdownTime=-1))[1]["code"] == -1130


async def test_money_and_positions_agree_with_each_other(order: Any, call: Any) -> None:
    await order(**MARKET)
    await order(**ORDER)
    _, v2 = await call("GET", "/fapi/v2/account")
    _, v3 = await call("GET", "/fapi/v3/account")
    _, (balance,) = await call("GET", "/fapi/v2/balance")
    (asset,) = v2["assets"]
    assert v3["assets"] == v2["assets"]
    assert asset["walletBalance"] == balance["balance"] == v3["totalWalletBalance"]
    # 5 % of 0.01 at the last price, 60,000; and of what the resting order would add.
    assert (asset["positionInitialMargin"], asset["openOrderInitialMargin"]) == (
        "30.00000000",
        "25.00000000",
    )
    _, all_symbols = await call("GET", "/fapi/v2/positionRisk")
    _, (position,) = await call("GET", "/fapi/v3/positionRisk")
    assert [p["symbol"] for p in all_symbols] == ["BTCUSDT"]
    assert (position["positionAmt"], position["entryPrice"]) == ("0.010", "60000.00000000")
    assert v2["positions"][0]["positionAmt"] == v3["positions"][0]["positionAmt"] == "0.010"
    _, trades = await call("GET", "/fapi/v1/userTrades", symbol="BTCUSDT")
    assert (trades[0]["commission"], trades[0]["commissionAsset"]) == ("0.30000000", "USDT")


async def test_trades_are_asked_for_by_id_or_by_time_and_a_week_at_most(call: Any) -> None:
    path, week_ms = "/fapi/v1/userTrades", 7 * 86_400_000
    _, body = await call("GET", path, symbol="BTCUSDT", fromId=1, startTime=1)
    assert body["code"] == -1128
    _, body = await call("GET", path, symbol="BTCUSDT", startTime=1, endTime=week_ms + 2)
    assert body["code"] == -4165


async def test_a_key_that_may_only_close_cancels_and_closes(order: Any, call: Any) -> None:
    closer = {"key": CLOSER_KEY, "secret": CLOSER_SECRET}
    _, placed = await order(**ORDER)
    await order(**MARKET)
    status, body = await order(**MARKET, **closer)
    assert (status, body["code"]) == (401, -2015)
    one = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
    amended = {**one, "side": "BUY", "quantity": "0.2", "price": ORDER["price"]}
    status, body = await call("PUT", "/fapi/v1/order", **amended, **closer)
    assert (status, body["code"]) == (401, -2015)
    _, body = await order(**{**MARKET, "side": "SELL"}, reduceOnly="True", **closer)
    assert body["reduceOnly"] is True
    status, _ = await call("DELETE", "/fapi/v1/order", **one, **closer)
    assert status == 200
    _, restrictions = await call("GET", "/sapi/v1/account/apiRestrictions", **closer)
    assert (restrictions["enableFutures"], restrictions["enableReading"]) == (False, True)


async def test_streams_come_over_their_own_paths_alone(
    venue: Venue, http: aiohttp.ClientSession, order: Any
) -> None:
    names = ["btcusdt@aggTrade", "btcusdt@bookTicker", "btcusdt@markPrice@1s", "btcusdt@kline_1m"]
    seen: dict[str, set[str]] = {}
    sockets = {}
    for root in ("public", "market"):
        sockets[root] = await http.ws_connect(f"{venue.url}/{root}/ws")
        await sockets[root].send_json({"method": "SUBSCRIBE", "params": names, "id": 1})
        assert await within(sockets[root].receive_json()) == {"result": None, "id": 1}
    await order(**{**MARKET, "quantity": "10"})
    await order(**{**MARKET, "side": "SELL"})
    for root, enough in (("public", 1), ("market", 3)):
        seen[root] = set()
        while len(seen[root]) < enough:
            seen[root].add((await within(sockets[root].receive_json()))["e"])
        await sockets[root].close()
    assert seen["public"] == {"bookTicker"}
    assert seen["market"] == {"aggTrade", "markPriceUpdate", "kline"}


async def test_user_data_tells_orders_money_and_positions(
    venue: Venue, http: aiohttp.ClientSession, order: Any
) -> None:
    key = await _listen_key(http, venue)
    async with http.ws_connect(f"{venue.url}/private/ws?listenKey={key}") as socket:
        await order(**MARKET, newClientOrderId="mine")
        events = [await within(socket.receive_json()) for _ in range(3)]
        # Without a position nothing is held, so the stop may only open here.
        await _post(http, venue, order)
        events.append(await within(socket.receive_json()))
    new, filled, account, algo = events
    assert [e["e"] for e in events] == [
        "ORDER_TRADE_UPDATE",
        "ORDER_TRADE_UPDATE",
        "ACCOUNT_UPDATE",
        "ALGO_UPDATE",
    ]
    assert [(e["o"]["x"], e["o"]["X"], e["o"]["c"]) for e in (new, filled)] == [
        ("NEW", "NEW", "mine"),
        ("TRADE", "FILLED", "mine"),
    ]
    assert (filled["o"]["n"], filled["o"]["N"], filled["o"]["L"]) == (
        "0.30000000",
        "USDT",
        "60000.00",
    )
    assert account["a"]["m"] == "ORDER"
    assert [(p["s"], p["pa"]) for p in account["a"]["P"]] == [("BTCUSDT", "0.010")]
    assert account["a"]["B"][0]["wb"] == "999999.70000000"
    assert (algo["o"]["X"], algo["o"]["tp"]) == ("NEW", "59900.00")


async def _post(http: aiohttp.ClientSession, venue: Venue, order: Any) -> None:
    manual = {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "STOP",
        "quantity": "0.010",
        "stop_price": "59900",
    }
    async with http.post(f"{venue.url}/sim/v1/orders", json=manual) as reply:
        assert reply.status == 201, await reply.text()


async def _listen_key(http: aiohttp.ClientSession, venue: Venue) -> str:
    url, headers = f"{venue.url}/fapi/v1/listenKey", {"X-MBX-APIKEY": testing.KEY}
    async with http.post(url, headers=headers) as reply:
        key: str = (await reply.json())["listenKey"]
    return key


async def test_a_listen_key_that_is_not_kept_alive_expires_aloud(
    venue: Venue, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, headers = f"{venue.url}/fapi/v1/listenKey", {"X-MBX-APIKEY": testing.KEY}
    key = await _listen_key(http, venue)
    assert await _listen_key(http, venue) == key
    async with http.put(url, headers=headers) as reply:
        assert (reply.status, await reply.json()) == (200, {"listenKey": key})
    monkeypatch.setattr(listen_keys, "LIFE_S", 0.0)
    await _listen_key(http, venue)
    async with http.ws_connect(f"{venue.url}/stream?streams={key}") as socket:
        message = await within(socket.receive_json())
    assert (message["stream"], message["data"]["e"]) == (key, "listenKeyExpired")
    async with http.put(url, headers=headers) as reply:
        assert (await reply.json())["code"] == -1125
