"""The MetaTrader bridge's face, called as its protocol says: one id makes at most one order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from openbell_sim import testing
from openbell_sim.server import Venue

ORDER = {
    "id": "ob0-1-1", "symbol": "EURUSD", "side": "buy", "type": "limit", "volume": "0.2",
    "price": "1.08000", "reduce_only": False,
}  # fmt: skip


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    market = testing.StillMarket("mt5", EURUSD=("1.09001", "1.09003", "1000000"))
    given = testing.settings([market], face="mt5", limit_scale=0)
    async with testing.running_venue(given) as running:
        yield running


@pytest.fixture
def call(venue: Venue, http: aiohttp.ClientSession) -> Any:
    async def send(method: str, path: str, body: object = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {testing.SECRET}"}
        async with http.request(
            method, f"{venue.url}/v1/{path}", json=body, headers=headers
        ) as reply:
            return reply.status, await reply.json()

    return send


async def test_an_id_that_came_before_is_answered_with_its_order(call: Any, venue: Venue) -> None:
    status, first = await call("POST", "orders", ORDER)
    assert (status, first["known"]) == (200, False)
    assert await call("POST", "orders", ORDER) == (200, {"order": first["order"], "known": True})
    assert await call("GET", "orders/ob0-1-1") == (200, {"order": first["order"]})
    assert len(venue.exchange.ledger.orders) == 1


@pytest.mark.parametrize(
    "change",
    [{"volume": "0.3"}, {"side": "sell", "price": "1.10"}, {"price": "1.07"}],
    ids=lambda change: next(iter(change)),
)
async def test_an_id_with_another_content_is_refused(
    call: Any, venue: Venue, change: dict[str, str]
) -> None:
    await call("POST", "orders", ORDER)
    status, body = await call("POST", "orders", {**ORDER, **change})
    assert (status, body["error"], body["sent"]) == (409, "id_in_use", False)
    assert len(venue.exchange.ledger.orders) == 1


async def test_an_id_that_was_refused_stays_so(call: Any, venue: Venue) -> None:
    """As the bridge does: it has the id on its disk, with the trade server's answer."""
    too_much = {**ORDER, "volume": "90"}
    first = await call("POST", "orders", too_much)
    assert first[0] == 409 and first[1]["retcode"] == 10019
    assert await call("POST", "orders", too_much) == first
    assert (await call("POST", "orders", {**ORDER, "id": "ob0-1-2"}))[0] == 200


async def test_a_closing_order_that_was_cut_is_known_again(call: Any) -> None:
    market = {"id": "m1", "symbol": "EURUSD", "side": "buy", "type": "market", "volume": "0.2"}
    assert (await call("POST", "orders", market))[0] == 200
    closing = {**market, "id": "c1", "side": "sell", "volume": "0.9", "reduce_only": True}
    status, done = await call("POST", "orders", closing)
    assert (status, done["order"]["volume"], done["order"]["state"]) == (200, "0.2", "filled")
    assert await call("POST", "orders", closing) == (200, {"order": done["order"], "known": True})


async def test_a_body_that_is_not_of_the_protocol_is_malformed(call: Any) -> None:
    for change in ({"time": "ioc"}, {"volume": "-1"}, {"type": "stop_limit"}, {"id": "x" * 32}):
        status, body = await call("POST", "orders", {**ORDER, **change})
        assert (status, body["error"], body["sent"]) == (400, "malformed", False), change
