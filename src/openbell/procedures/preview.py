"""What an opening would do, planned without a controller: from the files and the process table alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.config.nearest import nearest, nearest_told
from openbell.config.phases import phases_of, waits_for
from openbell.config.procedures import ExtraStep
from openbell.domain.desk_state import DeskTarget
from openbell.domain.service_state import ServiceState
from openbell.errors import OpenbellError, UsageError
from openbell.kill.course import refuse_under_way
from openbell.kill.marker import is_begun
from openbell.procedures.begin_trading import (
    BeginTrading,
    TradingFacts,
    VenuePatience,
    plan_trading,
    title_of,
    without_engine,
)
from openbell.procedures.command_step import CommandStep, environment_of
from openbell.procedures.desk_voices import DeskVoices, Roles
from openbell.procedures.opening import Starting, only_wanted, phase_steps, services_to_open
from openbell.procedures.opening_steps import PROCEDURE
from openbell.procedures.plans import plan_document
from openbell.procedures.ports import Facts, NoEffects
from openbell.procedures.preflight_facts import Surroundings
from openbell.procedures.preflighting import TakePreflight
from openbell.procedures.readiness import TradingSight, looks
from openbell.procedures.settings import arrange, load_checked
from openbell.procedures.starting_guard import StartGuard
from openbell.procedures.step import OnFailure, Plan, Say, Verification
from openbell.procedures.uncontrolled import guard_row, services_alive
from openbell.runtime.ports import holder_of, is_taken
from openbell.runtime.spec import ServiceView, StartResult, StopResult
from openbell.service_client import Answer
from openbell.state.asked import is_closing_begun
from openbell.state.desk_lock import ANNOUNCED, UNNAMED, DeskLock, read_lock
from openbell.state.halts import read_halt
from openbell.state.latch import Latches, desk_halt, latch_note


@dataclass(frozen=True)
class _AloneGuard:
    """The guard of a desk without a controller, for a plan: nothing is asked of it."""

    desk: LoadedDesk
    layout: DeskLayout
    ends: bool
    """The one that runs now is ended before."""

    def view(self) -> Mapping[str, Any] | None:
        row = guard_row(self.desk, self.layout)
        return row if row is None or not self.ends else {**row, "state": "off", "pid": None}

    def dead_man(self) -> Mapping[str, Mapping[str, Any]]:
        return {}  # none is up

    async def opened(self) -> str:
        raise NotImplementedError

    async def hold(self) -> None:
        raise NotImplementedError

    async def disarm(self, but: Collection[str] = ()) -> Mapping[str, Any]:
        raise NotImplementedError


def opening_plan_of_a_closed_desk(
    desk_path: Path,
    layout: DeskLayout,
    *,
    safe_mode: bool = False,
    only: Sequence[str] = (),
    force: bool = False,
    stopped: bool = False,
    guard_ends: bool = False,
) -> dict[str, object]:
    """What `open` would do, from the same planner. `stopped`: once every service has been, whatever
    runs now, and nothing holds the desk any more; `guard_ends`: and the guard. Raises ConfigError,
    UsageError, RefusedError for a desk that is locked, ConflictError while an emergency stop is under way."""
    desk = load_checked(desk_path)
    if not stopped:
        refuse_under_way(layout)
        if (lock := read_lock(layout.lock)) is not None and _lasts(lock, layout):
            raise lock.refusal("it would not be opened")
    depends_on = {name: each.depends_on for name, each in desk.file.services.items()}
    for name in only:
        if name not in depends_on:
            near = nearest(name, depends_on)
            raise UsageError(
                f'there is no service "{name}"',
                hint=nearest_told(near),
                nearest=near,
            )
    wanted = services_to_open(depends_on, only)
    alive = services_alive(layout)
    services = _Uncontrolled(desk, {} if stopped else alive)
    starting = Starting(
        services, only_wanted(waits_for(desk.file.services), wanted), lambda _: None
    )
    phases = phase_steps(
        starting, wanted, phases_of(desk.file.services), dict.fromkeys(wanted, 0.0)
    )
    guard = (
        [StartGuard(_AloneGuard(desk, layout, guard_ends), starting)] if desk.file.venues else []
    )
    trade = _trading_to_come(desk, layout, wanted, safe_mode)

    look = TakePreflight(
        Surroundings(
            desk=desk,
            layout=layout,
            environ=os.environ,
            engine_runs=desk.file.service_with_role("engine") in alive,
            force=force,
        )
    )

    engine = desk.file.service_with_role("engine")
    sight = TradingSight(
        desk=desk.file,
        voices=DeskVoices(_NobodyYet(), Roles.of(desk.file)),
        views=lambda: {view.name: view for view in services.views()},
        wanted=wanted,
        guard=lambda: guard_row(desk, layout),
        patience=VenuePatience(),
        engine_is_to_come=True,
    )
    ready = looks(sight) if engine in wanted else []

    def own(extra: ExtraStep) -> CommandStep:
        environment = environment_of(extra, layout, os.environ, {}, "", "")
        return CommandStep(extra, layout, environment, NoEffects())

    steps = arrange(PROCEDURE, desk.file, [look, *guard, *phases, *ready, trade], own)
    document = asyncio.run(plan_document("open", steps))
    held = [] if stopped else ports_held(desk, [name for name in wanted if name not in alive])
    return {**document, "refused": held}


def ports_held(desk: LoadedDesk, services: Sequence[str]) -> list[str]:
    """Whoever listens on a port of these services, which do not run: an opening is refused for it."""
    return [
        f"port {port} of {name} is held by {holder}: end it, or give {name} another port"
        for name in services
        for port in desk.file.services[name].ports
        if is_taken(port) and (holder := holder_of(port)) is not None
    ]


def _lasts(lock: DeskLock, layout: DeskLayout) -> bool:
    """As a controller would find: a closing's lock is one for as long as that is not over."""
    if not lock.run:
        return True
    if lock.run in (ANNOUNCED, UNNAMED) and os.path.lexists(layout.planned_closing):
        return True
    if lock.run == ANNOUNCED:
        return False
    if lock.run == UNNAMED and is_closing_begun(layout.target):
        return True
    # A database is loaded where it is needed alone: `openbell status` is asked often.
    from openbell.state.database import open_database
    from openbell.state.runs import RunStore

    try:
        database = open_database(layout.database, create=False)
        try:
            runs = RunStore(database)
            if lock.run == UNNAMED:
                newest = runs.list(1)
                return any(each.kind == "close" and each.finished_at is None for each in newest)
            record = runs.get(int(lock.run.rpartition("-")[2]))
        finally:
            database.close()
    except (OpenbellError, ValueError):
        return True  # not known to be over
    return record.finished_at is None


