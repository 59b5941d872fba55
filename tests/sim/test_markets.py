"""Market sources: the generator, recordings, and the driver that plays them."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import statistics
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import orjson
import pytest

from openbell.domain.orders import OrdStatus, OrdType, Side
from openbell.errors import ConfigError
from openbell_sim import testing
from openbell_sim.checks import OrderRequest
from openbell_sim.exchange import Exchange
from openbell_sim.instruments import KNOWN, Instrument, spot
from openbell_sim.market.driver import Driver
from openbell_sim.market.events import BestSet, LevelsSet, MarketEvent, Snapshot, Traded
from openbell_sim.market.files import replays
from openbell_sim.market.generator import Generator
from openbell_sim.market.replay import Replay
from openbell_sim.market.source import MarketSource

SECOND_NS = 1_000_000_000
BEGAN_NS = 1_700_000_000 * SECOND_NS


def replay(path: Path, warn: Callable[[str], None] = lambda _: None) -> Replay:
    (source,) = replays([str(path)], KNOWN, infer=True, warn=lambda _, text: warn(text))
    return source


def until(source: MarketSource, seconds: float) -> Iterator[tuple[int, MarketEvent]]:
    return itertools.takewhile(lambda timed: timed[0] <= seconds * SECOND_NS, source.events())


def play(source: MarketSource, seconds: float) -> Exchange:
    clock = itertools.count(1_700_000_000 * SECOND_NS)
    exchange = Exchange(source.instruments, now_ns=lambda: next(clock))
    for _, event in until(source, seconds):
        exchange.play(event)
        book = exchange.markets[event.symbol].book
        assert book.bids.best is not None
        assert book.asks.best is not None
        assert book.bids.best < book.asks.best
    return exchange


def test_the_same_seed_gives_the_same_market() -> None:
    one, same, other = (
        list(until(Generator([KNOWN["BTCUSDT"], KNOWN["LTCUSDT"]], seed), 5)) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other
    assert [at for at, _ in one] == sorted(at for at, _ in one)


def _share(symbol: str, price: str) -> Instrument:
    return msgspec.structs.replace(
        spot(symbol, symbol, "USD", "0.01", "1"), reference_price=Decimal(price)
    )


@pytest.mark.parametrize(
    ("instrument", "widest_bps", "day_range"),
    [
        (KNOWN["BTCUSDT"], 0.5, 0.03),
        (KNOWN["XRPUSDT"], 4.0, 0.05),
        (spot("ETH/BTC", "ETH", "BTC", "0.00001", "0.0001"), 5.0, 0.05),
        (spot("XBT/USD", "XBT", "USD", "0.1", "0.00000001"), 0.5, 0.03),
        (spot("EUR_USD", "EUR", "USD", "0.00001", "1"), 2.0, 0.005),
        (spot("USD_JPY", "USD", "JPY", "0.001", "1"), 2.0, 0.005),
        (spot("XAUUSD", "XAU", "USD", "0.01", "0.01"), 2.5, 0.01),
        (_share("AAPL", "231.50"), 2.0, 0.03),
    ],
    ids=lambda value: value.symbol if isinstance(value, Instrument) else None,
)
def test_a_generated_market_looks_like_one(
    instrument: Instrument, widest_bps: float, day_range: float
) -> None:
    """Over four minutes: a spread no wider than usual for its kind, a book of depth on both sides,
    trades, and a price that moves, but not more than such a price does."""
    clock = itertools.count(1_700_000_000 * SECOND_NS)
    exchange = Exchange([instrument], now_ns=lambda: next(clock))
    market = exchange.markets[instrument.symbol]
    spreads = []
    for _, event in until(Generator([instrument], 3), 240):
        exchange.play(event)
        bid, ask = market.book.bids.best, market.book.asks.best
        assert bid is not None
        assert ask is not None
        spreads.append((ask - bid) / bid * 10_000)
    assert statistics.median(spreads) < widest_bps
    assert len(market.book.bids.levels) == len(market.book.asks.levels) == 25
    day = market.tape.day(1_700_000_100 * SECOND_NS)
    assert day is not None
    assert day.trades > 60
    assert 0.0001 < day.high / day.low - 1 < day_range
    assert 0.1 < day.taker_buy_volume / day.volume < 0.9


def test_a_market_begins_at_its_instruments_price() -> None:
    for instrument, price in (
        (_share("ACME", "12.34"), "12.34"),
        (KNOWN["ETHUSDT"], "2680"),
        (spot("EUR_GBP", "EUR", "GBP", "0.00001", "1"), "0.85827"),
    ):
        _, first = next(Generator([instrument], 1).events())
        assert isinstance(first, Snapshot)
        middle = (first.bids[0][0] + first.asks[0][0]) / 2
        assert abs(middle / Decimal(price) - 1) < Decimal("0.001")


@pytest.mark.parametrize(
    ("instrument", "why"),
    [
        (spot("ACME", "ACME", "USD", "0.01", "1"), "nothing tells the price of ACME"),
        (spot("DOGEBTC", "DOGE", "BTC", "0.01", "1"), "fewer than 40 ticks"),
    ],
)
def test_a_market_that_nothing_is_known_of_is_not_generated(
    instrument: Instrument, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        Generator([instrument], 1)


def test_a_price_of_few_ticks_has_a_book_too() -> None:
    penny = msgspec.structs.replace(_share("PENY", "1"), reference_price=Decimal("0.45"))
    exchange = play(Generator([penny], 1), 60)
    assert all(price > 0 for price in exchange.markets["PENY"].book.bids.levels)


def _record(path: Path, lines: list[tuple[int, object]]) -> Path:
    with gzip.open(path, "wb") as file:
        for at_ns, message in lines:
            file.write(str(BEGAN_NS + at_ns).encode() + b" " + orjson.dumps(message) + b"\n")
    return path


def _best(u: int, bid: str, ask: str) -> dict[str, object]:
    data = {"u": u, "s": "ABCUSDT", "b": bid, "B": "3.0", "a": ask, "A": "4.0"}
    return {"stream": "abcusdt@bookTicker", "data": data}


def _depth(u: int, bids: list[list[str]], asks: list[list[str]]) -> dict[str, object]:
    data = {"e": "depthUpdate", "s": "ABCUSDT", "U": u, "u": u, "b": bids, "a": asks}
    return {"stream": "abcusdt@depth@100ms", "data": data}


def _trade(price: str, qty: str, *, sold: bool) -> dict[str, object]:
    data = {"e": "trade", "s": "ABCUSDT", "t": 1, "p": price, "q": qty, "T": 1, "m": sold}
    return {"stream": "abcusdt@trade", "data": data}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    snapshot = {
        "lastUpdateId": 10,
        "bids": [["1.500", "5.00"], ["1.499", "7.00"]],
        "asks": [["1.502", "6.00"]],
    }
    return _record(
        tmp_path / "small.gz",
        [
            (1000, _best(9, "1.400", "1.600")),
            (2000, snapshot),
            (3000, _depth(10, [["1.300", "1.00"]], [])),  # older than the snapshot
            (4000, _best(12, "1.501", "1.502")),
            (5000, _depth(11, [["1.501", "0.00"], ["1.498", "2.00"]], [])),  # older than the best
            (6000, _trade("1.501", "2.00", sold=True)),
        ],
    )


def test_a_recording_is_read_from_its_snapshot_on_and_old_news_is_dropped(small: Path) -> None:
    recording = replay(small)
    (instrument,) = recording.instruments
    assert (instrument.symbol, instrument.base) == ("ABCUSDT", "ABC")
    assert (instrument.tick, instrument.lot) == (Decimal("0.001"), Decimal(1))
    first = list(itertools.islice(recording.events(), 4))
    assert [at for at, _ in first] == [0, 2000, 3000, 4000]
    assert [type(event) for _, event in first] == [Snapshot, BestSet, LevelsSet, Traded]
    levels = first[2][1]
    assert isinstance(levels, LevelsSet)
    assert levels.bids == ((Decimal("1.498"), Decimal("2.00")),)


def test_a_recording_begins_anew_and_time_goes_on(small: Path) -> None:
    events = list(itertools.islice(replay(small).events(), 12))
    assert [type(event) for _, event in events[:4]] == [type(event) for _, event in events[8:]]
    stamps = [at for at, _ in events]
    assert stamps == sorted(stamps)
    assert stamps[4] > stamps[3]


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of its first lines"):
        replay(_record(tmp_path / "other.gz", [(1, {"hello": "world"})]))
    with pytest.raises(ConfigError, match="No such file"):
        replay(tmp_path / "absent.gz")


def test_a_cut_recording_plays_as_far_as_it_goes_and_says_so(tmp_path: Path) -> None:
    lines: list[tuple[int, object]] = [
        (n * 1000, _best(n, f"1.{n:04}", "3.0")) for n in range(1, 9000)
    ]
    path = _record(tmp_path / "cut.gz", lines)
    path.write_bytes(path.read_bytes()[:-2000])
    heard: list[str] = []
    recording = replay(path, heard.append)
    assert len(list(itertools.islice(recording.events(), 9001))) == 9001
    assert heard


async def test_the_driver_plays_everything_in_time_order(
    small: Path, eventually: Callable[..., Any]
) -> None:
    played: list[MarketEvent] = []
    sources: list[MarketSource] = [replay(small), Generator([KNOWN["BTCUSDT"]], 1)]
    driver = Driver(sources, played.append, speed=50)
    driver.prime()
    assert {event.symbol for event in played} == {"ABCUSDT", "BTCUSDT"}
    running = asyncio.create_task(driver.run())
    await eventually(lambda: driver.played > 300)
    running.cancel()
    assert driver.played == len(played)


def test_symbols_without_a_recording_are_generated(small: Path) -> None:
    from openbell_sim.main import settings

    both = settings(["--market", str(small)], {})
    assert [source.name for source in both.sources] == ["small.gz", "generator"]
    named = settings(["--market", str(small), "--symbols", "ABCUSDT,LTCUSDT"], {})
    assert [i.symbol for source in named.sources for i in source.instruments] == [
        "ABCUSDT",
        "LTCUSDT",
    ]
    alone = settings(["--market", str(small), "--symbols", ""], {})
    assert [source.name for source in alone.sources] == ["small.gz"]
    with pytest.raises(ConfigError, match="needs a market"):
        settings(["--symbols", ""], {})


@pytest.mark.recorded
@pytest.mark.parametrize("name", ["spot", "usdm"])
def test_recorded_data_replays_and_the_best_prices_are_the_recorded_ones(
    recordings: Path, name: str
) -> None:
    recording = replay(recordings / f"binance_{name}_ethusdt_20240808.gz")
    clock = itertools.count(1)
    exchange = Exchange(recording.instruments, now_ns=lambda: next(clock))
    market = exchange.markets["ETHUSDT"]
    for _, event in until(recording, 60):
        exchange.play(event)
        if isinstance(event, BestSet):
            bid, ask = market.book.bids.best, market.book.asks.best
            assert (bid, ask) == (
                market.instrument.ticks(event.bid[0]),
                market.instrument.ticks(event.ask[0]),
            )
    assert len(market.tape.trades) > 100
    assert len(market.book.bids.levels) > 500


@pytest.mark.recorded
def test_orders_at_the_touch_are_filled_by_recorded_trades(recordings: Path) -> None:
    recording = replay(recordings / "binance_spot_ethusdt_20240808.gz")
    clock = itertools.count(1)
    exchange = Exchange(recording.instruments, now_ns=lambda: next(clock))
    exchange.deposit("main", "USDT", Decimal(1_000_000))
    exchange.deposit("main", "ETH", Decimal(100))
    market = exchange.markets["ETHUSDT"]
    for number, (_, event) in enumerate(until(recording, 120)):
        exchange.play(event)
        if number % 500 == 100:
            for side, book in ((Side.BUY, market.book.bids), (Side.SELL, market.book.asks)):
                assert book.best is not None
                exchange.submit(
                    OrderRequest(
                        account="main",
                        cl_ord_id=f"{side}-{number}",
                        symbol="ETHUSDT",
                        side=side,
                        ord_type=OrdType.LIMIT,
                        qty=Decimal("0.01"),
                        price=market.instrument.price(book.best),
                        received_ns=0,
                    )
                )
    filled = [o for o in exchange.ledger.orders.values() if o.status is OrdStatus.FILLED]
    assert {order.side for order in filled} == set(Side)
    assert all(fill.is_maker for fill in exchange.ledger.fills)


@pytest.mark.recorded
async def test_a_replaying_venue_serves_the_recorded_book(
    recordings: Path, http: aiohttp.ClientSession, eventually: Callable[..., Any]
) -> None:
    source = replay(recordings / "binance_spot_ethusdt_20240808.gz")
    async with testing.running_venue(testing.settings([source])) as venue:
        await eventually(lambda: venue.exchange.markets["ETHUSDT"].tape.trades)
        async with http.get(f"{venue.url}/api/v3/depth?symbol=ETHUSDT&limit=1000") as reply:
            book = await reply.json()
        assert len(book["bids"]) > 500
        assert 2600 < float(book["bids"][0][0]) < 2800
