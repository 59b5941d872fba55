"""The services as processes, between a simulated venue and an engine that the test plays."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.harness.ports import free_port

from openbell.config.layout import DeskLayout
from openbell.domain.market import Quote
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderIntended,
    Side,
    TimeInForce,
)
from openbell.trading.bus import Publisher, Responder, Subscriber
from openbell.trading.messages import (
    ENGINE_TOPIC,
    EVENTS_SOCKET,
    INTENTS_SOCKET,
    MARKET_SOCKET,
    ORDER_TOPIC,
    QUOTE_TOPIC,
    REPLAY_SOCKET,
    CancelIntent,
    EngineEvent,
    EngineHeartbeat,
    Intent,
    IntentReply,
    ReplayReply,
    ReplayRequest,
    SubmitIntent,
)

TOKEN = "a-service-token-for-tests"
KEY_ENV, SECRET_ENV = "OPENBELL_VENUE_BINANCE_KEY", "OPENBELL_VENUE_BINANCE_SECRET"
PAPER = Path(__file__).parents[2] / "desks" / "paper" / "desk.toml"


async def until(condition: Callable[[], Any], what: str, timeout_s: float = 45) -> Any:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {timeout_s:g}s: {what}")


class Desk:
    """A copy of the paper desk with ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venue_port = free_port()
        text = PAPER.read_text().replace("7001", str(self.venue_port))
        (folder / "desk.toml").write_text(text)
        self.layout = DeskLayout.for_desk(folder, {})
        self.layout.make()
        (self.layout.state / "service.token").write_text(TOKEN)
        self.ports: dict[str, int] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def edit(self, old: str, new: str) -> None:
        file = self.folder / "desk.toml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def start_venue(self) -> None:
        self._spawn(
            "venue-sim",
            [
                *("-m", "openbell_sim", "--port", str(self.venue_port)),
                *("--key-env", KEY_ENV, "--secret-env", SECRET_ENV),
            ],
            {},
        )

    def start(self, service: str) -> None:
        self.ports[service] = free_port()
        module = f"openbell.services.{service.replace('-', '_')}"
        self._spawn(service, ["-m", module], {"OPENBELL_PORT": str(self.ports[service])})

    def _spawn(self, name: str, arguments: list[str], extra: dict[str, str]) -> None:
        environment = os.environ | extra
        environment |= {
            "OPENBELL_DESK": str(self.folder),
            "OPENBELL_STATE": str(self.layout.state),
            "OPENBELL_SERVICE": name,
            KEY_ENV: "a-key-for-tests",
            SECRET_ENV: "a-secret-for-tests",
        }
        with self.layout.service_log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *arguments], env=environment, stdout=log, stderr=log
            )

    def end(self, name: str, number: int = signal.SIGTERM) -> int:
        process = self._processes.pop(name)
        process.send_signal(number)
        return process.wait(20)

    def end_all(self) -> None:
        for name in tuple(self._processes):
            self.end(name, signal.SIGKILL)

    def log(self, service: str) -> list[dict[str, Any]]:
        lines = self.layout.service_log(service).read_bytes().rpartition(b"\n")[0].splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def ask(self, service: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and document; (0, {}) where nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[service], timeout=10)
        try:
            connection.request(
                "GET" if body is None else "POST",
                path,
                None if body is None else json.dumps(body),
                {"Authorization": f"Bearer {TOKEN}"},
            )
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except ConnectionError:
            return 0, {}
        finally:
            connection.close()

    async def ready(self, service: str) -> None:
        await until(lambda: self.ask(service, "/ready")[0] == 200, f"{service} ready")

    def strategy(self, name: str) -> dict[str, Any]:
        told = self.ask("market-analysis", "/v1/strategies")[1].get("strategies", ())
        return next((each for each in told if each["name"] == name), {})


