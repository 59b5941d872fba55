"""The documents of `status` and `health`, put together from what was seen."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import psutil

import openbell
from openbell.controller.close_desk import FORGOTTEN, UNRECORDED
from openbell.controller.desk import ControlledDesk
from openbell.controller.observing import Observer, Seen
from openbell.domain.desk_state import DeskState
from openbell.domain.health import ServiceFacts, Verdict, judge
from openbell.domain.service_state import ServiceState
from openbell.kill.unproven_stop import emergency_document, left_open
from openbell.procedures.advice import cut_off_advice, left_open_advice, stop_advice
from openbell.procedures.limits_applied import limits_brief
from openbell.procedures.status_rows import halt_row, latch_row, lock_row
from openbell.runtime.spec import Orphan, ServiceView
from openbell.state.desk_lock import read_lock
from openbell.state.disabled_strategies import DisabledStrategies
from openbell.state.pending_restart import restart_row
from openbell.state.risk_limits import read_changes


async def status_document(desk: ControlledDesk, observer: Observer) -> dict[str, Any]:
    """As docs/reference/api.md shows it."""
    seen = await observer.observe()
    return _status(desk, seen)


async def health_document(desk: ControlledDesk, observer: Observer) -> dict[str, Any]:
    """Probes every running service first. As docs/reference/api.md shows it."""
    running = [name for name, state in desk.states.items() if state.is_running]
    probed = await asyncio.gather(*map(desk.supervisor.probe_now, running))
    seen = await observer.observe()
    report = judge(_meant_to_run(seen), seen.venues, seen.desk)
    checks = dict(
        zip(
            running,
            await asyncio.gather(*(_checks(desk, view) for view in probed)),
            strict=True,
        )
    )
    status = _status(desk, seen)
    return {
        "verdict": str(report.verdict),
        "exit_code": report.verdict.exit_code,
        "reasons": list(report.reasons),
        **{key: status[key] for key in _SHARED},
        "services": [{**row, "checks": checks.get(row["name"])} for row in status["services"]],
    }


_SHARED = (
    "desk", "live", "state", "why", "guard", "venues", "permit", "latch", "halt", "emergency",
    "not_proven", "recommendations",
)  # fmt: skip
_HEALTHY = {
    ServiceState.READY: True,
    ServiceState.DEGRADED: False,
    ServiceState.BACKOFF: False,
    ServiceState.FAILED: False,
}
"""Starting, stopping and stopped are neither."""


async def _checks(desk: ControlledDesk, view: ServiceView) -> object:
    """What the service's own `GET /health` lists; None where it has none."""
    service = desk.desk.file.services.get(view.name)
    if service is None or service.health is None:
        return None
    answer = await desk.client.get(view.name, service.health.path, timeout_s=service.health.timeout)
    return None if answer.body is None else answer.body.get("checks")


def _status(desk: ControlledDesk, seen: Seen) -> dict[str, Any]:
    run = desk.board.current
    file = desk.desk.file
    return {
        "desk": file.desk.name,
        "live": file.live_venues(),
        "state": str(seen.state),
        "why": seen.why,
        "latch": latch_row(desk.targets.latches.read(), active=desk.targets.latched),
        "halt": halt_row(desk.targets.halt, desk.targets.halt is not None),
        "lock": lock_row(read_lock(desk.layout.lock)),
        "disabled_strategies": DisabledStrategies.of(desk.layout).rows(file.strategies),
        "limits": limits_brief(file, read_changes(desk.layout.risk_limits)),
        "closing": {"flatten": file.closing.flatten, "orders": file.closing.orders},
        "shutting_down_soon": desk.closing_soon(),
        "restart": restart_row(desk.layout.pending_restart),
        "emergency": emergency_document(desk.layout),
        "desk_file": {"path": str(desk.desk.path), "changed": desk.file_has_changed()},
        "not_opened": None if (told := desk.targets.not_opened) is None else told.as_dict(),
        "not_proven": None if (doubt := desk.targets.not_proven) is None else doubt.as_dict(),
        "nothing_sent": None if (fact := desk.nothing_sent()) is None else fact.as_dict(),
        "permit": desk.permits.view() if desk.roles.engine is not None else None,
        "controller": {
            "pid": os.getpid(),
            "url": "" if desk.port_problem else f"http://127.0.0.1:{file.controller.port}",
            "socket": str(desk.layout.controller_socket),
            "port_problem": desk.port_problem,
            "version": openbell.__version__,
            "uptime_s": round(time.monotonic() - desk.started_mono_s, 3),
            "rss_bytes": psutil.Process().memory_info().rss,
            "adopted": list(desk.adoption.adopted),
        },
        "guard": None if seen.guard is None else dict(seen.guard),
        "order_outcomes": None if seen.outcomes is None else dict(seen.outcomes),
        "run": None if run is None else run.brief(),
        "interrupted_run": None if desk.interrupted is None else desk.interrupted.as_dict(),
        "services": [service_row(desk, view) for view in seen.views],
        "venues": [dict(row) for row in seen.venue_rows],
        "recommendations": recommendations(desk, seen),
    }


