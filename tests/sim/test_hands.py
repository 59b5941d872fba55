"""What a person does at the venue itself, past every desk."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from openbell_sim import testing
from openbell_sim.server import Venue


@pytest.fixture
def by_hand(venue: Venue, http: aiohttp.ClientSession) -> Any:
    async def post(path: str, **body: object) -> tuple[int, Any]:
        async with http.post(f"{venue.url}/sim/v1/{path}", json=body) as reply:
            return reply.status, await reply.json()

    return post


async def test_a_manual_close_leaves_nothing_but_dust(
    venue: Venue, signed: Any, by_hand: Any, http: aiohttp.ClientSession
) -> None:
    for symbol, side in (("BTCUSDT", "BUY"), ("ETHUSDT", "SELL")):
        status, _ = await signed.order(symbol=symbol, side=side, type="MARKET", quantity="0.1")
        assert status == 200
    status, body = await by_hand("positions/close", symbol="BTCUSDT")
    assert status == 201
    (order,) = body["orders"]
    assert (order["side"], order["status"], order["origin"]) == ("SELL", "FILLED", "manual")
    _, body = await by_hand("positions/close")
    (order,) = body["orders"]
    assert (order["symbol"], order["side"], order["order_qty"]) == ("ETHUSDT", "BUY", "0.1000")
    # Fees are taken in what is bought, so that a little less than a lot may stay.
    async with http.get(f"{venue.url}/sim/v1/positions") as reply:
        rows = (await reply.json())["positions"]
    assert all(abs(float(row["quantity"])) < 0.00011 for row in rows)


async def test_a_close_of_what_does_not_exist_is_told(by_hand: Any) -> None:
    assert await by_hand("positions/close", symbol="NONE") == (
        404,
        {"error": "unknown_symbol", "message": "NONE"},
    )
    assert await by_hand("positions/close") == (201, {"orders": []})


async def test_a_resting_order_is_filled_by_hand(venue: Venue, signed: Any, by_hand: Any) -> None:
    order = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}
    _, placed = await signed.order(symbol="BTCUSDT", price="50000", **order)
    path = f"orders/{placed['orderId']}/fill"
    _, body = await by_hand(path, part=0.3)
    assert (body["order"]["status"], body["order"]["cum_qty"]) == ("PARTIALLY_FILLED", "0.00300")
    _, body = await by_hand(path)
    assert body["order"]["status"] == "FILLED"
    status, body = await by_hand(path)
    assert (status, body["message"]) == (409, "it is FILLED")
    assert (await by_hand(path, part=2))[0] == 400


async def test_the_market_is_halted_and_opened_by_hand(
    venue: Venue, signed: Any, by_hand: Any
) -> None:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
    _, body = await by_hand("sessions", state="halted")
    assert {row["session"] for row in body["market"]} == {"halted"}
    assert (await signed.order(**order))[0] == 400
    await by_hand("sessions", state=None)
    assert (await signed.order(**order))[0] == 200
    assert (await by_hand("sessions", symbol="NONE", state="closed"))[0] == 404
    status, body = await by_hand("sessions", state="shut")
    assert status == 400 and "open, cancel_only, halted, closed" in body["message"]


async def test_a_manual_order_in_a_closed_market_is_told_why(by_hand: Any) -> None:
    await by_hand("sessions", state="closed")
    status, body = await by_hand("orders", symbol="BTCUSDT", side="BUY", quantity="0.01")
    assert (status, body["error"]) == (409, "market_closed"), body
    assert "the market is closed" in body["message"] and "/sim/v1/sessions" in body["message"]


async def test_hands_want_the_token_where_there_is_one(http: aiohttp.ClientSession) -> None:
    given = testing.settings(control_token="open-sesame")
    order = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.01"}
    async with testing.running_venue(given) as venue:
        for headers, status in (({}, 401), ({"Authorization": "Bearer open-sesame"}, 201)):
            url = f"{venue.url}/sim/v1/orders"
            async with http.post(url, json=order, headers=headers) as reply:
                assert reply.status == status
        assert len(venue.exchange.ledger.orders) == 1
