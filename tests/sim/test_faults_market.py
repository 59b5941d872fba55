"""What goes wrong at the exchange itself, as a client meets it and as the venue knows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

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


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    """Nothing happens there but what the test does."""
    still = testing.StillMarket(BTCUSDT=("59990", "60000", "1"))
    async with testing.running_venue(testing.settings([still])) as running:
        yield running


async def test_somebody_else_trades_on_the_account(
    venue: Venue, signed: Any, control: Callable[..., Any]
) -> None:
    await control("manual_order", symbol="BTCUSDT", side="BUY", quantity="0.5")
    (fill,) = venue.exchange.ledger.fills
    assert (fill.account, str(fill.price)) == ("main", "60000.00")
    (order,) = venue.exchange.ledger.orders.values()
    assert order.origin == "manual"
    status, body, _ = await signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")
    assert (status, len(body)) == (200, 1)


async def test_somebody_closes_what_the_account_bought(
    venue: Venue, signed: Any, control: Callable[..., Any]
) -> None:
    """In the moment in which the desk sends its next order."""
    await control("manual_close", kinds=["submit"], after=1, count=1)
    await signed.order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.5")
    await signed.order(**ORDER)
    bought, closed, _ = venue.exchange.ledger.orders.values()
    assert (bought.origin, closed.origin, closed.side.value) == ("api", "manual", "SELL")
    assert str(closed.cum_qty) == "0.49950"


async def test_what_the_exchange_refuses_is_told_of_the_fault(control: Callable[..., Any]) -> None:
    facts = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "100", "price": "50000"}
    answer = await control("manual_order", type="LIMIT", **facts)
    assert answer["faults"][0]["refused"] == "insufficient_funds"
