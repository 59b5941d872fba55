"""How Binance's request budget is counted, and what happens to those who go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from openbell_sim import testing
from openbell_sim.faces.binance.common.errors import BinanceError
from openbell_sim.faces.binance.common.limits import (
    FIRST_BAN_S,
    LONGEST_BAN_S,
    PATIENCE,
    Limits,
    OrderLimit,
)
from openbell_sim.server import Venue

MINUTE_S = 1_700_000_040.0
"""The start of one."""
ORDERS = (OrderLimit("SECOND", 10, 3),)


def refusal(limits: Limits, at_s: float, who: str = "here") -> BinanceError | None:
    try:
        limits.use(who, 1, at_s)
    except BinanceError as error:
        return error
    return None


def test_weight_falls_to_zero_when_the_minute_ends() -> None:
    limits = Limits(10, ())
    assert limits.use("here", 10, MINUTE_S)["X-MBX-USED-WEIGHT-1M"] == "10"
    error = refusal(limits, MINUTE_S + 45)
    assert error is not None
    assert (error.code, error.status, error.headers["Retry-After"]) == (-1003, 429, "15")
    assert error.headers["X-MBX-USED-WEIGHT-1M"] == "11"
    assert limits.use("here", 1, MINUTE_S + 60)["X-MBX-USED-WEIGHT-1M"] == "1"


def test_whoever_goes_on_after_429_is_banned_and_longer_each_time() -> None:
    limits = Limits(1, ())
    limits.use("here", 1, MINUTE_S)
    answers = [refusal(limits, MINUTE_S + 1) for _ in range(PATIENCE + 1)]
    assert [error.status for error in answers if error] == [429] * PATIENCE + [418]
    assert answers[-1] is not None
    assert answers[-1].headers["Retry-After"] == str(FIRST_BAN_S)
    assert "IP banned until 1700000161000" in answers[-1].msg
    # Another minute does not end a ban, and other addresses are not concerned.
    banned = refusal(limits, MINUTE_S + 61)
    assert banned is not None
    assert (banned.status, banned.headers["Retry-After"]) == (418, "60")
    assert refusal(limits, MINUTE_S + 61, "elsewhere") is None
    at_s = MINUTE_S + 1 + FIRST_BAN_S
    lengths = []
    for _ in range(14):
        while (error := refusal(limits, at_s)) is None or error.status == 429:
            pass
        lengths.append(int(error.headers["Retry-After"]))
        at_s += lengths[-1]
    assert lengths[:2] == [2 * FIRST_BAN_S, 4 * FIRST_BAN_S]
    assert lengths[-1] == LONGEST_BAN_S


def test_orders_are_counted_by_account_and_refused_without_a_time_to_wait() -> None:
    limits = Limits(1000, ORDERS)
    told = [limits.count_orders("main", 1, MINUTE_S)["X-MBX-ORDER-COUNT-10S"] for _ in range(3)]
    assert told == ["1", "2", "3"]
    with pytest.raises(BinanceError, match="3 orders per 10 SECOND") as raised:
        limits.count_orders("main", 1, MINUTE_S)
    assert (raised.value.code, raised.value.status) == (-1015, 429)
    assert "Retry-After" not in raised.value.headers
    limits.count_orders("counterparty", 1, MINUTE_S)
    limits.count_orders("main", 1, MINUTE_S + 10)


def test_a_scale_changes_every_limit_and_zero_lifts_them() -> None:
    half = Limits(1000, ORDERS, 0.5)
    assert [limit["limit"] for limit in half.rate_limits()] == [500, 1]
    lifted = Limits(1, ORDERS, 0)
    for _ in range(50):
        lifted.use("here", 1, MINUTE_S)
        lifted.count_orders("main", 1, MINUTE_S)


@pytest.fixture
async def strict() -> AsyncIterator[Venue]:
    """A venue that bears ten of weight in a minute."""
    async with testing.running_venue(replace(testing.settings(), weight_limit=10)) as venue:
        yield venue


async def test_a_banned_address_may_not_even_cancel(
    strict: Venue, http: aiohttp.ClientSession, signed_at: Any
) -> None:
    # A minute may end in the midst of it, so it goes on until the ban.
    async with asyncio.timeout(30):
        while True:
            async with http.get(f"{strict.url}/api/v3/depth?symbol=BTCUSDT") as reply:
                if reply.status == 418:
                    break
                assert reply.status in (200, 429)
    assert 0 < int(reply.headers["Retry-After"]) <= FIRST_BAN_S
    status, body, headers = await signed_at(strict.url)(
        "DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=1
    )
    assert (status, body["code"]) == (418, -1003)
    assert int(headers["Retry-After"]) <= FIRST_BAN_S


async def test_calls_on_the_websocket_api_use_the_same_budget(
    strict: Venue, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect(f"{strict.url}/ws-api/v3") as socket:
        async with asyncio.timeout(30):
            while True:
                await socket.send_json({"id": 1, "method": "exchangeInfo"})
                reply = await socket.receive_json()
                if reply["status"] != 200:
                    break
    assert reply["status"] in (429, 418)
    assert reply["error"]["code"] == -1003
