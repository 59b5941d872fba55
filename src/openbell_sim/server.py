"""The venue as a process: exchange, market, faces and control behind one port."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path

from aiohttp import web

from openbell.errors import ConflictError, StorageError
from openbell_sim import metrics
from openbell_sim.account import FeeSchedule
from openbell_sim.clock import VenueClock
from openbell_sim.control import Control, Phase, Status
from openbell_sim.drills import Drills
from openbell_sim.events import Event
from openbell_sim.exchange import Exchange, Record
from openbell_sim.faces import face_kind
from openbell_sim.faces.port import FaceOptions
from openbell_sim.faults.document import PlanDocument
from openbell_sim.faults.ground import Ground
from openbell_sim.faults.middleware import middleware
from openbell_sim.faults.plan import FaultPlan
from openbell_sim.hands import Hands
from openbell_sim.key_control import KeyControl
from openbell_sim.keys import Credentials, KeyRing
from openbell_sim.log import log
from openbell_sim.market.driver import Driver
from openbell_sim.market.generator import Generator
from openbell_sim.market.source import MarketSource
from openbell_sim.order_log import OrderLog
from openbell_sim.schedule import DueOrders, TradingHours
from openbell_sim.session_calendar import SessionCalendar
from openbell_sim.timer import DueWork, Timer
from openbell_sim.wire import bearer

_CLOSE_S = 2.0
"""How long open requests may take to end when the venue stops."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that makes a venue. `port` 0: any free one."""

    face: str = "binance"
    """A name of `faces.FACES`."""
    port: int = 0
    host: str = "127.0.0.1"
    sources: Sequence[MarketSource]
    speed: float = 1.0
    accounts: Sequence[str] = ("main",)
    credentials: Sequence[Credentials] = ()
    deposits: Mapping[tuple[str, str], Decimal] = field(default_factory=dict)
    """By `(account, currency)`; given once, when the order log is new."""
    fees: FeeSchedule | None = None
    """None: what the face's rules say."""
    log: Path | None = None
    limit_scale: float = 1.0
    weight_limit: int | None = None
    """Both as in `faces.port.FaceOptions`."""
    max_open_orders: int | None = None
    """Per account and symbol. None: what the face's rules say."""
    calendar: SessionCalendar | None = None
    """None: the market is always open."""
    faults: PlanDocument = field(default_factory=PlanDocument)
    """What the venue suffers from its start on."""
    control_token: str = field(default="", repr=False)
    """What whoever changes something past the face must show; empty: nothing."""


