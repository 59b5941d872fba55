"""What the tests of market files share: sources from files, what they play, and some files."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path

from openbell_sim.exchange import Exchange
from openbell_sim.instruments import KNOWN, spot
from openbell_sim.market.events import MarketEvent, Traded
from openbell_sim.market.files import replays
from openbell_sim.market.replay import Replay

SECOND_NS = 1_000_000_000
FOREX = {
    name.replace("/", "_"): spot(name.replace("/", "_"), *name.split("/"), tick, "1")
    for name, tick in (("EUR/USD", "0.00001"), ("USD/JPY", "0.001"))
}


def sources(*texts: object, heard: list[str] | None = None, infer: bool = True) -> list[Replay]:
    def warn(_: Path, text: str) -> None:
        if heard is not None:
            heard.append(text)

    known = {**KNOWN, **FOREX}
    return replays([str(text) for text in texts], known, infer=infer, warn=warn)


def one(*texts: object, heard: list[str] | None = None) -> Replay:
    (source,) = sources(*texts, heard=heard)
    return source


def played(source: Replay, count: int) -> tuple[Exchange, list[tuple[int, MarketEvent]]]:
    """The exchange after so many events; at none of them is a book crossed, and time never falls."""
    clock = itertools.count(1_700_000_000 * SECOND_NS)
    exchange = Exchange(source.instruments, now_ns=lambda: next(clock))
    timed = list(itertools.islice(source.events(), count))
    for _, event in timed:
        exchange.play(event)
        book = exchange.markets[event.symbol].book
        if book.bids.best is not None and book.asks.best is not None:
            assert book.bids.best < book.asks.best
    assert [at for at, _ in timed] == sorted(at for at, _ in timed)
    return exchange, timed


def trades_of(timed: list[tuple[int, MarketEvent]]) -> list[tuple[int, str, str, bool]]:
    return [
        (at, f"{e.price.normalize():f}", f"{e.qty.normalize():f}", e.aggressor_is_buyer)
        for at, e in timed
        if isinstance(e, Traded)
    ]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


SAME_TRADES = [
    (0, "61000.5", "0.25", True),
    (1_500_000_000, "61001", "0.5", False),
    (2_000_000_000, "61002", "0.125", True),
]

CSV = """\
timestamp,price,quantity,side
2023-11-14T22:13:20Z,61000.5,0.25,buy
2023-11-14 22:13:21.5+00:00,61001,0.5,SELL
1700000002000,61002,0.125,B
"""


def parquet(path: Path, **columns: object) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


def parquet_trades(path: Path) -> Path:
    import pyarrow as pa

    stamps = [1_700_000_000_000_000_000 + offset for offset, *_ in SAME_TRADES]
    return parquet(
        path,
        ts=pa.array(stamps, pa.timestamp("ns", "UTC")),
        px=[61000.5, 61001.0, 61002.0],
        size=pa.array([Decimal("0.25"), Decimal("0.5"), Decimal("0.125")]),
        side=["buy", "sell", "buy"],
        symbol=["BTCUSDT"] * 3,
    )
