"""A desk of fakes: services that start and stop at once, an engine and a venue that are dicts."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.harness.ports import free_ports

from openbell.config.layout import DeskLayout
from openbell.config.loader import parse_desk
from openbell.config.models import LoadedDesk
from openbell.config.redact import Redactor
from openbell.controller.journal import facts_told
from openbell.domain.ids import mint
from openbell.domain.service_state import ServiceState
from openbell.procedures.closing.context import Closing, Earlier, SavedCheckpoint, Wishes
from openbell.procedures.desk_voices import DeskVoices, Roles
from openbell.procedures.extraction import Extraction, extract_state
from openbell.procedures.ports import EarlierEffect
from openbell.procedures.step import Outcome
from openbell.runtime.spec import ServiceView, StartResult, StopResult
from openbell.service_client import Answer
from openbell.state.checkpoint import CheckpointMeta, write_checkpoint
from openbell.state.nothing_sent import NothingSent
from openbell.venues.asking import HeldPosition, OpenOrder, VenueAnswer
from openbell.watch.channels import Channels

DESK = """
[desk]
name = "faked"
[closing]
wait_for_orders = "300ms"
conservative_wait = "10ms"
[venues.sim]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
[services.venue]
command = ["true"]
role = "venue"
[services.engine]
command = ["true"]
port = {0}
role = "engine"
critical = true
depends_on = ["venue"]
[services.feed]
command = ["true"]
role = "market-data"
[services.strategies]
command = ["true"]
port = {1}
role = "strategies"
depends_on = ["engine", "feed"]
[services.risk]
command = ["true"]
role = "risk"
[services.bus]
command = ["true"]
[services.board]
command = ["true"]
role = "monitoring"
depends_on = ["bus", "risk"]
"""


def view(name: str, state: ServiceState = ServiceState.READY, reason: str = "") -> ServiceView:
    return ServiceView(
        name=name,
        state=state,
        pid=1 if state.is_running else None,
        port=None,
        restarts=0,
        started_ns=None,
        uptime_s=None,
        response_ms=None,
        cpu_percent=None,
        memory_bytes=None,
        critical=False,
        drifted=False,
        reason=reason,
        adopted=False,
    )


@dataclass
class FakeServices:
    """`procedures.ports.Services`."""

    states: dict[str, ServiceState]
    fails: Mapping[str, str] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    ready_when_started: dict[str, frozenset[str]] = field(default_factory=dict)
    stubborn: frozenset[str] = frozenset()

    def view(self, name: str) -> ServiceView:
        return view(name, self.states[name])

    def views(self) -> Sequence[ServiceView]:
        return [self.view(name) for name in self.states]

    async def start(self, name: str) -> StartResult:
        self.calls.append(("start", name))
        self.ready_when_started[name] = frozenset(
            each for each, state in self.states.items() if state is ServiceState.READY
        )
        self.states[name] = ServiceState.STARTING
        await asyncio.sleep(0)
        if name in self.fails:
            self.states[name] = ServiceState.FAILED
            return StartResult(name, False, 0.1, self.fails[name], ("last words",))
        self.states[name] = ServiceState.READY
        return StartResult(name, True, 0.1)

    async def stop(self, name: str, *, reason: str) -> StopResult:
        self.calls.append(("stop", name))
        await asyncio.sleep(0)
        if name in self.stubborn:
            return StopResult(name, False, 0.1, (), None, survivors=(1,))
        self.states[name] = ServiceState.STOPPED
        return StopResult(name, True, 0.1, (), 0)


@dataclass
class FakeVenue:
    """One venue with orders and a position, and what reached it."""

    desk_id: str
    services: FakeServices
    orders: dict[str, bool] = field(default_factory=dict)
    """ClOrdID to whether it is the desk's own."""
    position: Decimal = Decimal(0)
    reachable: bool = True
    sent: list[str] = field(default_factory=list)
    stuck: frozenset[str] = frozenset()
    """Orders that no cancel ends."""
    errands: int = 0
    passive: frozenset[str] = frozenset()
    """Orders that can only provide liquidity, as the engine's books tell."""

    def cancel_own(self, but: frozenset[str] = frozenset()) -> None:
        self.orders = {
            name: own
            for name, own in self.orders.items()
            if not own or name in self.stuck or name in but
        }

    # `procedures.ports.VenueTruth`

    async def look(
        self, *, timeout_s: float, but: Collection[str] = (), fills_since_ns: int | None = None
    ) -> Sequence[VenueAnswer]:
        self.errands += 1
        if not self.reachable or self.services.states["venue"] is ServiceState.STOPPED:
            return [VenueAnswer(name="sim", status="unknown", why="no route")]
        return [
            VenueAnswer(
                name="sim",
                status="ok",
                open_orders=tuple(_order(name, own) for name, own in self.orders.items()),
                positions=(
                    HeldPosition(
                        venue="sim",
                        symbol="BTC/USDT",
                        venue_quantity=self.position,
                        mark_px=None,
                        dust=False,
                    ),
                ),
                keeps_positions=True,
                fills=None if fills_since_ns is None else (),
            )
        ]

    async def cancel(self, *, timeout_s: float, but: Collection[str] = ()) -> Sequence[VenueAnswer]:
        if self.reachable:
            self.cancel_own()
        return await self.look(timeout_s=timeout_s)


