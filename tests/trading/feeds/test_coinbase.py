"""The Coinbase feed against the simulated venue's public channels."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from openbell.config.models import Venue
from openbell.domain.market import Quote, Trade
from openbell.domain.orders import OrdType, Side
from openbell.trading.feeds import FeedError, make_feed
from openbell.trading.feeds.coinbase import Book, CoinbaseFeed
from openbell_sim import testing
from openbell_sim.checks import OrderRequest
from openbell_sim.faces.coinbase import render
from openbell_sim.faces.coinbase.client import Client
from openbell_sim.market.events import BestSet
from openbell_sim.server import Venue as Sim

WITHIN_S = 60
D = Decimal


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    still = testing.StillMarket(
        "coinbase",
        **{"BTC-USD": ("60000", "60001", "1"), "ETH-USD": ("2500", "2500.5", "10")},
    )
    async with testing.running_venue(testing.settings([still], face="coinbase")) as running:
        yield running


def declared(sim: Sim, *symbols: str) -> Venue:
    return Venue(adapter="coinbase", url=sim.url, symbols=symbols or ("BTC/USD", "ETH/USD"))


@pytest.fixture
async def feed(sim: Sim) -> AsyncIterator[CoinbaseFeed]:
    made = make_feed("sim", declared(sim))
    assert isinstance(made, CoinbaseFeed)
    yield made
    await made.close()


async def heard(messages: AsyncIterator[Quote | Trade]) -> Quote | Trade:
    async with asyncio.timeout(WITHIN_S):
        return await anext(messages)


async def test_rules_come_with_the_connection(feed):
    rules = {each.symbol: each for each in await feed.connect()}
    assert (rules["BTC/USD"].tick_size, rules["BTC/USD"].lot_size) == (D("0.01"), D("0.00000001"))


async def test_the_top_of_each_book_is_a_quote_and_each_change_of_it_another(feed, sim):
    await feed.connect()
    messages = feed.messages()
    first = [await heard(messages) for _ in range(2)]
    assert {q.symbol: (q.bid_px, q.bid_qty, q.ask_px, q.ask_qty) for q in first} == {
        "BTC/USD": (D(60000), D(1), D(60001), D(1)),
        "ETH/USD": (D(2500), D(10), D("2500.5"), D(10)),
    }
    sim.exchange.play(BestSet("BTC-USD", (D("60000.5"), D("0.3")), (D("60000.9"), D("0.2"))))
    quote = await heard(messages)
    assert (quote.bid_px, quote.ask_px, quote.symbol) == (D("60000.5"), D("60000.9"), "BTC/USD")
    assert abs(quote.venue_time_ns - quote.received_ns) < WITHIN_S * 10**9


async def test_a_trade_tells_who_took(feed, sim):
    await feed.connect()
    messages = feed.messages()
    for side in (Side.BUY, Side.SELL):
        sim.exchange.submit(
            OrderRequest(
                account="main", cl_ord_id=side.value, symbol="BTC-USD", side=side,
                ord_type=OrdType.MARKET, qty=D("0.25"), received_ns=0,
            )
        )  # fmt: skip
    trades: list[Trade] = []
    while len(trades) < 2:
        message = await heard(messages)
        if isinstance(message, Trade):
            trades.append(message)
    assert [(t.price, t.quantity, t.aggressor_is_buyer) for t in trades] == [
        (D(60001), D("0.25"), True),
        (D(60000), D("0.25"), False),
    ]


async def test_a_lost_message_ends_the_connection(feed, monkeypatch):
    """The book would be wrong from then on, with nothing to show it."""
    await feed.connect()
    messages = feed.messages()
    await heard(messages)
    send = Client.send
    lost = []

    def losing(self: Client, data: bytes, *, private: bool = False) -> None:
        if lost:
            send(self, data, private=private)
        lost.append(data)

    monkeypatch.setattr(Client, "send", losing)
    with pytest.raises(FeedError, match="missing"):
        while True:
            await heard(messages)


async def test_a_cut_connection_is_an_error_and_can_be_made_again(feed, sim):
    await feed.connect()
    messages = feed.messages()
    await heard(messages)
    await sim.face.disconnect()
    with pytest.raises(FeedError):
        while True:
            await heard(messages)
    await feed.connect()
    assert isinstance(await heard(feed.messages()), Quote)


async def test_a_symbol_that_is_not_listed_is_named(sim):
    feed = make_feed("sim", declared(sim, "BTC/USD", "MOON/USD"))
    with pytest.raises(FeedError, match="MOON/USD"):
        await feed.connect()


async def test_a_venue_out_of_reach_is_an_error():
    feed = make_feed(
        "sim", Venue(adapter="coinbase", url="http://127.0.0.1:1", symbols=("BTC/USD",))
    )
    with pytest.raises(FeedError):
        await feed.connect()


async def test_a_product_that_shares_a_book_is_quoted_from_it(sim, monkeypatch):
    """BTC-USDC is traded on the book of BTC-USD, and its market data come under that name."""
    product = render.product

    def aliased(market, exchange):
        told = product(market, exchange)
        return {**told, "product_id": "ETH-USDC", "alias": "ETH-USD"} if (
            told["product_id"] == "ETH-USD"
        ) else told  # fmt: skip

    monkeypatch.setattr(render, "product", aliased)
    monkeypatch.setattr(
        "openbell_sim.faces.coinbase.market_data.Call.listed", lambda *_: set[str]()
    )
    feed = make_feed("sim", declared(sim, "ETH/USDC"))
    await feed.connect()
    quote = await heard(feed.messages())
    assert (quote.symbol, quote.bid_px) == ("ETH/USDC", D(2500))
    await feed.close()


def test_the_best_prices_of_a_book_are_those_of_its_levels():
    """Compared with a plain search, over random changes."""
    chance = random.Random(7)
    book = Book()
    levels: dict[bool, dict[Decimal, Decimal]] = {True: {}, False: {}}
    for _ in range(20_000):
        is_bid = chance.random() < 0.5
        price = D(chance.randint(1, 50) if is_bid else chance.randint(51, 100))
        quantity = D(chance.choice([0, 0, 1, 2, 3]))
        book.set(is_bid, price, quantity)
        levels[is_bid][price] = quantity
        bids = [p for p, q in levels[True].items() if q]
        asks = [p for p, q in levels[False].items() if q]
        if bids and asks:
            bid, ask = max(bids), min(asks)
            assert book.top() == (bid, levels[True][bid], ask, levels[False][ask])
        else:
            assert book.top() is None
