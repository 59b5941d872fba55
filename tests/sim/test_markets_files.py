"""Market files of every format: told by content, played to their end and again."""

from __future__ import annotations

import gzip
import itertools
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from tests.sim.markets_kit import (
    CSV,
    SAME_TRADES,
    SECOND_NS,
    one,
    parquet,
    parquet_trades,
    played,
    sources,
    trades_of,
    write,
)

from openbell.domain.orders import OrdStatus, OrdType, Side
from openbell.errors import ConfigError
from openbell_sim import testing
from openbell_sim.checks import OrderRequest
from openbell_sim.exchange import Exchange
from openbell_sim.market.driver import Driver
from openbell_sim.market.events import MarketEvent, Snapshot, Traded
from openbell_sim.market.timestamps import nanoseconds

# Formats

KRAKEN = {
    "error": [],
    "result": {
        "XBTUSDT": [
            ["61000.50000", "0.25000000", 1700000000.0, "b", "l", "", 1],
            ["61001.00000", "0.50000000", 1700000001.5, "s", "m", "", 2],
            ["61002.00000", "0.12500000", 1700000002, "b", "m", "", 3],
        ],
        "last": "1700000002000000000",
    },
}
OBJECTS = [
    {"id": 1, "price": "61000.5", "qty": "0.25", "time": 1700000000000, "isBuyerMaker": False},
    {"id": 2, "price": "61001", "qty": "0.5", "time": 1700000001500, "isBuyerMaker": True},
    {"id": 3, "price": "61002", "qty": "0.125", "time": 1700000002000, "isBuyerMaker": False},
]


@pytest.mark.parametrize(
    ("format_", "make"),
    [
        ("csv", lambda p: write(p, CSV)),
        ("csv with a byte order mark", lambda p: write(p, "\ufeff" + CSV)),
        ("csv with semicolons", lambda p: write(p, CSV.replace(",", ";"))),
        ("csv, gzipped", lambda p: write(p, gzip.compress(CSV.encode()))),
        ("kraken", lambda p: write(p, orjson.dumps(KRAKEN, option=orjson.OPT_INDENT_2))),
        ("kraken in one line", lambda p: write(p, orjson.dumps(KRAKEN))),
        ("list of objects", lambda p: write(p, orjson.dumps(OBJECTS))),
        ("list of objects in one", lambda p: write(p, orjson.dumps({"n": 3, "data": OBJECTS}))),
        ("object in each line", lambda p: write(p, b"\n".join(map(orjson.dumps, OBJECTS)))),
        ("parquet", parquet_trades),
    ],
)
def test_trades_are_the_same_in_every_format(
    format_: str, make: Callable[[Path], Path], tmp_path: Path
) -> None:
    heard: list[str] = []
    source = one(f"BTCUSDT={make(tmp_path / 'a file')}", heard=heard)
    assert [i.symbol for i in source.instruments] == ["BTCUSDT"], format_
    exchange, timed = played(source, 6)
    assert trades_of(timed) == SAME_TRADES
    assert heard == []
    book = exchange.markets["BTCUSDT"].book
    # The last trade was bought: it says where the ask is.
    assert book.asks.best == 6_100_200
    assert len(book.bids.levels) == len(book.asks.levels) == 8


QUOTES = """\
timestamp,bid,ask
2013-01-01 22:00:00.295000+00:00,86.655,86.728
2013-01-01 22:02:35.907000+00:00,86.657,86.728
2013-01-01 22:02:35.913000+00:00,86.700,86.700
"""


def _parquet_quotes(path: Path) -> Path:
    import pyarrow as pa

    stamps = [1_357_077_600_295_000, 1_357_077_755_907_000, 1_357_077_755_913_000]
    return parquet(
        path,
        timestamp=pa.array(stamps, pa.timestamp("us")),
        bid=[86.655, 86.657, 86.700],
        ask=[86.728, 86.728, 86.700],
    )


METATRADER = """\
<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>
2013.01.01\t22:00:00.295\t86.655\t86.728\t\t
2013.01.01\t22:02:35.907\t86.657\t\t\t
2013.01.01\t22:02:35.913\t86.700\t86.700\t\t
"""


@pytest.mark.parametrize(
    "make",
    [lambda p: write(p, QUOTES), _parquet_quotes, lambda p: write(p, METATRADER)],
    ids=["csv", "parquet", "metatrader"],
)
def test_quotes_are_the_best_prices_of_a_book(make: Callable[[Path], Path], tmp_path: Path) -> None:
    source = one(f"USD_JPY={make(tmp_path / 'quotes')}")
    clock = itertools.count(1_700_000_000 * SECOND_NS)
    exchange = Exchange(source.instruments, now_ns=lambda: next(clock))
    book = exchange.markets["USD_JPY"].book
    best = []
    for at, event in itertools.islice(source.events(), 3):
        exchange.play(event)
        best.append((at, book.bids.best, book.asks.best))
    # Bid and ask that are one price are shown a tick apart.
    assert best == [
        (0, 86655, 86728),
        (155_612_000_000, 86657, 86728),
        (155_618_000_000, 86700, 86701),
    ]
    assert len(book.bids.levels) == 8
    # Nobody recorded quantities: about a million of the base currency is usual.
    assert 100_000 < book.bids.total(86700) < 10_000_000


