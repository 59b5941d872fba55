"""The simulated venues and the adapters: matching, orders over HTTP, replay, what an adapter adds.

What is measured on one core is alone in its process. Where a venue and its client are two
processes, they share the machine's cores with each other and with whatever else it runs.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.measurement import Measurement
from bench.venue_overhead import CALLS, overheads
from openbell.domain.orders import OrdType, Side
from openbell_sim.checks import OrderRequest
from openbell_sim.exchange import Exchange
from openbell_sim.instruments import KNOWN
from openbell_sim.ledger import Order
from openbell_sim.market.damage import Damage, unheard
from openbell_sim.market.files import market_file
from openbell_sim.matching.book import Book, Taker
from openbell_sim.matching.side import Entry
from openbell_sim.order_log import OrderLog
from openbell_sim.testing import KEY, SECRET, venue_process

_ORDERS = 200_000
_RESTING = 1000
"""Own orders in the book at most; the oldest is cancelled for each one more."""
RATE = 1600
"""Orders a second that are offered; the promise is 1,500."""
_PROMISED = 1500
_SECONDS = 8.0
_RUNS = 3
_STEPS = (2000, 2500, 3000, 3500, 4000)
_STEP_SECONDS = 5.0
_P99_S = 0.020
_RECORDING = "binance_usdm_ethusdt_20240808.gz"


def run() -> list[Measurement]:
    return [*_matching(), *_over_http(), *_replay(), *_overheads()]


# Matching, in this process


def _flow(count: int) -> Iterator[tuple[Side, int, int]]:
    """`(side, price in ticks, lots)` around a middle that wanders: about a third of the orders
    match at once, the others rest up to 21 ticks away."""
    rnd = random.Random(1)
    middle = 6_200_000
    for _ in range(count):
        middle += rnd.choice((-1, 0, 0, 1))
        side = rnd.choice((Side.BUY, Side.SELL))
        distance = rnd.choice((-2, -1, 0, 1, 2, 3, 5, 8, 13, 21))
        yield side, middle - side.sign * distance, rnd.randint(100, 2000)


def _matching() -> list[Measurement]:
    book_rate, matches = _book()
    rate, fills = _exchange(None)
    with tempfile.TemporaryDirectory() as folder:
        logged_rate, _ = _exchange(Path(folder) / "orders.jsonl")
    per_order = fills / _ORDERS
    return [
        Measurement(
            "matching engine, one core",
            book_rate,
            "orders/s",
            bound=50_000,
            at_most=False,
            method=f"`matching.Book` alone, whole ticks and lots: {_ORDERS:,} limit orders "
            f"({matches / _ORDERS:.2f} matches each), what is left of them rests, and beyond "
            f"{_RESTING:,} resting orders the oldest is cancelled; orders are made before",
        ),
        Measurement(
            "whole exchange in process, one core",
            rate,
            "orders/s",
            method="`Exchange.submit` of the same orders by four accounts: rules, funds, matching, "
            f"fees, balances, fills ({per_order:.2f} an order, both sides being accounts), tape, "
            "and the cancels; Decimal throughout, nothing written",
            limited_by="Python: an order makes more than two events here (accepted, filled, "
            "cancelled), and each changes balances, is kept and is told",
        ),
        Measurement(
            "the same, with the order log written",
            logged_rate,
            "orders/s",
            method="each order's events given to the operating system before its answer",
        ),
    ]


def _book() -> tuple[float, int]:
    takers = [
        Taker(side=side, limit=price, qty=lots, account=f"a{number % 4}")
        for number, (side, price, lots) in enumerate(_flow(_ORDERS))
    ]
    book, resting, matches = Book(), deque[tuple[Side, int, int]](), 0
    began = time.perf_counter()
    for number, taker in enumerate(takers, 1):
        result = book.match(taker)
        matches += len(result.matches)
        if result.leaves:
            assert taker.limit is not None
            book.rest(taker.side, taker.limit, Entry(number, taker.account, result.leaves))
            resting.append((taker.side, taker.limit, number))
        if len(resting) > _RESTING:
            book.remove(*resting.popleft())
    return _ORDERS / (time.perf_counter() - began), matches


def _exchange(log: Path | None) -> tuple[float, int]:
    instrument = KNOWN["BTCUSDT"]
    record = None if log is None else OrderLog(log)
    exchange = Exchange(
        [instrument], now_ns=time.time_ns, record=record, max_open_orders=10 * _RESTING
    )
    for number in range(4):
        exchange.deposit(f"a{number}", "USDT", Decimal(10) ** 12)
        exchange.deposit(f"a{number}", "BTC", Decimal(10) ** 9)
    requests = [
        OrderRequest(
            account=f"a{number % 4}",
            cl_ord_id=f"c{number}",
            symbol=instrument.symbol,
            side=side,
            ord_type=OrdType.LIMIT,
            qty=instrument.quantity(lots),
            price=instrument.price(price),
            received_ns=0,
        )
        for number, (side, price, lots) in enumerate(_flow(_ORDERS))
    ]
    resting = deque[Order]()
    began = time.perf_counter()
    for request in requests:
        order = exchange.submit(request)
        if order.is_open:
            resting.append(order)
        if len(resting) > _RESTING and (oldest := resting.popleft()).is_open:
            exchange.cancel(oldest)
    rate = _ORDERS / (time.perf_counter() - began)
    if record is not None:
        record.close()
    return rate, len(exchange.ledger.fills)


# Orders over HTTP: three processes


def _over_http() -> list[Measurement]:
    runs = sorted((_load(RATE, _SECONDS) for _ in range(_RUNS)), key=lambda run: run["p99_s"])
    at_rate = runs[_RUNS // 2]
    kept, sustained = 0.0, at_rate
    for rate in _STEPS:
        found = _load(rate, _STEP_SECONDS)
        if found["orders_per_s"] < 0.99 * rate or found["p99_s"] > _P99_S:
            break
        kept, sustained = rate, found
    return [
        Measurement(
            f"Binance face over HTTP, p99 at {RATE:,} orders/s offered",
            at_rate["p99_s"] * 1000,
            "ms",
            bound=_P99_S * 1000,
            method=f"{at_rate['orders']:,} signed limit orders from a process of its own over 16 "
            "connections, sent when their time has come whether or not earlier ones were answered; "
            "from that time until the answer is read. Half take from the generated market, half "
            f"rest and are cancelled ({at_rate['cancels']:,} cancels besides the orders); request "
            f"limits off. The middle one of {_RUNS} runs of {_SECONDS:.0f} s; the p99 of each: "
            + ", ".join(f"{run['p99_s'] * 1000:.1f}" for run in runs)
            + " ms",
            limited_by="one core: the venue takes half of one at this rate where the matching engine "
            "alone makes 500,000 orders/s, and all of it where that makes 150,000, as on this machine "
            "at times; then orders wait in line",
        ),
        Measurement(
            f"the same, answered of {RATE:,} offered",
            at_rate["orders_per_s"],
            "orders/s",
            bound=_PROMISED,
            at_most=False,
            method=f"until the last answer; {sum(at_rate['refused'].values())} refused",
        ),
        Measurement("the same, median", at_rate["median_s"] * 1000, "ms"),
        Measurement(
            "the same, sustained with a p99 below 20 ms",
            kept or (at_rate["orders_per_s"] if at_rate["p99_s"] <= _P99_S else 0.0),
            "orders/s",
            method=f"the highest of {', '.join(f'{step:,}' for step in _STEPS)} that was kept up "
            f"for {_STEP_SECONDS:.0f} s; p99 there {sustained['p99_s'] * 1000:.1f} ms",
        ),
    ]


def _load(rate: float, seconds: float) -> dict[str, Any]:
    with venue_process(
        "--no-limits", "--symbols", "BTCUSDT", "--max-open-orders", "1000000",
        "--deposit", "USDT=1000000000", "--deposit", "BTC=100000",
    ) as venue:  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "bench.venue_load", str(venue.port), str(rate), str(seconds)],
            env={**os.environ, "BENCH_KEY": KEY, "BENCH_SECRET": SECRET},
            stdout=subprocess.PIPE,
            check=True,
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# Replay


def _replay() -> list[Measurement]:
    folder = os.environ.get("OPENBELL_RECORDINGS")
    path = (Path(folder) if folder else Path(__file__).parents[2] / "shared" / "data") / _RECORDING
    if not path.exists():
        print(f"   no {_RECORDING}: OPENBELL_RECORDINGS can name its folder", flush=True)
        return []
    file = market_file(path)
    instruments = {symbol: KNOWN[symbol] for symbol in file.symbols}
    events = sum(1 for _ in file.passage(instruments, Damage(unheard)))
    with venue_process("--market", str(path), "--symbols", "", "--speed", "max") as venue:
        began = time.perf_counter()
        while _played(venue.url) < events:
            time.sleep(0.02)
        seconds = time.perf_counter() - began
    return [
        Measurement(
            "replay of a recording at full speed",
            seconds,
            "s",
            bound=10,
            method=f"`openbell-sim --market {_RECORDING} --speed max`, from its readiness until "
            f"{events:,} events of the 74,655 lines are played into its books, seen at its "
            "/metrics; gzip, JSON and the stream hubs included",
        )
    ]


def _played(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as reply:
        text = reply.read().decode()
    return next(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("openbell_sim_market_events_total ")
    )


# Adapters


def _overheads() -> list[Measurement]:
    return [
        Measurement(
            f"adapter over the raw HTTP call, {found.subject}",
            max(found.submit_added_s, found.open_orders_added_s) * 1000,
            "ms",
            bound=1.5,
            method=f"the larger of two differences of medians of {CALLS} calls: submit "
            f"{found.submit_s * 1000:.2f} ms against {found.bare_submit_s * 1000:.2f}, open orders "
            f"{found.open_orders_s * 1000:.2f} ms against {found.bare_open_orders_s * 1000:.2f}"
            + _by_requests(found.open_orders_requests)
            + "; the raw call is the same signed request by a bare aiohttp session, in turn",
        )
        for found in overheads()
    ]


def _by_requests(count: int) -> str:
    return "" if count == 1 else f" by {count} requests, the difference divided by their number"