class PlayedEngine:
    """Journals every intent; fills what the newest quote crosses; rests the rest."""

    def __init__(self, run: Path) -> None:
        self.journal: list[EngineEvent] = []
        self.trading = True
        self.refuse = ""
        self._quotes: dict[str, Quote] = {}
        self._run = run
        self._seen: dict[str, IntentReply] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.deaf = False

    async def start(self) -> None:
        self._events = Publisher(self._run / EVENTS_SOCKET, producer=f"engine/{time.time_ns()}")
        self._intents: Responder[Intent, IntentReply] = Responder(
            self._run / INTENTS_SOCKET, Intent, self._on_intent
        )
        self._replays: Responder[ReplayRequest, ReplayReply] = Responder(
            self._run / REPLAY_SOCKET, ReplayRequest, self._on_replay
        )
        self._market = Subscriber(self._run / MARKET_SOCKET, {QUOTE_TOPIC: Quote})
        self._tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._listen())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._intents.close()
        await self._replays.close()
        self._market.close()
        self._events.close()

    def events(self, kind: type[OrderEvent]) -> list[Any]:
        return [entry.event for entry in self.journal if isinstance(entry.event, kind)]

    def ordered(self, strategy: str) -> list[NewOrder]:
        return [
            event.order for event in self.events(OrderIntended) if event.order.strategy == strategy
        ]

    def filled(self, strategy: str) -> list[OrderFilled]:
        own = {order.cl_ord_id for order in self.ordered(strategy)}
        return [event for event in self.events(OrderFilled) if event.cl_ord_id in own]

    def record(self, strategy: str, event: OrderEvent) -> None:
        entry = EngineEvent(journal_seq=len(self.journal) + 1, strategy=strategy, event=event)
        self.journal.append(entry)
        self._events.publish(ORDER_TOPIC, entry)

    async def _beat(self) -> None:
        while True:
            self._events.publish(
                ENGINE_TOPIC,
                EngineHeartbeat(
                    trading=self.trading,
                    why_not="" if self.trading else "no permit",
                    last_journal_seq=len(self.journal),
                ),
            )
            await asyncio.sleep(0.2)

    async def _listen(self) -> None:
        async for received in self._market:
            self._quotes[received.body.symbol] = received.body

    async def _on_replay(self, request: ReplayRequest) -> ReplayReply:
        found = self.journal[request.after_seq : request.after_seq + request.limit]
        return ReplayReply(events=tuple(found), last_seq=len(self.journal))

    async def _on_intent(self, intent: Intent) -> IntentReply:
        if intent.intent_id not in self._seen:
            self._seen[intent.intent_id] = self._take(intent)
        if self.deaf:
            await asyncio.Event().wait()
        return self._seen[intent.intent_id]

    def _take(self, intent: Intent) -> IntentReply:
        if isinstance(intent, CancelIntent):
            at_ns = time.time_ns()
            self.record(intent.strategy, OrderCanceled(cl_ord_id=intent.cl_ord_id, at_ns=at_ns))
            return IntentReply(intent_id=intent.intent_id, taken=True, cl_ord_id=intent.cl_ord_id)
        if self.refuse:
            return IntentReply(intent_id=intent.intent_id, taken=False, code=self.refuse)
        cl_ord_id = ClOrdID(f"ob00000000-1-{len(self._seen):x}")
        self._order(intent, cl_ord_id)
        return IntentReply(intent_id=intent.intent_id, taken=True, cl_ord_id=cl_ord_id)

    def _order(self, intent: SubmitIntent, cl_ord_id: ClOrdID) -> None:
        at_ns = time.time_ns()
        new = NewOrder(
            cl_ord_id=cl_ord_id,
            venue=intent.venue,
            symbol=intent.symbol,
            side=intent.side,
            ord_type=intent.ord_type,
            order_qty=intent.order_qty,
            price=intent.price,
            time_in_force=intent.time_in_force,
            post_only=intent.post_only,
            strategy=intent.strategy,
            intent_id=intent.intent_id,
        )
        self.record(intent.strategy, OrderIntended(cl_ord_id=cl_ord_id, at_ns=at_ns, order=new))
        self.record(
            intent.strategy, OrderAccepted(cl_ord_id=cl_ord_id, at_ns=at_ns, venue_order_id="1")
        )
        quote = self._quotes.get(intent.symbol)
        best = None if quote is None else quote.ask_px if new.side is Side.BUY else quote.bid_px
        if best is not None and (new.price is None or (new.price - best) * new.side.sign >= 0):
            self.record(
                intent.strategy,
                OrderFilled(
                    cl_ord_id=cl_ord_id,
                    at_ns=at_ns,
                    exec_id=f"x{len(self.journal)}",
                    last_qty=new.order_qty,
                    last_px=best,
                    fee=Decimal("0.0001"),
                    fee_currency="BNB",
                ),
            )
        elif new.time_in_force is not TimeInForce.GTC:
            self.record(intent.strategy, OrderExpired(cl_ord_id=cl_ord_id, at_ns=at_ns))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.end_all()


@pytest.fixture
async def engine(desk: Desk) -> AsyncIterator[PlayedEngine]:
    engine = PlayedEngine(desk.layout.run)
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
def await_that() -> Callable[..., Any]:
    return until
