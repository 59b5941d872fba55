"""Unmodified ccxt (async and pro) against the Coinbase face, with only its URLs changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import ccxt.pro
import pytest

from openbell_sim import testing
from openbell_sim.server import Venue

PAIR = "BTC/USD"
SECONDS = 60


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    async with testing.running_venue(testing.settings(face="coinbase", limit_scale=0)) as running:
        yield running


@pytest.fixture
async def client(venue: Venue, connect: Callable[..., Any]) -> Any:
    made = connect(venue.port, kind=ccxt.pro.coinbase, enableRateLimit=False)
    await made.load_markets()
    return made


async def within(coroutine: Any) -> Any:
    return await asyncio.wait_for(coroutine, SECONDS)


async def far_below(client: Any) -> float:
    ticker = await client.fetch_ticker(PAIR)
    return float(client.price_to_precision(PAIR, ticker["bid"] * 0.9))


async def test_markets_load_with_keys(client: Any) -> None:
    assert set(client.markets) == {"BTC/USD", "ETH/USD", "LTC/USD", "SOL/USD"}
    market = client.market(PAIR)
    assert market["spot"]
    assert market["active"]
    assert (market["precision"]["amount"], market["precision"]["price"]) == (1e-8, 0.01)
    assert (market["maker"], market["taker"]) == (0.004, 0.006)
    assert market["limits"]["cost"]["min"] == 1


async def test_currencies_time_and_balances_are_told(client: Any) -> None:
    assert {"USD", "BTC"} <= set(await client.fetch_currencies())
    assert abs(await client.fetch_time() - client.milliseconds()) < 5000
    assert (await client.fetch_balance())["USD"]["total"] == 1_000_000
    assert (await client.fetch_balance({"v3": True}))["BTC"]["free"] == 5
    accounts = await client.fetch_accounts()
    assert {account["code"] for account in accounts} >= {"USD", "BTC"}
    (portfolio,) = await client.fetch_portfolios()
    assert portfolio["type"] == "DEFAULT"


async def test_books_tickers_trades_and_candles_are_told(client: Any) -> None:
    book = await client.fetch_order_book(PAIR, 5)
    assert len(book["bids"]) == len(book["asks"]) == 5
    assert book["bids"][0][0] < book["asks"][0][0]
    await client.create_order(PAIR, "market", "sell", 0.01)
    ticker = await client.fetch_ticker(PAIR)
    assert ticker["bid"] < ticker["ask"]
    assert (await client.fetch_tickers([PAIR]))[PAIR]["last"] > 0
    assert (await client.fetch_bids_asks([PAIR]))[PAIR]["bidVolume"] > 0
    assert (await client.fetch_trades(PAIR, limit=5))[-1]["price"] > 0
    assert (await client.fetch_ohlcv(PAIR, "1m", limit=5))[-1][5] >= 0.01


async def test_a_limit_order_lives_and_is_cancelled(client: Any) -> None:
    price = await far_below(client)
    placed = await client.create_order(
        PAIR, "limit", "buy", 0.01, price, {"client_order_id": "desk-1"}
    )
    (listed,) = await client.fetch_open_orders(PAIR)
    assert (listed["id"], listed["clientOrderId"]) == (placed["id"], "desk-1")
    assert (listed["price"], listed["amount"], listed["status"]) == (price, 0.01, "open")
    assert (await client.fetch_balance({"v3": True}))["USD"]["used"] == pytest.approx(price * 0.01)
    await client.cancel_order(placed["id"])
    assert (await client.fetch_order(placed["id"]))["status"] == "canceled"
    assert not await client.fetch_open_orders(PAIR)
    with pytest.raises(ccxt.BadRequest):
        await client.cancel_order(placed["id"])


async def test_the_unified_client_order_id_is_dropped_without_a_word(
    client: Any, venue: Venue
) -> None:
    """What our adapter must not rely on; a version of ccxt that sends it would be news."""
    price = await far_below(client)
    await client.create_order(PAIR, "limit", "buy", 0.01, price, {"clientOrderId": "desk-1"})
    (order,) = venue.exchange.ledger.orders.values()
    assert order.cl_ord_id.startswith("ccxt-")


async def test_an_order_is_edited(client: Any) -> None:
    price = await far_below(client)
    placed = await client.create_order(PAIR, "limit", "buy", 0.01, price)
    await client.edit_order(placed["id"], PAIR, "limit", "buy", 0.02, price - 10)
    found = await client.fetch_order(placed["id"])
    assert (found["amount"], found["price"]) == (0.02, pytest.approx(price - 10))


async def test_market_orders_fill_and_their_trades_are_told(client: Any) -> None:
    sold = await client.create_order(PAIR, "market", "sell", 0.02)
    ask = (await client.fetch_ticker(PAIR))["ask"]
    bought = await client.create_order(PAIR, "market", "buy", 0.01, ask)
    for order, side in ((sold, "sell"), (bought, "buy")):
        found = await client.fetch_order(order["id"])
        assert (found["status"], found["type"], found["side"]) == ("closed", "market", side)
    trades = await client.fetch_my_trades(PAIR)
    assert {trade["order"] for trade in trades} == {sold["id"], bought["id"]}
    assert {trade["fee"]["currency"] for trade in trades} == {"USD"}
    assert {trade["takerOrMaker"] for trade in trades} == {"taker"}
    assert len(await client.fetch_closed_orders(PAIR)) == 2


@pytest.mark.parametrize(
    ("amount", "price_ratio", "params", "error"),
    [
        (1000, 0.9, {}, ccxt.InsufficientFunds),
        (0.01, 1.1, {"postOnly": True}, ccxt.ExchangeError),
    ],
)
async def test_refusals_are_those_of_coinbase(
    client: Any, amount: float, price_ratio: float, params: dict[str, Any], error: type[Exception]
) -> None:
    bid = (await client.fetch_ticker(PAIR))["bid"]
    price = float(client.price_to_precision(PAIR, bid * price_ratio))
    with pytest.raises(error):
        await client.create_order(PAIR, "limit", "buy", amount, price, params)


async def test_an_order_that_is_not_there_is_a_bare_exchange_error(client: Any) -> None:
    """ccxt has OrderNotFound for this answer of Coinbase's, and looks for it in another field."""
    with pytest.raises(ccxt.ExchangeError, match="was not found"):
        await client.fetch_order("00000000-0000-0000-0000-000000000001")


