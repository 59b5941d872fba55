"""Market files that are broken: refused with a reason, or played as far as they can be."""

from __future__ import annotations

import builtins
import gzip
import itertools
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.sim.markets_kit import (
    CSV,
    SECOND_NS,
    one,
    parquet_trades,
    played,
    sources,
    trades_of,
    write,
)

from openbell.errors import ConfigError
from openbell_sim.instruments import spot
from openbell_sim.market.events import Traded
from openbell_sim.market.files import replays


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"\n \n", "it is empty"),
        ("time,price,side\n1,2,b\n", "its columns are time, price, side"),
        ("1700000000,60000,1\n1700000001,60001,1\n", "its columns are 1700000000"),
        ("time,price,qty\n", "none of its rows can be used: there are none"),
        ("time,price,qty\nx,1,1\n", "its time is none"),
        ("time,price,qty\n1700000000,NaN,1\n", "its price is no number"),
        (b'{"result":{"XBTUSDT":[["61', "cannot be read as JSON"),
        (b"[]", "its columns are"),
        (b'{"result":{"XBTUSDT":[],"last":"0"}}', "there are none"),
        (b"PAR1 and nothing more", "cannot be read as parquet"),
        (b"\x1f\x8bgarbage", "cannot be read"),
        (gzip.compress(CSV.encode(), mtime=0)[:12], "cannot be read"),
        (b"\x00\xff\x00", "its columns are"),
        (b"1700000000 {}\n", "none of its first lines is a Binance message"),
    ],
)
def test_a_file_without_a_market_is_refused_and_says_why(
    content: str | bytes, why: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="(?s).*" + why):
        one(f"BTCUSDT={write(tmp_path / 'file', content)}")


def test_a_folder_and_a_file_that_is_absent_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ConfigError, match="cannot be read"):
            one(path)


def test_a_symbol_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "time,price,qty\n1700000000,1.1,5\n")
    with pytest.raises(ConfigError, match="does not say which symbol"):
        sources(path, infer=False)
    with pytest.raises(ConfigError, match="is of NOPE, which is not known here"):
        sources(f"NOPE={path}", infer=False)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("1700000001,NaN,1,b", "its price is no number"),
        ("1700000001,-5,1,b", "its price is not positive"),
        ("1700000001,0,1,b", "its price is not positive"),
        ("1700000001,1e40,1,b", "its price is absurd"),
        ("1700000001,Infinity,1,b", "its price is no number"),
        ("1700000001,60000,-1,b", "its quantity is not positive"),
        ("1700000001,60000", "it has too few columns"),
        ("later,60000,1,b", "its time is none"),
        ("<html>", "it has too few columns"),
        ('"', "it has too few columns"),
        ("\x00,\x00,\x00,\x00", "its time is none"),
    ],
)
def test_a_broken_row_is_left_out_and_told_once(row: str, why: str, tmp_path: Path) -> None:
    good = "170000000{},6000{},1,b\n"
    rows = [good.format(0, 0), row + "\n", row + "\n", good.format(5, 5)]
    if row == '"':  # an open quote runs on to the next one: the two lines are one row
        rows[1:3] = [row + "\n" + row + "\n"]
    path = write(tmp_path / "t.csv", "time,price,qty,side\n" + "".join(rows))
    heard: list[str] = []
    _, timed = played(one(f"BTCUSDT={path}", heard=heard), 12)
    assert trades_of(timed)[:2] == [(0, "60000", "1", True), (5 * SECOND_NS, "60005", "1", True)]
    assert heard[0].endswith(why)
    # Told when it is met, counted at the end of the first pass, and not again in those after it.
    assert heard[1:] == ([] if row == '"' else [f"2 lines were left out: {why}"])


def _recorded(*messages: object) -> bytes:
    return b"".join(
        b"%d %b\n" % (1_700_000_000 * SECOND_NS + n, m if isinstance(m, bytes) else orjson.dumps(m))
        for n, m in enumerate(messages)
    )


def _best(u: object, bid: str, ask: str) -> dict[str, object]:
    return {"data": {"u": u, "s": "BTCUSDT", "b": bid, "B": "1", "a": ask, "A": "1"}}


def _bids(u: int, *levels: object) -> dict[str, object]:
    return {"data": {"e": "depthUpdate", "s": "BTCUSDT", "u": u, "b": levels, "a": []}}


