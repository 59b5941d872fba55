"""A desk around one engine: a venue with scripted outcomes, a controller that grants or refuses
permits, and a market that quotes. All over real sockets and a real journal."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiohttp import web

from openbell.config.layout import DeskLayout
from openbell.config.models import DeskFile
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, NewOrder, Order, OrdStatus, OrdType, Side, TimeInForce
from openbell.trading.bus import Publisher, Requester
from openbell.trading.engine.api import EngineApi
from openbell.trading.engine.engine import Engine, Setup
from openbell.trading.messages import (
    INTENTS_SOCKET,
    MARKET_SOCKET,
    CancelIntent,
    IntentReply,
    SubmitIntent,
    quote_topic,
)
from openbell.venues.port import (
    Accepted,
    Balance,
    CancelOutcome,
    Capabilities,
    Listing,
    OrderReport,
    QueryCosts,
    Rejected,
    StreamDown,
    StreamEvent,
    StreamUp,
    SubmitOutcome,
    Unknown,
    VenueFill,
    VenueOrder,
    VenuePosition,
    VenueUnavailableError,
)

WAIT_S = 60.0
SYMBOL = "BTC/USDT"
D = Decimal

RULES = InstrumentRules(
    symbol=SYMBOL, base="BTC", quote="USDT", tick_size=D("0.01"), lot_size=D("0.001"),
    min_qty=D("0.001"), max_qty=D(100), min_notional=D(5),
)  # fmt: skip


class FakeVenue:
    """The port, with a book that only the test moves.

    `script`: outcomes of the next submits: `accept` (also when it is empty), `reject`, `lost`
    (accepted, the answer lost), `vanish` (never arrives, the answer unknown), `hang` (waits for
    `release`, then accepted), `fill` (accepted and filled at once).
    """

    capabilities = Capabilities(
        mass_cancel=False, mass_cancel_per_symbol=True, batch_cancel=0, dead_mans_switch=None,
        reduce_only=False,
        lookup_by_cl_ord_id=True, positions=False, server_time=True, order_stream=True,
        refuses_late_by_s=0.0,
        costs=QueryCosts(open_orders=0, positions=0, fills=0, order=0),
    )  # fmt: skip

    def __init__(self) -> None:
        self.name = "fake"
        self.script: deque[str] = deque()
        self.cancel_script: deque[str] = deque()
        self.log: list[tuple[str, str]] = []
        """Everything that reached it: ("submit" or "cancel", ClOrdID)."""
        self.orders: dict[str, VenueOrder] = {}
        self.trades: list[VenueFill] = []
        self.held = D(0)
        self.cash = D(1000)
        self.others: dict[str, Decimal] = {}
        """Positions in other symbols: nobody trades them here, but people do elsewhere."""
        self.is_down = False
        self.hidden = 0
        """So many askings for an order are answered "not known"."""
        self.complete = True
        self.lists_orders = True
        """False: it lists no order, and calls that everything."""
        self.tells_nothing = False
        """True: no balance, no position, and calls that everything."""
        self.lists_fills = True
        self.names_orders = False
        """True: its list of fills carries ClOrdIDs."""
        self.mute = False
        """True: nothing is pushed."""
        self.looks = 0
        """How often its positions were asked for."""
        self.release = asyncio.Event()
        self.arrived = asyncio.Event()
        self._streams: list[asyncio.Queue[StreamEvent]] = []
        self._ids = iter(range(1, 1 << 30))

    # What tests do at the venue.

    def submitted(self) -> list[str]:
        return [cl_ord_id for what, cl_ord_id in self.log if what == "submit"]

    def fill(self, cl_ord_id: str, qty: str, px: str = "100", *, tell: bool = True) -> None:
        order = self.orders[cl_ord_id]
        cum = order.cum_qty + D(qty)
        done = cum == order.order_qty
        status = order.status
        if not status.is_final:
            status = OrdStatus.FILLED if done else OrdStatus.PARTIALLY_FILLED
        order = msgspec.structs.replace(order, cum_qty=cum, status=status)
        self.orders[cl_ord_id] = order
        fill = VenueFill(
            exec_id=f"t{next(self._ids)}", venue_order_id=order.venue_order_id,
            cl_ord_id=ClOrdID(""), symbol=order.symbol, side=order.side, last_qty=D(qty),
            last_px=D(px), fee=D(0), fee_currency="", is_maker=True, venue_time_ns=time.time_ns(),
        )  # fmt: skip
        self.trades.append(fill)
        self.held += order.side.sign * D(qty)
        self.cash -= order.side.sign * D(qty) * D(px)
        if tell:
            self.push(OrderReport(order=order, fill=fill))

    def hand(self, side: Side, qty: str, px: str = "100", *, listed: bool = True) -> str:
        """Somebody else trades on the account; returns the execution's id."""
        self.held += side.sign * D(qty)
        self.cash -= side.sign * D(qty) * D(px)
        number = next(self._ids)
        if listed:
            self.trades.append(
                VenueFill(
                    exec_id=f"t{number}", venue_order_id=f"hand{number}", cl_ord_id=ClOrdID(""),
                    symbol=SYMBOL, side=side, last_qty=D(qty), last_px=D(px), fee=D(0),
                    fee_currency="", is_maker=False, venue_time_ns=time.time_ns(),
                )
            )  # fmt: skip
        return f"t{number}"

    def end(self, cl_ord_id: str, status: OrdStatus = OrdStatus.CANCELED) -> None:
        order = msgspec.structs.replace(self.orders[cl_ord_id], status=status)
        self.orders[cl_ord_id] = order
        self.push(OrderReport(order=order))

    def push(self, event: StreamEvent) -> None:
        if not self.mute:
            for stream in self._streams:
                stream.put_nowait(event)

    def rest(
        self, cl_ord_id: str, side: Side = Side.BUY, qty: str = "1", price: Decimal | None = None
    ) -> None:
        """An order that rests at the venue, whoever sent it."""
        self.orders[cl_ord_id] = VenueOrder(
            venue_order_id=f"v{next(self._ids)}", cl_ord_id=ClOrdID(cl_ord_id), symbol=SYMBOL,
            side=side, ord_type=OrdType.LIMIT, status=OrdStatus.NEW, order_qty=D(qty),
            cum_qty=D(0), price=price or D(99), created_ns=time.time_ns(), updated_ns=time.time_ns(),
        )  # fmt: skip

    # The port.

    def _up(self) -> None:
        if self.is_down:
            raise VenueUnavailableError("the fake venue is down")

    async def connect(self) -> None:
        self._up()

    async def close(self) -> None: ...

    def rules(self, symbol: str) -> InstrumentRules:
        return {SYMBOL: RULES}[symbol]

    async def server_time_ns(self) -> int:
        self._up()
        return time.time_ns()

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        if self.is_down:
            return Rejected(code="never_arrived", text="no connection")
        self.log.append(("submit", order.cl_ord_id))
        self.arrived.set()
        outcome = self.script.popleft() if self.script else "accept"
        if outcome == "throttled":
            return Rejected(code="throttled", text="too many", retry_after_s=5.0)
        if outcome == "reject":
            return Rejected(code="-2010", text="insufficient balance")
        if outcome == "vanish":
            return Unknown(why="time-out")
        if outcome == "hang":
            await self.release.wait()
        self.rest(order.cl_ord_id, order.side, str(order.order_qty), order.price)
        if outcome == "lost":
            return Unknown(why="time-out")
        if outcome == "fill" or order.ord_type is OrdType.MARKET:
            self.fill(order.cl_ord_id, str(order.order_qty))
        elif order.time_in_force is TimeInForce.IOC:
            self.end(order.cl_ord_id, OrdStatus.EXPIRED)
        else:
            self.push(OrderReport(order=self.orders[order.cl_ord_id]))
        return Accepted(venue_order_id=self.orders[order.cl_ord_id].venue_order_id)

    async def cancel(self, symbol: str, cl_ord_id: ClOrdID) -> CancelOutcome:
        self.log.append(("cancel", cl_ord_id))
        outcome = self.cancel_script.popleft() if self.cancel_script else "accept"
        if self.is_down:
            return Unknown(why="no connection")
        if outcome == "throttled":
            return Rejected(code="throttled", text="too many", retry_after_s=0.2)
        if outcome == "fill first":
            order = self.orders[cl_ord_id]
            self.fill(cl_ord_id, str(order.order_qty - order.cum_qty))
        if cl_ord_id not in self.orders or self.orders[cl_ord_id].status.is_final:
            return Rejected(code="-2011", text="unknown order")
        if outcome == "lost":
            self.end(cl_ord_id)
            return Unknown(why="time-out")
        self.end(cl_ord_id)
        return Accepted(venue_order_id=self.orders[cl_ord_id].venue_order_id)

    async def cancel_all(self, symbol: str) -> CancelOutcome:
        raise AssertionError("account-wide: never used by the engine")

    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing:
        self._up()
        open_now = tuple(o for o in self.orders.values() if not o.status.is_final)
        lists = self.complete and self.lists_orders
        return Listing(orders=open_now if lists else (), complete=self.complete)

    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        self._up()
        self.log.append(("ask", cl_ord_id))
        if self.hidden:
            self.hidden -= 1
            return None
        return self.orders.get(cl_ord_id)

    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]:
        self._up()
        if not self.lists_fills:
            return []
        names = {o.venue_order_id: o.cl_ord_id for o in self.orders.values()}
        return [
            msgspec.structs.replace(
                t, cl_ord_id=names.get(t.venue_order_id, "") if self.names_orders else ""
            )
            for t in self.trades
            if t.venue_time_ns >= since_ns and venue_order_id in ("", t.venue_order_id)
        ]  # fmt: skip

    async def balances(self) -> dict[str, Balance]:
        self._up()
        if self.tells_nothing:
            return {}
        return {
            "BTC": Balance(currency="BTC", free=self.held, locked=D(0)),
            "USDT": Balance(currency="USDT", free=self.cash, locked=D(0)),
        }

    async def positions(self) -> list[VenuePosition]:
        self._up()
        self.looks += 1
        held = {SYMBOL: D(0) if self.tells_nothing else self.held, **self.others}
        return [VenuePosition(symbol=s, quantity=q) for s, q in held.items()]

    async def quote(self, symbol: str) -> Quote:
        raise AssertionError("quotes come over the bus")

    async def stream(self) -> AsyncIterator[StreamEvent]:
        queue: asyncio.Queue[StreamEvent] = asyncio.Queue()
        self._streams.append(queue)
        yield StreamUp()
        while True:
            yield await queue.get()

    def drop_stream(self) -> None:
        self.push(StreamDown(why="cut"))

    def restore_stream(self) -> None:
        self.push(StreamUp())


