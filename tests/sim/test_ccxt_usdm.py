"""Unmodified ccxt (async and pro) against the USD-M venue, with only its URLs changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import ccxt.async_support
import ccxt.pro
import pytest

from openbell_sim import testing
from openbell_sim.server import Venue

PAIR = "BTC/USDT:USDT"
SECONDS = 60


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    async with testing.running_venue(testing.settings(face="binance-usdm")) as running:
        yield running


@pytest.fixture
async def client(venue: Venue, connect: Callable[..., Any]) -> Any:
    """The streams' class has all the calls of ccxt.async_support's, and inherits them."""
    made = connect(venue.port, kind=ccxt.pro.binanceusdm)
    await made.load_markets()
    return made


async def within(coroutine: Any) -> Any:
    return await asyncio.wait_for(coroutine, SECONDS)


def refused(code: str) -> Any:
    """ccxt chooses the class of its exceptions by host name, so only the code is sure here."""
    return pytest.raises(ccxt.ExchangeError, match=code)


async def off(client: Any, share: float) -> float:
    """A price at this share of the best bid."""
    book = await client.fetch_order_book(PAIR, 5)
    return float(client.price_to_precision(PAIR, book["bids"][0][0] * share))


@pytest.mark.parametrize(
    "kind", [ccxt.async_support.binanceusdm, ccxt.async_support.binance], ids=["usdm", "all venues"]
)
async def test_markets_load_with_keys(
    venue: Venue, connect: Callable[..., Any], kind: type[Any]
) -> None:
    client = connect(venue.port, kind=kind)
    markets = await client.load_markets()
    assert set(markets) == {f"{base}/USDT:USDT" for base in ("BTC", "ETH", "BNB", "SOL")}
    market = markets[PAIR]
    assert (market["swap"], market["linear"], market["active"]) == (True, True, True)
    assert (market["precision"]["amount"], market["precision"]["price"]) == (0.001, 0.1)
    assert market["limits"]["cost"]["min"] == 100
    assert market["contractSize"] == 1


async def test_public_calls_parse(
    client: Any, venue: Venue, eventually: Callable[..., Any]
) -> None:
    await eventually(lambda: venue.exchange.markets["BTCUSDT"].tape.trades)
    assert (await client.fetch_ticker(PAIR))["last"] > 0
    assert len(await client.fetch_tickers()) == 4
    quotes = (await client.fetch_bids_asks([PAIR]))[PAIR]
    assert quotes["bid"] < quotes["ask"]
    assert len(await client.fetch_trades(PAIR)) >= 1
    assert (await client.fetch_ohlcv(PAIR, "1m"))[0][4] > 0
    assert abs(await client.fetch_time() - client.milliseconds()) < 10_000
    funding = await client.fetch_funding_rate(PAIR)
    assert (funding["fundingRate"], funding["markPrice"] > 0) == (0, True)
    assert await client.fetch_funding_rate_history(PAIR) == []


async def test_a_limit_order_lives_and_is_cancelled(client: Any) -> None:
    price = await off(client, 0.9)
    placed = await client.create_order(
        PAIR, "limit", "buy", 0.01, price, {"clientOrderId": "desk-1"}
    )
    assert (placed["status"], placed["filled"], placed["remaining"]) == ("open", 0, 0.01)
    (listed,) = await client.fetch_open_orders(PAIR)
    assert (listed["id"], listed["clientOrderId"], listed["price"]) == (
        placed["id"],
        "desk-1",
        price,
    )
    balance = await client.fetch_balance()
    assert balance["USDT"]["used"] == pytest.approx(price * 0.01 / 20)
    found = await client.fetch_order(None, PAIR, {"clientOrderId": "desk-1"})
    assert (found["id"], found["status"]) == (placed["id"], "open")
    assert (await client.cancel_order(placed["id"], PAIR))["status"] == "canceled"
    assert not await client.fetch_open_orders(PAIR)
    assert (await client.fetch_order(placed["id"], PAIR))["status"] == "canceled"
    assert (await client.fetch_balance())["USDT"]["used"] == 0


async def test_an_order_is_amended_under_its_own_id(client: Any) -> None:
    price = await off(client, 0.9)
    placed = await client.create_order(PAIR, "limit", "buy", 0.01, price)
    changed = await client.edit_order(placed["id"], PAIR, "limit", "buy", 0.02, price - 100)
    assert (changed["id"], changed["amount"], changed["price"]) == (placed["id"], 0.02, price - 100)
    with refused("-5027"):
        await client.edit_order(placed["id"], PAIR, "limit", "buy", 0.02, price - 100)


async def test_a_position_is_opened_and_closed_and_its_profit_is_money(client: Any) -> None:
    bought = await client.create_order(PAIR, "market", "buy", 0.02)
    assert (bought["status"], bought["filled"]) == ("closed", 0.02)
    (position,) = await client.fetch_positions([PAIR])
    assert (position["side"], position["contracts"]) == ("long", 0.02)
    assert position["entryPrice"] == pytest.approx(bought["average"])
    too_much = await client.create_order(PAIR, "market", "sell", 0.5, None, {"reduceOnly": True})
    assert (too_much["reduceOnly"], too_much["filled"]) == (True, 0.02)
    assert not await client.fetch_positions([PAIR])
    trades = await client.fetch_my_trades(PAIR)
    assert {trade["fee"]["currency"] for trade in trades} == {"USDT"}
    fees = sum(trade["fee"]["cost"] for trade in trades)
    profit = sum(float(trade["info"]["realizedPnl"]) for trade in trades)
    assert fees == pytest.approx(sum(trade["cost"] for trade in trades) * 0.0005, rel=1e-4)
    balance = await client.fetch_balance()
    assert balance["USDT"]["total"] == pytest.approx(1_000_000 + profit - fees)
    ledger = await client.fetch_ledger("USDT")
    paid = sum(e["amount"] * (1 if e["direction"] == "in" else -1) for e in ledger)
    assert paid == pytest.approx(profit - fees)


async def test_reduce_only_opens_nothing(client: Any) -> None:
    with refused("-2022"):
        await client.create_order(PAIR, "market", "sell", 0.01, None, {"reduceOnly": True})


async def test_a_post_only_order_rests_or_is_refused(client: Any) -> None:
    above = await off(client, 1.01)
    with refused("-5022"):
        await client.create_order(PAIR, "limit", "buy", 0.01, above, {"postOnly": True})
    below = await off(client, 0.9)
    order = await client.create_order(PAIR, "limit", "buy", 0.01, below, {"postOnly": True})
    assert (order["status"], order["postOnly"], order["timeInForce"]) == ("open", True, "PO")


@pytest.mark.parametrize("tif", ["IOC", "FOK"])
async def test_ioc_and_fok_end_at_once(client: Any, tif: str) -> None:
    price = await off(client, 0.9)
    order = await client.create_order(PAIR, "limit", "buy", 0.01, price, {"timeInForce": tif})
    assert (await client.fetch_order(order["id"], PAIR))["status"] == "expired"


async def test_batches_and_cancel_all_take_what_they_name(client: Any) -> None:
    price = await off(client, 0.9)
    wanted = {"symbol": PAIR, "type": "limit", "side": "buy", "amount": 0.01, "price": price}
    placed = await client.create_orders([wanted, {**wanted, "amount": 1e-3}, wanted])
    # ccxt sorts them by time, which a refused one has none of.
    assert [order["status"] for order in placed] == ["rejected", "open", "open"]
    ids = [order["id"] for order in placed if order["id"]]
    cancelled = await client.cancel_orders([ids[0], "1"], PAIR)
    # Nor does it show refused cancels.
    assert [(order["id"], order["status"]) for order in cancelled] == [(ids[0], "canceled")]
    await client.create_order("ETH/USDT:USDT", "limit", "sell", 1, 4000)
    await client.cancel_all_orders(PAIR)
    (left,) = await client.fetch_open_orders()
    assert left["symbol"] == "ETH/USDT:USDT"


async def test_conditional_orders_are_the_algo_services(client: Any) -> None:
    """Plain lists do not show them, plain cancels do not reach them."""
    stop = await off(client, 1.05)
    placed = await client.create_order(
        PAIR, "market", "buy", 0.01, None, {"triggerPrice": stop, "clientOrderId": "stop-1"}
    )
    assert (placed["status"], placed["triggerPrice"]) == ("open", stop)
    assert not await client.fetch_open_orders(PAIR)
    (listed,) = await client.fetch_open_orders(PAIR, params={"trigger": True})
    assert (listed["id"], listed["clientOrderId"], listed["triggerPrice"]) == (
        placed["id"],
        "stop-1",
        stop,
    )
    await client.cancel_all_orders(PAIR)
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order(placed["id"], PAIR)
    assert await client.fetch_open_orders(PAIR, params={"trigger": True})
    await client.cancel_order(placed["id"], PAIR, {"trigger": True})
    ended = await client.fetch_order(placed["id"], PAIR, {"trigger": True})
    assert ended["status"] == "canceled"
    await client.create_order(PAIR, "limit", "buy", 0.01, stop, {"triggerPrice": stop})
    await client.cancel_all_orders(PAIR, {"trigger": True})
    assert not await client.fetch_open_orders(PAIR, params={"trigger": True})


async def test_settings_are_what_they_are(client: Any) -> None:
    assert (await client.set_leverage(20, PAIR))["leverage"] == 20
    with refused("-4028"):
        await client.set_leverage(50, PAIR)
    with pytest.raises(ccxt.ExchangeError, match="-1020"):
        await client.set_position_mode(True)
    with pytest.raises(ccxt.ExchangeError, match="-1020"):
        await client.set_margin_mode("isolated", PAIR)
    assert (await client.fetch_leverage(PAIR))["longLeverage"] == 20
    assert (await client.fetch_trading_fee(PAIR))["taker"] == 0.0005
    assert (await client.fetch_position_mode())["hedged"] is False
    assert (await client.fetch_leverage_tiers([PAIR]))[PAIR][0]["maxLeverage"] == 20


async def test_errors_arrive_as_ccxts_own_kinds(client: Any) -> None:
    with pytest.raises(ccxt.OrderNotFound):
        await client.fetch_order("1", PAIR)
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order("1", PAIR)
    price = await off(client, 0.9)
    with refused("-2019"):
        await client.create_order(PAIR, "limit", "buy", 900, price)
    await client.create_order(PAIR, "limit", "buy", 0.01, price, {"clientOrderId": "once"})
    with refused("-4116"):
        await client.create_order(PAIR, "limit", "buy", 0.01, price, {"clientOrderId": "once"})
    with refused("-4164"):
        await client.create_order(PAIR, "limit", "buy", 0.001, price)
    client.secret = "wrong"
    with pytest.raises(ccxt.AuthenticationError, match="-1022"):
        await client.fetch_balance()


# Streams


async def test_the_watched_book_is_the_venues_book(client: Any, venue: Venue) -> None:
    """ccxt checks the continuity of every update against the snapshot itself."""
    book = await within(client.watch_order_book(PAIR))
    for _ in range(15):
        book = await within(client.watch_order_book(PAIR))
    market = venue.exchange.markets["BTCUSDT"]
    while book["nonce"] != market.book.update_id:
        book = await within(client.watch_order_book(PAIR))
    for side, levels in ((market.book.bids, book["bids"]), (market.book.asks, book["asks"])):
        expected = [
            [float(market.instrument.price(p)), float(market.instrument.quantity(q))]
            for p, q in side.top(10)
        ]
        assert [list(level[:2]) for level in levels[:10]] == expected


async def test_trades_quotes_tickers_and_bars_are_watched(client: Any) -> None:
    (trade, *_) = await within(client.watch_trades(PAIR))
    assert trade["price"] > 0
    quotes = await within(client.watch_bids_asks([PAIR]))
    assert quotes[PAIR]["bid"] < quotes[PAIR]["ask"]
    assert (await within(client.watch_ticker(PAIR)))["last"] > 0
    assert (await within(client.watch_mark_price(PAIR)))["markPrice"] > 0
    (bar, *_) = await within(client.watch_ohlcv(PAIR, "1m"))
    assert bar[3] <= bar[4] <= bar[2]


async def test_orders_trades_positions_and_balances_are_watched(
    client: Any, venue: Venue, eventually: Callable[..., Any]
) -> None:
    watched = {
        name: asyncio.create_task(getattr(client, f"watch_{name}")())
        for name in ("orders", "my_trades", "positions", "balance")
    }
    await eventually(lambda: len(venue.face.hub.clients) == 1)
    price = await off(client, 0.9)
    placed = await client.create_order(
        PAIR, "limit", "buy", 0.01, price, {"clientOrderId": "watched"}
    )
    (seen,) = await within(watched["orders"])
    assert (seen["id"], seen["clientOrderId"], seen["status"]) == (placed["id"], "watched", "open")
    orders = asyncio.create_task(client.watch_orders())
    await client.cancel_order(placed["id"], PAIR)
    (seen,) = await within(orders)
    assert (seen["clientOrderId"], seen["status"]) == ("watched", "canceled")
    sold = await client.create_order(PAIR, "market", "sell", 0.02)
    (trade, *_) = await within(watched["my_trades"])
    assert (trade["order"], trade["side"], trade["takerOrMaker"]) == (sold["id"], "sell", "taker")
    assert trade["fee"]["currency"] == "USDT"
    positions = await within(watched["positions"])
    assert [(p["symbol"], p["side"], p["contracts"]) for p in positions] == [(PAIR, "short", 0.02)]
    assert (await within(watched["balance"]))["USDT"]["total"] < 1_000_000


async def test_a_conditional_order_is_watched(
    client: Any, venue: Venue, eventually: Callable[..., Any]
) -> None:
    orders = asyncio.create_task(client.watch_orders())
    await eventually(lambda: len(venue.face.hub.clients) == 1)
    stop = await off(client, 1.05)
    placed = await client.create_order(PAIR, "market", "buy", 0.01, None, {"triggerPrice": stop})
    (seen,) = await within(orders)
    assert (seen["id"], seen["triggerPrice"], seen["status"]) == (placed["id"], stop, "open")


async def test_orders_are_placed_and_cancelled_over_the_websocket_api(client: Any) -> None:
    price = await off(client, 0.9)
    placed = await within(client.create_order_ws(PAIR, "limit", "buy", 0.01, price))
    assert placed["status"] == "open"
    changed = await within(client.edit_order_ws(placed["id"], PAIR, "limit", "buy", 0.02, price))
    assert changed["amount"] == 0.02
    assert (await within(client.cancel_order_ws(placed["id"], PAIR)))["status"] == "canceled"
    stop = await off(client, 1.05)
    conditional = await within(
        client.create_order_ws(PAIR, "market", "buy", 0.01, None, {"triggerPrice": stop})
    )
    assert await client.fetch_open_orders(PAIR, params={"trigger": True})
    await within(client.cancel_order_ws(conditional["id"], PAIR, {"trigger": True}))
    assert not await client.fetch_open_orders(PAIR, params={"trigger": True})
    assert await within(client.fetch_positions_ws([PAIR])) == []
    assert (await within(client.fetch_balance_ws({"type": "future"})))["USDT"]["total"] > 0