class RecordOrDie:
    """A venue that cannot record what it did must not answer, and what is in its memory is no
    longer true: the process ends at once, like a crash, and the log is taken up again."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def append(self, events: Sequence[Event]) -> None:
        try:
            self._record.append(events)
        except StorageError as error:
            log("error", "cannot_record", **error.as_dict())
            os._exit(StorageError.exit_code)


class Venue:
    """`start`, then `run` until cancelled, then `stop`."""

    def __init__(self, settings: Settings) -> None:
        """Raises StorageError or CorruptError for an order log that cannot be used."""
        self._settings = settings
        self.clock = VenueClock()
        self._log = OrderLog(settings.log) if settings.log is not None else None
        kind = face_kind(settings.face)
        instruments = {
            instrument.symbol: instrument
            for source in settings.sources
            for instrument in source.instruments
        }
        self.exchange = Exchange(
            instruments.values(),
            now_ns=self.clock.now_ns,
            skew_ns=lambda: self.clock.skew_ns,
            rules=kind.rules,
            fees=settings.fees,
            record=None if self._log is None else RecordOrDie(self._log),
            max_open_orders=settings.max_open_orders,
            keep_history=kind.keeps_history,
        )
        self._restore()
        self.keys = KeyRing()
        for credentials in settings.credentials:
            self.keys.add(credentials)
        self._driver = Driver(settings.sources, self.exchange.play, speed=settings.speed)
        self._status = Status(lambda: self._driver.lag_s)
        self.faults = FaultPlan()
        options = FaceOptions(
            limit_scale=settings.limit_scale,
            weight_limit=settings.weight_limit,
            gate=self.faults.gate,
            meet=self.faults.meet,
            calendar=settings.calendar,
        )
        self.face = kind.make(self.exchange, self.keys, options)
        self.faults.serve(
            Ground(
                face=self.face,
                exchange=self.exchange,
                keys=self.keys,
                clock=self.clock,
                first_account=settings.accounts[0],
            )
        )
        work: list[DueWork] = [self.faults, DueOrders(self.exchange)]
        if settings.calendar is not None:
            work.append(TradingHours(settings.calendar, self.exchange, self.clock))
        self._timer = Timer(work)
        self.faults.changed = self.exchange.due_changed = self._timer.wake
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{self._settings.host}:{self.port}"

    def _restore(self) -> None:
        if self._log is not None:
            count = self.exchange.restore(self._log.read())
            open_orders = sum(len(orders) for orders in self.exchange.ledger.open.values())
            log("info", "restored", log=self._log.path, events=count, open_orders=open_orders)
            if self._log.torn:
                log("warning", "torn_line_dropped", log=self._log.path, bytes=len(self._log.torn))
        # What a calendar or a fault of the last run said of the market went with it.
        for scheduled in (True, False):
            self.exchange.set_session(None, None, scheduled=scheduled)
        for name in self._settings.accounts:
            account = self.exchange.ledger.account(name)
            if account.balances:
                continue
            for (owner, currency), amount in self._settings.deposits.items():
                if owner == name:
                    self.exchange.deposit(name, currency, amount)

    async def start(self) -> None:
        """Listens; the market has its first quotes. Raises ConflictError for a port that is taken,
        OSError for an address that cannot be used, ConfigError for a fault plan that names what
        the venue does not have."""
        app = web.Application(middlewares=[middleware(self.faults)])
        self.face.add_routes(app)
        control = Control(
            self.exchange,
            self._status,
            arrivals=self.faults.arrivals,
            metrics=lambda: metrics.render(
                self.exchange,
                self.face,
                self.faults,
                played=self._driver.played,
                lag_s=self._driver.lag_s,
            ),
        )
        control.add_routes(app)
        admit = bearer(self._settings.control_token)
        Hands(self.exchange, admit, first_account=self._settings.accounts[0]).add_routes(app)
        Drills(self.faults, admit).add_routes(app)
        KeyControl(
            self.keys,
            admit,
            accounts=self.exchange.ledger.accounts,
            first_account=self._settings.accounts[0],
            secret_problem=face_kind(self._settings.face).secret_problem,
        ).add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_S)
        await self._runner.setup()
        # The first request finds the market and the faults that it shall.
        self._remember()
        self._driver.prime()
        await self._timer.run_due()
        await self.faults.load(self._settings.faults)
        site = web.TCPSite(self._runner, self._settings.host, self._settings.port)
        try:
            await site.start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise ConflictError(
                f"port {self._settings.port} of {self._settings.host} is taken",
                hint="name another port, or 0 for any free one",
            ) from error
        self.port = int(self._runner.addresses[0][1])
        self._status.phase = Phase.RUNNING
        log(
            "info",
            "ready",
            port=self.port,
            url=self.url,
            symbols=list(self.exchange.markets),
            sources=[source.name for source in self._settings.sources],
        )

    def _remember(self) -> None:
        """Gives generated markets their past."""
        now_ns = self.clock.now_ns()
        for source in self._settings.sources:
            if not isinstance(source, Generator):
                continue
            for symbol in (instrument.symbol for instrument in source.instruments):
                market = self.exchange.markets[symbol]
                market.tape.remember(
                    partial(
                        source.past,
                        symbol,
                        until_ns=now_ns,
                        next_trade_id=market.next_trade_id,
                    )
                )

    async def run(self) -> None:
        """Plays the market and feeds the streams, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._driver.run())
            tasks.create_task(self._timer.run())
            tasks.create_task(self.face.run())

    async def stop(self) -> None:
        self._status.phase = Phase.STOPPING
        self._status.stopping_since = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self.face.disconnect()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._log is not None:
            self._log.close()
        log("info", "stopped")