def test_quantities_of_quotes_are_the_recorded_ones(tmp_path: Path) -> None:
    text = "time,bid,ask,bid_size,ask_size\n1700000000,1.1,1.2,3000,4000\n"
    exchange, _ = played(one(f"EUR_USD={write(tmp_path / 'q', text)}"), 1)
    book = exchange.markets["EUR_USD"].book
    assert (book.bids.total(110_000), book.asks.total(120_000)) == (3000, 4000)


def test_a_trade_without_a_side_is_bought_where_the_price_rose(tmp_path: Path) -> None:
    text = "time,price,qty\n1700000000,60000,1\n1700000001,59999,1\n1700000002,59999,1\n1700000003,60000,1\n"
    _, timed = played(one(f"BTCUSDT={write(tmp_path / 't', text)}"), 8)
    assert [buyer for *_, buyer in trades_of(timed)] == [True, False, False, True]


def test_own_orders_are_filled_by_recorded_trades(tmp_path: Path) -> None:
    text = "time,price,qty,side\n1700000000,60000,1,b\n1700000001,59990,1,s\n1700000002,59900,2,s\n"
    source = one(f"BTCUSDT={write(tmp_path / 't', text)}")
    clock = itertools.count(1_700_000_000 * SECOND_NS)
    exchange = Exchange(source.instruments, now_ns=lambda: next(clock))
    exchange.deposit("main", "USDT", Decimal(100_000))
    events = source.events()
    for _ in range(2):
        exchange.play(next(events)[1])
    order = exchange.submit(
        OrderRequest(
            account="main",
            cl_ord_id="a",
            symbol="BTCUSDT",
            side=Side.BUY,
            ord_type=OrdType.LIMIT,
            qty=Decimal("0.5"),
            price=Decimal(59950),
            received_ns=0,
        )
    )
    for _ in range(2):
        exchange.play(next(events)[1])
    assert order.status is OrdStatus.NEW
    for _ in range(2):
        exchange.play(next(events)[1])
    assert order.status is OrdStatus.FILLED


# Times


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1700000000", 1_700_000_000 * SECOND_NS),
        ("1700000000.123456789", 1_700_000_000_123_456_789),
        (1700000000123, 1_700_000_000_123_000_000),
        (1700000000123456, 1_700_000_000_123_456_000),
        (1700000000123456789, 1_700_000_000_123_456_789),
        (Decimal("1762795433.9717445"), 1_762_795_433_971_744_500),
        ("2023-11-14T22:13:20.5Z", 1_700_000_000_500_000_000),
        ("2023-11-14 22:13:20", 1_700_000_000 * SECOND_NS),
        ("2023-11-14 23:13:20+01:00", 1_700_000_000 * SECOND_NS),
        ("2023.11.14 22:13:20.250", 1_700_000_000_250_000_000),
        ("20231114 22:13:20.250", 1_700_000_000_250_000_000),
    ],
)
def test_the_unit_of_a_time_is_told_by_its_size(value: object, expected: int) -> None:
    assert nanoseconds(value) == expected


@pytest.mark.parametrize("value", ["", "noon", "NaN", "-1", "1e300", None, "inf"])
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is no time"):
        nanoseconds(value)


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
def test_a_recordings_receive_times_may_have_any_unit(unit: int, tmp_path: Path) -> None:
    lines = "".join(
        f'{(1_700_000_000 + n) * unit} {{"data":{{"e":"trade","s":"BTCUSDT","p":"60000","q":"1"}}}}\n'
        for n in range(2)
    )
    _, timed = played(one(write(tmp_path / "plain", lines)), 2)
    assert [at for at, _ in timed] == [0, SECOND_NS]


# Symbols and several files


def test_a_files_symbol_is_the_venues_where_the_currencies_are_the_same(tmp_path: Path) -> None:
    text = "time,symbol,price,qty\n1700000000,{},{},5\n"
    for named, price, expected in (
        ("EUR/USD", "1.1", "EUR_USD"),
        ("eurusd", "1.1", "EUR_USD"),
        ("XBTUSDT", "60000", "BTCUSDT"),
        ("BTC-USDT", "60000", "BTCUSDT"),
    ):
        path = write(tmp_path / "named", text.format(named, price))
        (source,) = sources(path, infer=False)
        assert [i.symbol for i in source.instruments] == [expected]


