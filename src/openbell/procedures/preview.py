"""What can be said of a desk without a controller: from its files and the process table alone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.config.phases import phases_of, waits_for
from openbell.config.procedures import ExtraStep
from openbell.config.references import nearest_told
from openbell.domain.desk_state import DeskState, DeskTarget
from openbell.domain.graph import suggest
from openbell.domain.service_state import ServiceState
from openbell.errors import OpenbellError, UsageError
from openbell.guard.record import guard_pid
from openbell.kill.course import emergency_document, refuse_under_way
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
from openbell.procedures.limits_applied import limits_brief
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
from openbell.procedures.wording import count_of
from openbell.runtime.members import scan
from openbell.runtime.ports import holder_of, is_taken
from openbell.runtime.processes import system_processes
from openbell.runtime.spec import ServiceView, StartResult, StopResult
from openbell.state.desk_lock import ANNOUNCED, DeskLock, read_lock
from openbell.state.disabled_strategies import DisabledStrategies
from openbell.state.halts import Halt, read_halt
from openbell.state.latch import Latch, Latches, desk_halt, latch_note
from openbell.state.not_opened import closed_because, read_not_opened
from openbell.state.nothing_sent import read_nothing_sent
from openbell.state.pending_restart import restart_row
from openbell.state.planned_closing import PlannedClosing, read_planned
from openbell.state.risk_limits import read_changes
from openbell.watch.service_client import Answer


def status_without_controller(desk: LoadedDesk, layout: DeskLayout) -> dict[str, Any]:
    """The shape of `GET /api/v1/status`. Services that outlived their controller are shown with
    their pid; how they are is not known without it."""
    alive = _alive(layout)
    halt, latches = read_halt(layout.halt), Latches(layout).read(opened=False)
    latched = desk_halt(latches) is not None
    not_opened = read_not_opened(layout.target)
    why = closed_because(not_opened)
    fact = read_nothing_sent(layout.nothing_sent, layout.emergency)
    recommendations: list[Mapping[str, str]] = []
    if not_opened is not None:
        recommendations.append(not_opened.advice())
    roles = {name: service.role for name, service in desk.file.services.items()}
    outlived = any(
        roles.get(name) != "venue" for name in alive
    )  # simulated venues outlive any desk
    guard = guard_row(desk, layout, outlived=outlived)
    if alive:
        why, advice = _unwatched(desk, tuple(alive), guard)
        recommendations += advice
    state = DeskState.UNWATCHED if alive else DeskState.OFFLINE
    emergency = emergency_document(layout)
    if latched or emergency is not None:
        state = DeskState.EMERGENCY
    return {
        "desk": desk.file.desk.name,
        "live": desk.file.live_venues(),
        "state": str(state),
        "why": why,
        "latch": latch_row(latches, active=latched),
        "halt": halt_row(halt, halt is not None),
        "lock": lock_row(read_lock(layout.lock)),
        "disabled_strategies": DisabledStrategies.of(layout).rows(
            desk.file.strategies, opened=False
        ),
        "limits": limits_brief(desk.file, read_changes(layout.risk_limits)),
        "shutting_down_soon": _planned_on_disk(layout),
        "restart": restart_row(layout.pending_restart),
        "emergency": emergency,
        "desk_file": {"path": str(desk.path), "changed": None if alive else False},
        "not_opened": None if not_opened is None else not_opened.as_dict(),
        "nothing_sent": None if alive or fact is None else fact.as_dict(),
        "permit": None,
        "controller": {
            "pid": None,
            "url": "",
            "socket": str(layout.controller_socket),
            "port_problem": "",
        },
        "guard": guard,
        "order_outcomes": None,
        "run": None,
        "interrupted_run": None,
        "services": [_row(desk, name, alive.get(name)) for name in desk.file.services],
        "venues": [
            {
                "name": name,
                "adapter": venue.adapter,
                "environment": venue.environment,
                "connected": None,
                "open_orders": None,
                "positions": None,
                "held_back": None,
                "sim_url": venue.url if venue.environment == "simulated" else None,
                "why": "the desk is not running: nobody asks the venue",
                "dead_man": None,
            }
            for name, venue in desk.file.venues.items()
        ],
        "recommendations": recommendations,
    }


def _unwatched(
    desk: LoadedDesk, alive: Sequence[str], guard: Mapping[str, Any] | None
) -> tuple[str, list[Mapping[str, str]]]:
    """Services that outlived their controller: why the desk is as it is, and what to do."""
    count = count_of(len(alive), "service does", "services do")
    up = "openbell up takes them over; openbell down closes them"
    if guard is not None and guard["pid"] is not None:
        starts = "starts another one" if desk.file.guard.restart_controller else "starts none"
        why = f"no controller runs, but {count}: the guard watches the engine, and {starts}"
    else:
        why = f"no controller runs, but {count}: nobody watches them"
    advice = [{"severity": "critical", "subject": "controller", "text": why, "action": up}]
    if guard is not None and guard["state"] == "gone":
        advice.append({
            "severity": "critical", "subject": "guard", "text": guard["why"],
            "action": "openbell up starts guard and controller; "
            "openbell emergency-stop withdraws every order without them",
        })  # fmt: skip
    return why, list(advice)


def guard_row(
    desk: LoadedDesk, layout: DeskLayout, *, outlived: bool = False
) -> dict[str, Any] | None:
    """The guard as `status` shows it where no controller hears it; None for a desk without venues.
    `outlived`: services run without their controller, so a guard should, too."""
    if not desk.file.venues:
        return None
    pid = guard_pid(layout)
    if pid is not None:
        state, why = "running", "no controller hears it; it starts one if the desk is open"
    elif outlived:
        state = "gone"
        why = (
            "neither guard nor controller runs, and neither starts the other: an engine's permit runs "
            f"out within {desk.file.permit.ttl:g} s, and then it sends no new order; orders that rest "
            "stay, but where a venue's own timer withdraws them"
        )
    else:
        state, why = "off", ""
    return {
        "state": state,
        "why": why,
        "pid": pid,
        "since": None,
        "restarts": None,
        "mode": None,
        "rss_bytes": None,
        "venues": [],
    }


@dataclass(frozen=True)
class _AloneGuard:
    """The guard of a desk without a controller, for a plan: nothing is asked of it."""

    desk: LoadedDesk
    layout: DeskLayout

    def view(self) -> Mapping[str, Any] | None:
        return guard_row(self.desk, self.layout)

    async def opened(self) -> str:
        raise NotImplementedError

    async def hold(self) -> None:
        raise NotImplementedError

    async def disarm(self) -> Mapping[str, Any]:
        raise NotImplementedError


def opening_plan_of_a_closed_desk(
    desk_path: Path,
    layout: DeskLayout,
    *,
    safe_mode: bool = False,
    only: Sequence[str] = (),
    force: bool = False,
    stopped: bool = False,
) -> dict[str, object]:
    """What `open` would do, from the same planner. `stopped`: once every service has been, whatever
    runs now, and nothing holds the desk any more. Raises ConfigError, UsageError, RefusedError for a
    desk that is locked, ConflictError while an emergency stop is under way."""
    desk = load_checked(desk_path)
    if not stopped:
        refuse_under_way(layout)
        if (lock := read_lock(layout.lock)) is not None and _lasts(lock, layout):
            raise lock.refusal("it would not be opened")
    depends_on = {name: each.depends_on for name, each in desk.file.services.items()}
    for name in only:
        if name not in depends_on:
            nearest = suggest(name, depends_on)
            raise UsageError(
                f'there is no service "{name}"',
                hint=nearest_told(nearest),
                nearest=nearest,
            )
    wanted = services_to_open(depends_on, only)
    alive = _alive(layout)
    services = _Uncontrolled(desk, {} if stopped else alive)
    starting = Starting(
        services, only_wanted(waits_for(desk.file.services), wanted), lambda _: None
    )
    phases = phase_steps(
        starting, wanted, phases_of(desk.file.services), dict.fromkeys(wanted, 0.0)
    )
    guard = [StartGuard(_AloneGuard(desk, layout), starting)] if desk.file.venues else []
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
    if lock.run == ANNOUNCED:
        return os.path.lexists(layout.planned_closing)
    # A database is loaded where it is needed alone: `openbell status` is asked often.
    from openbell.state.database import open_database
    from openbell.state.runs import RunStore

    try:
        database = open_database(layout.database, create=False)
        try:
            record = RunStore(database).get(int(lock.run.rpartition("-")[2]))
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


def _alive(layout: DeskLayout) -> dict[str, int]:
    """The leader of each service of which marked processes live: the one with the lowest start."""
    if not layout.state.exists():
        return {}
    found = scan(system_processes(), layout.desk_id)
    leaders: dict[str, tuple[int, int]] = {}
    for pid, mark in found.marks.items():
        facts = found.processes[pid]
        if facts.alive:
            leaders[mark.service] = min(
                leaders.get(mark.service, (facts.start, pid)), (facts.start, pid)
            )
    return {service: pid for service, (_, pid) in leaders.items()}


def _row(desk: LoadedDesk, name: str, pid: int | None) -> dict[str, Any]:
    service = desk.file.services[name]
    return {
        "name": name,
        "state": str(ServiceState.STOPPED if pid is None else ServiceState.DEGRADED),
        "healthy": None,
        "pid": pid,
        "port": service.port,
        "restarts": 0,
        "uptime_s": None if pid is None else _uptime_s(pid),
        "response_ms": None,
        "cpu_percent": None,
        "memory_bytes": None,
        "critical": service.critical,
        "drifted": False,
        "adopted": False,
        "role": service.role,
        "group": service.group,
        "reason": "" if pid is None else "runs without a controller",
    }


def _uptime_s(pid: int) -> float | None:
    try:
        created = psutil.Process(pid).create_time()
    except psutil.Error:
        return None
    return round(time.time() - created, 1)


def halt_row(halt: Halt | None, active: bool) -> dict[str, object]:
    """A halt or latch as `status` shows it."""
    return {
        "active": active,
        "reason": halt.reason if halt else "",
        "by": halt.who if halt else "",
        "since": halt.at.isoformat() if halt else None,
    }


def planned_row(planned: PlannedClosing | None, now: datetime) -> dict[str, object] | None:
    """A closing that is announced, as `status` shows it; None where none is."""
    if planned is None:
        return None
    return {
        "at": planned.at.isoformat(),
        "in_s": round(max(0.0, (planned.at - now).total_seconds()), 3),
        "by": planned.who,
        "reason": planned.reason,
        "announced": planned.announced.isoformat(),
    }


def _planned_on_disk(layout: DeskLayout) -> dict[str, object] | None:
    """What cannot be read is told by the controller that would have to begin it."""
    try:
        return planned_row(read_planned(layout.planned_closing), datetime.now(UTC))
    except OpenbellError:
        return None


def lock_row(lock: DeskLock | None) -> dict[str, object]:
    """The lock of deployments as `status` shows it; `run`: the closing that set it."""
    return {
        "active": lock is not None,
        "reason": lock.reason if lock else "",
        "by": lock.who if lock else "",
        "run": (lock.run or None) if lock else None,
        "since": lock.at.isoformat() if lock else None,
    }


def latch_row(latches: Sequence[Latch], *, active: bool) -> dict[str, object]:
    """The kill switch as `status` shows it: `active` for the whole desk, `scopes` for whatever is
    latched."""
    scopes = sorted({latch.scope for latch in latches})
    return {
        **halt_row(desk_halt(latches), active),
        "scopes": [str(scope) for scope in scopes],
        "latches": [
            {
                "scope": str(each.scope),
                "reason": each.halt.reason,
                "by": each.halt.who,
                "since": each.halt.at.isoformat(),
            }
            for each in latches
        ],
    }