async def test_a_wrong_secret_is_an_authentication_error(
    venue: Venue, connect: Callable[..., Any]
) -> None:
    stranger = connect(venue.port, kind=ccxt.pro.coinbase, secret="another")
    with pytest.raises(ccxt.AuthenticationError):
        await stranger.fetch_accounts()


async def test_too_many_requests_are_an_error_of_their_own(connect: Callable[..., Any]) -> None:
    async with testing.running_venue(testing.settings(face="coinbase")) as venue:
        client = connect(venue.port, kind=ccxt.pro.coinbase, enableRateLimit=False)
        answers = await asyncio.gather(
            *(client.v3PublicGetBrokerageTime() for _ in range(40)), return_exceptions=True
        )
    assert any(isinstance(each, ccxt.RateLimitExceeded) for each in answers)


async def test_own_orders_are_watched(client: Any) -> None:
    price = await far_below(client)
    watched = asyncio.ensure_future(client.watch_orders(PAIR))
    await within(client.watch_ticker(PAIR))  # the subscription before it has been answered
    placed = await client.create_order(PAIR, "limit", "buy", 0.01, price)
    (order,) = await within(watched)
    assert (order["id"], order["status"]) == (placed["id"], "open")
    await client.cancel_order(placed["id"])
    (order,) = await within(client.watch_orders(PAIR))
    assert (order["id"], order["status"]) == (placed["id"], "canceled")


async def test_books_trades_and_tickers_are_watched(client: Any) -> None:
    book = await within(client.watch_order_book(PAIR))
    assert book["bids"][0][0] < book["asks"][0][0]
    ticker = await within(client.watch_ticker(PAIR))
    assert ticker["bid"] < ticker["ask"]
    watched = asyncio.ensure_future(client.watch_trades(PAIR))
    await within(client.watch_tickers([PAIR]))
    await client.create_order(PAIR, "market", "sell", 0.012345)
    while not any(trade["amount"] == 0.012345 for trade in await within(watched)):
        watched = asyncio.ensure_future(client.watch_trades(PAIR))