class _NobodyYet:
    """`Asks` of a desk of which nothing runs."""

    async def get(self, service: str, path: str, *, timeout_s: float = 5.0) -> Answer:
        return Answer(None, why="not started yet")

    async def post(
        self,
        service: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_s: float = 10.0,
    ) -> Answer:
        raise AssertionError("a plan does nothing")


@dataclass(frozen=True)
class _TradingToCome:
    """The last step, planned for when the ones before it have started everything."""

    title: str
    planned: Plan[Any]
    name: str = BeginTrading.name
    timeout_s: float = BeginTrading.timeout_s
    on_failure: OnFailure = BeginTrading.on_failure

    async def observe(self) -> None:
        return None

    def plan(self, facts: None) -> Plan[Any]:
        return self.planned

    async def act(self, plan: Plan[Any], say: Say) -> None:
        raise AssertionError("a plan does nothing")

    async def verify(self, say: Say) -> Verification:
        raise AssertionError("a plan does nothing")


def _trading_to_come(
    desk: LoadedDesk, layout: DeskLayout, wanted: tuple[str, ...], safe_mode: bool
) -> _TradingToCome:
    engine = desk.file.service_with_role("engine")
    # After an emergency stop a desk opens safe, also where its latch was released meanwhile.
    safe = safe_mode or is_begun(layout)
    target = DeskTarget.SAFE if safe else DeskTarget.TRADING
    if read_halt(layout.halt) is not None:
        target = DeskTarget.HALTED
    latches = Latches(layout).read(opened=False)
    latched = desk_halt(latches) is not None
    facts = TradingFacts(
        target=target,
        latched=latched,
        engine=None,
        engine_why="not started yet",
        strategies=None,
        strategies_why="not started yet",
        has_engine=engine is not None,
        blocked="" if engine is None or engine in wanted else without_engine(engine, wanted),
        latch_note=latch_note(latches),
    )
    return _TradingToCome(title_of(target, latched), plan_trading(facts))


class _Uncontrolled:
    """`procedures.ports.Services` of a desk without a controller. What lives will be taken over."""

    def __init__(self, desk: LoadedDesk, alive: Mapping[str, int]) -> None:
        self._views = {
            name: _view(name, each.port, each.critical, alive.get(name))
            for name, each in desk.file.services.items()
        }

    def view(self, name: str) -> ServiceView:
        return self._views[name]

    def views(self) -> Sequence[ServiceView]:
        return tuple(Facts(self._views).views.values())

    async def start(self, name: str) -> StartResult:
        raise AssertionError("a plan starts nothing")

    async def stop(self, name: str, *, reason: str) -> StopResult:
        raise AssertionError("a plan stops nothing")


def _view(name: str, port: int | None, critical: bool, pid: int | None) -> ServiceView:
    return ServiceView(
        name=name,
        state=ServiceState.STOPPED if pid is None else ServiceState.DEGRADED,
        pid=pid,
        port=port,
        restarts=0,
        started_ns=None,
        uptime_s=None,
        response_ms=None,
        cpu_percent=None,
        memory_bytes=None,
        critical=critical,
        drifted=False,
        reason="",
        adopted=False,
    )
