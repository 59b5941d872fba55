"""A desk with a controller, a guard and simulated venues that outlive both; the engine is a stand-in
that beats, a process which can be stopped and killed. What became of orders, the venues say."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.harness.controller_process import ControllerProcess
from tests.harness.ports import free_ports
from tests.harness.venues import some_venue

from openbell.config.loader import load_desk
from openbell.domain.ids import mint
from openbell.domain.orders import ClOrdID, NewOrder, OrdType, Side
from openbell.venues.credentials import Credentials
from openbell.venues.kraken.ids import to_kraken
from openbell.venues.port import Accepted, Rejected
from openbell.venues.registry import open_venue
from openbell_sim.testing import VenueProcess, VenueThread

KEY, SECRET = "4b" * 32, "5c" * 32
"""Of every venue; a private key of Kraken's is base64, and hex digits are."""
STOP_KEY, STOP_SECRET = "6d" * 32, "7e" * 32
"""The pair that may only cancel and close, by the venue's own doing, of desks that have one."""

FACES = {
    "binance": ("binance", "BTC/USDT"),
    "kraken": ("kraken", "BTC/USD"),
    "binance-usdm": ("binance-usdm", "BTC/USDT"),
}
"""Adapter, which is also the face, and symbol."""

MORE = {
    # These tests ask far more often than a desk does.
    "kraken": 'options = { call_limit = "1000000", order_limit = "1000000", call_decay = "1000000" }'
}


def wire_id(venue: str, cl_ord_id: str) -> str | None:
    """A ClOrdID as the venue keeps it."""
    return to_kraken(ClOrdID(cl_ord_id)) if venue == "kraken" else cl_ord_id


BEATING = """
import os, signal, sys, time
from pathlib import Path
from openbell.kill.beats import STOPPED, BeatSender
sender = BeatSender(Path(sys.argv[1]), "engine", "engine")
def leave(*_):
    sender.send(epoch=int(sys.argv[2]), stage=STOPPED)
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
while True:
    sender.send(epoch=int(sys.argv[2]))
    time.sleep(0.1)
"""

_DESK = """
[desk]
name = "guarded"
[controller]
port = {port}
[guard]
dead_man_timeout = "{timeout}"
engine_silent_after = "{silent}"
controller_silent_after = "{watch}"
guard_silent_after = "{watch}"
cancel_timeout = "5s"
{guard}
[closing]
flatten = "keep"
wait_for_orders = "5s"
{venues}
[services.idle]
command = ["sleep", "86400"]
{services}
"""

_VENUE = """
[venues.{name}]
adapter = "{adapter}"
url = "{url}"
symbols = ["{symbol}"]
key_env = "GUARDED_KEY"
secret_env = "GUARDED_SECRET"
{stop_key}
timeout = "1s"
{more}
"""


_STOP_KEY = """
cancel_key_env = "GUARDED_STOP_KEY"
cancel_secret_env = "GUARDED_STOP_SECRET"
"""


