"""Unmodified ccxt.async_support and ccxt.pro against the Kraken face, with only their URLs changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import ccxt.async_support
import ccxt.pro
import pytest
from tests.sim.kraken_client import KEY, OTHER_KEY, OTHER_SECRET, SECRET, Quotes, settings

from openbell_sim import testing
from openbell_sim.server import Venue

PAIR = "BTC/USD"
WAIT_S = 60


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    async with testing.running_venue(settings()) as running:
        yield running


@pytest.fixture
async def client(venue: Venue, connect: Callable[..., Any]) -> Any:
    made = connect(
        venue.port,
        kind=ccxt.async_support.kraken,
        apiKey=KEY,
        secret=SECRET,
        enableRateLimit=False,  # it waits up to six seconds between calls
    )
    await made.load_markets()
    return made


@pytest.fixture
async def pro(venue: Venue, connect: Callable[..., Any]) -> Any:
    made = connect(
        venue.port, kind=ccxt.pro.kraken, apiKey=KEY, secret=SECRET, enableRateLimit=False
    )
    await made.load_markets()
    return made


async def far_below(client: Any) -> float:
    ticker = await client.fetch_ticker(PAIR)
    return float(client.price_to_precision(PAIR, ticker["bid"] * 0.9))


# REST.


async def test_markets_load_under_everybodys_names(client: Any) -> None:
    assert set(client.markets) == {"BTC/USD", "ETH/USD", "SOL/USD", "LTC/USD"}
    market = client.markets[PAIR]
    assert (market["id"], market["active"], market["spot"]) == ("XXBTZUSD", True, True)
    assert market["precision"] == {"amount": 1e-8, "price": 0.1}
    assert market["limits"]["amount"]["min"] == 0.00005
    assert (market["maker"], market["taker"]) == (0.0025, 0.004)
    assert client.currencies["BTC"]["id"] == "XXBT"


async def test_a_limit_order_lives_and_is_cancelled(client: Any) -> None:
    price = await far_below(client)
    placed = await client.create_order(
        PAIR, "limit", "buy", 0.01, price, {"clientOrderId": "desk-1"}
    )
    assert (placed["symbol"], placed["side"], placed["type"]) == (PAIR, "buy", "limit")
    assert (placed["amount"], placed["price"]) == (0.01, price)
    (listed,) = await client.fetch_open_orders()
    assert (listed["id"], listed["clientOrderId"], listed["status"]) == (
        placed["id"],
        "desk-1",
        "open",
    )
    balance = await client.fetch_balance()
    assert balance["USD"]["used"] == pytest.approx(price * 0.01)
    assert balance["USD"]["total"] == 1_000_000
    await client.cancel_order(placed["id"], PAIR)
    assert not await client.fetch_open_orders(PAIR)
    again = await client.fetch_order(placed["id"])
    assert (again["status"], again["filled"]) == ("canceled", 0)
    (closed,) = await client.fetch_closed_orders()
    assert closed["id"] == placed["id"]


async def test_an_order_is_cancelled_by_its_client_order_id(client: Any) -> None:
    price = await far_below(client)
    await client.create_order(PAIR, "limit", "buy", 0.01, price, {"clientOrderId": "desk-2"})
    await client.cancel_order(None, PAIR, {"clientOrderId": "desk-2"})
    assert not await client.fetch_open_orders()
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order(None, PAIR, {"clientOrderId": "desk-2"})


async def test_a_market_order_is_filled_and_its_trades_add_up(client: Any) -> None:
    placed = await client.create_order(PAIR, "market", "buy", 0.02)
    order = await client.fetch_order(placed["id"])
    assert (order["status"], order["filled"], order["symbol"]) == ("closed", 0.02, PAIR)
    trades = await client.fetch_my_trades(PAIR)
    assert sum(trade["amount"] for trade in trades) == pytest.approx(0.02)
    assert {trade["order"] for trade in trades} == {placed["id"]}
    assert {(trade["fee"]["currency"], trade["takerOrMaker"]) for trade in trades} == {
        ("USD", "taker")
    }
    balance = await client.fetch_balance()
    assert balance["BTC"]["total"] == pytest.approx(5.02)
    paid = sum(trade["cost"] + trade["fee"]["cost"] for trade in trades)
    assert balance["USD"]["total"] == pytest.approx(1_000_000 - paid, abs=1e-3)
    by_order = await client.fetch_order_trades(
        placed["id"], PAIR, params={"trades": order["trades"]}
    )
    assert {trade["id"] for trade in by_order} == {trade["id"] for trade in trades}


async def test_an_amount_of_dollars_can_be_spent(client: Any) -> None:
    placed = await client.create_market_buy_order_with_cost(PAIR, 1000)
    order = await client.fetch_order(placed["id"])
    assert order["status"] == "closed"
    assert 990 < order["cost"] <= 1000


@pytest.mark.parametrize(("share", "status"), [(0.9, "canceled"), (1.1, "closed")])
async def test_immediate_or_cancel_ends_at_once(client: Any, share: float, status: str) -> None:
    ask = (await client.fetch_ticker(PAIR))["ask"]
    price = float(client.price_to_precision(PAIR, ask * share))
    placed = await client.create_order(PAIR, "limit", "buy", 0.001, price, {"timeInForce": "IOC"})
    assert (await client.fetch_order(placed["id"]))["status"] == status
    assert not await client.fetch_open_orders()


async def test_a_post_only_order_rests_or_is_refused(client: Any) -> None:
    ask = (await client.fetch_ticker(PAIR))["ask"]
    with pytest.raises(ccxt.ExchangeError, match="Post only order"):
        price = float(client.price_to_precision(PAIR, ask * 1.01))
        await client.create_order(PAIR, "limit", "buy", 0.01, price, {"postOnly": True})
    placed = await client.create_order(
        PAIR, "limit", "buy", 0.01, await far_below(client), {"postOnly": True}
    )
    assert (await client.fetch_order(placed["id"]))["postOnly"] is True


async def test_a_stop_loss_is_told_as_one(client: Any) -> None:
    price = await far_below(client)
    placed = await client.create_order(PAIR, "market", "sell", 0.01, None, {"stopLossPrice": price})
    assert (placed["stopLossPrice"], placed["type"]) == (price, "market")
    (listed,) = await client.fetch_open_orders()
    assert (listed["stopLossPrice"], listed["status"]) == (price, "open")


async def test_orders_are_made_and_cancelled_by_the_batch(client: Any) -> None:
    price = await far_below(client)
    order = {"symbol": PAIR, "type": "limit", "side": "buy", "amount": 0.01, "price": price}
    placed = await client.create_orders([order, order])
    assert len({each["id"] for each in placed}) == 2
    (answer,) = await client.cancel_orders([each["id"] for each in placed])
    assert answer["info"]["result"] == {"count": 2}


async def test_an_order_is_edited_in_place(client: Any) -> None:
    price = await far_below(client)
    placed = await client.create_order(PAIR, "limit", "buy", 0.01, price)
    await client.edit_order(placed["id"], PAIR, "limit", "buy", 0.02, price - 10)
    (listed,) = await client.fetch_open_orders()
    assert (listed["id"], listed["amount"], listed["price"]) == (placed["id"], 0.02, price - 10)


async def test_cancel_all_and_the_dead_mans_switch(client: Any) -> None:
    price = await far_below(client)
    for _ in range(3):
        await client.create_order(PAIR, "limit", "buy", 0.01, price)
    (answer,) = await client.cancel_all_orders()
    assert answer["info"]["result"] == {"count": 3}
    armed = await client.cancel_all_orders_after(60_000)
    assert armed["result"]["triggerTime"] > armed["result"]["currentTime"]
    assert (await client.cancel_all_orders_after(0))["result"]["triggerTime"] == "0"


async def test_errors_arrive_as_ccxts_own_kinds(client: Any) -> None:
    price = await far_below(client)
    with pytest.raises(ccxt.InsufficientFunds):
        await client.create_order(PAIR, "limit", "buy", 1000, price)
    with pytest.raises(ccxt.InvalidOrder):
        await client.create_order(PAIR, "limit", "buy", 0.00001, price)
    with pytest.raises(ccxt.ExchangeError, match="Unknown asset pair"):
        await client.public_get_ticker({"pair": "XBTXXX"})
    client.options["lastNonce"] = 0
    client.nonce = lambda: 1
    with pytest.raises(ccxt.InvalidNonce):
        await client.fetch_balance()
    del client.nonce
    client.secret = "6d" * 32
    with pytest.raises(ccxt.ExchangeError, match="Invalid signature"):
        await client.fetch_balance()


async def test_public_calls_parse(
    client: Any, venue: Venue, eventually: Callable[..., Any]
) -> None:
    await eventually(lambda: venue.exchange.markets["XBTUSD"].tape.trades)
    assert (await client.fetch_ticker(PAIR))["last"] > 0
    assert len(await client.fetch_tickers()) == 4
    book = await client.fetch_order_book(PAIR, 10)
    assert book["bids"][0][0] < book["asks"][0][0]
    assert len(await client.fetch_trades(PAIR)) >= 1
    assert (await client.fetch_ohlcv(PAIR, "1m"))[0][4] > 0
    assert abs(await client.fetch_time() - client.milliseconds()) < 10_000
    assert (await client.fetch_status())["status"] == "ok"
    assert (await client.fetch_trading_fee(PAIR))["taker"] == 0.004


async def test_two_accounts_trade_with_each_other(connect: Callable[..., Any]) -> None:
    async with testing.running_venue(settings([Quotes()])) as venue:

        def make(key: str, secret: str) -> Any:
            kind = ccxt.async_support.kraken
            given = {"apiKey": key, "secret": secret, "enableRateLimit": False}
            return connect(venue.port, kind=kind, **given)

        one, other = make(KEY, SECRET), make(OTHER_KEY, OTHER_SECRET)
        resting = await other.create_order(PAIR, "limit", "buy", 0.01, 59995)
        taken = await one.create_order(PAIR, "market", "sell", 0.02)
        trades = await one.fetch_my_trades(PAIR)
        assert {(trade["price"], trade["amount"]) for trade in trades} == {
            (59995, 0.01),
            (59990, 0.01),
        }
        assert {trade["order"] for trade in trades} == {taken["id"]}
        own = await other.fetch_order(resting["id"])
        assert (own["status"], own["filled"]) == ("closed", 0.01)
        (trade,) = await other.fetch_my_trades(PAIR)
        assert (trade["price"], trade["takerOrMaker"]) == (59995, "maker")


# Streams: version 4.5 of ccxt.pro speaks WebSocket v2 alone.


async def soon(what: Any) -> Any:
    return await asyncio.wait_for(what, WAIT_S)


async def test_the_order_book_is_kept(pro: Any) -> None:
    for _ in range(6):
        book = await soon(pro.watch_order_book(PAIR))
    assert len(book["bids"]) == len(book["asks"]) == 10
    assert book["bids"][0][0] < book["asks"][0][0]


async def test_tickers_trades_and_candles_are_streamed(pro: Any) -> None:
    await pro.create_order(PAIR, "market", "buy", 0.02)
    ticker = await soon(pro.watch_ticker(PAIR))
    assert 0 < ticker["bid"] < ticker["ask"]
    trades = await soon(pro.watch_trades(PAIR))
    assert trades[-1]["symbol"] == PAIR
    candles = await soon(pro.watch_ohlcv(PAIR, "1m"))
    assert candles[-1][4] > 0
    quotes = await soon(pro.watch_bids_asks(["SOL/USD"]))
    assert quotes["SOL/USD"]["bid"] > 0


async def test_own_orders_are_streamed(pro: Any) -> None:
    price = await far_below(pro)
    watching = asyncio.create_task(pro.watch_orders())
    await asyncio.sleep(0)
    seen: dict[str, list[str]] = {}
    placed = None
    async with asyncio.timeout(WAIT_S):
        while "canceled" not in seen.get(placed["id"] if placed else "", []):
            if placed is None and any(
                "executions" in c.subscriptions for c in pro.clients.values()
            ):
                placed = await pro.create_order(PAIR, "limit", "buy", 0.01, price)
            done, _ = await asyncio.wait({watching}, timeout=0.05)
            if not done:
                continue
            for order in watching.result():
                seen.setdefault(order["id"], []).append(order["status"])
            if placed is not None and seen[placed["id"]] == ["open"]:
                await pro.cancel_order(placed["id"])
            watching = asyncio.create_task(pro.watch_orders())
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert seen[placed["id"]][0] == "open"


async def test_own_trades_and_balances_are_streamed(pro: Any) -> None:
    balance = await soon(pro.watch_balance())
    assert balance["BTC"]["total"] == 5
    await pro.create_order(PAIR, "market", "buy", 0.02)
    # A snapshot of the newest trades comes first, so one that was missed is in it.
    trades = await soon(pro.watch_my_trades(PAIR))
    assert sum(trade["amount"] for trade in trades) == pytest.approx(0.02)
    assert trades[0]["fee"]["currency"] == "USD"
    # It came meanwhile, and ccxt has noted it.
    assert pro.balance["spot"]["BTC"]["total"] == pytest.approx(5.02)


async def test_orders_are_placed_and_cancelled_over_the_socket(pro: Any) -> None:
    price = await far_below(pro)
    placed = await soon(
        pro.create_order_ws(PAIR, "limit", "buy", 0.01, price, {"clientOrderId": "ws-1"})
    )
    (listed,) = await pro.fetch_open_orders()
    assert (listed["id"], listed["clientOrderId"]) == (placed["id"], "ws-1")
    edited = await soon(pro.edit_order_ws(placed["id"], PAIR, "limit", "buy", 0.02, price - 10))
    assert edited["id"] == placed["id"]
    await soon(pro.cancel_order_ws(placed["id"]))
    assert not await pro.fetch_open_orders()
    with pytest.raises(ccxt.OrderNotFound):
        await soon(pro.cancel_order_ws(placed["id"]))
    for _ in range(2):
        await soon(pro.create_order_ws(PAIR, "limit", "buy", 0.01, price))
    answer = await soon(pro.cancel_all_orders_ws())
    assert answer["result"] == {"count": 2}
