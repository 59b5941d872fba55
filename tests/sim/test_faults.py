"""Each fault, as the desk meets it and as the venue knows it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import ccxt.async_support
import pytest

from openbell_sim import testing
from openbell_sim.clock import VenueClock
from openbell_sim.faces.port import Asked, RequestKind
from openbell_sim.faults.document import PlanDocument
from openbell_sim.faults.ground import Ground
from openbell_sim.faults.kinds import AnyFault, DropReply, HttpStatus, RejectCancels
from openbell_sim.faults.latency import Latency, LatencyModel
from openbell_sim.faults.plan import FaultPlan
from openbell_sim.keys import KeyRing
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


@pytest.fixture
async def control(venue: Venue, http: aiohttp.ClientSession) -> AsyncIterator[Callable[..., Any]]:
    async def set_fault(kind: str, **facts: object) -> Any:
        url = f"{venue.url}/sim/v1/control/faults"
        async with http.post(url, json={"kind": kind, **facts}) as reply:
            assert reply.status == 201, await reply.text()
            return await reply.json()

    yield set_fault


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
    await control("hang", count=1, hold_s=1.0, **POST_ORDER)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
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


async def test_an_empty_list_of_open_orders_is_a_lie_told_with_200(
    signed: Any, control: Callable[..., Any]
) -> None:
    await signed.order(**ORDER)
    await control("empty_list", count=1)
    answers = [await signed("GET", "/api/v3/openOrders") for _ in range(2)]
    assert [(status, len(body)) for status, body, _ in answers] == [(200, 0), (200, 1)]


async def test_streams_are_cut(
    venue: Venue, http: aiohttp.ClientSession, control: Callable[..., Any]
) -> None:
    async with http.ws_connect(f"{venue.url}/ws/btcusdt@bookTicker") as socket:
        await socket.receive(timeout=20)
        answer = await control("disconnect_streams")
        assert answer["faults"][0]["hits"] == 1
        while not socket.closed:
            await socket.receive(timeout=20)


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


def asked(method: str = "GET", path: str = "/x", account: str | None = None) -> Asked:
    kind = RequestKind.CANCEL if method == "DELETE" else RequestKind.OTHER
    return Asked(kind=kind, method=method, path=path, account=account)


@pytest.fixture
def ground() -> Ground:
    class Nothing:
        """Of the faces, what plans without a server ask."""

    return Ground(face=Nothing(), keys=KeyRing(), clock=VenueClock(), first_account="main")


@pytest.fixture
def plan(ground: Ground) -> FaultPlan:
    made = FaultPlan()
    made.serve(ground)
    return made


async def test_the_same_seed_gives_the_same_faults(plan: FaultPlan) -> None:
    async def hits(seed: int, *before: AnyFault) -> list[bool]:
        plan.clear()
        faults = (*before, DropReply(probability=0.3, path="/x"))
        await plan.load(PlanDocument(faults=faults, seed=seed))
        return [await plan.pick(asked()) is not None for _ in range(200)]

    assert await hits(1) == await hits(1)
    assert await hits(1) != await hits(2)
    assert 30 < sum(await hits(1)) < 90


async def test_a_fault_counts_only_the_requests_it_concerns(plan: FaultPlan) -> None:
    await plan.add(HttpStatus(method="POST", path="/api/*", count=2))
    await plan.add(RejectCancels())
    requests = [("POST", "/api/a"), ("GET", "/api/a"), ("POST", "/b"), ("POST", "/api/b")]
    picked = [await plan.pick(asked(*r)) is not None for r in [*requests, ("POST", "/api/c")]]
    assert picked == [True, False, False, True, False]
    assert await plan.pick(asked("DELETE", "/api/a")) is not None
    assert [armed.spent for armed in plan.armed] == [True, False]


@pytest.mark.parametrize(
    ("latency", "low", "high"),
    [
        (Latency(model=LatencyModel.FIXED, ms=5), 0.005, 0.005),
        (Latency(model=LatencyModel.UNIFORM, low_ms=5, high_ms=9), 0.005, 0.009),
        (Latency(model=LatencyModel.LOGNORMAL, ms=5), 0.0005, 0.05),
    ],
)
def test_latency_stays_within_its_model(latency: Latency, low: float, high: float) -> None:
    chance = random.Random(1)
    draws = sorted(latency.draw_s(chance) for _ in range(501))
    assert low <= draws[0] <= draws[-1] <= high
    assert draws[250] == pytest.approx((low + high) / 2 if low > 0.001 else 0.005, rel=0.15)
