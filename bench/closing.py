"""The planned shutdown: 200 open orders and 12 positions on three simulated venues, by `openbell down`.

A paper desk with three venues, each a process of its own, on this machine's cores. What is left is asked
from tests.harness.ports import free_ports
from the venues' own logs: every order ended, every position bought back.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import psutil
from tests.harness.paper_desk import (
    PaperDesk,
    await_condition,
    copy_paper_desk,
    end_everything,
)
from tests.harness.ports import free_ports
from tests.harness.venue_log import require_flat

from bench.measurement import Measurement

ROUNDS = 3
VENUES = ("binance", "binance-b", "binance-c")
SYMBOLS = ("BTC/USDT", "ETH/USDT", "LTC/USDT", "BNB/USDT")
ORDERS = 200
POSITIONS = len(VENUES) * len(SYMBOLS)
BOUND_S = 10.0
LOOK_EVERY_S = 0.05

_STRATEGY = '''
from collections.abc import Iterable
from decimal import Decimal

from openbell.domain.orders import Side
from openbell.trading.strategy import Action, Strategy, Submit, View

QUANTITY = {{
    "BTC/USDT": Decimal("0.001"), "ETH/USDT": Decimal("0.05"),
    "LTC/USDT": Decimal("2"), "BNB/USDT": Decimal("0.5"),
}}


class Hold(Strategy):
    """Buys each symbol once, rests its orders far from the market, and holds both."""

    timer_s = 0.1

    def on_timer(self, view: View) -> Iterable[Action]:
        quotes = [view.quotes.get(symbol) for symbol in self.symbols]
        if any(quote is None or quote.bid_px is None for quote in quotes):
            return
        bought = [symbol for symbol in self.symbols if view.position(symbol) > 0]
        under_way = {{order.new.symbol for order in view.open_orders}}
        if len(bought) < len(self.symbols):
            for symbol in self.symbols:
                if symbol not in bought and symbol not in under_way:
                    yield Submit(symbol, Side.BUY, QUANTITY[symbol])
        elif len(view.open_orders) < {resting}:
            at = len(view.open_orders) % len(self.symbols)
            price = (quotes[at].bid_px * Decimal("0.97")).quantize(Decimal("0.01"))
            yield Submit(self.symbols[at], Side.BUY, QUANTITY[self.symbols[at]], price=price)
'''


@dataclass(frozen=True)
class Closed:
    took_s: float
    """Of the command, from its start to its end."""
    run_s: float
    """Of the run."""
    steps: Mapping[str, float]
    cpu_s: Mapping[str, float]
    """Processor time while the command ran, of each of our own processes that take part."""


def run() -> list[Measurement]:
    with tempfile.TemporaryDirectory(prefix="ob-") as folder:
        closed = [_closed(Path(folder) / f"desk-{n}") for n in range(ROUNDS)]
    took = statistics.median(each.took_s for each in closed)
    steps = {name: statistics.median(c.steps[name] for c in closed) for name in closed[0].steps}
    own = {
        name: statistics.median(c.cpu_s.get(name, 0.0) for c in closed) for name in closed[0].cpu_s
    }
    shares = [1 - sum(each.cpu_s.values()) / each.took_s for each in closed]
    told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in steps.items())
    return [
        Measurement(
            f"`openbell down`, {ORDERS} open orders, {POSITIONS} positions, {len(VENUES)} venues",
            took,
            "s",
            BOUND_S,
            method=f"median of {ROUNDS} ({', '.join(f'{c.took_s:.2f}' for c in closed)}), the whole "
            f"command, positions closed at the market; its steps: {told}",
            limited_by=f"{os.cpu_count()} cores, on which venues and services run too",
        ),
        Measurement(
            "waiting on venues and services / whole of it",
            statistics.median(shares) * 100,
            "%",
            method="what is not processor time of command or controller: "
            + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in own.items())
            + ". Short-lived processes that ask the venues past the engine count as waiting",
        ),
        Measurement(
            "the run alone", statistics.median(each.run_s for each in closed), "s", BOUND_S
        ),
    ]


def _closed(folder: Path) -> Closed:
    desk = _desk(folder)
    try:
        assert desk.run("up").document["outcome"] == "trading"
        await_condition(lambda: _standing(desk) == (ORDERS, POSITIONS), "orders and positions", 120)
        controller = desk.status()["controller"]["pid"]
        watch = _Watch(controller)
        with watch.running():
            began = time.monotonic()
            command = subprocess.Popen(
                desk.command("down", "--yes", "--json"), env=desk.environ, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            watch.command = command.pid
            out, err = command.communicate(timeout=120)
            took_s = time.monotonic() - began
        document = json.loads(out)
        assert command.returncode == 0 and document["outcome"] == "verified", (document, err)
        _require_flat(desk)
        steps = {step["name"]: float(step["seconds"]) for step in document["steps"]}
        return Closed(took_s, float(document["seconds"]), steps, watch.used())
    finally:
        end_everything(desk)


@dataclass
class _Watch:
    """The processor time of two processes that end while they are watched: the last that was seen."""

    controller: int
    command: int = 0
    first: float = 0.0
    seen: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self.first = _cpu_s(self.controller) or 0.0
        over = threading.Event()

        def look() -> None:
            while not over.wait(LOOK_EVERY_S):
                for name, pid in (("controller", self.controller), ("command", self.command)):
                    if pid and (cpu_s := _cpu_s(pid)) is not None:
                        self.seen[name] = cpu_s

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def used(self) -> dict[str, float]:
        assert {"controller", "command"} <= set(self.seen), "both were seen at work"
        return {**self.seen, "controller": self.seen["controller"] - self.first}


def _cpu_s(pid: int) -> float | None:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


# --- the desk ------------------------------------------------------------------------------------


def _desk(folder: Path) -> PaperDesk:
    desk = copy_paper_desk(folder)
    file = folder / "desk.toml"
    text = re.sub(r"^(type = .*)$", r"\1\nenabled = false", file.read_text(), flags=re.MULTILINE)
    for old, new in {
        "max_orders_per_second = 50": "max_orders_per_second = 1000",
        "max_open_orders = 50": "max_open_orders = 1000",
        "max_open_positions = 5": "max_open_positions = 100",
        'max_total_exposure = "25000"': 'max_total_exposure = "1000000"',
        '"BTC/USDT" = "0.1"': '"BTC/USDT" = "10"\n"BNB/USDT" = "1000"',
        '"ETH/USDT" = "2"': '"ETH/USDT" = "200"',
        '"LTC/USDT" = "50"': '"LTC/USDT" = "5000"',
        # No fee: one that is taken out of what is bought leaves less than a lot behind.
        '"--fee-in", "BNB", "--maker-fee", "0.0001", "--taker-fee", "0.0004",':
            '"--maker-fee", "0", "--taker-fee", "0", "--limit-scale", "20",',
        'fee_currency = "BNB"\n': "",
        'symbols = ["BTC/USDT", "ETH/USDT", "LTC/USDT"]': f"symbols = {json.dumps(SYMBOLS)}",
        'LTC = "500"': 'LTC = "500"\nBNB = "100"',
    }.items():  # fmt: skip
        assert old in text, old
        text = text.replace(old, new)
    text = _with_venues(text)
    resting = [ORDERS // len(VENUES)] * len(VENUES)
    resting[0] += ORDERS - sum(resting)
    for number, (venue, count) in enumerate(zip(VENUES, resting, strict=True)):
        text += f'\n[strategies.hold_{number}]\ntype = "my_hold_{number}:Hold"\nvenue = "{venue}"\n'
        text += f"symbols = {json.dumps(SYMBOLS)}\n"
        (folder / f"my_hold_{number}.py").write_text(_STRATEGY.format(resting=count))
    file.write_text(text)
    return desk


def _with_venues(text: str) -> str:
    """The first venue and its service, again for each of the others."""
    venue = _table(text, "venues.binance")
    holdings = _table(text, "venues.binance.holdings")
    service = _table(text, "services.venue-sim")
    (port,) = re.findall(r'url = "http://127.0.0.1:(\d+)"', venue)
    names = ["venue-sim"]
    for name, free in zip(VENUES[1:], free_ports(len(VENUES) - 1), strict=True):
        names.append(f"venue-sim-{name}")
        made = service.replace("services.venue-sim", f"services.{names[-1]}")
        made = made.replace('venues = ["binance"]', f'venues = ["{name}"]')
        secret = name.upper().replace("-", "_")
        made = made.replace("OPENBELL_VENUE_BINANCE_", f"OPENBELL_VENUE_{secret}_")
        for part in (venue, holdings, made):
            text += "\n" + part.replace("venues.binance", f"venues.{name}").replace(port, str(free))
    text = text.replace('depends_on = ["venue-sim"]', f"depends_on = {json.dumps(names)}")
    return text.replace(
        "port = " + _port_of(text, "execution-engine") + '\nvenues = ["binance"]',
        "port = " + _port_of(text, "execution-engine") + f"\nvenues = {json.dumps(VENUES)}",
    )


def _table(text: str, name: str) -> str:
    found = re.search(rf"^\[{re.escape(name)}\]\n(?:(?!\[).*\n?)*", text, flags=re.MULTILINE)
    assert found is not None, name
    return found[0]


def _port_of(text: str, service: str) -> str:
    found = re.search(r"^port = (\d+)$", _table(text, f"services.{service}"), flags=re.MULTILINE)
    assert found is not None, service
    return found[1]


def _standing(desk: PaperDesk) -> tuple[int, int]:
    """Open orders and positions that are not zero, as the engine tells them of its venues."""
    orders = desk.look("orders")["orders"]
    positions = desk.look("positions")["positions"]
    return len(orders), sum(Decimal(row["venue_quantity"] or 0) != 0 for row in positions)


def _require_flat(desk: PaperDesk) -> None:
    logs = sorted((desk.folder / "state" / "services").glob("venue-sim*/venue.jsonl"))
    assert len(logs) == len(VENUES), logs
    ordered = 0
    for log in logs:
        ordered += require_flat(log)
    assert ordered >= ORDERS + 2 * POSITIONS, ordered