def service_row(desk: ControlledDesk, view: ServiceView) -> dict[str, Any]:
    """`role` is what it is now: of an engine and its standby, the one that trades is the engine."""
    service = desk.desk.file.services[view.name]
    row = asdict(view)
    started = row.pop("started_ns")
    role: str = service.role
    if desk.roles.standby is not None and view.name in (desk.roles.engine, desk.roles.standby):
        role = "engine" if view.name == desk.roles.engine else "standby"
    return {
        **row,
        **desk.pair_row(view.name),
        "critical": desk.is_critical(view.name),
        "state": str(view.state),
        "healthy": _HEALTHY.get(view.state),
        "started_ns": started,
        "role": role,
        "group": service.group,
    }


def recommendations(desk: ControlledDesk, seen: Seen) -> list[Mapping[str, str]]:
    """`[{"severity", "subject", "text", "action"}]`, worst first."""
    report = judge(_meant_to_run(seen), seen.venues, seen.desk)
    severity = "critical" if report.verdict is Verdict.UNHEALTHY else "warning"
    found = [_row(severity, "desk", reason, "") for reason in report.reasons]
    if report.verdict is Verdict.NOT_RUNNING:
        found = []
    found += [_row("note", "desk", advice, "") for advice in report.recommendations]
    if report.reasons == (seen.desk.not_proven,):
        found = []  # told below, with its run
    if seen.left_out:
        text = f"opened in part: {', '.join(seen.left_out)} not asked for, so nothing trades"
        found.append(_row("note", "desk", text, "openbell up"))
    if desk.targets.not_opened is not None:
        found.insert(0, desk.targets.not_opened.advice())
    if desk.targets.not_proven is not None:
        found.insert(0, desk.targets.not_proven.advice())
    if seen.state is not DeskState.OFFLINE and (fact := desk.nothing_sent()) is not None:
        text = f"{fact.told()}: it is closed at once, without asking the venues"
        found.append(_row("note", "desk", text, "openbell down, or openbell up goes on"))
    if desk.layout.emergency_marker.exists():
        found.insert(0, stop_advice(emergency_document(desk.layout)))
    else:
        found[:0] = left_open_advice(left_open(desk.layout, desk.desk))
    if seen.state is not DeskState.OFFLINE and (changed := desk.file_has_changed()) is not False:
        text = (
            "cannot be read"
            if changed is None
            else "has changed since this desk was opened: approvals, people, limits and tables "
            "count as they were then"
        )
        act = "openbell check, then openbell reload SERVICE, or openbell up"
        found.append(_row("warning", "desk.toml", text, act))
    if desk.interrupted is not None:
        cut_off = desk.interrupted
        found.insert(0, cut_off_advice(cut_off.id, cut_off.procedure, cut_off.parameters))
    if desk.targets.closing_is_forgotten:
        found.insert(0, _row("critical", "closing", FORGOTTEN, "make room on the disk"))
    if desk.targets.cut_off_closing and desk.interrupted is None:
        locked = read_lock(desk.layout.lock) is not None
        taken = "openbell unlock and then openbell up take" if locked else "openbell up takes"
        act = f"openbell down goes on with it, {taken} it back"
        found.insert(0, _row("critical", "closing", UNRECORDED, act))
    if desk.port_problem:
        found.append(
            _row("warning", "controller", desk.port_problem, "free the port, then restart")
        )
    found += [
        _row(
            "note",
            view.name,
            f"runs {_OLDER[view.drift[0]]} than there is now" if view.drift else "drifted",
            f"openbell restart --rolling {view.name}",
        )
        for view in seen.views
        if view.drifted
    ]
    found += [
        _row(
            "warning",
            orphan.service,
            f"left over: pid {orphan.pid} ({orphan.command})",
            "openbell up --force",
        )
        if orphan.ours
        else _row(
            "warning",
            orphan.service,
            _foreign(desk, orphan),
            f"end pid {orphan.pid} as its owner, or give {orphan.service} another port",
        )
        for orphan in desk.adoption.orphans
    ]
    return found


_OLDER = {"table": "under an older desk.toml", "code": "older code"}


def _foreign(desk: ControlledDesk, orphan: Orphan) -> str:
    service = desk.desk.file.services.get(orphan.service)
    port = "" if service is None or service.port is None else f" on port {service.port}"
    return f"in its way{port}: pid {orphan.pid} ({orphan.command}), which is not this desk's"


def _meant_to_run(seen: Seen) -> list[ServiceFacts]:
    return [service for service in seen.services if service.name not in seen.left_out]


def _row(severity: str, subject: str, text: str, action: str) -> Mapping[str, str]:
    return {"severity": severity, "subject": subject, "text": text, "action": action}