@dataclass
class GuardedDesk(ControllerProcess):
    venues: dict[str, VenueThread | VenueProcess] = field(default_factory=dict)
    engines: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _orders: int = 0

    # --- processes ---------------------------------------------------------------------------

    def guard(self) -> dict[str, Any]:
        """Its own word, from its socket."""
        return self.ask_guard("status")

    def ask_guard(self, do: str, timeout_s: float = 30.0, **fields: object) -> dict[str, Any]:
        """The final line of its answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(self.layout.guard_socket))
            connection.sendall(json.dumps({"do": do, **fields}).encode() + b"\n")
            for line in connection.makefile("rb"):
                answer = json.loads(line)
                if answer.get("final"):
                    return dict(answer)
        raise ConnectionError(f"no final answer to {do}")

    def guard_pid(self) -> int | None:
        """None while none answers."""
        try:
            return int(self.guard()["pid"])
        except (OSError, json.JSONDecodeError):
            return None

    def controller_pid(self) -> int | None:
        try:
            return int(self.status()["controller"]["pid"])
        except (OSError, AssertionError, ValueError, KeyError):
            return None

    def other_than(self, pid: int, of: str) -> int:
        """The pid of the one that took its place and answers."""
        found: list[int] = []

        def there() -> bool:
            now = self.guard_pid() if of == "guard" else self.controller_pid()
            found[:] = [now] if now is not None and now != pid else []
            return bool(found)

        self.until(there, f"another {of} than pid {pid}")
        return found[0]

    def open(self) -> None:
        """Opened by a controller that is started for it; its venues are warm."""
        self.start()
        last = self.run("open")[-1]
        assert last["event"] == "done", last
        self.until_warm()

    def until_warm(self, *but: str) -> None:
        def warm() -> bool:
            with contextlib.suppress(OSError, json.JSONDecodeError):
                rows = self.guard()["venues"]
                return all(row["warm"] for row in rows if row["name"] not in but)
            return False

        self.until(warm, "the venues are warm")

    # --- the engine --------------------------------------------------------------------------

    def engine(self, epoch: int = 1) -> subprocess.Popen[bytes]:
        """Begins to beat."""
        process = subprocess.Popen(
            [sys.executable, "-c", BEATING, str(self.layout.beats_socket), str(epoch)],
            env=self.environ,
        )
        self.engines.append(process)
        return process

    def switch(self, venue: str) -> dict[str, Any]:
        rows = self.ask_guard("dead_man")["venues"]
        return dict(next(row for row in rows if row["venue"] == venue))

    def until_switch(self, venue: str, state: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def so() -> bool:
            with contextlib.suppress(OSError, json.JSONDecodeError):
                found.update(self.switch(venue))
            return found.get("state") == state

        try:
            self.until(so, f"{venue} is {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {found}\n{self.guard_log()}") from None
        return found

    def guard_lines(self) -> list[dict[str, Any]]:
        """Its log, decoded."""
        lines = self.layout.guard_log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def guard_log(self) -> str:
        return self.layout.guard_log.read_text()[-6000:]

    # --- the venues --------------------------------------------------------------------------

    async def buy(self, venue: str) -> None:
        """The desk holds a position there."""
        (order,) = await self.rest(venue, 1, at_market=True)
        filled = [row for row in self.truth(venue) if row["cl_ord_id"] == wire_id(venue, order)]
        assert [row["status"] for row in filled] == ["FILLED"], filled

    async def rest(self, venue: str, count: int = 3, *, at_market: bool = False) -> list[str]:
        """Orders of this desk that rest, far from the market, or trade at it; their ClOrdIDs."""
        desk = load_desk(self.folder)
        config = desk.file.venues[venue]
        adapter = open_venue(venue, config, Credentials(KEY, SECRET))
        made: list[str] = []
        try:
            await adapter.connect()
            symbol = config.symbols[0]
            rules = adapter.rules(symbol)
            quote = await adapter.quote(symbol)
            price = quote.bid_px * 9 // 10 // rules.tick_size * rules.tick_size
            quantity = max(rules.min_qty, rules.min_notional * 2 / price)
            quantity = (quantity // rules.lot_size + 1) * rules.lot_size
            for _ in range(count):
                self._orders += 1
                order = NewOrder(
                    cl_ord_id=mint(self.layout.desk_id, 1, self._orders),
                    venue=venue,
                    symbol=symbol,
                    side=Side.BUY,
                    ord_type=OrdType.MARKET if at_market else OrdType.LIMIT,
                    order_qty=quantity,
                    price=None if at_market else price,
                )
                outcome = await adapter.submit(order)
                while isinstance(outcome, Rejected) and "nonce" in outcome.code:
                    # The guard's refresh with the same key has overtaken it: it never arrived.
                    outcome = await adapter.submit(order)
                assert isinstance(outcome, Accepted), outcome
                made.append(order.cl_ord_id)
        finally:
            await adapter.close()
        return made

    def truth(self, venue: str) -> list[dict[str, Any]]:
        """Every order the venue ever took, as it tells them."""
        url = self.venues[venue].url
        with urllib.request.urlopen(f"{url}/sim/v1/orders", timeout=10) as answer:
            return list(json.load(answer)["orders"])

    def suffer(self, venue: str, **fault: object) -> None:
        request = urllib.request.Request(
            f"{self.venues[venue].url}/sim/v1/control/faults", data=json.dumps(fault).encode()
        )
        urllib.request.urlopen(request, timeout=10).close()

    def resting(self, venue: str) -> int:
        return sum(order["status"] in ("NEW", "PARTIALLY_FILLED") for order in self.truth(venue))

    def end(self) -> None:
        for engine in self.engines:
            engine.kill()
            engine.wait()
        super().end()


@contextlib.contextmanager
def guarded_desk(
    folder: Path,
    *venues: str,
    timeout: str = "2s",
    silent: str = "600ms",
    watch: str = "1500ms",
    guard: str = "",
    more: str = "",
    services: str = "",
    stop_key: bool = False,
    apart: bool = False,
    logs: Path | None = None,
) -> Iterator[GuardedDesk]:
    """A desk in `folder` with these venues of `FACES`; not opened. `apart`: each is a process, which
    can be stopped, and not a thread of this one.
    `stop_key`: its venues know a second key, which may enter no order, and desk.toml names it. `logs`:
    where each venue writes down all that happens there, NAME.log."""
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        pairs = {
            "GUARDED_KEY": KEY,
            "GUARDED_SECRET": SECRET,
            "GUARDED_STOP_KEY": STOP_KEY,
            "GUARDED_STOP_SECRET": STOP_SECRET,
        }
        os.environ.update(pairs)
        names = ["--key-env", "GUARDED_KEY", "--secret-env", "GUARDED_SECRET"]
        if stop_key:
            names += ["--closing-pair", "GUARDED_STOP_KEY:GUARDED_STOP_SECRET"]
        running = {
            name: stack.enter_context(
                some_venue(
                    "--face",
                    FACES[name][0],
                    "--no-limits",
                    *names,
                    *(("--log", str(logs / f"{name}.log")) if logs else ()),
                    apart=apart,
                )
            )
            for name in venues
        }
        (port,) = free_ports(1)
        tables = "".join(
            _VENUE.format(
                name=name,
                adapter=FACES[name][0],
                url=at.url,
                symbol=FACES[name][1],
                more=more or MORE.get(name, ""),
                stop_key=_STOP_KEY if stop_key else "",
            )
            for name, at in running.items()
        )
        text = _DESK.format(
            port=port,
            timeout=timeout,
            silent=silent,
            watch=watch,
            guard=guard,
            venues=tables,
            services=services,
        )
        (folder / "desk.toml").write_text(text)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENBELL_")}
        environ |= pairs
        desk = GuardedDesk(folder, port, environ, venues=running)
        try:
            yield desk
        finally:
            for pid in (*desk.running("openbell.guard"), *desk.running("openbell.controller")):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            desk.end()
