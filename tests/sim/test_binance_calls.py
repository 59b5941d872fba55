"""What the Binance face answers to calls that no well-behaved client makes, and its odds and ends."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson
import pytest
from yarl import URL

from openbell_sim import testing
from openbell_sim.keys import Credentials
from openbell_sim.server import Venue

LIMIT = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
ORDER = {**LIMIT, "quantity": "0.01", "price": "50000"}
MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET"}


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ({"key": ""}, 401, -2014),
        ({"key": "nobody"}, 401, -2015),
        ({"secret": "wrong"}, 400, -1022),
        ({"tamper": "&recvWindow=6000"}, 400, -1022),
        ({"offset_ms": -6000}, 400, -1021),
        ({"offset_ms": 2000}, 400, -1021),
        ({"offset_ms": -6000, "recvWindow": 60000}, 200, None),
        ({"recvWindow": 60001}, 400, -1131),
        ({"timestamp": ""}, 400, -1102),
    ],
)
async def test_a_call_must_be_signed_as_it_was_sent_and_in_time(
    signed: Any, how: dict[str, Any], status: int, code: int | None
) -> None:
    got, body, _ = await signed("GET", "/api/v3/account", **how)
    assert got == status
    assert code is None or body["code"] == code


async def test_query_and_body_are_signed_together_in_the_order_sent(
    venue: Venue, http: aiohttp.ClientSession
) -> None:
    query = "symbol=BTCUSDT&side=BUY&type=LIMIT&newClientOrderId=a%2Fb"
    body = f"timeInForce=GTC&quantity=0.01&price=50000&timestamp={time.time_ns() // 1_000_000}"
    headers = {
        "X-MBX-APIKEY": testing.KEY,
        "Content-Type": "application/x-www-form-urlencoded",
    }
    for text, expected in ((query + body, 200), (body + query, 400)):
        signature = hmac.new(testing.SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        url = URL(f"{venue.url}/api/v3/order/test?{query}", encoded=True)
        async with http.post(url, data=f"{body}&signature={signature}", headers=headers) as reply:
            assert reply.status == expected, await reply.text()


@pytest.mark.parametrize(
    ("order", "code", "words"),
    [
        ({**ORDER, "symbol": "NOPE"}, -1121, "Invalid symbol."),
        ({**ORDER, "symbol": ""}, -1102, "symbol"),
        ({**ORDER, "side": "HOLD"}, -1117, "side"),
        ({**ORDER, "type": "PEGGED"}, -1116, "orderType"),
        ({**ORDER, "type": "TAKE_PROFIT"}, -1020, "not supported"),
        ({**ORDER, "type": "STOP_LOSS_LIMIT"}, -1102, "stopPrice"),
        ({**ORDER, "stopPrice": "50000"}, -1106, "stopPrice"),
        ({**MARKET, "type": "STOP_LOSS", "quantity": "1", "stopPrice": "9"}, -2010, "trigger"),
        ({**ORDER, "timeInForce": "GTX"}, -1115, "timeInForce"),
        ({**LIMIT, "quantity": "0.01"}, -1102, "price"),
        ({**LIMIT, "price": "50000"}, -1102, "quantity"),
        ({**ORDER, "quantity": "1e-2"}, -1100, "quantity"),
        ({**ORDER, "quantity": "-1"}, -1100, "quantity"),
        ({**ORDER, "quantity": "0.000000001"}, -1111, "precision"),
        ({**ORDER, "newClientOrderId": "x" * 37}, -1100, "newClientOrderId"),
        ({**ORDER, "newOrderRespType": "SHORT"}, -1136, "newOrderRespType"),
        ({**ORDER, "selfTradePreventionMode": "MAYBE"}, -1130, "selfTradePreventionMode"),
        ({**ORDER, "price": "50000.001"}, -1013, "PRICE_FILTER"),
        ({**ORDER, "quantity": "0.000001"}, -1013, "LOT_SIZE"),
        ({**ORDER, "quantity": "0.00001"}, -1013, "NOTIONAL"),
        ({**ORDER, "price": "999999"}, -1013, "PERCENT_PRICE_BY_SIDE"),
        ({**ORDER, "quantity": "100"}, -2010, "insufficient balance"),
        ({**MARKET, "quantity": "0.01", "price": "1"}, -1106, "price"),
        ({**MARKET, "quantity": "0.01", "quoteOrderQty": "10"}, -1106, "quantity"),
        ({**MARKET, "quantity": "100"}, -2010, "insufficient balance"),
        (
            {**ORDER, "type": "LIMIT_MAKER", "timeInForce": "", "price": "70000"},
            -2010,
            "immediately match",
        ),
    ],
)
async def test_a_bad_order_has_the_venues_code_and_stays_on_record(
    venue: Venue, signed: Any, order: dict[str, str], code: int, words: str
) -> None:
    status, body = await signed.order(**order)
    assert (status, body["code"]) == (400, code)
    assert words in body["msg"]
    (refused,) = venue.exchange.ledger.refused
    assert refused.symbol == order["symbol"]
    assert not venue.exchange.ledger.orders


async def test_an_open_name_is_not_given_twice(signed: Any) -> None:
    first, _ = await signed.order(**ORDER, newClientOrderId="twice")
    status, body = await signed.order(**ORDER, newClientOrderId="twice")
    assert first == 200
    assert (status, body) == (400, {"code": -2010, "msg": "Duplicate order sent."})


async def test_orders_of_others_do_not_exist(signed: Any) -> None:
    _, placed = await signed.order(**ORDER)
    other = {"key": testing.COUNTERPARTY_KEY, "secret": testing.COUNTERPARTY_SECRET}
    one = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
    _, body, _ = await signed("GET", "/api/v3/order", **one, **other)
    assert body["code"] == -2013
    _, body, _ = await signed("DELETE", "/api/v3/order", **one, **other)
    assert body["code"] == -2011
    _, body, _ = await signed("GET", "/api/v3/openOrders", **other)
    assert body == []
    numbers = {(await signed("GET", "/api/v3/account", **who))[1]["uid"] for who in ({}, other)}
    assert len(numbers) == 2
    _, body, _ = await signed("GET", "/api/v3/order", **{**one, "symbol": "ETHUSDT"})
    assert body["code"] == -2013
    _, body, _ = await signed("GET", "/api/v3/order", symbol="BTCUSDT")
    assert body["code"] == -1102


async def test_cancel_all_on_an_empty_book_is_an_unknown_order(signed: Any) -> None:
    status, body, _ = await signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    assert (status, body["code"]) == (400, -2011)


async def test_order_test_checks_and_places_nothing(venue: Venue, signed: Any) -> None:
    status, body, _ = await signed("POST", "/api/v3/order/test", **ORDER)
    assert (status, body) == (200, {})
    status, body, _ = await signed("POST", "/api/v3/order/test", **{**ORDER, "quantity": "100"})
    assert body["code"] == -2010
    assert not venue.exchange.ledger.orders
    assert not venue.exchange.ledger.refused


async def test_cancel_replace_tells_what_became_of_each(signed: Any) -> None:
    _, first = await signed.order(**ORDER, newClientOrderId="first")
    path = "/api/v3/order/cancelReplace"
    status, body, _ = await signed(
        "POST", path, **ORDER, cancelReplaceMode="STOP_ON_FAILURE", cancelOrderId=first["orderId"]
    )
    assert status == 200
    assert body["cancelResponse"]["status"] == "CANCELED"
    assert body["newOrderResponse"]["status"] == "NEW"
    status, body, _ = await signed(
        "POST", path, **ORDER, cancelReplaceMode="STOP_ON_FAILURE", cancelOrderId=first["orderId"]
    )
    assert (status, body["code"]) == (400, -2022)
    assert body["data"]["newOrderResult"] == "NOT_ATTEMPTED"
    status, body, _ = await signed(
        "POST", path, **ORDER, cancelReplaceMode="ALLOW_FAILURE", cancelOrderId=first["orderId"]
    )
    assert (status, body["code"]) == (409, -2021)
    assert body["data"]["newOrderResult"] == "SUCCESS"


async def test_a_stop_order_waits_outside_of_the_book_until_its_price(
    http: aiohttp.ClientSession, signed_at: Any
) -> None:
    still = testing.StillMarket(BTCUSDT=("59990", "60000", "1"))
    async with testing.running_venue(testing.settings([still])) as venue:
        signed = signed_at(venue.url)
        stop = {**LIMIT, "side": "SELL", "type": "STOP_LOSS_LIMIT", "quantity": "0.01"}
        _, placed = await signed.order(**stop, stopPrice="59950", price="59900")
        one = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
        (listed,), (waiting, *_) = (
            (await signed("GET", "/api/v3/openOrders", symbol="BTCUSDT"))[1],
            (await signed("GET", "/api/v3/allOrders", symbol="BTCUSDT"))[1],
        )
        assert (listed["type"], listed["stopPrice"]) == ("STOP_LOSS_LIMIT", "59950.00000000")
        assert (waiting["isWorking"], waiting["workingTime"]) == (False, -1)
        other = {"key": testing.COUNTERPARTY_KEY, "secret": testing.COUNTERPARTY_SECRET}
        await signed.order(**{**ORDER, "price": "59940"}, **other)
        await signed.order(**{**MARKET, "side": "SELL"}, quantity="1.005")
        _, triggered, _ = await signed("GET", "/api/v3/order", **one)
        assert (triggered["isWorking"], triggered["executedQty"]) == (True, "0.00500000")


async def test_an_order_is_made_smaller_in_its_place(venue: Venue, signed: Any) -> None:
    _, placed = await signed.order(**ORDER, newClientOrderId="first")
    path, one = "/api/v3/order/amend/keepPriority", {"symbol": "BTCUSDT"}
    _, body, _ = await signed("PUT", path, **one, origClientOrderId="first", newQty="0.004")
    amended = body["amendedOrder"]
    assert (amended["orderId"], amended["qty"]) == (placed["orderId"], "0.00400000")
    assert amended["origClientOrderId"] == "first"
    assert amended["clientOrderId"] != "first"
    order = venue.exchange.ledger.orders[placed["orderId"]]
    assert order.cl_ord_id == amended["clientOrderId"]
    for qty, code in (("0.004", -2038), ("0.02", -2038), ("0.00001", -1013)):
        _, body, _ = await signed("PUT", path, **one, orderId=placed["orderId"], newQty=qty)
        assert body["code"] == code


async def test_order_lists_are_not_offered(signed: Any) -> None:
    for path in ("order/oco", "orderList/oco", "orderList/oto", "orderList/otoco"):
        status, body, _ = await signed("POST", f"/api/v3/{path}", symbol="BTCUSDT")
        assert (status, body["code"]) == (400, -1020)


async def test_a_key_that_may_not_trade_cancels_and_sells_what_is_held(
    venue: Venue, signed: Any
) -> None:
    closer = {"key": "closer", "secret": "of the closer"}
    venue.keys.add(Credentials("main", *closer.values(), may_trade=False))
    _, placed = await signed.order(**ORDER)
    status, body = await signed.order(**MARKET, quantity="0.01", **closer)
    assert (status, body["code"]) == (401, -2015)
    assert venue.exchange.ledger.refused[-1].reason == "may_not_trade"
    status, _ = await signed.order(**{**MARKET, "side": "SELL"}, quantity="0.01", **closer)
    assert status == 200
    one = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
    status, _, _ = await signed("DELETE", "/api/v3/order", **one, **closer)
    assert status == 200
    _, told, _ = await signed("GET", "/sapi/v1/account/apiRestrictions", **closer)
    assert (told["enableSpotAndMarginTrading"], told["enableWithdrawals"]) == (False, False)


async def test_fees_and_order_limits_are_told(signed: Any) -> None:
    _, fees, _ = await signed("GET", "/sapi/v1/asset/tradeFee", symbol="BTCUSDT")
    assert fees == [{"symbol": "BTCUSDT", "makerCommission": "0.001", "takerCommission": "0.001"}]
    _, limits, _ = await signed("GET", "/api/v3/rateLimit/order")
    assert [limit["limit"] for limit in limits] == [100, 200_000]


async def test_a_person_at_the_venue_trades_past_the_desk(
    venue: Venue, http: aiohttp.ClientSession
) -> None:
    order = {"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.5"}
    async with http.post(f"{venue.url}/sim/v1/orders", json=order) as reply:
        body = await reply.json()
    assert (reply.status, body["order"]["origin"], body["order"]["status"]) == (
        201,
        "manual",
        "FILLED",
    )
    async with http.get(f"{venue.url}/sim/v1/positions") as reply:
        (position,) = (await reply.json())["positions"]
    assert (position["symbol"], position["quantity"]) == ("BTCUSDT", "-0.50000")
    async with http.post(f"{venue.url}/sim/v1/orders", json={**order, "quantity": "x"}) as reply:
        assert reply.status == 400
    async with http.post(f"{venue.url}/sim/v1/orders", json={**order, "quantity": "50"}) as reply:
        assert (reply.status, (await reply.json())["error"]) == (409, "insufficient_funds")


async def test_health_readiness_metrics_and_shutdown_are_told(
    venue: Venue, http: aiohttp.ClientSession, signed: Any
) -> None:
    await signed.order(**ORDER)
    for path in ("/health", "/ready", "/sim/v1/health"):
        async with http.get(venue.url + path) as reply:
            body = await reply.json()
            assert (reply.status, body["status"]) == (200, "ok")
            assert body["uptime_s"] >= 0
    async with http.get(venue.url + "/metrics") as reply:
        text = await reply.text()
    assert 'openbell_sim_orders{account="main",status="NEW"} 1' in text
    async with http.get(venue.url + "/shutdown-status") as reply:
        assert await reply.json() == {"phase": "running", "stopping_s": None, "open_orders": 1}


async def test_the_public_calls_agree_with_each_other(
    venue: Venue, http: aiohttp.ClientSession, eventually: Callable[..., Any]
) -> None:
    tape = venue.exchange.markets["BTCUSDT"].tape
    await eventually(lambda: len(tape.trades) > 2)

    async def get(path: str) -> Any:
        async with http.get(f"{venue.url}/api/v3/{path}") as reply:
            assert reply.status == 200, await reply.text()
            return orjson.loads(await reply.read())

    assert await get("ping") == {}
    assert abs((await get("time"))["serverTime"] - time.time() * 1000) < 10_000
    assert [s["symbol"] for s in (await get('exchangeInfo?symbols=["BTCUSDT"]'))["symbols"]] == [
        "BTCUSDT"
    ]
    depth = await get("depth?symbol=BTCUSDT&limit=5")
    assert len(depth["bids"]) == len(depth["asks"]) == 5
    assert float(depth["bids"][0][0]) < float(depth["asks"][0][0])
    trades = await get("trades?symbol=BTCUSDT&limit=2")
    assert trades[0]["id"] + 1 == trades[1]["id"]
    assert len(await get("ticker/price")) == len(await get("ticker/bookTicker")) == 4
    (bar, *_) = await get("klines?symbol=BTCUSDT&interval=1m")
    assert float(bar[3]) <= float(bar[1]) <= float(bar[2])
    assert (await get("ticker/24hr?symbol=BTCUSDT"))["count"] >= 3
    async with http.get(f"{venue.url}/api/v3/klines?symbol=BTCUSDT&interval=7m") as reply:
        assert (await reply.json())["code"] == -1120