@pytest.mark.parametrize(
    "broken",
    [
        _best(2, "NaN", "60001"),
        _best(2, "-60000", "60001"),
        _best("none", "60000", "60001"),
        _best(2, "", "60001"),
        _bids(2, ["60000"]),
        _bids(2, ["60000", "Infinity"]),
        _bids(2, "60000"),
        {"data": {"e": "trade", "s": "BTCUSDT", "p": "sNaN", "q": "1"}},
        {"data": {"e": "trade", "s": "BTCUSDT", "p": "60000"}},
        {"data": {"e": "depthUpdate", "s": "BTCUSDT", "b": [], "a": []}},
        {"lastUpdateId": "x", "bids": [], "asks": []},
        {"lastUpdateId": 1},
        b'{"data":{"u":2,"s":"BTC',
        b"[1, 2]",
        b"",
    ],
    ids=str,
)
def test_a_broken_message_of_a_recording_is_left_out(broken: object, tmp_path: Path) -> None:
    snapshot = {"lastUpdateId": 1, "bids": [["59999", "1"]], "asks": [["60001", "1"]]}
    path = write(
        tmp_path / "r", _recorded(snapshot, _best(1, "5", "6"), broken, _best(9, "60000", "60001"))
    )
    heard: list[str] = []
    exchange, _ = played(one(path, heard=heard), 4)
    assert exchange.markets["BTCUSDT"].book.bids.best == 6_000_000
    assert [text.startswith("line 3 is left out") for text in heard] == [True]


@pytest.mark.parametrize(
    "broken", [_bids(2, ["60000"]), _bids(2, ["NaN", "1"]), _best(2, "?", "1")]
)
def test_a_recording_that_begins_broken_is_played_all_the_same(
    broken: object, tmp_path: Path
) -> None:
    path = write(tmp_path / "r", _recorded(broken, _best(9, "60000", "60001")))
    heard: list[str] = []
    exchange, _ = played(one(path, heard=heard), 1)
    assert exchange.markets["BTCUSDT"].book.bids.best == 6_000_000
    assert heard == ["line 1 is left out: it is no message that Binance sends"]


def test_a_recording_finer_than_the_venues_ticks_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r", _recorded(_bids(1, ["60000.15", "1"])))
    coarse = {"XBT/USD": spot("XBT/USD", "XBT", "USD", "0.1", "0.00000001")}
    with pytest.raises(ConfigError, match=r"is 60000\.15, and XBT/USD has a tick of 0\.1"):
        replays([f"XBT/USD={path}"], coarse, infer=False, warn=lambda *_: None)


def test_who_recorded_trades_twice_has_them_once(tmp_path: Path) -> None:
    trade = {"data": {"e": "trade", "s": "BTCUSDT", "p": "60000", "q": "1", "m": False}}
    aggregate = {"data": {**trade["data"], "e": "aggTrade"}}
    for messages, expected in (((trade, aggregate), 1), ((aggregate, aggregate), 2)):
        source = one(write(tmp_path / "r", _recorded(*messages)))
        timed = itertools.takewhile(lambda timed: timed[0] < 1000, source.events())
        assert sum(isinstance(event, Traded) for _, event in timed) == expected


def test_a_truncated_gzip_plays_as_far_as_it_goes(tmp_path: Path) -> None:
    rows = "".join(f"{1_700_000_000 + n},{60_000 + n * 7919 % 1000},1,b\n" for n in range(5000))
    whole = gzip.compress(f"time,price,qty,side\n{rows}".encode())
    heard: list[str] = []
    source = one(f"BTCUSDT={write(tmp_path / 'cut.csv.gz', whole[: len(whole) // 2])}", heard=heard)
    _, timed = played(source, 12_000)
    assert max(at for at, _ in timed) > SECOND_NS * 1000
    assert "it ends early: Compressed file ended" in " ".join(heard)


def test_a_damaged_parquet_file_plays_as_far_as_it_goes(tmp_path: Path) -> None:
    import random

    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    noise = random.Random(1)
    table = pa.table(
        {
            "time": [1_700_000_000 + n for n in range(20_000)],
            "price": [noise.uniform(59_000, 61_000) for _ in range(20_000)],
            "qty": [noise.uniform(0.1, 1) for _ in range(20_000)],
        }
    )
    pq.write_table(table, path, row_group_size=5000, use_dictionary=False, compression="gzip")
    data = bytearray(path.read_bytes())
    middle = len(data) * 5 // 8
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    heard: list[str] = []
    _, timed = played(one(f"BTCUSDT={path}", heard=heard), 21_000)
    assert len(trades_of(timed)) > 9000
    assert any("it ends early" in text for text in heard)


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet_trades(tmp_path / "t.parquet")
    imports = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return imports(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="pyarrow") as refused:
        one(path)
    assert "openbell[parquet]" in (refused.value.hint or "")
