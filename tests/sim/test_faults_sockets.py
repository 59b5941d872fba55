"""Calls on a socket meet the faults that requests meet."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
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


class Api:
    """Binance's WebSocket API, signed."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, number: int, method: str, **params: object) -> None:
        given = {"apiKey": testing.KEY, "timestamp": int(time.time() * 1000), **params}
        text = "&".join(f"{name}={given[name]}" for name in sorted(given))
        signature = hmac.new(testing.SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        await self.socket.send_json(
            {"id": number, "method": method, "params": {**given, "signature": signature}}
        )

    async def __call__(self, method: str, **params: object) -> Any:
        await self.send(1, method, **params)
        return await self.socket.receive_json(timeout=20)


@pytest.fixture
async def api(venue: Venue, http: aiohttp.ClientSession) -> AsyncIterator[Api]:
    async with http.ws_connect(f"{venue.url}/ws-api/v3") as socket:
        yield Api(socket)


async def test_a_reply_is_lost_with_its_connection(
    venue: Venue, api: Api, control: Callable[..., Any]
) -> None:
    await control("drop_reply", kinds=["submit"], count=1)
    await api.send(1, "order.place", **ORDER)
    while not api.socket.closed:
        message = await api.socket.receive(timeout=20)
        assert message.type is not aiohttp.WSMsgType.TEXT
    assert len(venue.exchange.ledger.orders) == 1


@pytest.mark.parametrize("accepted", [True, False])
async def test_an_unknown_outcome_is_said_on_a_socket(
    venue: Venue, api: Api, control: Callable[..., Any], accepted: bool
) -> None:
    await control("status_503_unknown", method="WS", path="order.*", accepted=accepted)
    reply = await api("order.place", **ORDER)
    assert (reply["id"], reply["status"], reply["error"]["code"]) == (1, 503, -1007)
    assert bool(venue.exchange.ledger.orders) is accepted


async def test_cancels_and_lists_are_struck_on_a_socket(
    venue: Venue, api: Api, control: Callable[..., Any]
) -> None:
    await api("order.place", **ORDER, newClientOrderId="stays")
    await control("reject_cancels")
    await control("empty_list")
    cancel = {"symbol": "BTCUSDT", "origClientOrderId": "stays"}
    assert (await api("order.cancel", **cancel))["error"]["code"] == -2011
    assert (await api("openOrders.status"))["result"] == []
    assert len(venue.exchange.ledger.open["main"]) == 1


async def test_a_call_that_hangs_holds_up_no_other_and_is_carried_out(
    venue: Venue, api: Api, control: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    await control("hang", kinds=["submit"], hold_s=2.0, count=1)
    await api.send(7, "order.place", **ORDER)
    assert (await api("time"))["id"] == 1
    assert not venue.exchange.ledger.orders
    await api.socket.close()
    await eventually(lambda: venue.exchange.ledger.orders)