def _order(name: str, own: bool) -> OpenOrder:
    return OpenOrder(
        venue="sim",
        cl_ord_id=name,  # type: ignore[arg-type]
        venue_order_id=name,
        symbol="BTC/USDT",
        side="BUY",
        ord_type="LIMIT",
        price=Decimal(1),
        order_qty=Decimal(1),
        cum_qty=Decimal(0),
        leaves_qty=Decimal(1),
        status="NEW",
        age_s=1.0,
        own=own,
    )


@dataclass
class FakeAsks:
    """The engine and the strategies' host, as they answer over HTTP."""

    venue: FakeVenue
    services: FakeServices
    scope: str = "trade"
    running: bool = True
    mismatches: list[dict[str, str]] = field(default_factory=list)
    deaf: frozenset[str] = frozenset()
    """Services that do not answer."""
    asked: list[str] = field(default_factory=list)
    flattened: set[str] = field(default_factory=set)
    in_flight: list[int] = field(default_factory=lambda: [0])
    """Orders without an answer, as it says one time after the other; the last stays."""
    no_rules: str = ""
    """Why the engine can send no order for what is held."""

    async def get(self, service: str, path: str, *, timeout_s: float = 5.0) -> Answer:
        return await self._answer(service, path, {})

    async def post(
        self,
        service: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_s: float = 10.0,
    ) -> Answer:
        self.asked.append(path)
        return await self._answer(service, path, body or {})

    async def _answer(self, service: str, path: str, body: Mapping[str, object]) -> Answer:
        await asyncio.sleep(0)
        if service in self.deaf or self.services.states[service] is not ServiceState.READY:
            return Answer(None, why=f"{service} cannot be asked")
        body = self._body(path, body)
        return Answer(body, 200)

    def _body(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        venue = self.venue
        ok = {"ok": venue.reachable, "complete": venue.reachable, "error": "no route"}
        match path.partition("?")[0]:
            case "/v1/state":
                in_flight = self.in_flight.pop(0) if len(self.in_flight) > 1 else self.in_flight[0]
                return {
                    "in_flight": in_flight,
                    "phase": "ready",
                    "trading": self.scope == "trade",
                    "permit": {"held": self.scope != "none", "scope": self.scope},
                    "in_doubt": 0,
                    "venues": [],
                }
            case "/v1/orders":
                shown = venue.orders if venue.reachable else {}
                return {
                    "venues": {"sim": ok},
                    "orders": [
                        {"cl_ord_id": n, "own": own, "passive": n in venue.passive}
                        for n, own in shown.items()
                    ],
                }
            case "/v1/positions":
                return {
                    "positions": [
                        {
                            "venue": "sim",
                            "symbol": "BTC/USDT",
                            "quantity": str(venue.position),
                            "venue_quantity": str(venue.position) if venue.reachable else None,
                            "dust": False,
                        }
                    ],
                    "pnl": {"net": "1.5", "currency": "USDT"},
                }
            case "/v1/strategies":
                state = "RUNNING" if self.running else "HALTED"
                return {"strategies": [{"name": "mm", "state": state}]}
            case "/v1/strategies/halt":
                self.running = False
            case "/v1/strategies/resume":
                self.running = True
            case "/v1/halt":
                self.scope = "none"
                return {"halted": True}
            case "/v1/resume":
                self.scope = "reduce"
            case "/v1/cancel":
                if venue.reachable:
                    venue.cancel_own(venue.passive if body.get("passive_stay") else frozenset())
            case "/v1/flatten-plan":
                if self.no_rules:
                    return {"legs": [], "dust": [], "blocked": [f"sim BTC/USDT: {self.no_rules}"]}
                leg = {
                    "venue": "sim", "symbol": "BTC/USDT", "order_qty": str(abs(venue.position)),
                    "side": "SELL" if venue.position > 0 else "BUY", "price": None,
                    "ord_type": "LIMIT" if "mode=limit" in path else "MARKET",
                }  # fmt: skip
                return {"legs": [leg] if venue.position else [], "dust": [], "blocked": []}
            case "/v1/flatten":
                if self.no_rules:
                    return {"legs": [], "dust": [], "blocked": [f"sim BTC/USDT: {self.no_rules}"]}
                run = str(body["run"])
                if venue.reachable and venue.position and run not in self.flattened:
                    self.flattened.add(run)
                    venue.sent.append(f"{body['mode']} {venue.position}")
                    leg = {
                        "intent_id": f"flatten-{run}-1", "venue": "sim", "symbol": "BTC/USDT",
                        "side": "SELL" if venue.position > 0 else "BUY",
                        "order_qty": str(abs(venue.position)), "cum_qty": str(abs(venue.position)),
                        "avg_px": "99", "mid_px": "100", "mid_age_s": 0.1, "outcome": "FILLED",
                        "text": "",
                    }  # fmt: skip
                    venue.position = Decimal(0)
                    return {"legs": [leg], "dust": [], "blocked": []}
            case "/v1/reconcile":
                return {
                    "ok": not self.mismatches and venue.reachable,
                    "unknown": not venue.reachable,
                    "mismatches": self.mismatches,
                    "positions": [
                        {
                            "venue": "sim",
                            "symbol": "BTC/USDT",
                            "books": str(venue.position),
                            "venue_says": str(venue.position),
                            "status": "ok",
                            "kind": None,
                            "why": "",
                        }
                    ],
                }
        return {}


@dataclass
class FakeEffects:
    """`procedures.ports.Effects`, as the desk database keeps them; they outlive a killed controller."""

    kept: dict[str, EarlierEffect] = field(default_factory=dict)

    async def intend(self, effect: str, what: str) -> bool:
        self.kept[effect] = EarlierEffect.IN_DOUBT
        return True

    async def settle(self, effect: str, outcome: EarlierEffect) -> None:
        self.kept[effect] = outcome

    async def earlier(self, effect: str) -> EarlierEffect:
        return self.kept.get(effect, EarlierEffect.NONE)

    async def intended(self, effect: str) -> str:
        return ""


@dataclass
class FakeDesk:
    """Everything one closing touches."""

    layout: DeskLayout
    desk: LoadedDesk
    services: FakeServices
    venue: FakeVenue
    asks: FakeAsks
    earlier: dict[str, Earlier] = field(default_factory=dict)
    checkpoints: int = 0
    channels: Channels = field(init=False)
    effects: FakeEffects = field(default_factory=FakeEffects)
    nothing_sent: NothingSent | None = None

    def __post_init__(self) -> None:
        self.channels = Channels({}, self.layout.desk, self.layout.state, {})

    def own_order(self, counter: int) -> str:
        return str(mint(self.layout.desk_id, 1, counter))

    def closing(self, **wishes: Any) -> Closing:
        given: dict[str, Any] = {
            "flatten": "aggressive",
            "orders": "cancel",
            "reason": "test",
            "timeout_s": 20.0,
            "wait_for_orders_s": 0.3,
            "conservative_wait_s": 0.01,
        } | wishes

        async def save(folder: Path | None) -> SavedCheckpoint:
            from datetime import UTC, datetime

            self.checkpoints += 1
            path = (folder or self.layout.checkpoints) / f"{self.checkpoints}.ckpt"
            meta = CheckpointMeta("faked", "complete", datetime.now(UTC))
            write_checkpoint(path, {"trading": b"{}"}, meta)
            return SavedCheckpoint(str(path), {})

        async def extract() -> Extraction:
            return extract_state(
                self.desk, self.layout, Redactor(), "close-1-state.json", [self.layout.checkpoints]
            )

        return Closing(
            run="close-1",
            actor="ann",
            desk=self.desk,
            layout=self.layout,
            services=self.services,
            voices=DeskVoices(self.asks, Roles.of(self.desk.file)),
            venues=self.venue,
            wishes=Wishes(**given),
            channels=self.channels,
            save_checkpoint=save,
            extract=extract,
            earlier=self.earlier,
            effects=self.effects,
            nothing_sent=lambda: self.nothing_sent,
        )


@pytest.fixture
def fake_desk(tmp_path: Path) -> FakeDesk:
    """Open and trading: two own orders, one of another desk, a long position."""
    layout = DeskLayout(desk=tmp_path, state=tmp_path / "state")
    layout.make()
    file = tmp_path / "desk.toml"
    text = DESK.format(*free_ports(2))
    file.write_text(text)
    desk = LoadedDesk(file=parse_desk(text.encode(), file), path=file, digest="0" * 64)
    services = FakeServices(dict.fromkeys(desk.file.services, ServiceState.READY))
    venue = FakeVenue(layout.desk_id, services, position=Decimal("0.5"))
    made = FakeDesk(layout, desk, services, venue, FakeAsks(venue, services))
    venue.orders = {made.own_order(1): True, made.own_order(2): True, "someone-else": False}
    return made


@dataclass
class FakeJournal:
    """`procedures.run.Journal`; can be told to die, as a killed controller does."""

    lines: list[str] = field(default_factory=list)
    ended: dict[str, Earlier] = field(default_factory=dict)
    dies_after: str = ""
    """The line after which the controller is gone."""

    async def step_started(self, step: str, index: int) -> None:
        self._write(f"started {step}")

    async def step_planned(
        self, step: str, index: int, facts: object, plan: Sequence[str], reason: str
    ) -> None:
        facts_told(facts)  # whatever a step observes can be written down
        if self.dies_after == f"planned {step}":
            raise Killed(step)

    async def step_done(
        self, step: str, index: int, outcome: str, evidence: Mapping[str, object]
    ) -> None:
        self.ended[step] = Earlier(Outcome(outcome), dict(evidence))
        self._write(f"done {step}")

    def _write(self, line: str) -> None:
        self.lines.append(line)
        if line == self.dies_after:
            raise Killed(line)


class Killed(BaseException):
    """Stands in for SIGKILL: nothing catches it."""


@pytest.fixture
def journal() -> FakeJournal:
    return FakeJournal()


@pytest.fixture(scope="session")
def make_journal() -> type[FakeJournal]:
    return FakeJournal


@pytest.fixture(scope="session")
def killed() -> type[Killed]:
    return Killed


@pytest.fixture(scope="session")
def make_services() -> type[FakeServices]:
    return FakeServices


@pytest.fixture(scope="session")
def make_view() -> Any:
    return view


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses, so that no test waits."""
    from openbell.procedures.closing import cancel_orders, flatten, wait_for_orders

    monkeypatch.setattr(cancel_orders, "_RETRY_S", 0.01)
    monkeypatch.setattr(flatten, "_RETRY_S", 0.01)
    monkeypatch.setattr(wait_for_orders, "_POLL_S", 0.01)
