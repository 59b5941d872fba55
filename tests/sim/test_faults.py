"""Each fault, as the desk meets it and as the venue knows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import aiohttp
import ccxt.async_support
import pytest

from openbell_sim import testing
from openbell_sim.server import Venue

ORDER = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "50000",
}
POST_ORDER = {"method": "POST", "path": "/api/v3/order"}


async def test_an_order_whose_reply_is_lost_is_found_by_its_client_id(
    venue: Venue, connect: Callable[..., Any], control: Callable[..., Any]
) -> None:
    client = connect(venue.port, kind=ccxt.async_support.binance)
    await client.load_markets()
    await control("drop_reply", count=1, **POST_ORDER)
    with pytest.raises(ccxt.NetworkError):
        await client.create_order(
            "BTC/USDT", "limit", "buy", 0.01, 50000, {"clientOrderId": "in-doubt"}
        )
    found = await client.fetch_order(None, "BTC/USDT", {"clientOrderId": "in-doubt"})
    assert found["status"] == "open"
    (order,) = venue.exchange.ledger.orders.values()
    assert order.cl_ord_id == "in-doubt"


async def test_an_order_that_a_fault_struck_is_among_the_arrivals_and_no_order(
    venue: Venue, signed: Any, http: aiohttp.ClientSession, control: Callable[..., Any]
) -> None:
    assert (await signed.order(**ORDER, newClientOrderId="before"))[0] == 200
    await control("http_status", status=504, count=1, **POST_ORDER)
    assert (await signed.order(**ORDER, newClientOrderId="struck"))[0] == 504
    assert (await signed.order(**{**ORDER, "quantity": "nonsense"}, newClientOrderId="struck"))[
        0
    ] == 400
    async with http.get(f"{venue.url}/sim/v1/arrivals") as reply:
        rows = (await reply.json())["arrivals"]
    assert [
        (row["cl_ord_ids"], row["fault"], row["carried_out"], row["status"]) for row in rows
    ] == [
        (["before"], None, True, 200),
        (["struck"], "http_status", False, 504),
        (["struck"], None, True, 400),
    ]
    assert {(row["kind"], row["method"], row["path"], row["account"]) for row in rows} == {
        ("submit", "POST", "/api/v3/order", "main")
    }
    assert [row["at_ns"] for row in rows] == sorted(row["at_ns"] for row in rows)
    async with http.get(f"{venue.url}/sim/v1/arrivals?cl_ord_id=before") as reply:
        assert len((await reply.json())["arrivals"]) == 1
    (order,) = venue.exchange.ledger.orders.values()
    assert order.cl_ord_id == "before"


async def test_the_reply_to_nonsense_is_lost_like_any_other(
    venue: Venue, http: aiohttp.ClientSession, control: Callable[..., Any]
) -> None:
    await control("drop_reply", count=1)
    with pytest.raises(aiohttp.ClientError):
        # aiohttp's client sends a GET again by itself where an old connection breaks.
        await http.post(f"{venue.url}/nowhere")
    async with http.get(f"{venue.url}/nowhere") as reply:
        assert reply.status == 404


async def test_a_request_that_times_out_before_acceptance_has_no_effect(
    venue: Venue, signed: Any, control: Callable[..., Any]
) -> None:
    await control("timeout_before_accept", count=1, hold_s=0.05, **POST_ORDER)
    with pytest.raises(aiohttp.ClientError):
        await signed.order(**ORDER)
    assert not venue.exchange.ledger.orders


async def test_a_request_that_hangs_is_carried_out_when_nobody_waits_any_more(
    venue: Venue, signed: Any, control: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    await control("hang", count=1, hold_s=3.0, **POST_ORDER)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await signed.order(**ORDER)
    assert not venue.exchange.ledger.orders
    await eventually(lambda: venue.exchange.ledger.orders)


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_503_says_nothing_about_what_happened(
    venue: Venue, signed: Any, control: Callable[..., Any], accepted: bool
) -> None:
    await control("status_503_unknown", count=1, accepted=accepted, **POST_ORDER)
    status, body = await signed.order(**ORDER)
    assert (status, body["code"]) == (503, -1007)
    assert bool(venue.exchange.ledger.orders) is accepted


@pytest.mark.parametrize("status", [418, 429, 504])
async def test_a_status_is_answered_with_its_waiting_time(
    venue: Venue, signed: Any, control: Callable[..., Any], status: int
) -> None:
    await control("http_status", status=status, retry_after_s=7, count=1)
    got, _, headers = await signed("GET", "/api/v3/account")
    assert (got, headers["Retry-After"]) == (status, "7")
    got, _, _ = await signed("GET", "/api/v3/account")
    assert got == 200


async def test_cancels_are_refused_and_the_order_stays(
    signed: Any, control: Callable[..., Any]
) -> None:
    _, order = await signed.order(**ORDER)
    await control("reject_cancels")
    one = {"symbol": "BTCUSDT", "orderId": order["orderId"]}
    status, body, _ = await signed("DELETE", "/api/v3/order", **one)
    assert (status, body["code"]) == (400, -2011)
    _, body, _ = await signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    assert body["code"] == -2011
    _, body, _ = await signed("GET", "/api/v3/order", **one)
    assert body["status"] == "NEW"


async def test_a_bad_nonce_is_said_of_a_good_one(
    venue: Venue, signed: Any, control: Callable[..., Any]
) -> None:
    await control("bad_nonce", kinds=["submit"], count=1)
    status, body = await signed.order(**ORDER)
    assert (status, body["code"]) == (400, -1021)
    assert not venue.exchange.ledger.orders
    status, _ = await signed.order(**ORDER)
    assert status == 200


async def test_a_good_key_is_refused(
    venue: Venue, signed: Any, control: Callable[..., Any]
) -> None:
    await control("key_refused", kinds=["submit"], count=1)
    status, body = await signed.order(**ORDER)
    assert (status, body["code"]) == (401, -2015)
    status, _ = await signed.order(**ORDER)
    assert status == 200
    assert len(venue.exchange.ledger.orders) == 1


async def test_a_key_is_revoked_in_the_middle_of_cancelling(
    venue: Venue, signed: Any, control: Callable[..., Any]
) -> None:
    placed = [(await signed.order(**ORDER))[1]["orderId"] for _ in range(3)]
    await control("key_revoked", account="main", kinds=["cancel"], after=1)
    codes = []
    for order_id in placed:
        _, body, _ = await signed("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=order_id)
        codes.append(body.get("code"))
    assert codes == [None, -2015, -2015]
    assert len(venue.exchange.ledger.open["main"]) == 2
    other = {"key": testing.COUNTERPARTY_KEY, "secret": testing.COUNTERPARTY_SECRET}
    for who, status in (({}, 401), (other, 200)):
        assert (await signed("GET", "/api/v3/account", **who))[0] == status


async def test_a_revoked_key_works_again_when_the_fault_is_over(
    signed: Any, control: Callable[..., Any], eventually: Callable[..., Any], venue: Venue
) -> None:
    await control("key_revoked", lasts_s=2.0)
    assert (await signed("GET", "/api/v3/account"))[0] == 401
    await eventually(lambda: venue.faults.armed[0].ended)
    assert (await signed("GET", "/api/v3/account"))[0] == 200


async def test_a_page_is_truncated_and_says_nothing_of_it(
    signed: Any, control: Callable[..., Any]
) -> None:
    for _ in range(4):
        await signed.order(**ORDER)
    await control("truncated_page", keep=3, count=1)
    rows = [(await signed("GET", "/api/v3/openOrders"))[:2] for _ in range(2)]
    assert [(status, len(body)) for status, body in rows] == [(200, 3), (200, 4)]


async def test_other_lists_are_cut_where_the_fault_names_them(
    signed: Any, control: Callable[..., Any]
) -> None:
    await signed.order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.01")
    await signed.order(**ORDER)
    await control("empty_list", kinds=["fills", "order"])
    for path, rows in (("myTrades", 0), ("allOrders", 0), ("openOrders", 1)):
        status, body, _ = await signed("GET", f"/api/v3/{path}", symbol="BTCUSDT")
        assert (status, len(body)) == (200, rows)


async def test_only_the_account_that_is_named_is_struck(
    signed: Any, control: Callable[..., Any]
) -> None:
    await control("http_status", status=500, account="counterparty")
    other = {"key": testing.COUNTERPARTY_KEY, "secret": testing.COUNTERPARTY_SECRET}
    for who, status in (({}, 200), (other, 500)):
        assert (await signed("GET", "/api/v3/account", **who))[0] == status


async def test_an_empty_list_of_open_orders_is_a_lie_told_with_200(
    signed: Any, control: Callable[..., Any]
) -> None:
    await signed.order(**ORDER)
    await control("empty_list", count=1)
    answers = [await signed("GET", "/api/v3/openOrders") for _ in range(2)]
    assert [(status, len(body)) for status, body, _ in answers] == [(200, 0), (200, 1)]


async def test_a_skewed_clock_refuses_calls_until_the_fault_is_cleared(
    venue: Venue, http: aiohttp.ClientSession, signed: Any, control: Callable[..., Any]
) -> None:
    await control("clock_skew", skew_ms=3_600_000)
    async with http.get(f"{venue.url}/api/v3/time") as reply:
        assert (await reply.json())["serverTime"] > time.time() * 1000 + 3_000_000
    _, body, _ = await signed("GET", "/api/v3/account")
    assert body["code"] == -1021
    async with http.delete(f"{venue.url}/sim/v1/control/faults") as reply:
        assert await reply.json() == {"faults": []}
    status, _, _ = await signed("GET", "/api/v3/account")
    assert status == 200


async def test_latency_is_set_read_and_cleared(venue: Venue, http: aiohttp.ClientSession) -> None:
    url = f"{venue.url}/sim/v1/control/latency"
    async with http.post(url, json={"model": "fixed", "ms": 100}) as reply:
        assert reply.status == 200
    begun = time.monotonic()
    async with http.get(f"{venue.url}/api/v3/ping"):
        assert time.monotonic() - begun >= 0.1
    async with http.get(url) as reply:
        assert (await reply.json())["ms"] == 100
    async with http.delete(url) as reply:
        assert (await reply.json())["ms"] == 0


async def test_the_venues_truth_is_beyond_every_fault(
    venue: Venue, http: aiohttp.ClientSession, control: Callable[..., Any]
) -> None:
    await control("http_status", status=500)
    for path, status in (("/api/v3/ping", 500), ("/sim/v1/orders", 200), ("/health", 200)):
        async with http.get(venue.url + path) as reply:
            assert reply.status == status


async def test_nonsense_is_refused_and_says_why(venue: Venue, http: aiohttp.ClientSession) -> None:
    url = f"{venue.url}/sim/v1/control/faults"
    for body, words in (
        ({"kind": "earthquake"}, "earthquake"),
        ({"kind": "hang", "often": 1}, "often"),
        ({"kind": "hang", "probability": 2}, "probability"),
    ):
        async with http.post(url, json=body) as reply:
            assert reply.status == 400
            assert words in (await reply.json())["message"]


async def test_control_wants_the_token_where_there_is_one(http: aiohttp.ClientSession) -> None:
    given = replace(testing.settings(), control_token="open-sesame")
    async with testing.running_venue(given) as venue:
        url = f"{venue.url}/sim/v1/control/faults"
        for headers, status in (({}, 401), ({"Authorization": "Bearer open-sesame"}, 200)):
            async with http.get(url, headers=headers) as reply:
                assert reply.status == status