def test_several_symbols_in_one_file_and_in_several(tmp_path: Path) -> None:
    both = write(
        tmp_path / "both.csv",
        "time,symbol,price,qty\n1700000000,BTCUSDT,60000,1\n1700000001,ETHUSDT,2600,1\n"
        "1700000002,DOGEGBP,0.1,1\n",
    )
    euro = write(tmp_path / "euro.csv", QUOTES.replace("86.", "1."))
    heard: list[str] = []
    first, second = sources(both, f"EUR_USD={euro}", heard=heard, infer=False)
    assert [i.symbol for i in first.instruments] == ["BTCUSDT", "ETHUSDT"]
    assert [i.symbol for i in second.instruments] == ["EUR_USD"]
    assert heard == ["DOGEGBP: not known here, left out"]
    _, timed = played(first, 4)
    assert {event.symbol for _, event in timed} == {"BTCUSDT", "ETHUSDT"}
    with pytest.raises(ConfigError, match="ETHUSDT is in both"):
        sources(both, f"ETHUSDT={euro}", infer=False)
    with pytest.raises(ConfigError, match="it has 3 symbols"):
        sources(f"BTCUSDT={both}")


def test_files_of_one_symbol_follow_each_other_and_time_goes_on(tmp_path: Path) -> None:
    days = [
        write(
            tmp_path / f"day{day}.csv",
            f"time,price,qty\n{start},6000{day},1\n{start + 10},6000{day},1\n",
        )
        # The second day is recorded before the first: the order is the command line's.
        for day, start in ((1, 1_700_000_000), (2, 1_600_000_000))
    ]
    source = one(*(f"BTCUSDT={day}" for day in days))
    assert source.name == "day1.csv+day2.csv"
    _, timed = played(source, 16)
    pause = 100_000_000
    assert [at for at, *_ in trades_of(timed)] == [
        begin + offset
        for begin in (n * (10 * SECOND_NS + pause) for n in range(4))
        for offset in (0, 10 * SECOND_NS)
    ]
    assert [price for _, price, *_ in trades_of(timed)] == ["60001", "60001", "60002", "60002"] * 2


def test_a_file_may_have_an_equals_sign_in_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "pair=BTCUSDT.csv", CSV)
    with pytest.raises(ConfigError, match="does not say which symbol"):
        one(path)
    assert one(f"BTCUSDT={path}").name == "pair=BTCUSDT.csv"


# Speed


async def test_at_full_speed_nobody_waits_for_the_market_and_the_market_for_nobody(
    tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    """Recorded hours pass in a moment, and others on the event loop get their turn meanwhile."""
    import asyncio

    rows = "".join(f"{1_700_000_000 + n * 60},{60_000 + n % 10},1,b\n" for n in range(600))
    source = one(f"BTCUSDT={write(tmp_path / 't.csv', 'time,price,qty,side' + chr(10) + rows)}")
    seen: list[MarketEvent] = []
    driver = Driver([source], seen.append, speed=math.inf)
    driver.prime()
    assert [type(event) for event in seen] == [Snapshot, Traded]
    running = asyncio.create_task(driver.run())
    await eventually(lambda: driver.played > 2400)
    assert driver.lag_s == 0
    running.cancel()


async def test_a_venue_plays_a_file_it_is_given_and_survives_damage_in_it(
    tmp_path: Path, http: aiohttp.ClientSession, eventually: Callable[..., Any]
) -> None:
    from openbell_sim.arguments import settings

    path = write(tmp_path / "t.csv", CSV + "never,NaN,-1\n1700000003000,61003,1,s\n")
    given = settings(
        ["--port", "0", "--market", f"BTCUSDT={path}", "--symbols", "", "--speed", "max"], {}
    )
    async with testing.running_venue(given) as venue:
        await eventually(lambda: venue._driver.played > 100)
        async with http.get(f"{venue.url}/api/v3/depth?symbol=BTCUSDT") as reply:
            book = await reply.json()
        assert len(book["bids"]) == 8
        assert 60_000 < float(book["bids"][0][0]) < 62_000


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "fast"])
def test_a_speed_that_is_none_is_refused(speed: str) -> None:
    from openbell_sim.arguments import settings

    with pytest.raises(ConfigError, match="neither a positive number nor max"):
        settings(["--speed", speed], {})


# Recorded data


@pytest.mark.recorded
@pytest.mark.parametrize(
    ("text", "symbol", "events", "low", "high"),
    [
        ("{}/kraken_http_trades.json", "BTCUSDT", 2000, 104_000, 107_000),
        ("USD_JPY={}/truefx_usdjpy_ticks.csv", "USD_JPY", 1000, 86, 87),
        ("{}/binance_spot_ethusdt_20240808.gz", "ETHUSDT", 3000, 2600, 2800),
        ("{}/binance_usdm_ethusdt_20240808.gz", "ETHUSDT", 3000, 2600, 2800),
    ],
)
def test_recorded_data_of_each_format_makes_a_market(
    recordings: Path, text: str, symbol: str, events: int, low: int, high: int
) -> None:
    heard: list[str] = []
    source = one(text.format(recordings), heard=heard)
    exchange, timed = played(source, events)
    market = exchange.markets[symbol]
    assert [i.symbol for i in source.instruments] == [symbol]
    assert market.book.bids.best is not None
    assert low < market.instrument.price(market.book.bids.best) < high
    assert heard == []
    assert timed[-1][0] > SECOND_NS
