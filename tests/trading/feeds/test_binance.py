"""The Binance feed: what it gives, what it refuses, and how a cut connection is told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from openbell.domain.market import Quote, Trade
from openbell.errors import ConfigError
from openbell.trading.feeds import FeedError, make_feed


async def test_prices_are_exactly_the_venues_text(venue: Any) -> None:
    feed = make_feed("sim", venue.declared())
    rules = await feed.connect()
    assert [rule.symbol for rule in rules] == ["BTC/USDT", "ETH/USDT"]
    assert rules[0].tick_size == Decimal("0.01")
    assert (rules[0].min_qty, rules[0].min_notional) == (Decimal("0.00001"), Decimal("5.00"))
    assert venue.streams == [
        "btcusdt@bookTicker/btcusdt@trade/ethusdt@bookTicker/ethusdt@trade",
    ]
    await venue.quote("btcusdt", "60000.10000000", "60000.30000000")
    await venue.say(
        "ethusdt@trade",
        {"e": "trade", "s": "ETHUSDT", "t": 9, "p": "2500.10", "q": "0.1", "T": 1700, "m": True},
    )
    messages = feed.messages()
    quote, trade = await anext(messages), await anext(messages)
    await feed.close()
    assert isinstance(quote, Quote)
    assert str(quote.bid_px) == "60000.10000000"
    assert quote.mid == Decimal("60000.2")
    assert isinstance(trade, Trade)
    assert (trade.symbol, trade.price) == ("ETH/USDT", Decimal("2500.10"))
    assert trade.aggressor_is_buyer is False
    assert trade.venue_time_ns == 1_700_000_000


@pytest.mark.parametrize(("bid", "ask"), [("NaN", "1"), ("2", "1"), ("0", "1"), ("-1", "Infinity")])
async def test_an_unsound_quote_is_counted_and_not_given_out(
    venue: Any, bid: str, ask: str
) -> None:
    feed = make_feed("sim", venue.declared())
    await feed.connect()
    await venue.quote("btcusdt", bid, ask)
    await venue.quote("btcusdt", "1", "2")
    quote = await anext(feed.messages())
    await feed.close()
    assert isinstance(quote, Quote)
    assert quote.bid_px == 1
    assert feed.unsound == 1


async def test_a_cut_connection_is_an_error_and_not_an_end(venue: Any) -> None:
    feed = make_feed("sim", venue.declared())
    await feed.connect()
    await venue.cut()
    with pytest.raises(FeedError, match="ended the stream"):
        await anext(feed.messages())
    await feed.close()


async def test_what_cannot_be_read_is_an_error(venue: Any) -> None:
    feed = make_feed("sim", venue.declared())
    await feed.connect()
    await venue.say("", '{"stream": "btcusdt@trade", "data": {"p": "1"}}')
    with pytest.raises(FeedError, match="cannot be read"):
        await anext(feed.messages())
    await feed.close()


async def test_a_symbol_the_venue_does_not_list_is_named(venue: Any) -> None:
    feed = make_feed("sim", venue.declared("BTC/USDT", "DOGE/USDT"))
    with pytest.raises(FeedError, match="does not list DOGE/USDT"):
        await feed.connect()


async def test_what_prices_the_fee_currency_is_streamed_where_the_venue_lists_it(
    venue: Any,
) -> None:
    feed = make_feed("sim", venue.declared("BTC/USDT", fee_currency="BNB"))
    rules = await feed.connect()
    assert [rule.symbol for rule in rules] == ["BTC/USDT"]
    await venue.quote("bnbusdt", "560", "561")
    quote = await anext(feed.messages())
    assert quote.symbol == "BNB/USDT"
    await feed.close()
    unlisted = make_feed("sim", venue.declared("BTC/USDT", fee_currency="XYZ"))
    await unlisted.connect()
    await unlisted.close()
    assert "xyz" not in venue.streams[-1]


async def test_a_venue_that_is_down_is_an_error_that_names_it(venue: Any) -> None:
    await venue.stop()
    feed = make_feed("sim", venue.declared())
    with pytest.raises(FeedError, match=f"127.0.0.1:{venue.port}"):
        await feed.connect()


def test_an_unknown_adapter_names_the_known_ones() -> None:
    from openbell.config.models import Venue

    unknown = Venue(adapter="nowhere", url="http://127.0.0.1:1", symbols=("BTC/USDT",))
    with pytest.raises(ConfigError, match="nowhere") as caught:
        make_feed("x", unknown)
    assert "binance" in caught.value.hint