class Desk:
    """Starts, ends and asks engines of one desk."""

    def __init__(self, folder: Path) -> None:
        self.layout = DeskLayout.for_desk(folder, {})
        self.layout.make()
        self.token = self.layout.state / "service.token"
        self.token.write_text("t" * 43)
        self.venue = FakeVenue()
        self.settings: dict[str, Any] = {
            "desk": {"name": "test"},
            "permit": {"ttl": "3s", "renew_every": "100ms"},
            "risk": {"stale_quote_after": "60s"},
            "venues": {
                "fake": {
                    "url": "http://127.0.0.1:1", "symbols": (SYMBOL,), "timeout": "300ms",
                    "poll_every": "100ms",
                }
            },
            "services": {"execution-engine": {"command": ("x",), "role": "engine"}},
        }  # fmt: skip
        self.grant: dict[str, Any] = {"granted": True, "scope": "trade", "ttl_s": 3.0}
        self.asked: list[dict[str, Any]] = []
        self.answers = asyncio.Event()
        """Unset: what is asked of the controller waits for its answer."""
        self.answers.set()
        self.quoting = True
        self.keeps_cash = False
        """Its looks come besides those that tests count."""
        self.engine: Engine
        self.api: EngineApi
        self._running: dict[Engine, list[asyncio.Task[None]]] = {}
        self._background: list[asyncio.Task[None]] = []
        self._requester: Requester[Any, IntentReply] | None = None
        self._numbers = iter(range(1, 1 << 30))

    async def open(self) -> None:
        app = web.Application()
        app.router.add_post("/api/v1/permit", self._permit)
        self._controller = web.AppRunner(app, access_log=None)
        await self._controller.setup()
        await web.UnixSite(self._controller, str(self.layout.controller_socket)).start()
        self._market = Publisher(self.layout.run / MARKET_SOCKET, producer="market/1")
        self._background.append(asyncio.create_task(self._quote()))

    def setup(self) -> Setup:
        return Setup(
            service="execution-engine",
            file=DeskFile.model_validate(self.settings),
            layout=self.layout,
            token=self.token,
            venues={"fake": self.venue},
        )

    async def start(self, *, until_trading: bool = True) -> Engine:
        engine = self._run(await Engine.start(self.setup()))
        if until_trading:
            await self.until(lambda: not engine.why_not_trading() and bool(engine.market.quotes))
        return engine

    async def stand_by(self) -> Engine:
        """Connected to the venue, hearing it and the market: what is promoted. From now on it is
        `engine`, and asked by `api`."""
        engine = self._run(await Engine.stand_by(self.setup()))
        link = engine.links["fake"]
        await self.until(lambda: link.connected and link.streaming and engine.market.quotes)
        return engine

    def _run(self, engine: Engine) -> Engine:
        self.engine = engine
        self.api = EngineApi(engine)
        self._running[engine] = [
            asyncio.create_task(body())
            for name, body in engine.tasks()
            if self.keeps_cash or not name.startswith("cash ")
        ]
        return engine

    async def stop(self, engine: Engine | None = None) -> None:
        """As SIGTERM does."""
        engine = engine or self.engine
        await engine.stop()
        await self._end(engine)

    async def crash(self) -> None:
        """Without any farewell: nothing is finished, no snapshot is kept."""
        engine = self.engine
        for task in list(engine.desk._sending.values()):
            task.cancel()
        engine._closing = True
        for responder in (engine._intents, engine._replay):
            assert responder is not None
            responder._reader.cancel()
            responder._bound.close()
        await self._end(engine)

    async def _end(self, engine: Engine) -> None:
        tasks = self._running.pop(engine)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await engine.close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def close(self) -> None:
        for engine in list(self._running):
            await self.stop(engine)
        if self._requester is not None:
            await self._requester.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._market.close()
        await self._controller.cleanup()

    clock = staticmethod(time.monotonic)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.005)

    def intent(self, **changes: Any) -> SubmitIntent:
        return SubmitIntent(
            **{
                "intent_id": f"i{next(self._numbers)}", "strategy": "s", "venue": "fake",
                "symbol": SYMBOL, "side": Side.BUY, "ord_type": OrdType.LIMIT,
                "order_qty": D(1), "price": D(99), **changes,
            }
        )  # fmt: skip

    async def send(self, **changes: Any) -> IntentReply:
        """An intent over the bus."""
        return await self.ask(self.intent(**changes))

    async def ask(self, intent: SubmitIntent | CancelIntent) -> IntentReply:
        if self._requester is None:
            self._requester = Requester(self.layout.run / INTENTS_SOCKET, IntentReply)
        return await self._requester.ask(intent, timeout_s=WAIT_S)

    async def order(self, **changes: Any) -> Order:
        """An intent that is taken, as its order."""
        reply = await self.send(**changes)
        assert reply.taken, reply
        assert reply.cl_ord_id is not None
        return self.engine.ledger.books.orders[reply.cl_ord_id]

    def status(self, cl_ord_id: str) -> OrdStatus:
        return self.engine.ledger.books.orders[ClOrdID(cl_ord_id)].status

    async def until_status(self, cl_ord_id: str, *statuses: OrdStatus) -> None:
        await self.until(lambda: self.status(cl_ord_id) in statuses)

    @property
    def position(self) -> Decimal:
        return self.engine.ledger.books.position("fake", SYMBOL).quantity

    async def _permit(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {self.token.read_text()}"
        self.asked.append(await request.json())
        await self.answers.wait()
        needed = "books_known" if self.grant.get("scope") == "reduce" else "reconciled"
        if self.grant["granted"] and not self.asked[-1][needed]:
            return web.json_response({"granted": False, "why_not": "not reconciled"})
        return web.json_response({"scope": "none", "ttl_s": 0, "why_not": "", **self.grant})

    async def _quote(self) -> None:
        while True:
            if self.quoting:
                quote = Quote(
                    venue="fake", symbol=SYMBOL, bid_px=D("99.9"), bid_qty=D(5),
                    ask_px=D("100.1"), ask_qty=D(5), venue_time_ns=0, received_ns=time.time_ns(),
                )  # fmt: skip
                self._market.publish(quote_topic("fake", SYMBOL), quote)
            await asyncio.sleep(0.02)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for socket addresses."""
    made = Path(tempfile.mkdtemp(prefix="ob-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
async def desk(folder: Path) -> AsyncIterator[Desk]:
    desk = Desk(folder)
    await desk.open()
    yield desk
    with contextlib.suppress(AssertionError):
        desk.venue.release.set()
        desk.answers.set()
    await desk.close()


@pytest.fixture
def make_desk() -> type[Desk]:
    return Desk


@pytest.fixture
def fake() -> SimpleNamespace:
    """What tests need of this module; test modules cannot import each other."""
    return SimpleNamespace(symbol=SYMBOL, rules=RULES, venue=FakeVenue)
