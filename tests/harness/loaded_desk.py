"""A paper desk whose engine has a standby and is kept busy, and what its venue tells of it."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.harness.paper_desk import (
    ENGINE,
    STANDBY,
    PaperDesk,
    add_standby,
    await_condition,
    copy_paper_desk,
)

from openbell.config.layout import DeskLayout
from openbell.domain.orders import OrderIntended
from openbell.errors import OpenbellError
from openbell.state.books_at_rest import books_at_rest
from openbell.state.journal_reader import JournalReader

_STRATEGY = '''
from collections.abc import Iterable
from decimal import Decimal

from openbell.domain.orders import Side
from openbell.trading.strategy import Action, Cancel, Strategy, Submit, View

REST_NS = 250_000_000


class Load(Strategy):
    """An order at every turn, far from the market and cancelled a moment later; every tenth fills."""

    timer_s = {every_s}
    turn = 0

    def on_timer(self, view: View) -> Iterable[Action]:
        quote = view.quotes.get("BTC/USDT")
        if quote is None or quote.bid_px is None:
            return
        self.turn += 1
        for order in view.open_orders[:3]:
            if not order.cl_ord_id.startswith("unanswered:"):
                if view.now_ns - order.created_ns > REST_NS:
                    yield Cancel(order.cl_ord_id)
        if self.turn % 10 == 0:
            side = Side.BUY if view.position("BTC/USDT") <= 0 else Side.SELL
            yield Submit("BTC/USDT", side, Decimal("0.001"))
        else:
            price = (quote.bid_px * Decimal("0.97")).quantize(Decimal("0.01"))
            yield Submit("BTC/USDT", Side.BUY, Decimal("0.001"), price=price)
'''


QUIET = 10.0
"""Orders per second of a desk that has to trade and whose load proves nothing; each costs CPU in four
processes."""
STEADY = 20.0
"""And of one of which orders have to rest and to be on their way, as whoever sent them stops."""
QUICK = {
    # How long an order that never arrived is in doubt after a kill; the shorter, the more answers
    # come late.
    "timeout": ('fee_currency = "BNB"', 'fee_currency = "BNB"\ntimeout = "2s"'),
    # After each turn of a rolling restart, beside what is waited for.
    "watched": ("[desk]\n", '[rolling]\nwatch_for = "300ms"\ntrading_within = "30s"\n[desk]\n'),
}
"""Settings of a desk that wait for less. What a test sets under the same name takes their place."""


@dataclass(frozen=True)
class LoadedDesk:
    desk: PaperDesk
    sim_url: str
    controller_port: int

    @classmethod
    def make(
        cls, folder: Path, *, orders_per_s: float = 50, **changes: tuple[str, str]
    ) -> LoadedDesk:
        """`changes`: what stands in desk.toml, and what is to stand there, by any name."""
        desk = copy_paper_desk(folder)
        add_standby(desk)
        file = folder / "desk.toml"
        # One strategy, and the one market it looks at: what the others did would cost as much again.
        text = re.sub(r"^\[strategies\..*?(?=^\[services)", "", file.read_text(), flags=re.M | re.S)
        for all_of_them, one in (
            ('symbols = ["BTC/USDT", "ETH/USDT", "LTC/USDT"]', 'symbols = ["BTC/USDT"]'),
            ("BTCUSDT,ETHUSDT,LTCUSDT,BNBUSDT", "BTCUSDT,BNBUSDT"),
        ):
            assert text.count(all_of_them) == 1, all_of_them
            text = text.replace(all_of_them, one)
        text = text.replace("max_orders_per_second = 50", "max_orders_per_second = 10000")
        text = text.replace("max_open_orders = 50", "max_open_orders = 10000")
        text = text.replace('"BTC/USDT" = "0.1"', '"BTC/USDT" = "10"')
        for limit in ("max_notional_per_position", "max_total_exposure"):
            text = re.sub(rf'{limit} = "\d+"', f'{limit} = "10000000"', text)
        # More than a venue lets an account do. It has to say so, or the engine stays inside less.
        text = text.replace('"--port", "{port}",', '"--port", "{port}", "--limit-scale", "20",')
        text += '\n[strategies.load]\ntype = "my_load:Load"\nvenue = "binance"\n'
        text += 'symbols = ["BTC/USDT"]\n'
        for old, new in changes.values():
            assert old in text, old
            text = text.replace(old, new)
        file.write_text(text)
        (folder / "my_load.py").write_text(_STRATEGY.format(every_s=1 / orders_per_s))
        found = re.search(r'url = "(http://127.0.0.1:\d+)"', text)
        port = re.search(r"\[controller\]\nport = (\d+)", text)
        assert found and port
        return cls(desk, found[1], int(port[1]))

    @property
    def layout(self) -> DeskLayout:
        return DeskLayout.for_desk(self.desk.folder, {})

    def open(self) -> None:
        assert self.desk.run("up").document["outcome"] == "trading"

    # --- who trades --------------------------------------------------------------------------

    def api(self, path: str) -> Any:
        """A question to the controller without the start of a command."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.controller_port}/api/v1/{path}",
            headers={"Authorization": f"Bearer {self.layout.api_token.read_text().strip()}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def pair(self) -> dict[str, dict[str, Any]]:
        """The rows of status of the two, by what they are now: `engine` and `standby`."""
        rows = self.api("status")["services"]
        return {row["role"]: row for row in rows if row["role"] in ("engine", "standby")}

    def until_paired(self, timeout_s: float = 120) -> dict[str, dict[str, Any]]:
        """Once one trades and the other could."""

        def paired() -> bool:
            try:
                pair = self.pair()
            except OSError:
                return False
            return pair["engine"]["phase"] == "ready" and pair["standby"].get("promotable") is True

        await_condition(paired, "one engine trades and the other stands by", timeout_s)
        return self.pair()

    # --- what the venue says -----------------------------------------------------------------

    def orders(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.sim_url}/sim/v1/orders", timeout=30) as answer:
            rows: list[dict[str, Any]] = json.load(answer)["orders"]
        return rows

    def epochs(self) -> list[str]:
        """Under which orders were sent, in order."""
        rows = sorted(self.orders(), key=lambda row: int(row["received_ns"]))
        return list(dict.fromkeys(row["cl_ord_id"].split("-")[1] for row in rows))

    def refused(self) -> list[dict[str, Any]]:
        """Intents that the engines refused or did not answer."""
        lines = self.layout.service_log("market-analysis").read_text().splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return [
            line
            for line in told
            if line.get("event") in ("intent refused", "intent without an answer")
            and line.get("code")
            != "never_sent"  # it waited for its turn while the machine was busy
        ]

    def suffer(self, fault: dict[str, Any]) -> None:
        request = urllib.request.Request(
            f"{self.sim_url}/sim/v1/control/faults",
            data=json.dumps(fault).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 201

    def until_orders_after(self, moment_ns: int, count: int = 5, timeout_s: float = 60) -> int:
        """When the venue received the first order after `moment_ns`, once it has so many."""

        def later() -> list[int]:
            return sorted(
                row["received_ns"] for row in self.orders() if row["received_ns"] > moment_ns
            )

        await_condition(lambda: len(later()) >= count, "orders reach the venue again", timeout_s)
        return later()[0]

    def require_no_order_twice(self) -> None:
        """No ClOrdID twice at the venue, none there that the journal does not know, and no intent
        that made two orders."""
        ids = [row["cl_ord_id"] for row in self.orders()]
        twice = [each for each, times in Counter(ids).items() if times > 1]
        assert not twice, f"twice at the venue: {twice}"
        reader = JournalReader.open(self.layout.database)
        try:
            intended = [
                entry.event.order
                for entry in reader.read()
                if isinstance(entry.event, OrderIntended)
            ]
        finally:
            reader.close()
        assert set(ids) <= {order.cl_ord_id for order in intended}
        intents = Counter((order.strategy, order.intent_id) for order in intended)
        assert not [each for each, times in intents.items() if times > 1]

    def require_books_agree(self) -> None:
        """After a halt: positions and open orders of the journal are those of the venue."""
        self.desk.run("halt", "--reason", "to count")
        seen: list[str] = []

        def agree() -> bool:
            try:
                books = books_at_rest(self.layout.database).books
            except OpenbellError as error:
                seen[:] = [error.message]
                return False
            held: Counter[str] = Counter()
            resting = set()
            for row in self.orders():
                sign = 1 if row["side"] == "BUY" else -1
                held[row["symbol"]] += sign * Decimal(row["cum_qty"])  # type: ignore[assignment]
                if row["status"] in ("NEW", "PARTIALLY_FILLED"):
                    resting.add(row["cl_ord_id"])
            ours = {
                symbol.replace("/", ""): position.quantity
                for (_, symbol), position in books.positions.items()
            }
            open_here = {order.cl_ord_id for order in books.open_orders()}
            difference = (
                f"{held} at the venue, {ours} in the books; open only there "
                f"{resting - open_here}, only here {open_here - resting}"
            )
            seen[:] = [difference]
            agreed = all(ours.get(symbol, 0) == quantity for symbol, quantity in held.items())
            return agreed and resting == open_here

        try:
            await_condition(agree, "books and venue agree", 40)
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen}") from None


def now_ns() -> int:
    """The wall clock, by which the venue stamps orders."""
    return time.time_ns()


__all__ = ["ENGINE", "QUICK", "QUIET", "STANDBY", "STEADY", "LoadedDesk", "now_ns"]
