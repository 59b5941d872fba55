"""What can be said of a desk without a controller: from its files and the process table alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psutil

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.domain.desk_state import DeskState, DeskTarget
from openbell.domain.service_state import ServiceState
from openbell.errors import OpenbellError
from openbell.guard.record import guard_pid
from openbell.kill.unproven_stop import emergency_document, left_open
from openbell.procedures.advice import cut_off_advice, left_open_advice, stop_advice
from openbell.procedures.limits_applied import limits_brief
from openbell.procedures.status_rows import halt_row, latch_row, lock_row, planned_row
from openbell.procedures.wording import count_of
from openbell.runtime.members import scan
from openbell.runtime.processes import system_processes
from openbell.state.asked import Asked, read_asked
from openbell.state.desk_lock import read_lock
from openbell.state.disabled_strategies import DisabledStrategies
from openbell.state.halts import read_halt
from openbell.state.latch import Latches, desk_halt
from openbell.state.lock import held_by
from openbell.state.not_proven import why_closed
from openbell.state.nothing_sent import read_nothing_sent
from openbell.state.pending_restart import restart_row
from openbell.state.planned_closing import read_planned
from openbell.state.risk_limits import read_changes


def status_without_controller(
    desk: LoadedDesk, layout: DeskLayout, asked: Asked | None = None
) -> dict[str, Any]:
    """The shape of `GET /api/v1/status`. Services that outlived their controller are shown with
    their pid; how they are is not known without it. `asked`: what the desk was asked for, where that was
    read already."""
    alive = services_alive(layout)
    halt, latches = read_halt(layout.halt), Latches(layout).read(opened=False)
    latched = desk_halt(latches) is not None
    asked = asked or read_asked(layout.target)
    not_opened, not_proven = asked.not_opened, asked.not_proven
    why = why_closed(not_opened, not_proven)
    fact = read_nothing_sent(layout.nothing_sent, layout.emergency)
    recommendations: list[Mapping[str, str]] = []
    if not_opened is not None:
        recommendations.append(not_opened.advice())
    if not_proven is not None:
        recommendations.insert(0, not_proven.advice())
    roles = {name: service.role for name, service in desk.file.services.items()}
    outlived = any(
        roles.get(name) != "venue" for name in alive
    )  # simulated venues outlive any desk
    guard = guard_row(desk, layout, outlived=outlived)
    interrupted: dict[str, Any] | None = None
    unwatched = bool(alive) or asked.target is not DeskTarget.OFFLINE
    if unwatched:
        interrupted, unread = _cut_off(layout)
        if not alive:
            why, advice = _not_closed(desk, asked.target, interrupted, may_rest=fact is None)
        else:
            why, advice = _unwatched(desk, tuple(alive), guard)
        recommendations += advice
        if interrupted is not None:
            recommendations.append(
                cut_off_advice(
                    interrupted["id"], interrupted["procedure"], interrupted["parameters"]
                )
            )
        if unread:
            text = f"whether a run was cut off is not known: {unread}"
            recommendations.append(
                {"severity": "warning", "subject": "runs", "text": text, "action": "openbell check"}
            )
    state = DeskState.UNWATCHED if unwatched else DeskState.OFFLINE
    holder = held_by(layout.controller_lock)
    emergency = emergency_document(layout)
    if emergency is not None:
        recommendations.insert(0, stop_advice(emergency))
    else:
        recommendations[:0] = left_open_advice(left_open(layout, desk))
    if holder is not None:
        why, missed = _unreachable(layout, holder)
        recommendations.insert(0, missed)
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
        "closing": None,
        "shutting_down_soon": _planned_on_disk(layout),
        "restart": restart_row(layout.pending_restart),
        "emergency": emergency,
        "desk_file": {"path": str(desk.path), "changed": None if alive else False},
        "not_opened": None if not_opened is None else not_opened.as_dict(),
        "not_proven": None if not_proven is None else not_proven.as_dict(),
        "nothing_sent": None if alive or fact is None else fact.as_dict(),
        "permit": None,
        "controller": {
            "pid": holder,
            "url": "",
            "socket": str(layout.controller_socket),
            "port_problem": "",
        },
        "guard": guard,
        "order_outcomes": None,
        "run": None,
        "interrupted_run": interrupted,
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


def _unreachable(layout: DeskLayout, pid: int) -> tuple[str, Mapping[str, str]]:
    """A controller holds its lock, and could be asked by nobody: what it does is not known."""
    why = (
        f"its controller runs (process {pid}) and cannot be reached: {layout.controller_socket} does not "
        "lead to it, nor does its port; it may let the desk trade"
    )
    act = f"ask again; if it stays so, kill {pid} ends it alone, and openbell up or down starts another"
    return why, {"severity": "critical", "subject": "controller", "text": why, "action": act}


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


def _not_closed(
    desk: LoadedDesk,
    asked: DeskTarget | None,
    interrupted: Mapping[str, Any] | None,
    *,
    may_rest: bool,
) -> tuple[str, list[Mapping[str, str]]]:
    """Nothing of it runs, and nobody closed it: after a power cut, say."""
    if asked is None:
        meant = "what it was asked to be cannot be read"
    elif asked is DeskTarget.CLOSING:
        meant = "a closing was begun and has not ended"
    else:
        meant = f"it is meant to be {asked}"
    at = f" at {interrupted['step']}" if interrupted is not None and interrupted["step"] else ""
    cut_off = "" if interrupted is None else f"; {interrupted['id']} was cut off{at}"
    rests = "; orders may rest" if desk.file.venues and may_rest else ""
    why = f"not closed: nothing of it runs, and {meant}{cut_off}{rests}"
    action = "openbell down closes it and asks the venues; openbell up opens it"
    return why, [{"severity": "critical", "subject": "desk", "text": why, "action": action}]


def _cut_off(layout: DeskLayout) -> tuple[dict[str, Any] | None, str]:
    """The newest run, where it has no end, in the shape of `interrupted_run`; and why that cannot be
    read, empty where it can."""
    if not layout.database.exists():
        return None, ""
    # A database library takes long to load; a desk that is closed is told of without it.
    from openbell.state.database import open_database
    from openbell.state.runs import RunStore

    try:
        database = open_database(layout.database, read_only=True)
        try:
            store = RunStore(database)
            newest = store.list(1)
            if not newest or newest[0].finished_at is not None:
                return None, ""
            record = store.as_asked_last(newest[0].run)
        finally:
            database.close()
    except OpenbellError as error:
        return None, error.message
    return {
        "id": f"{record.kind}-{record.run}",
        "procedure": record.kind,
        "actor": record.who,
        "started": record.begun_at.isoformat(),
        "step": record.steps[-1].name if record.steps else "",
        "why": record.why,
        "parameters": dict(record.params),
        "waits_because": None,  # no controller has looked
    }, ""


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


def services_alive(layout: DeskLayout) -> dict[str, int]:
    """The leader of each service of which marked processes live: the one with the lowest start.
    A command of the desk's own is no service."""
    if not layout.state.exists():
        return {}
    found = scan(system_processes(), layout.desk_id)
    leaders: dict[str, tuple[int, int]] = {}
    for pid, mark in found.marks.items():
        facts = found.processes[pid]
        if facts.alive and not mark.is_step:
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


def _planned_on_disk(layout: DeskLayout) -> dict[str, object] | None:
    """What cannot be read is told by the controller that would have to begin it."""
    try:
        return planned_row(read_planned(layout.planned_closing), datetime.now(UTC))
    except OpenbellError:
        return None
