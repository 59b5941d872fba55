"""What goes wrong at the exchange itself, as a client meets it and as the venue knows it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from openbell.domain.orders import OrdStatus
from openbell_sim import testing
from openbell_sim.orders import Order
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


async def cancel(signed: Any, order_id: int) -> tuple[int, Any]:
    status, body, _ = await signed(
        "DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=str(order_id)
    )
    return status, body


async def test_a_cancel_is_acknowledged_and_done_later(
    venue: Venue, signed: Any, control: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    await control("lazy_cancels", delay_s=2.0, count=1)
    placed = [(await signed.order(**ORDER))[1]["orderId"] for _ in range(2)]
    begun = time.monotonic()
    for order_id in placed:
        status, body = await cancel(signed, order_id)
        assert (status, body["status"]) == (200, "CANCELED")
    lazy, prompt = venue.exchange.ledger.orders.values()
    assert (lazy.status, prompt.status) == (OrdStatus.NEW, OrdStatus.CANCELED)
    _, rows, _ = await signed("GET", "/api/v3/openOrders")
    assert [row["orderId"] for row in rows] == placed[:1]
    await eventually(lambda: lazy.status is OrdStatus.CANCELED)
    assert time.monotonic() - begun >= 2.0


async def test_a_mass_cancel_is_acknowledged_and_done_later(
    venue: Venue, signed: Any, control: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    await control("lazy_cancels", delay_s=2.0)
    for _ in range(3):
        await signed.order(**ORDER)
    status, body, _ = await signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    assert (status, {row["status"] for row in body}) == (200, {"CANCELED"})
    assert len(venue.exchange.ledger.open["main"]) == 3
    await eventually(lambda: not venue.exchange.ledger.open["main"])


@pytest.mark.parametrize(
    ("part", "code", "filled", "status"),
    [(1, -2011, "0.01000", OrdStatus.FILLED), (0.4, None, "0.00400", OrdStatus.CANCELED)],
)
async def test_an_order_is_filled_while_it_is_cancelled(
    venue: Venue,
    signed: Any,
    control: Callable[..., Any],
    part: float,
    code: int | None,
    filled: str,
    status: OrdStatus,
) -> None:
    _, placed = await signed.order(**ORDER)
    await control("fill_during_cancel", part=part, count=1)
    _, body = await cancel(signed, placed["orderId"])
    assert body.get("code") == code
    (order,) = venue.exchange.ledger.orders.values()
    assert (str(order.cum_qty), order.status) == (filled, status)
    assert str(venue.exchange.ledger.fills[0].price) == "50000.00"


@pytest.mark.parametrize(
    ("face", "prefix", "cancel_all"),
    [("binance", "/api/v3", "/openOrders"), ("binance-usdm", "/fapi/v1", "/allOpenOrders")],
)
async def test_an_order_filled_during_a_mass_cancel_keeps_no_other_from_its_cancel(
    signed_at: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    face: str,
    prefix: str,
    cancel_all: str,
) -> None:
    still = testing.StillMarket(face, BTCUSDT=("59990", "60000", "1"))
    async with testing.running_venue(testing.settings([still], face=face)) as venue:
        call, cancel = signed_at(venue.url), venue.exchange.cancel
        for _ in range(3):
            status, body, _ = await call("POST", f"{prefix}/order", **ORDER)
            assert status == 200, body
        first, *others = venue.exchange.ledger.orders.values()

        def cancel_and_fill(order: Order, *words: str) -> Order:
            if order is first:
                venue.exchange.fill(order)
            return cancel(order, *words)

        monkeypatch.setattr(venue.exchange, "cancel", cancel_and_fill)
        status, body, _ = await call("DELETE", prefix + cancel_all, symbol="BTCUSDT")
        assert status == 200, body
        assert first.status is OrdStatus.FILLED
        assert {order.status for order in others} == {OrdStatus.CANCELED}


async def test_what_could_fill_at_once_is_filled_in_part(
    venue: Venue, signed: Any, control: Callable[..., Any]
) -> None:
    await control("partial_fill", part=0.25, count=1)
    taking = {**ORDER, "price": "60000", "quantity": "0.4"}
    for _ in range(2):
        await signed.order(**taking)
    first, second = venue.exchange.ledger.orders.values()
    # The rest of it rests, for the crowd withdraws; so the next one finds nobody.
    assert (str(first.cum_qty), first.status) == ("0.10000", OrdStatus.PARTIALLY_FILLED)
    assert (second.cum_qty, second.status) == (0, OrdStatus.NEW)


async def test_resting_orders_are_filled_in_part(
    venue: Venue, signed: Any, control: Callable[..., Any]
) -> None:
    for price in ("50000", "50001"):
        await signed.order(**{**ORDER, "price": price})
    await control("fill_orders", symbol="BTCUSDT", part=0.5)
    orders = venue.exchange.ledger.orders.values()
    assert [(str(o.cum_qty), o.status) for o in orders] == [
        ("0.00500", OrdStatus.PARTIALLY_FILLED)
    ] * 2


@pytest.mark.parametrize(
    ("state", "order_goes", "cancel_goes"),
    [("halted", False, False), ("cancel_only", False, True), ("closed", False, True)],
)
async def test_the_market_takes_no_orders_for_a_while(
    venue: Venue,
    signed: Any,
    control: Callable[..., Any],
    eventually: Callable[..., Any],
    state: str,
    order_goes: bool,
    cancel_goes: bool,
) -> None:
    _, placed = await signed.order(**ORDER)
    await control("market_state", state=state, symbol="BTCUSDT", lasts_s=2.0)
    assert venue.exchange.session("BTCUSDT").value == state
    status, _ = await signed.order(**ORDER)
    assert (status == 200) is order_goes
    status, _ = await cancel(signed, placed["orderId"])
    assert (status == 200) is cancel_goes
    await eventually(lambda: venue.exchange.session("BTCUSDT").value == "open")
    assert (await signed.order(**ORDER))[0] == 200


async def test_markets_are_what_the_last_of_the_conditions_says(
    venue: Venue, http: aiohttp.ClientSession, control: Callable[..., Any]
) -> None:
    await control("market_state", state="closed")
    await control("market_state", state="halted", symbol="BTCUSDT")
    assert venue.exchange.session("BTCUSDT").value == "halted"
    async with http.delete(f"{venue.url}/sim/v1/control/faults"):
        assert venue.exchange.session("BTCUSDT").value == "open"


async def test_stop_orders_vanish_and_nobody_is_told(
    venue: Venue, signed: Any, control: Callable[..., Any]
) -> None:
    stop = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_LOSS", "quantity": "0.01"}
    await signed.order(**stop, stopPrice="40000")
    await control("drop_protective_orders")
    status, coming = await signed.order(**stop, stopPrice="41000")
    assert status == 200, coming
    await signed.order(**ORDER)
    _, rows, _ = await signed("GET", "/api/v3/openOrders")
    assert [row["type"] for row in rows] == ["LIMIT"]
    reasons = [order.reason for order in venue.exchange.ledger.orders.values()]
    assert reasons == ["dropped", "dropped", ""]


async def test_a_dead_mans_switch_fires_though_it_is_refreshed(
    http: aiohttp.ClientSession, signed_at: Callable[[str], Any]
) -> None:
    """On USD-M futures: Binance spot has none."""
    still = testing.StillMarket("binance-usdm", BTCUSDT=("59990", "60000", "1"))
    given = testing.settings([still], face="binance-usdm")
    async with testing.running_venue(given) as venue:
        call, faults = signed_at(venue.url), f"{venue.url}/sim/v1/control/faults"
        fire = {"kind": "dead_man_fires"}
        async with http.post(faults, json=fire) as reply:
            told = (await reply.json())["faults"][0]["refused"]
            assert told == "no dead-man's switch is armed"
        status, body, _ = await call("POST", "/fapi/v1/order", **ORDER)
        assert status == 200, body
        countdown = {"symbol": "BTCUSDT", "countdownTime": "120000"}
        status, body, _ = await call("POST", "/fapi/v1/countdownCancelAll", **countdown)
        assert status == 200, body
        async with http.post(faults, json=fire) as reply:
            assert (await reply.json())["faults"][0]["refused"] == ""
        (order,) = venue.exchange.ledger.orders.values()
        assert (order.status, order.reason) == (OrdStatus.CANCELED, "dead_man")


async def test_a_dead_mans_switch_fires_in_its_time_and_no_skew_changes_it(
    http: aiohttp.ClientSession, signed_at: Callable[[str], Any], eventually: Callable[..., Any]
) -> None:
    still = testing.StillMarket("binance-usdm", BTCUSDT=("59990", "60000", "1"))
    given = testing.settings([still], face="binance-usdm")
    async with testing.running_venue(given) as venue:
        call = signed_at(venue.url)
        assert (await call("POST", "/fapi/v1/order", **ORDER))[0] == 200
        begun = time.monotonic()
        countdown = {"symbol": "BTCUSDT", "countdownTime": "2000"}
        status, body, _ = await call("POST", "/fapi/v1/countdownCancelAll", **countdown)
        assert status == 200, body
        skew = {"kind": "clock_skew", "skew_ms": 3_600_000}
        async with http.post(f"{venue.url}/sim/v1/control/faults", json=skew) as reply:
            assert reply.status == 201
        (order,) = venue.exchange.ledger.orders.values()
        await eventually(lambda: not order.is_open)
        assert 2.0 <= time.monotonic() - begun < 60  # and not after the hour of the skew


async def test_a_symbol_or_an_account_that_the_venue_does_not_have_is_told(
    venue: Venue, http: aiohttp.ClientSession
) -> None:
    for fault, words in (
        ({"kind": "market_state", "state": "halted", "symbol": "NONE"}, "BTCUSDT"),
        ({"kind": "key_revoked", "account": "nobody"}, "counterparty"),
    ):
        async with http.post(f"{venue.url}/sim/v1/control/faults", json=fault) as reply:
            assert reply.status == 400
            assert words in (await reply.json())["message"]
    assert not venue.faults.armed
