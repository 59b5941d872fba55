"""Unmodified ccxt.async_support against the venue, with only its URLs changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ccxt.async_support
import pytest

from openbell_sim import testing
from openbell_sim.server import Venue

SPOT_ONLY = {
    "options": {
        "fetchCurrencies": False,
        "fetchMargins": False,
        "fetchMarkets": {"types": ["spot"]},
    }
}
PAIR = "BTC/USDT"


@pytest.fixture
async def client(venue: Venue, connect: Callable[..., Any]) -> Any:
    made = connect(venue.port, kind=ccxt.async_support.binance, **SPOT_ONLY)
    await made.load_markets()
    return made


async def far_below(client: Any) -> float:
    ticker = await client.fetch_bids_asks([PAIR])
    return float(client.price_to_precision(PAIR, ticker[PAIR]["bid"] * 0.9))


@pytest.mark.parametrize("config", [{}, SPOT_ONLY], ids=["default options", "spot only"])
async def test_markets_load_with_keys(
    venue: Venue, connect: Callable[..., Any], config: dict[str, Any]
) -> None:
    client = connect(venue.port, kind=ccxt.async_support.binance, **config)
    markets = await client.load_markets()
    assert set(markets) == {"BTC/USDT", "ETH/USDT", "LTC/USDT", "BNB/USDT"}
    market = markets[PAIR]
    assert market["spot"]
    assert market["active"]
    assert market["precision"] == {"amount": 1e-5, "price": 0.01, "base": 1e-8, "quote": 1e-8}
    assert market["limits"]["amount"]["min"] == 1e-5
    assert market["limits"]["cost"]["min"] == 5


async def test_a_limit_order_lives_and_is_cancelled(client: Any) -> None:
    price = await far_below(client)
    placed = await client.create_order(
        PAIR, "limit", "buy", 0.01, price, {"clientOrderId": "desk-1"}
    )
    assert (placed["status"], placed["filled"], placed["remaining"]) == ("open", 0, 0.01)
    (listed,) = await client.fetch_open_orders()
    assert (listed["id"], listed["clientOrderId"]) == (placed["id"], "desk-1")
    balance = await client.fetch_balance()
    assert balance["USDT"]["used"] == pytest.approx(price * 0.01)
    assert balance["USDT"]["total"] == 1_000_000
    found = await client.fetch_order(None, PAIR, {"clientOrderId": "desk-1"})
    assert (found["id"], found["status"]) == (placed["id"], "open")
    cancelled = await client.cancel_order(placed["id"], PAIR)
    assert cancelled["status"] == "canceled"
    assert not await client.fetch_open_orders(PAIR)
    for arguments in ((placed["id"], PAIR), (None, PAIR, {"clientOrderId": "desk-1"})):
        assert (await client.fetch_order(*arguments))["status"] == "canceled"
    assert (await client.fetch_balance())["USDT"]["used"] == 0


async def test_a_market_order_is_filled_and_its_trades_add_up(client: Any) -> None:
    order = await client.create_order(PAIR, "market", "buy", 0.02)
    assert (order["status"], order["filled"]) == ("closed", 0.02)
    trades = await client.fetch_my_trades(PAIR)
    assert sum(trade["amount"] for trade in trades) == pytest.approx(0.02)
    assert {trade["order"] for trade in trades} == {order["id"]}
    assert {trade["fee"]["currency"] for trade in trades} == {"BTC"}
    fee = sum(trade["fee"]["cost"] for trade in trades)
    balance = await client.fetch_balance()
    assert balance["BTC"]["free"] == pytest.approx(5 + 0.02 - fee)
    again = await client.fetch_order(order["id"], PAIR)
    assert again["cost"] == pytest.approx(sum(trade["cost"] for trade in trades))


async def test_a_market_buy_with_a_price_spends_an_amount(client: Any) -> None:
    order = await client.create_order(PAIR, "market", "buy", 0.02, 50000)
    assert order["status"] == "closed"
    assert 990 < order["cost"] <= 1000


@pytest.mark.parametrize(
    ("tif", "share", "status"),
    [
        ("IOC", 0.9, "expired"),
        ("FOK", 0.9, "expired"),
        ("IOC", 1.1, "closed"),
        ("FOK", 1.1, "closed"),
    ],
)
async def test_ioc_and_fok_end_at_once(client: Any, tif: str, share: float, status: str) -> None:
    ask = (await client.fetch_bids_asks([PAIR]))[PAIR]["ask"]
    price = float(client.price_to_precision(PAIR, ask * share))
    order = await client.create_order(PAIR, "limit", "buy", 0.001, price, {"timeInForce": tif})
    assert order["status"] == status
    assert not await client.fetch_open_orders(PAIR)


async def test_a_post_only_order_rests_or_is_refused(client: Any) -> None:
    quotes = (await client.fetch_bids_asks([PAIR]))[PAIR]
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        price = float(client.price_to_precision(PAIR, quotes["ask"] * 1.01))
        await client.create_order(PAIR, "limit", "buy", 0.01, price, {"postOnly": True})
    order = await client.create_order(
        PAIR, "limit", "buy", 0.01, await far_below(client), {"postOnly": True}
    )
    assert (order["status"], order["postOnly"]) == ("open", True)


async def test_cancel_all_takes_one_symbol(client: Any) -> None:
    price = await far_below(client)
    for _ in range(3):
        await client.create_order(PAIR, "limit", "buy", 0.01, price)
    other = await client.create_order("ETH/USDT", "limit", "sell", 1, 4000)
    assert len(await client.cancel_all_orders(PAIR)) == 3
    (left,) = await client.fetch_open_orders()
    assert left["id"] == other["id"]
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_all_orders(PAIR)


async def test_errors_arrive_as_ccxts_own_kinds(client: Any) -> None:
    with pytest.raises(ccxt.OrderNotFound):
        await client.fetch_order("1", PAIR)
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order("1", PAIR)
    with pytest.raises(ccxt.InsufficientFunds):
        await client.create_order(PAIR, "limit", "buy", 100, 40000)
    price = await far_below(client)
    await client.create_order(PAIR, "limit", "buy", 0.01, price, {"clientOrderId": "once"})
    with pytest.raises(ccxt.InvalidOrder, match="Duplicate order sent"):
        await client.create_order(PAIR, "limit", "buy", 0.01, price, {"clientOrderId": "once"})
    with pytest.raises(ccxt.BadRequest, match="NOTIONAL"):
        await client.create_order(PAIR, "limit", "buy", 0.00001, price)
    client.secret = "wrong"
    with pytest.raises(ccxt.AuthenticationError, match="-1022"):
        await client.fetch_balance()


async def test_public_calls_parse(
    client: Any, venue: Venue, eventually: Callable[..., Any]
) -> None:
    await eventually(lambda: venue.exchange.markets["BTCUSDT"].tape.trades)
    assert (await client.fetch_ticker(PAIR))["last"] > 0
    assert len(await client.fetch_tickers()) == 4
    book = await client.fetch_order_book(PAIR, 10)
    assert book["bids"][0][0] < book["asks"][0][0]
    assert len(await client.fetch_trades(PAIR)) >= 1
    assert (await client.fetch_ohlcv(PAIR, "1m"))[0][4] > 0
    assert abs(await client.fetch_time() - client.milliseconds()) < 10_000


async def test_two_accounts_trade_with_each_other(connect: Callable[..., Any]) -> None:
    still = testing.StillMarket(BTCUSDT=("59990", "60000", "1"))
    async with testing.running_venue(testing.settings([still])) as venue:
        make = partial(connect, venue.port, kind=ccxt.async_support.binance, **SPOT_ONLY)
        one = make()
        other = make(apiKey=testing.COUNTERPARTY_KEY, secret=testing.COUNTERPARTY_SECRET)
        resting = await other.create_order(PAIR, "limit", "buy", 0.01, 59995)
        taken = await one.create_order(PAIR, "market", "sell", 0.02)
        assert [(f["price"], f["amount"]) for f in taken["trades"]] == [
            (59995, 0.01),
            (59990, 0.01),
        ]
        own = await other.fetch_order(resting["id"], PAIR)
        assert (own["status"], own["filled"]) == ("closed", 0.01)
        (trade,) = await other.fetch_my_trades(PAIR)
        assert (trade["id"], trade["takerOrMaker"]) == (taken["trades"][0]["id"], "maker")
